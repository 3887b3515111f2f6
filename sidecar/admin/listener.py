"""The admin listener: accepts connections from the start on, and loads its HTTP server when the first one comes.

Owns that loading, the samples that the dashboard's history is made of, and the end. The server (`sidecar.admin.server`)
is built on aiohttp, which is 13 MiB and a second of CPU time on a small share. In most pods no operator ever comes.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from importlib import import_module
from time import time
from typing import TYPE_CHECKING

from sidecar.admin.probe_answers import ProbeAnswers
from sidecar.admin.running import Running
from sidecar.config.schema import Address
from sidecar.net.http_listener import Bounds, HttpListener, Server
from sidecar.net.tasks import Tasks
from sidecar.net.threads import in_thread
from sidecar.telemetry.history import SAMPLE_S

if TYPE_CHECKING:
    from sidecar.admin.server import AdminServer

log = logging.getLogger("sidecar.admin")


class Admin:
    """Serves on sockets that are already bound. `on_load` is called when the server has been loaded."""

    def __init__(
        self,
        running: Running,
        probes: ProbeAnswers,
        bound: Address,
        bounds: Bounds | None = None,
        on_load: Callable[[], object] = lambda: None,
    ) -> None:
        self._running = running
        self._probes = probes
        self._bound = bound
        self._bounds = bounds
        self._on_load = on_load
        self._tasks = Tasks(log)
        self._listener: HttpListener | None = None
        self._server: AdminServer | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        self._listener = HttpListener(None, self._bounds, load=self._load)
        await self._listener.start(sockets)
        await self._sample()
        self._tasks.start(self._sample_on(), "history")

    async def close(self) -> None:
        self._tasks.cancel()
        if self._listener is not None:
            self._listener.close()
        self._running.events.close()
        if self._server is not None:
            await self._server.close()
        elif self._listener is not None:
            await self._listener.end(0.0)

    async def _load(self) -> Server:
        """Import the server in a thread, so that requests go on meanwhile."""
        assert self._listener is not None
        await in_thread(import_module, "sidecar.admin.server")
        from sidecar.admin.server import AdminServer

        self._server = AdminServer(self._running, self._probes, self._bound, self._listener)
        found = await self._server.started()
        self._on_load()
        return found

    async def _sample_on(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            await self._sample()

    async def _sample(self) -> None:
        running = self._running
        services = running.live.services.values()
        await running.slices.run(running.history.sampling(services, running.loop.time(), time()))
