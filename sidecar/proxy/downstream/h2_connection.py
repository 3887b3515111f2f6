"""One HTTP/2 connection from the app, with a stream for each of its requests.

Owns what belongs to a connection and not to a stream: how long it may rest, how it takes leave, its place among the
open connections. Frames are the engine's (`h2.connection`), requests and answers `h2_stream`'s.
"""

from __future__ import annotations

import asyncio
from math import inf
from time import monotonic
from typing import Final

from sidecar.proxy.downstream.closing import reset
from sidecar.proxy.downstream.h2_stream import H2DownstreamStream, StreamEvents
from sidecar.proxy.downstream.handler import Dispatcher
from sidecar.proxy.downstream.registry import Registry
from sidecar.proxy.h2.connection import H2Connection
from sidecar.proxy.h2.frames import NO_ERROR, SETTINGS_TIMEOUT
from sidecar.proxy.h2.stream import H2Stream, StreamUser
from sidecar.proxy.http1.head_syntax import Fields
from sidecar.proxy.problem import Problem

SETTINGS_TIMEOUT_S: Final = 10.0
"""For the app's SETTINGS, and for its acknowledgement of ours."""

LEAVE_S: Final = 1.0
"""Between the two steps of taking leave, where the app does not answer the PING in between (RFC 9113, section 6.8)."""


class H2DownstreamConnection(H2Connection):
    """`dispatcher` chooses what answers its requests."""

    def __init__(self, registry: Registry, dispatcher: Dispatcher) -> None:
        super().__init__(False, registry.max_head, monotonic, registry.loop)
        self._registry = registry
        self._dispatcher = dispatcher
        self._client_idle_s = registry.client_idle_s
        self._retiring = False
        """The app is told to make its next requests elsewhere."""
        self._born = self._rested_at = monotonic()
        self.deadline = inf

    # What the event loop and the engine say.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        registry = self._registry
        self.deadline = self._born + min(SETTINGS_TIMEOUT_S, self._client_idle_s)
        registry.http2[self] = self.streams
        registry.opened(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._registry.http2.pop(self, None)
        self._registry.closed(self)

    def stream_opened(self, stream: H2Stream) -> StreamUser | None:
        return H2DownstreamStream(self, stream, self._registry, self._dispatcher).events()

    def head_too_large(self, stream: H2Stream, fields: Fields) -> None:
        H2DownstreamStream(self, stream, self._registry, self._dispatcher).refuse_too_large(fields)

    def pong_received(self) -> None:
        if self._retiring:
            self.drain_finally()

    def ended(self, why: str) -> None:
        self._arm(inf)

    # What its streams ask and say.

    @property
    def blocked(self) -> bool:
        """The app does not read what has been written."""
        return self.writer.paused

    def left(self, client_idle_s: float) -> None:
        """A stream is over; so long the connection may rest."""
        self._client_idle_s = client_idle_s
        self._rested_at = monotonic()

    def retire(self) -> None:
        """Take leave, in two steps: requests that are under way when the app hears of it are still served."""
        if self._retiring or not self.is_open:
            return
        self._retiring = True
        self.drain()
        self.ping()
        self._arm(monotonic() + LEAVE_S)

    # Its time, and its end.

    def deadline_passed(self, now: float) -> None:
        if self._retiring:
            self.drain_finally()
        elif not (self.ready and self.settings_acked):
            if now >= self._born + SETTINGS_TIMEOUT_S:
                missing = "acknowledgement of SETTINGS" if self.ready else "SETTINGS"
                self.close(SETTINGS_TIMEOUT, f"no {missing} within {SETTINGS_TIMEOUT_S:g} s")
            else:
                self._arm(self._born + SETTINGS_TIMEOUT_S)
        elif self.streams:
            self._arm(now + self._client_idle_s)
        elif self._rested_at + self._client_idle_s <= now:
            self.retire()
        else:
            self._arm(self._rested_at + self._client_idle_s)

    def _arm(self, when: float) -> None:
        self._registry.deadlines.arm(self, when)

    def turn_came(self) -> None:
        """Its streams wait for their turns, each for itself."""

    def check_hang_up(self) -> None:
        """It is always read."""

    def close_at_rest(self) -> None:
        """The proxy ends. A connection that says nothing has nothing to lose."""
        if self.ready:
            self.retire()
        else:
            self.close()

    def turn_away(self, problem: Problem | None) -> None:
        if problem is None:
            reset(self.transport)
        else:
            self.close(NO_ERROR, problem.detail)

    def abort(self) -> None:
        for stream in list(self.streams.values()):
            user = stream.user
            if isinstance(user, StreamEvents):
                user.to.abort()
        self.transport.abort()
