"""The probe listener: `/livez`, `/readyz`, `/health` and `/metrics`, read only, reachable from outside the pod.

Its responses contain no addresses except in metric labels, and no error texts. `/readyz` reports on this process only.
If it followed `/health`, a Redis that is down would take every pod out of its Service.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec
from aiohttp import web

from sidecar.admin.pieces import send
from sidecar.health.report import UNHEALTHY, Report
from sidecar.net.http_listener import IDLE_S, Bounds, HttpListener, http_logger
from sidecar.telemetry.metrics import CONTENT_TYPE

_OURS: Final = {"Server": "sidecar"}
"""aiohttp's default gives its version and Python's."""

log = logging.getLogger("sidecar.admin")


class Probes:
    """Serves on sockets that are already bound. It calls `ready`, `metrics` and `health` for each request.

    `metrics` gives the text in pieces, and its age in seconds: 0 if it was made for this request.
    """

    def __init__(
        self,
        ready: Callable[[], bool],
        metrics: Callable[[], Awaitable[tuple[Sequence[bytes], int]]],
        health: Callable[[], Awaitable[Report]],
        bounds: Bounds | None = None,
    ) -> None:
        self._ready = ready
        self._metrics = metrics
        self._health = health
        self._bounds = bounds
        self._listener: HttpListener | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        http_log = http_logger("sidecar.admin.http")
        server = web.Server(
            self._bounded,
            access_log=None,
            logger=http_log,
            keepalive_timeout=IDLE_S,
            auto_decompress=False,  # request bodies are never read, so they are not decompressed either
        )
        self._listener = HttpListener(server, self._bounds)
        await self._listener.start(sockets)

    async def _bounded(self, request: web.BaseRequest) -> web.StreamResponse:
        assert self._listener is not None
        with self._listener.under_way(request):
            response = await self.answer(request)
        if not response.prepared:
            response.headers.update(_OURS)
        return response

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The response on these paths; a long one has been sent already. The admin listener uses it too."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="read only\n", headers={"Allow": "GET, HEAD"})
        path = request.path
        if path == "/livez":
            return web.Response(text="ok\n")
        if path == "/readyz":
            return web.Response(text="ok\n") if self._ready() else web.Response(status=503, text="draining\n")
        if path == "/metrics":
            text, age_s = await self._metrics()
            age = {"Age": str(age_s)} if age_s else {}
            return await send(request, text, {"Content-Type": CONTENT_TYPE, **age, **_OURS})
        if path == "/health":
            return await _health_response(request, await self._health())
        return web.Response(status=404, text="this listener has /livez, /readyz, /health and /metrics\n")

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.end(1.0)


async def _health_response(request: web.BaseRequest, report: Report) -> web.StreamResponse:
    """200 unless the sidecar is down. A caller that needs to know about `degraded` has to read the body."""
    return await send(
        request,
        [msgspec.json.encode(report), b"\n"],
        {"Content-Type": "application/json", "Cache-Control": "no-store", **_OURS},
        503 if report.status == UNHEALTHY else 200,
    )
