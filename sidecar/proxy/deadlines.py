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


class Watched(Protocol):
    """Has a deadline (seconds of the loop's monotonic clock; infinity for none)."""

    deadline: float

    def deadline_passed(self, now: float) -> None:
        """Called once it has; sets a new deadline, or leaves infinity."""


class Deadlines:
    """Watches any number of deadlines; each is noticed within some milliseconds."""

    __slots__ = ("_handle", "_loop", "_watched", "soonest")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self.soonest = inf
        """When it looks next."""
        self._handle: asyncio.TimerHandle | None = None

    def watch(self, watched: Watched) -> None:
        self._watched.add(watched)
        self.notice(watched.deadline)

    def forget(self, watched: Watched) -> None:
        self._watched.discard(watched)

    def arm(self, watched: Watched, when: float) -> None:
        """Set the deadline of something watched. Moving it further away costs nothing."""
        watched.deadline = when
        if when < self.soonest:
            self.notice(when)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._watched.clear()

    def notice(self, when: float) -> None:
        """A deadline has been set that may be sooner than the next look."""
        if when >= self.soonest:
            return
        if self._handle is not None:
            self._handle.cancel()
        self.soonest = when
        self._handle = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        self._handle = None
        self.soonest = inf
        now = self._loop.time()
        # uvloop's timers count whole milliseconds and may fire up to one early.
        due = [one for one in self._watched if one.deadline <= now + 0.001]
        for one in due:
            if one in self._watched and one.deadline <= now + 0.001:  # one told before may have changed that
                one.deadline = inf
                one.deadline_passed(now)
        if self._watched:
            soonest = min(one.deadline for one in self._watched)
            if soonest < inf:
                self.notice(max(soonest, now + CLOSEST_S))

    def __repr__(self) -> str:
        return f"<Deadlines watched={len(self._watched)} next={self.soonest:.3f}>"
