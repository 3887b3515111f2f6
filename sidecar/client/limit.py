"""Ends calls that take too long: at their deadline, at a default limit, or when the last client closes.

This module owns the timer and the cancelling. One timer serves all calls of an event loop. A timer for each call would
hardly ever fire, and would cost a tenth of the whole call (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from enum import Enum
from math import inf
from time import monotonic
from typing import Any, Final

TOTAL_S: Final = 300.0
"""The limit of a call without a deadline, in seconds: aiohttp's default. `timeout.request` of the sidecar is far
shorter."""
ANSWER_S: Final = 0.05
"""Seconds that a call waits beyond its deadline. The sidecar has been told the deadline and answers when it passes: the
answer says what the attempts came to, and the sidecar counts a timeout, not an app that went away. These seconds begin
when the event loop gets to the deadline, which may be late: an answer that has arrived by then is read first."""
_RESOLUTION_S: Final = 0.001
"""uvloop counts in milliseconds, so its timers may fire this many seconds early."""

Task = asyncio.Task[Any]


class Cut(Enum):
    """The reason why the client ended a call."""

    LIMIT = "limit"
    DEADLINE = "deadline"
    CLOSED = "closed"


class Limit:
    """The time limits of all calls in one event loop. A task has at most one call in progress."""

    def __init__(self, loop: asyncio.AbstractEventLoop, total_s: float = TOTAL_S) -> None:
        self._loop = loop
        self._total_s = total_s
        self._calls: dict[Task, tuple[float, int, Cut]] = {}
        """For each task: when its call must end (a reading of `time.monotonic`), how many cancellations of the task
        were pending when the call began, and the reason to give if the call is ended then."""
        self._overdue: set[Task] = set()
        """Tasks whose calls are beyond their deadline, and wait for the sidecar's answer."""
        self._cut: dict[Task, Cut] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf
        """When the timer fires. That is never later than the first end of a call. A finished call does not change it.
        """

    def begin(self, at: float | None = None) -> Task:
        """Registers a call of the running task. The call must end ANSWER_S after `at`, or within the default limit. The
        caller must call `end` in every case. Raises RuntimeError outside a task.
        """
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("a call must be made inside a task")
        if at is None:
            at = monotonic() + self._total_s
            self._calls[task] = (at, task.cancelling(), Cut.LIMIT)
        else:
            self._calls[task] = (at, task.cancelling(), Cut.DEADLINE)
        if at < self._due:
            self._set_timer(at)
        return task

    def end(self, task: Task) -> None:
        del self._calls[task]
        if self._overdue:
            self._overdue.discard(task)
        if self._cut and self._cut.pop(task, None) is not None:
            task.uncancel()

    def cut(self, task: Task) -> Cut | None:
        """Why the call was cancelled, if this Limit alone did it. None if something else wants the task to end."""
        cut = self._cut.get(task)
        return cut if cut is not None and task.cancelling() - 1 <= self._calls[task][1] else None

    def close(self) -> None:
        """Ends all calls in progress."""
        self._stop_timer()
        for task in self._calls:
            self._end(task, Cut.CLOSED)

    def _end(self, task: Task, why: Cut) -> None:
        if task not in self._cut:
            self._cut[task] = why
            task.cancel()

    def _set_timer(self, at: float) -> None:
        self._stop_timer()
        self._due = at
        self._timer = self._loop.call_later(max(at - monotonic(), 0.0), self._end_due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, inf

    def _end_due(self) -> None:
        """Ends the calls whose time is over, and sets the timer for the next one."""
        self._timer, self._due = None, inf
        now, first = monotonic() + _RESOLUTION_S, inf
        for task, (at, pending, why) in self._calls.items():
            if at > now:
                first = min(first, at)
            elif why is Cut.DEADLINE and task not in self._overdue:
                self._overdue.add(task)
                self._calls[task] = (now + ANSWER_S, pending, why)
                first = min(first, now + ANSWER_S)
            else:
                self._end(task, why)
        if first < inf:
            self._set_timer(first)
