"""The HTTP listeners beside the proxy: how many connections each takes, and how long one may do nothing.

Owns the connections of the admin, the probe and the webhook's listener, from when they are accepted; what is asked and
answered on them is aiohttp's and the handlers' business. Where all places are held, a new connection gets that of the
one that has done nothing for longest: who opens connections and says nothing keeps no probe out. Only where all have a
request under way is it refused.

With TLS the same holds before the handshake: who is refused costs none, and who does not finish his gives up his place.
So connections are accepted in the clear, and TLS begins (`start_tls`) once there is room; `create_server(ssl=...)`
knows of a connection only after its handshake, most of what a review costs.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct

from sidecar.discovery.tasks import Tasks

log = logging.getLogger("sidecar.http")

MOST: Final = 256
IDLE_S: Final = 15.0
HANDSHAKE_S: Final = 5.0

_SWEEP_S: Final = 1.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\nConnection: close\r\n"
    b"Retry-After: 1\r\n\r\ntoo many connections\n"
)


class Bounds(Struct, frozen=True, kw_only=True):
    """Of one listener."""

    most: int = MOST
    """Connections."""
    handshake_s: float = HANDSHAKE_S
    head_s: float = IDLE_S
    """From the connection, or its handshake, to the first whole head."""
    idle_s: float = IDLE_S
    """From an answer to the next whole head. An answer that nobody reads does not end it: the connection goes."""


class _OurFaultsOnly(logging.Filter):
    """What is not HTTP is its sender's fault, who is told so; a traceback for each would let anyone fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], (HttpProcessingError, web.RequestPayloadError)))


_OUR_FAULTS_ONLY: Final = _OurFaultsOnly()


def http_logger(name: str) -> logging.Logger:
    """For one of aiohttp's servers to log to."""
    found = logging.getLogger(name)
    found.addFilter(_OUR_FAULTS_ONLY)
    return found


class HttpListener:
    """Accepts for `server`, with TLS if there is a context. Needs a running event loop."""

    def __init__(self, server: web.Server, bounds: Bounds | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._bounds = bounds or Bounds()
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(log)
        self._accepting: list[asyncio.Server] = []
        self._until: dict[_Connection, float] = {}
        """All, with when their time is up: `inf` with a request under way. Who has waited for longest comes first."""
        self._of: dict[web.RequestHandler, _Connection] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.refused = 0

    def __len__(self) -> int:
        return len(self._until)

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that are bound already."""
        for one in sockets:
            self._accepting.append(await self._loop.create_server(lambda: _Connection(self), sock=one))

    @contextmanager
    def under_way(self, request: web.BaseRequest) -> Iterator[None]:
        """Around what makes the answer to a request: so long its connection is not idle."""
        connection = self._of.get(request.protocol)
        if connection in self._until:
            self._until[connection] = inf
        try:
            yield
        finally:
            if connection in self._until:
                self._wait(connection, self._bounds.idle_s)

    def close(self) -> None:
        """Take no more connections; those that there are stay."""
        for one in self._accepting:
            one.close()
        if self._timer is not None:
            self._timer.cancel()
        self._tasks.cancel()

    async def end(self, seconds: float) -> None:
        """Close what is idle now, and the rest as it is answered or `seconds` are over."""
        self.close()
        await self._tasks.ended()
        self._server.pre_shutdown()  # without it, idle connections would be waited for
        await self._server.shutdown(seconds)

    # What connections tell.

    def arrived(self, connection: _Connection) -> None:
        if len(self._until) >= self._bounds.most and not self._make_room():
            self.refused += 1
            connection.refuse(b"" if self._tls else _FULL)
        elif self._tls is None:
            self._begin(connection, connection.wire)
        else:
            connection.wire.pause_reading()  # what comes now is TLS's
            self._wait(connection, self._bounds.handshake_s)
            self._tasks.start(self._shake_hands(connection, self._tls), "TLS handshake")

    def lost(self, connection: _Connection) -> None:
        self._until.pop(connection, None)
        if connection.handler is not None:
            self._of.pop(connection.handler, None)

    async def _shake_hands(self, connection: _Connection, tls: ssl.SSLContext) -> None:
        if connection not in self._until:
            return
        secured: asyncio.Transport | None = None
        with suppress(OSError):  # as all errors of TLS are: the other side's
            try:
                secured = await self._loop.start_tls(
                    connection.wire, connection, tls, server_side=True, ssl_handshake_timeout=self._bounds.handshake_s
                )
            finally:
                if secured is None:  # failed, cancelled, or gone: `connection_lost` is not called before the handshake
                    self.lost(connection)
        if secured is not None and connection in self._until:
            self._begin(connection, secured)

    def _begin(self, connection: _Connection, transport: asyncio.Transport) -> None:
        handler = self._server()
        self._of[handler] = connection
        self._wait(connection, self._bounds.head_s)
        connection.begin(handler, transport)

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest; False if none is."""
        longest = next((one for one, until in self._until.items() if until < inf), None)
        if longest is None:
            return False
        self._drop(longest)
        return True

    def _drop(self, connection: _Connection) -> None:
        """At once: its place is given away, so neither TLS's farewell nor a slow reader is waited for."""
        self.lost(connection)
        connection.wire.abort()

    def _wait(self, connection: _Connection, seconds: float) -> None:
        self._until.pop(connection, None)  # to the end of the order
        self._until[connection] = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in [one for one, until in self._until.items() if until <= now]:
            self._drop(connection)
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep) if self._until else None


class _Connection(asyncio.Protocol):
    """From when it is accepted; all that happens is handed to `handler`, once there is one."""

    def __init__(self, listener: HttpListener) -> None:
        self._listener = listener
        self._early = bytearray()
        """What came with the end of the handshake, before its task went on."""
        self.handler: web.RequestHandler | None = None
        self.wire: asyncio.Transport
        """The one that was accepted, below TLS."""

    def begin(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
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
        # Not to be asserted: uvloop's transports do not derive from asyncio's.
        self.wire = cast(asyncio.Transport, transport)
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

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.lost(self)
        if self.handler is not None:
            self.handler.connection_lost(exc)
