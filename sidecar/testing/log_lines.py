"""The sidecar's log as a failed test's report has it: the lines of that test, one short line each.

The log itself is JSON, for machines. A line that is none (a traceback) stays as it is.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

_OUR_DOING: Final = frozenset(
    {
        "an operator asks for a reload",
        "configuration reloaded",
        "configuration is as it was",
        "configuration rejected: the last good one stays in force",
    }
)
"""What comes of the fakes' being put in force. What is wrong with a configuration is said by an exception."""

_WARNING: Final = "a warning on the configuration"
_NO_SERVICES: Final = "is empty: every call is answered with 404 (unknown_service)"
"""Of the configuration between tests, and of one that scripts no fake."""

_SAID: Final = frozenset({"time", "level", "event", "logger"})
_TIME: Final = '{"time":"'


def stamp(seconds: float) -> str:
    """A time of `time.time()` as the log writes it, to compare with."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def since(text: str, begin: str) -> list[str]:
    """The lines from the time `begin` on: those of requests are written up to 0.1 s late, into the next test's log."""
    return [
        line
        for line in text.splitlines()
        if not (line.startswith(_TIME) and line[len(_TIME) : len(_TIME) + len(begin)] < begin)
    ]


def readable(lines: list[str]) -> list[str]:
    """Short, and without what the fakes themselves brought about."""
    return [short for line in lines if (short := _short(line))]


def _short(line: str) -> str:
    try:
        found = json.loads(line)
        clock = found["time"][11:23]
        event = found["event"]
    except (ValueError, TypeError, KeyError):
        return line
    if event in _OUR_DOING or (event == _WARNING and _NO_SERVICES in str(found.get("detail"))):
        return ""
    words = _request(found) if event == "request" and "target" in found else _other(found)
    return f"{clock} {found.get('level', '')} {words}"


def _request(found: dict[str, Any]) -> str:
    words = f"{found.get('method')} {found['target']}: {found.get('status')} {found.get('reason')}"
    if "detail" in found:
        words += f", {found['detail']}"
    if "duration_ms" in found:
        words += f", {found['duration_ms']} ms"
    attempts = found.get("attempts") or []
    if len(attempts) > 1:
        each = [f"{one.get('reason')} {one.get('status') or ''}".rstrip() for one in attempts]
        words += f", {len(attempts)} attempts ({', '.join(each)})"
    return f"{words} [{found.get('request_id', '')}]"


def _other(found: dict[str, Any]) -> str:
    rest = [f"{key}={value}" for key, value in found.items() if key not in _SAID]
    return " ".join([str(found["event"]), *rest])
