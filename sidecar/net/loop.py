"""Event loops whose look-ups of names run in threads of our own: uvloop for the daemon, asyncio's for the injector.

uvloop's `getaddrinfo` runs in libuv's four threads, and so does its `sock_connect`, even to an IP address: aiohttp then
waits for a free thread before it connects. A few names that nobody answers for hold all four, and at its end the
process waits for them. asyncio's own loop has a few more threads and the same faults. Here `getaddrinfo` asks
`sidecar.net.names`, and so does everything that is built on it.

uvloop's `create_connection` is not built on it: it takes IP addresses only here.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from sidecar.net.addresses import is_ip
from sidecar.net.names import AddressInfo, Host, Names, Port


class Loop(uvloop.Loop):
    """The daemon's. `names` are the look-ups of everything that runs on it."""

    def __init__(self) -> None:
        self.names = Names(self)

    async def getaddrinfo(self, host: Host, port: Port, **how: int) -> list[AddressInfo]:  # type: ignore[override]
        """As `Names.getaddrinfo`."""
        return await self.names.getaddrinfo(host, port, **how)

    def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: Any = None,
        port: Any = None,
        **how: Any,
    ) -> Coroutine[Any, Any, tuple[Any, Any]]:
        """As the loop's, but raises OSError for a name, which uvloop would look up in libuv's threads."""
        if host is not None and not is_ip(host):
            raise OSError(errno.EDESTADDRREQ, f"{host!r} is not an IP address: ask `names` first")
        return super().create_connection(protocol_factory, host, port, **how)


class PlainLoop(asyncio.SelectorEventLoop):
    """The injector's."""

    def __init__(self) -> None:
        super().__init__()
        self.names = Names(self)

    async def getaddrinfo(self, host: Host, port: Port, **how: int) -> list[AddressInfo]:  # type: ignore[override]
        """As `Names.getaddrinfo`."""
        return await self.names.getaddrinfo(host, port, **how)
