"""The sidecar's log in the report of a failed test: the lines of that test, shortened.

The log itself is JSON, for programs. A line that is not JSON (a traceback, for example) stays unchanged.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

_OUR_DOING: Final = frozenset(
    {
        "an operator asks for a reload",
        "configuration reloaded",
        "configuration unchanged",
        "configuration rejected: the last good one stays in force",
    }
)
"""Events that the fakes cause when they are loaded. They are left out: an exception reports a wrong configuration."""

_WARNING: Final = "the configuration has a warning"
_NO_SERVICES: Final = "is empty: every call is answered with 404 (unknown_service)"
"""Of the configuration between tests, and of a configuration without fakes."""

_SAID: Final = frozenset({"time", "level", "event", "logger"})
_TIME: Final = '{"time":"'


def stamp(seconds: float) -> str:
    """A `time.time()` as the log writes it, for comparisons."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def since(text: str, begin: str) -> list[str]:
    """The lines from the time `begin` on. The lines of requests may be up to 0.1 s late, and so appear in the log of
    the next test.
    """
    return [
        line
        for line in text.splitlines()
        if not (line.startswith(_TIME) and line[len(_TIME) : len(_TIME) + len(begin)] < begin)
    ]


def readable(lines: list[str]) -> list[str]:
    """Shortened lines, without those that the fakes themselves caused."""
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
