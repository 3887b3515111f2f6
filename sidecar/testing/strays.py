"""Requests that the sidecar refused before they came to any fake: for a service that it does not know, or malformed.

The app is told so and may swallow it, and no fake sees anything: without this a test would be green. They are counted
in the sidecar's metrics, at once, and written to its log, a little later; the one tells whether to look for the other.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sidecar.testing.calls import times

MAX_TOLD: Final = 20

_TIMED_OUT: Final = "408"
"""A bad_request too, of a connection that sent nothing whole: left behind by a client, rather than a call."""

_COUNT: Final = re.compile(
    r'^sidecar_requests_total\{service="[^"]*",code="(\d+)",reason="(?:unknown_service|bad_request)"\} (\S+)$',
    re.MULTILINE,
)


class Stray(NamedTuple):
    method: str
    target: str
    """Empty where it is no path."""
    status: int
    reason: str
    detail: str

    @property
    def service(self) -> str:
        """That the app wanted, where the path says so."""
        if self.reason != "unknown_service" or not self.target.startswith("/"):
            return ""
        name = self.target[1:].partition("/")[0]
        return "" if name.startswith("_") else name

    @property
    def path(self) -> str:
        """At the service."""
        return self.target[1 + len(self.service) :] or "/"


def counted(metrics: str) -> int:
    """How many there have been since the sidecar's start."""
    return sum(int(float(count)) for code, count in _COUNT.findall(metrics) if code != _TIMED_OUT)


def logged(lines: Iterable[str]) -> list[Stray]:
    """Those whose lines are among these of the sidecar's log."""
    found = []
    for line in lines:
        if '"unknown_service"' not in line and '"bad_request"' not in line:
            continue
        try:
            said = json.loads(line)
            stray = Stray(
                said.get("method", ""), said.get("target", ""), said["status"], said["reason"], said.get("detail", "")
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        if said.get("event") == "request" and str(stray.status) != _TIMED_OUT:
            found.append(stray)
    return found


def told(strays: Iterable[Stray], unknown: Callable[[Stray], str]) -> list[str]:
    """In words, each once. `unknown` says what to do about a service that is not there."""
    counts = Counter(strays)
    words = [
        (unknown(stray) if stray.service else _refused(stray))
        + ("" if count == 1 else f"\n  (this happened {times(count)})")
        for stray, count in counts.items()
    ]
    if len(words) > MAX_TOLD:
        words[MAX_TOLD:] = [f"and {len(words) - MAX_TOLD} other requests that the sidecar refused"]
    return words


def _refused(stray: Stray) -> str:
    what = f"{stray.method} {stray.target}".strip() or "what the app sent"
    return (
        f"the sidecar refused {what}: {stray.status} {stray.reason}, {stray.detail}\n"
        f"  where the app is meant to do that: fake.allow_unknown()"
    )
