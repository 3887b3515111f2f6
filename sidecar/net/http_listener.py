"""HTTP listeners besides the proxy: limits on the number of connections and on idle time.

Owns the connections of the admin, probe and webhook listeners once they are accepted. A `Server` serves the requests on
them: aiohttp's, or the probe listener's own. When the limit is reached, a new connection replaces the one that has been
idle longest, so clients that open connections and send nothing cannot keep a probe out. It is refused only when every
connection has a request in flight. One client address has a limit of its own, by the same rule among its own
connections: it cannot keep the others out with requests that take long either.

With TLS the same holds before the handshake: a refused connection costs no handshake, and a client that does not finish
its handshake loses its place. So connections are accepted without TLS, and TLS begins (`start_tls`) once there is room.
`create_server(ssl=...)` learns of a connection only after its handshake, which is most of the cost of a webhook call.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import TYPE_CHECKING, Final, Protocol, cast

from msgspec import Struct

from sidecar.net.tasks import Tasks

if TYPE_CHECKING:
    from ssl import SSLContext

log = logging.getLogger("sidecar.http")

MOST: Final = 256
IDLE_S: Final = 15.0
HANDSHAKE_S: Final = 5.0
LOAD_S: Final = 30.0
"""How long a connection waits for its server to be loaded: a second of CPU time, of which there may be little."""

_SWEEP_S: Final = 1.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\nConnection: close\r\n"
    b"Retry-After: 1\r\n\r\ntoo many connections\n"
)


class Bounds(Struct, frozen=True, kw_only=True):
    """The limits of one listener."""

    most: int = MOST
    """The most connections."""
    most_each: int | None = None
    """The most connections of one client address; None for no limit of its own."""
    handshake_s: float = HANDSHAKE_S
    head_s: float = IDLE_S
    """From the start of the connection, or the end of its handshake, to the first complete request head."""
    idle_s: float = IDLE_S
    """From a response to the next complete request head. The time runs too while the client does not read the
    response.
    """


def most_each(most: int) -> int:
    """The share of one client address, where any pod may be a client: half of all connections."""
    return max(most // 2, 1)


class Server(Protocol):
    """What serves the requests; aiohttp's `web.Server` is one."""

    def __call__(self) -> asyncio.Protocol:
        """The handler of a new connection."""

    def pre_shutdown(self) -> None:
        """Close idle connections."""

    async def shutdown(self, timeout: float | None = None) -> None:
        """Close the others after their response, or after so many seconds."""


class HttpListener:
    """Accepts connections for `server`, with TLS if `tls` is given. Needs a running event loop.

    Where `server` is None, `load` gives it when the first connection comes, which waits meanwhile, unread. If that
    fails, the connection ends, and the next one tries again.
    """

    def __init__(
        self,
        server: Server | None,
        bounds: Bounds | None = None,
        tls: SSLContext | None = None,
        *,
        load: Callable[[], Awaitable[Server]] | None = None,
    ) -> None:
        self._server = server
        self._load = load
        self._loading = asyncio.Lock()
        self._bounds = bounds or Bounds()
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(log)
        self._accepting: list[asyncio.Server] = []
        self._until: dict[_Connection, float] = {}
        """Deadline of each connection, the longest idle one first; `inf` while a request is in flight."""
        self._by_address: Counter[str] = Counter()
        self._of: dict[asyncio.BaseProtocol, _Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.refused = 0

    def __len__(self) -> int:
        return len(self._until)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are already bound."""
        for one in sockets:
            self._accepting.append(await self._loop.create_server(lambda: _Connection(self), sock=one))

    @contextmanager
    def under_way(self, handler: asyncio.BaseProtocol | None) -> Iterator[None]:
        """Wrap the handling of a request in this: meanwhile the connection of its handler is not idle."""
        connection = self._of.get(handler) if handler is not None else None
        if connection in self._until:
            self._until[connection] = inf
        try:
            yield
        finally:
            if connection in self._until:
                self._wait(connection, self._bounds.idle_s)

    def close(self) -> None:
        """Accept no more connections; the open ones stay open."""
        for one in self._accepting:
            one.close()
        if self._timer is not None:
            self._timer.cancel()
        self._tasks.cancel()

    async def end(self, seconds: float) -> None:
        """Close idle connections now, and the others after their response or after `seconds`."""
        self.close()
        await self._tasks.ended()
        if self._server is not None:
            self._server.pre_shutdown()  # otherwise shutdown would wait for idle connections
            await self._server.shutdown(seconds)
        else:
            for connection in list(self._until):
                self._drop(connection)

    # Called by connections.

    def arrived(self, connection: _Connection) -> None:
        if not self._has_room(connection.address):
            self.refused += 1
            connection.refuse(b"" if self._tls else _FULL)
        elif self._server is None:
            connection.wire.pause_reading()
            self._wait(connection, LOAD_S)
            self._tasks.start(self._admit_when_loaded(connection), "first connection")
        else:
            self._admit(connection, self._server)

    def lost(self, connection: _Connection) -> None:
        if self._until.pop(connection, None) is not None:
            self._by_address[connection.address] -= 1
            if not self._by_address[connection.address]:
                del self._by_address[connection.address]
        if connection.handler is not None:
            self._of.pop(connection.handler, None)

    def _admit(self, connection: _Connection, server: Server) -> None:
        if self._tls is None:
            self._begin(connection, server, connection.wire)
        else:
            connection.wire.pause_reading()  # the next bytes belong to the TLS handshake
            self._wait(connection, self._bounds.handshake_s)
            self._tasks.start(self._shake_hands(connection, server, self._tls), "TLS handshake")

    async def _admit_when_loaded(self, connection: _Connection) -> None:
        async with self._loading:
            if self._server is None and self._load is not None:
                try:
                    self._server = await self._load()
                except Exception:
                    log.exception("the server of a listener could not be loaded")
        if connection not in self._until:
            return
        if self._server is None:
            self._drop(connection)
        else:
            connection.wire.resume_reading()
            self._admit(connection, self._server)

    async def _shake_hands(self, connection: _Connection, server: Server, tls: SSLContext) -> None:
        if connection not in self._until:
            return
        secured: asyncio.Transport | None = None
        with suppress(OSError):  # all TLS errors are OSErrors, and all are the client's fault
            try:
                secured = await self._loop.start_tls(
                    connection.wire, connection, tls, server_side=True, ssl_handshake_timeout=self._bounds.handshake_s
                )
            finally:
                if secured is None:  # failed or cancelled: `connection_lost` is not called before the handshake ends
                    self.lost(connection)
        if secured is not None and connection in self._until:
            self._begin(connection, server, secured)

    def _begin(self, connection: _Connection, server: Server, transport: asyncio.Transport) -> None:
        handler = server()
        self._of[handler] = connection
        self._wait(connection, self._bounds.head_s)
        connection.begin(handler, transport)

    def _has_room(self, address: str) -> bool:
        """Whether one more connection of this client may be open, if need be in place of an idle one."""
        most_each = self._bounds.most_each
        if most_each is not None and self._by_address[address] >= most_each:
            return self._make_room(address)
        return len(self._until) < self._bounds.most or self._make_room()

    def _make_room(self, address: str | None = None) -> bool:
        """Close the connection that has been idle longest, of one client or of all; False if none is idle."""
        idle = (one for one, until in self._until.items() if until < inf and address in (None, one.address))
        longest = next(idle, None)
        if longest is None:
            return False
        self._drop(longest)
        return True

    def _drop(self, connection: _Connection) -> None:
        """Close at once. The place is given away, so it waits neither for TLS's closing message nor for a slow
        reader.
        """
        self.lost(connection)
        connection.wire.abort()

    def _wait(self, connection: _Connection, seconds: float) -> None:
        if self._until.pop(connection, None) is None:  # else it only moves to the end of the order
            self._by_address[connection.address] += 1
        self._until[connection] = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [one for one, until in self._until.items() if until <= now]:
            self._drop(connection)
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep) if self._until else None


class _Connection(asyncio.Protocol):
    """A connection from its acceptance on. It passes all events to `handler` once there is one."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._early = bytearray()
        """Bytes that arrived with the end of the handshake, before the handshake task continued."""
        self.handler: asyncio.Protocol | None = None
        self.address = ""
        """The client's IP address."""
        self.wire: asyncio.Transport
        """The accepted transport, below TLS."""

    def begin(self, handler: asyncio.Protocol, transport: asyncio.Transport) -> None:
        self.handler = handler
        handler.connection_made(transport)
        if self._early:
            handler.data_received(bytes(self._early))
            self._early.clear()

    def refuse(self, words: bytes) -> None:
        if words:
            self.wire.write(words)
            self.wire.close()
        else:
            self.wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because an assertion would fail: uvloop's transports do not derive from asyncio's.
        self.wire = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if peer else ""  # none if it is gone already
        self._listener.arrived(self)

    def data_received(self, data: bytes) -> None:
        if self.handler is not None:
            self.handler.data_received(data)
        elif not self.wire.is_closing():
            self._early += data

    def eof_received(self) -> None:
        if self.handler is not None:
            self.handler.eof_received()

    def pause_writing(self) -> None:
        if self.handler is not None:
            self.handler.pause_writing()

    def resume_writing(self) -> None:
        if self.handler is not None:
            self.handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._listener.lost(self)
        if self.handler is not None:
            self.handler.connection_lost(exc)
