"""The webhook's connections: how many there may be, and how long one may do nothing.

Owns both bounds, for aiohttp has neither: it closes a connection that is idle between two requests, but not one that
never sends its first head. TLS makes a further state of it: a connection that has been accepted and not shaken hands.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, cast

from aiohttp import web

MOST: Final = 256
HANDSHAKE_S: Final = 5.0
IDLE_S: Final = 90.0
"""Between two requests. An API server keeps its connections, and closes them itself after 90 s."""
HEAD_S: Final = 10.0
"""From the handshake to the first whole head."""

_SWEEP_S: Final = 1.0


class _Refusal(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class Connections(web.Server):
    """A protocol factory for `create_server`: aiohttp's own, with bounds."""

    def __init__(
        self,
        handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        loop: asyncio.AbstractEventLoop,
        *,
        most: int = MOST,
    ) -> None:
        super().__init__(handle, access_log=None, keepalive_timeout=IDLE_S, lingering_time=1.0)
        self._clock = loop
        self._most = most
        self._shaking_hands: dict[web.RequestHandler, float] = {}
        self._waiting: dict[web.RequestHandler, float] = {}
        """Those without a request under way; both with the time that theirs is up."""
        self._timer: asyncio.TimerHandle | None = None
        self.refused = 0

    def __call__(self) -> web.RequestHandler:
        if len(self) >= self._most:
            self.refused += 1
            return cast(web.RequestHandler, _Refusal())
        protocol = super().__call__()
        self._shaking_hands[protocol] = self._clock.time() + HANDSHAKE_S
        self._sweep_soon()
        return protocol

    def __len__(self) -> int:
        return len(self.connections) + len(self._shaking_hands)

    def connection_made(self, handler: web.RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        self._shaking_hands.pop(handler, None)
        self._waiting[handler] = self._clock.time() + HEAD_S

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        super().connection_lost(handler, exc)
        self._waiting.pop(handler, None)

    def busy(self, request: web.BaseRequest) -> None:
        """A request's head has come."""
        self._waiting.pop(request.protocol, None)

    def idle(self, request: web.BaseRequest) -> None:
        """It has been answered."""
        if request.protocol.transport is not None:
            self._waiting[request.protocol] = self._clock.time() + IDLE_S
            self._sweep_soon()

    async def end(self, seconds: float) -> None:
        """Close what is idle now, and the rest as it is answered or `seconds` are over."""
        if self._timer is not None:
            self._timer.cancel()
        self.pre_shutdown()  # without it, idle connections would be waited for
        await self.shutdown(seconds)

    def _sweep_soon(self) -> None:
        if self._timer is None:
            self._timer = self._clock.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        now = self._clock.time()
        for protocol, until in list(self._shaking_hands.items()):
            if now >= until:  # `create_server` itself has closed it
                del self._shaking_hands[protocol]
        for protocol, until in list(self._waiting.items()):
            if now >= until:
                del self._waiting[protocol]
                protocol.force_close()
        self._timer = None
        if self._shaking_hands or self._waiting:
            self._sweep_soon()
