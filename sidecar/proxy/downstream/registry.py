"""The open connections of apps: how many there may be, whose turn it is, and which have been left.

Owns the count and the turns. What a connection does with its requests is its own business.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sized
from typing import Final, Protocol

from sidecar.proxy.deadlines import Deadlines
from sidecar.proxy.downstream.handler import Dispatcher
from sidecar.proxy.problem import Problem
from sidecar.proxy.record import Recorder

MOST_BEGUN: Final = 64
"""Requests that are begun in one turn of the loop: some milliseconds of work."""

TURNED_AWAY_EVERY_S: Final = 60.0
"""For the log to say so again."""

TOLD_WHY: Final = 16
"""Connections beyond the most that stay for the second that their answer may take."""

log = logging.getLogger("sidecar.proxy")


class Waiting(Protocol):
    """A connection of HTTP/1.1, or a stream of HTTP/2, with a request that has not begun."""

    def turn_came(self) -> None:
        """It may begin in this turn of the loop."""


class AppConnection(Waiting, Protocol):
    """What the registry needs of a connection."""

    deadline: float

    def deadline_passed(self, now: float) -> None: ...
    def turn_away(self, problem: Problem | None) -> None:
        """There is no room for this connection, whatever it would have asked. None is no answer."""

    def check_hang_up(self) -> None:
        """While reading is paused nobody tells that the app has left: ask the kernel."""

    def close_at_rest(self) -> None:
        """The proxy ends: go where no request is under way."""

    def abort(self) -> None:
        """The proxy ends now."""


class Registry:
    """`most` connections may be open. What else a connection has to know of the process is here too."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Deadlines,
        recorder: Recorder,
        random: Callable[[], float],
        most: int,
    ) -> None:
        self.loop = loop
        self.deadlines = deadlines
        self.recorder = recorder
        self.dispatcher = Dispatcher()
        """Set where the data path is put together."""
        self.random = random
        self.max_connections = most
        """That apps may have open. Those beyond that are turned away."""
        self.client_idle_s = 0.0
        self.max_head = 0
        self.max_header_fields = 0
        self.head_too_large = ""
        self.serves_half_closed = False
        """Whether an app may close its sending side on some route, and still wait for the answer."""
        self.draining = False
        self.connections: set[AppConnection] = set()
        self.http2: dict[AppConnection, Sized] = {}
        """Those of HTTP/2, and the streams that are open on each."""
        self.waiting: dict[Waiting, None] = {}
        """Those whose request waits for a turn of the loop, first come first served."""
        self.paused: set[AppConnection] = set()
        """Those that are not being read."""
        self._begun = 0
        """Requests begun in this turn of the loop."""
        self._warn_at = 0.0

    def opened(self, connection: AppConnection) -> None:
        self.connections.add(connection)
        self.deadlines.watch(connection)
        if len(self.connections) > self.max_connections:
            self._turn_away(connection)

    def closed(self, connection: AppConnection) -> None:
        self.connections.discard(connection)
        if self.paused:
            self.paused.discard(connection)
        if self.waiting:
            self.waiting.pop(connection, None)
        self.deadlines.forget(connection)

    def may_begin(self, waiting: Waiting) -> bool:
        """Whether a request may begin now. If not, it is told when its turn comes.

        Otherwise thousands of requests that arrive together are begun in one turn of the loop, and neither a probe nor
        an answer is read meanwhile.
        """
        if self._begun >= MOST_BEGUN:
            self.waiting[waiting] = None
            return False
        if not self._begun:
            self.loop.call_soon(self._next_turn)
        self._begun += 1
        return True

    def _next_turn(self) -> None:
        self._begun = 0
        while self.waiting and self._begun < MOST_BEGUN:
            first = next(iter(self.waiting))
            del self.waiting[first]
            first.turn_came()

    @property
    def http2_streams(self) -> int:
        """Requests under way over HTTP/2."""
        return sum(map(len, self.http2.values()))

    def look(self) -> None:
        """Find the apps that have left while they were not read."""
        for connection in list(self.paused):
            connection.check_hang_up()

    def abort(self) -> None:
        """The proxy ends."""
        for connection in list(self.connections):
            connection.abort()

    def _turn_away(self, connection: AppConnection) -> None:
        """No room for one more. Few at a time are told why, which takes a second; the others are reset."""
        few = len(self.connections) <= self.max_connections + TOLD_WHY
        detail = (
            f"apps have {self.max_connections} connections open, and the limit on open files allows no more:"
            " close those that are not used, or raise it (ulimit -n)"
        )
        now = self.loop.time()
        if now >= self._warn_at:
            self._warn_at = now + TURNED_AWAY_EVERY_S
            log.warning(
                "connections from apps are refused",
                extra={"fields": {"open": self.max_connections, "detail": detail}},
            )
        if few:
            problem = Problem(status=503, reason="overloaded", detail=detail, retry_after=1.0, jitter=self.random())
            self.recorder.refused(problem, None)
            connection.turn_away(problem)
        else:
            self.recorder.turned_away()
            connection.turn_away(None)
