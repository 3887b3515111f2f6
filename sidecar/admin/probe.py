"""The probe listener: `/livez`, `/readyz` and `/metrics`, read only, reachable from outside the pod.

Owns what may be said there: no addresses but those in metric labels, no error texts.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from aiohttp import web

from sidecar.telemetry.metrics import CONTENT_TYPE

log = logging.getLogger("sidecar.admin")


class Probes:
    """Serves on sockets that are bound already. `ready` and `metrics` are asked at each call."""

    def __init__(self, ready: Callable[[], bool], metrics: Callable[[], bytes]) -> None:
        self._ready = ready
        self._metrics = metrics
        self._servers: list[asyncio.Server] = []
        self._server: web.Server | None = None

    async def start(self, probe: Sequence[socket.socket], admin: Sequence[socket.socket]) -> None:
        """`admin` sockets get the same answers: `/metrics` is what is asked for there."""
        loop = asyncio.get_running_loop()
        self._server = web.Server(self._handle, access_log=None, keepalive_timeout=15)
        for one in probe:
            self._servers.append(await loop.create_server(self._server, sock=one))
        for one in admin:
            self._servers.append(await loop.create_server(self._server, sock=one))

    async def _handle(self, request: web.BaseRequest) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="read only\n", headers={"Allow": "GET, HEAD"})
        path = request.path
        if path == "/livez":
            return web.Response(text="ok\n")
        if path == "/readyz":
            return web.Response(text="ok\n") if self._ready() else web.Response(status=503, text="draining\n")
        if path == "/metrics":
            return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE})
        return web.Response(status=404, text="here are /livez, /readyz and /metrics\n")

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        if self._server is not None:
            await self._server.shutdown(timeout=1)
