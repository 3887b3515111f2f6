"""One timer for all deadlines of the data path.

Owns when somebody is told that a deadline has passed; what it meant is theirs. A timer object for each request would
cost more than the request's routing: here, moving a deadline is storing a float.
"""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final, Protocol

CLOSEST_S: Final = 0.005
"""Looking through the watched again and again is not worth more precision than this, in seconds."""

NEAR_S: Final = 1.0
"""How often all are looked through, in seconds. In between, only those are whose deadline is nearer than that."""

EARLY_S: Final = 0.001
"""uvloop's timers count whole milliseconds and may fire up to one early."""


class Watched(Protocol):
    """Has a deadline (seconds of the loop's monotonic clock; infinity for none)."""

    deadline: float

    def deadline_passed(self, now: float) -> None:
        """Called once it has; sets a new deadline, or leaves infinity."""


class Deadlines:
    """Watches any number of deadlines; each is noticed within some milliseconds.

    Thousands of idle connections have a deadline that is far: they are looked at once in NEAR_S, and else not.
    """

    __slots__ = ("_handle", "_loop", "_near", "_next", "_watched", "horizon")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self._near: set[Watched] = set()
        """All whose deadline is before the horizon, and some that have moved it away since."""
        self.horizon = inf
        """When all are looked through next. Whoever sets a deadline before it says so (`notice`)."""
        self._next = inf
        """When some are."""
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, watched: Watched) -> None:
        self._watched.add(watched)
        if watched.deadline < self.horizon:
            self.notice(watched)

    def forget(self, watched: Watched) -> None:
        self._watched.discard(watched)
        self._near.discard(watched)

    def arm(self, watched: Watched, when: float) -> None:
        """Set the deadline of something watched. Moving it further away costs nothing."""
        watched.deadline = when
        if when < self.horizon:
            self.notice(watched)

    def notice(self, watched: Watched) -> None:
        """Its deadline has been set to a time before the horizon."""
        self._near.add(watched)
        if watched.deadline < self._next:
            self._look_at(watched.deadline)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._watched.clear()
        self._near.clear()

    def _look_at(self, when: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._next = when
        self._handle = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._handle = None
        self._next = inf
        now = self._loop.time()
        all_of_them = now + EARLY_S >= self.horizon or self.horizon == inf
        due = [one for one in (self._watched if all_of_them else self._near) if one.deadline <= now + EARLY_S]
        for one in due:
            if one in self._watched and one.deadline <= now + EARLY_S:  # one told before may have changed that
                one.deadline = inf
                one.deadline_passed(now)
        if all_of_them:
            horizon = now + NEAR_S
            self._near = {one for one in self._watched if one.deadline < horizon}
            self.horizon = horizon if any(horizon <= one.deadline < inf for one in self._watched) else inf
        else:
            self._near = {one for one in self._near if one.deadline < self.horizon}
        soonest = min((one.deadline for one in self._near), default=inf)
        when = min(max(soonest, now + CLOSEST_S), self.horizon)
        if when < self._next:
            self._look_at(when)

    def __repr__(self) -> str:
        return f"<Deadlines watched={len(self._watched)} near={len(self._near)} next={self._next:.3f}>"
