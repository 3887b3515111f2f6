"""The probe listener: `/livez`, `/readyz`, `/health` and `/metrics`, read only, reachable from outside the pod.

Its responses contain no addresses except in metric labels, and no error texts. `/readyz` reports on this process only.
If it followed `/health`, a Redis that is down would take every pod out of its Service.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from aiohttp import web

from sidecar.health.report import UNHEALTHY, Report
from sidecar.runtime.http_listener import IDLE_S, HttpListener, http_logger
from sidecar.telemetry.metrics import CONTENT_TYPE

log = logging.getLogger("sidecar.admin")


class Probes:
    """Serves on sockets that are already bound. It calls `ready`, `metrics` and `health` for each request."""

    def __init__(
        self, ready: Callable[[], bool], metrics: Callable[[], bytes], health: Callable[[], Awaitable[Report]]
    ) -> None:
        self._ready = ready
        self._metrics = metrics
        self._health = health
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
        self._listener = HttpListener(server)
        await self._listener.start(sockets)

    async def _bounded(self, request: web.BaseRequest) -> web.Response:
        assert self._listener is not None
        with self._listener.under_way(request):
            response = await self.answer(request)
        response.headers["Server"] = "sidecar"  # aiohttp's default gives its version and Python's
        return response

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """The response on these paths. The admin listener uses it too."""
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="read only\n", headers={"Allow": "GET, HEAD"})
        path = request.path
        if path == "/livez":
            return web.Response(text="ok\n")
        if path == "/readyz":
            return web.Response(text="ok\n") if self._ready() else web.Response(status=503, text="draining\n")
        if path == "/metrics":
            return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE})
        if path == "/health":
            return _health_response(await self._health())
        return web.Response(status=404, text="this listener has /livez, /readyz, /health and /metrics\n")

    async def close(self) -> None:
        if self._listener is not None:
            await self._listener.end(1.0)


def _health_response(report: Report) -> web.Response:
    """200 unless the sidecar is down. A caller that needs to know about `degraded` has to read the body."""
    return web.Response(
        status=503 if report.status == UNHEALTHY else 200,
        body=msgspec.json.encode(report) + b"\n",
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
