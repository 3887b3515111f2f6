"""What the probe listener answers on its paths: `/livez`, `/readyz`, `/health` and `/metrics`, read only.

Owns statuses and texts. They contain no addresses except in metric labels, and no error texts. `/readyz` reports on
this process only. If it followed `/health`, a Redis that is down would take every pod out of its Service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct

from sidecar.health.report import UNHEALTHY, Report
from sidecar.telemetry.metrics import CONTENT_TYPE

STUCK_S: Final = 10.0
"""When the event loop of the requests has not run for so many seconds, the process is neither alive nor ready. Its
longest own steps take milliseconds. The probes of a kubelet say how often it must be seen so before a restart.
"""

_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


class Answer(Struct, frozen=True):
    """A response: `body` in pieces, `headers` without those of every response."""

    status: int
    body: Sequence[bytes]
    headers: dict[str, str]


def text(status: int, words: str, **headers: str) -> Answer:
    return Answer(status, (words.encode(),), {"Content-Type": "text/plain; charset=utf-8", **headers})


_OK: Final = text(200, "ok\n")
_STUCK: Final = text(503, "the event loop does not run\n")
_DRAINING: Final = text(503, "draining\n")
READ_ONLY: Final = text(405, "read only\n", Allow="GET, HEAD")
INTERNAL: Final = text(500, "this is a bug of the sidecar; its log says more\n")
_NOTHING: Final = text(404, "this listener has /livez, /readyz, /health and /metrics\n")


class ProbeAnswers:
    """Asks `ready`, `late_s`, `metrics` and `health` for each request.

    `ready` and `late_s` are called on any thread. `late_s` gives the seconds since the event loop of the requests ran.
    `metrics` gives the text in pieces, and its age in seconds: 0 if it was made for this request.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        metrics: Callable[[], Awaitable[tuple[Sequence[bytes], int]]],
        health: Callable[[], Awaitable[Report]],
        late_s: Callable[[], float] = float,
    ) -> None:
        self._ready = ready
        self._metrics = metrics
        self._health = health
        self._late_s = late_s

    def at_once(self, method: str, path: str) -> Answer | None:
        """The answer, on any thread; None for the paths of `in_time`."""
        if method not in ("GET", "HEAD"):
            return READ_ONLY
        if path in ("/livez", "/readyz"):
            if self._late_s() > STUCK_S:
                return _STUCK
            return _OK if path == "/livez" or self._ready() else _DRAINING
        return None if path in ("/metrics", "/health") else _NOTHING

    async def in_time(self, path: str) -> Answer:
        """The answer for `/metrics` and `/health`, on the event loop of the requests, in slices."""
        if path == "/metrics":
            pieces, age_s = await self._metrics()
            age = {"Age": str(age_s)} if age_s else {}
            return Answer(200, pieces, {"Content-Type": CONTENT_TYPE, **age})
        report = await self._health()
        # 200 unless the sidecar is down. A caller that needs to know about `degraded` has to read the body.
        return Answer(503 if report.status == UNHEALTHY else 200, (msgspec.json.encode(report), b"\n"), _JSON)
