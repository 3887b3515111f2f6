"""The proxy's listening sockets, from binding to draining.

Owns when connections are accepted and how the proxy ends: new requests are served for a while with `Connection: close`,
then nothing new is accepted, what is in flight finishes, and tunnels are cut.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from sidecar.net.bind import BACKLOG
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.http1_connection import DownstreamConnection
from sidecar.proxy.exchange.dispatch import Dispatch

DRAIN_LOOK_S: Final = 0.02
ACCEPT_ROUNDS: Final = 100


class ProxyListener:
    """Accepts for a core."""

    def __init__(self, core: ProxyCore, sockets: Sequence[socket.socket]) -> None:
        self._core = core
        self._sockets = sockets
        self._servers: list[asyncio.Server] = []
        self.ports = [one.getsockname()[1] for one in sockets]

    async def start(self) -> None:
        core, registry = self._core, self._core.registry
        registry.dispatcher = Dispatch(core)
        core.live.listens_on(self.ports)
        if any(service.h2 for service in core.live.services.values()):
            # Its apps will speak HTTP/2: what is imported for them now does not hold up a request later.
            import sidecar.proxy.downstream.h2_connection  # noqa: F401
        for one in self._sockets:
            server = await core.loop.create_server(
                cast(Any, partial(DownstreamConnection, registry)), sock=one, backlog=BACKLOG
            )
            self._servers.append(server)

    async def drain(self, delay_s: float, timeout_s: float, now_please: asyncio.Event) -> int:
        """End in order, or at once when `now_please` is set.

        Returns how many requests (tunnels apart) have to be cut because they took longer than `timeout_s`.
        """
        core = self._core
        registry = core.registry
        registry.draining = True
        await _pause(delay_s, now_please)
        await self._empty_accept_queues()
        for server in self._servers:
            server.close()
        finish = core.loop.time() + timeout_s
        while True:
            for connection in list(registry.connections):
                connection.close_at_rest()
            if not registry.connections or core.loop.time() >= finish or now_please.is_set():
                break
            await _pause(DRAIN_LOOK_S, now_please)
        return core.live.in_flight

    async def _empty_accept_queues(self) -> None:
        """Closing a listening socket resets whoever waits there to be accepted: let them in first."""
        poll = select.poll()
        for one in self._sockets:
            poll.register(one.fileno(), select.POLLIN)
        for _ in range(ACCEPT_ROUNDS):
            await asyncio.sleep(0)
            if not poll.poll(0):
                return


async def _pause(seconds: float, cut_short: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(cut_short.wait(), seconds)
