"""The connections of the admin and of the probe listener: how many there may be, and how long one may do nothing.

Owns both bounds. Where all places are held, a new connection gets that of the one that has done nothing for longest:
who opens connections and says nothing keeps no probe out. Only where all have a request under way is it refused.

aiohttp closes a kept-alive connection that falls idle; it has no limit on connections, and none on how long a client
may take over its first head.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

MOST: Final = 256
IDLE_S: Final = 15.0
"""Without a request under way: before the first, between two, and in the middle of a head."""

_SWEEP_S: Final = 1.0
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\nConnection: close\r\n"
    b"Retry-After: 1\r\n\r\ntoo many connections\n"
)


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not to be asserted: uvloop's transports do not derive from asyncio's.
        transport = cast(asyncio.Transport, transport)
        transport.write(_FULL)
        transport.close()


class _OurFaultsOnly(logging.Filter):
    """What is not HTTP is its sender's fault, who is told so; a traceback for each would let anyone fill the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_OUR_FAULTS_ONLY: Final = _OurFaultsOnly()


def http_logger() -> logging.Logger:
    """For aiohttp's servers to log to."""
    log = logging.getLogger("sidecar.admin.http")
    log.addFilter(_OUR_FAULTS_ONLY)
    return log


class Connections:
    """A protocol factory for `create_server`, around aiohttp's own."""

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop, most: int = MOST) -> None:
        self._server = server
        self._loop = loop
        self._most = most
        self._idle_since: dict[web.RequestHandler, float] = {}
        """Of the connections that have no request under way."""
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> asyncio.Protocol:
        if len(self._server.connections) >= self._most and not self._make_room():
            return _Refusal()
        protocol = self._server()
        self._idle_since[protocol] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP_S, self._sweep)
        return protocol

    def busy(self, request: web.BaseRequest) -> None:
        """A request's head has come."""
        self._idle_since.pop(request.protocol, None)

    def idle(self, request: web.BaseRequest) -> None:
        """It has been answered."""
        self._idle_since[request.protocol] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(_SWEEP_S, self._sweep)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _make_room(self) -> bool:
        """Close the connection that has been idle for longest; False if none is."""
        idle = [one for one in self._server.connections if one in self._idle_since]
        if not idle:
            return False
        longest = min(idle, key=self._idle_since.__getitem__)
        del self._idle_since[longest]
        longest.force_close()
        return True

    def _sweep(self) -> None:
        overdue = self._loop.time() - IDLE_S
        for protocol, since in list(self._idle_since.items()):
            if protocol.transport is None and since < self._loop.time() - _SWEEP_S:
                del self._idle_since[protocol]  # it has gone by itself
            elif since <= overdue:
                del self._idle_since[protocol]
                protocol.force_close()
        self._timer = self._loop.call_later(_SWEEP_S, self._sweep) if self._idle_since else None
