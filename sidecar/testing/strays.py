"""Finds requests that the sidecar refused before they reached a fake: for an unknown service, or malformed.

The app gets the refusal and may ignore it, and no fake sees the request, so the test would pass wrongly. The sidecar
counts them in its metrics at once, and writes them to its log a little later. The count tells whether to read the log.
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
"""Also a bad_request: a connection that sent no complete request. A client left it behind, so it is not a call."""

_COUNT: Final = re.compile(
    r'^sidecar_requests_total\{service="[^"]*",code="(\d+)",reason="(?:unknown_service|bad_request)"\} (\S+)$',
    re.MULTILINE,
)


class Stray(NamedTuple):
    method: str
    target: str
    """Empty if the target is not a path."""
    status: int
    reason: str
    detail: str
    grpc: bool = False
    """It is a call of gRPC: its path names no service."""

    @property
    def service(self) -> str:
        """The service that the app wanted, if the path names one."""
        if self.grpc or self.reason != "unknown_service" or not self.target.startswith("/"):
            return ""
        name = self.target[1:].partition("/")[0]
        return "" if name.startswith("_") else name

    @property
    def path(self) -> str:
        """The path at the service, without the name of the service."""
        return self.target[1 + len(self.service) :] or "/"


def counted(metrics: str) -> int:
    """How many such requests there were since the sidecar started."""
    return sum(int(float(count)) for code, count in _COUNT.findall(metrics) if code != _TIMED_OUT)


def logged(lines: Iterable[str]) -> list[Stray]:
    """Such requests, read from these lines of the sidecar's log."""
    found = []
    for line in lines:
        if '"unknown_service"' not in line and '"bad_request"' not in line:
            continue
        try:
            said = json.loads(line)
            stray = Stray(
                said.get("method", ""),
                said.get("target", ""),
                said["status"],
                said["reason"],
                said.get("detail", ""),
                "grpc_status" in said,
            )
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        if said.get("event") == "request" and str(stray.status) != _TIMED_OUT:
            found.append(stray)
    return found


def told(strays: Iterable[Stray], unknown: Callable[[Stray], str]) -> list[str]:
    """One text for each different request. `unknown` tells what to do about an unknown service."""
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
    if stray.grpc and stray.reason == "unknown_service":
        return (
            f"the app called gRPC {stray.target}, and no fake has scripted it: {stray.detail}\n"
            f'  script it: fake.NAME.grpc("{stray.target}").then(b"...")\n'
            f"  if the app is supposed to get UNIMPLEMENTED: fake.allow_unknown()"
        )
    return (
        f"the sidecar refused {what}: {stray.status} {stray.reason}, {stray.detail}\n"
        f"  if the app is supposed to do that: fake.allow_unknown()"
    )
