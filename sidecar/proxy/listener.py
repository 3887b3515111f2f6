"""The proxy's listening sockets, from binding to draining.

Owns when connections are accepted and how the proxy ends: new requests are served for a while with `Connection: close`,
then nothing new is accepted, what is in flight finishes, and tunnels are cut.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import select
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, cast

from sidecar.config.schema import Address
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.http1_connection import DownstreamConnection
from sidecar.proxy.exchange.dispatch import Dispatch

BACKLOG: Final = 4096
DRAIN_LOOK_S: Final = 0.02
ACCEPT_ROUNDS: Final = 100

log = logging.getLogger("sidecar.proxy")


class PortTaken(Exception):
    """A listener could not bind; the message is one line that says which and why."""


def bind(name: str, addresses: Sequence[Address]) -> list[socket.socket]:
    """Listening sockets for a listener, one for each address.

    IPv6 loopback is left out with a log line where the machine has no IPv6, unless it is the only address. Raises
    PortTaken.
    """
    sockets = []
    for address in addresses:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        one = None
        try:
            one = socket.socket(family, socket.SOCK_STREAM)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # `[::]` serves IPv4 too; `[::1]` has no IPv4 side.
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address.host == "::" else 1)
            one.bind((address.host, address.port))
            one.listen(BACKLOG)
            one.setblocking(False)
        except OSError as error:
            if one is not None:
                one.close()
            no_ipv6 = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and family == socket.AF_INET6
            if no_ipv6 and address.host == "::":
                sockets += bind(name, [Address("0.0.0.0", address.port)])
                continue
            if no_ipv6 and len(addresses) > 1:
                log.info(
                    "a listener is left out: this machine has no IPv6",
                    extra={"fields": {"listener": name, "address": str(address)}},
                )
                continue
            for bound in sockets:
                bound.close()
            why = "is already in use" if error.errno == errno.EADDRINUSE else f"cannot be used: {error.strerror}"
            raise PortTaken(f"listen.{name}: {address} {why}") from None
        sockets.append(one)
    return sockets


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
