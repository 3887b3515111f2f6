"""What ends a call that would go on: its deadline, a limit where it has none, and the closing of the last client.

Owns the timer and the cancelling. One timer looks after all calls of an event loop: one for each, which hardly ever
fires, is a tenth of what a call costs (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from enum import Enum
from math import inf
from time import monotonic
from typing import Any, Final

TOTAL_S: Final = 300.0
"""aiohttp's default, far above `timeout.request`, by which the sidecar has answered."""
_RESOLUTION_S: Final = 0.001
"""uvloop counts milliseconds: its timers come so much too early."""

Task = asyncio.Task[Any]


class Cut(Enum):
    """Why a call was ended."""

    LIMIT = "limit"
    DEADLINE = "deadline"
    CLOSED = "closed"


class Limit:
    """Of one event loop. A task has one call under way at most: another one would be another task's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, total_s: float = TOTAL_S) -> None:
        self._loop = loop
        self._total_s = total_s
        self._calls: dict[Task, tuple[float, int, Cut]] = {}
        """When each is to end (as `time.monotonic` counts), how often its task was being cancelled as it began, and why
        it will have ended."""
        self._cut: dict[Task, Cut] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf
        """When the timer fires: no later than the first call ends. A call that is over leaves it as it is."""

    def begin(self, at: float | None = None) -> Task:
        """The running task's call begins, and is to end by `at`, or within the limit. Wants `end`, whatever comes of
        it. Raises RuntimeError outside a task.
        """
        task = asyncio.current_task(self._loop)
        if task is None:
            raise RuntimeError("calls are made in a task")
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
        if self._cut and self._cut.pop(task, None) is not None:
            task.uncancel()

    def cut(self, task: Task) -> Cut | None:
        """Why the CancelledError has come, if it is ours alone, and not somebody else's who wants the task to end."""
        cut = self._cut.get(task)
        return cut if cut is not None and task.cancelling() - 1 <= self._calls[task][1] else None

    def close(self) -> None:
        """Ends all calls under way."""
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
        self._timer = self._loop.call_later(max(at - monotonic(), 0.0), self._look)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._due = None, inf

    def _look(self) -> None:
        """Ends what is over, and comes again when the next one is."""
        self._timer, self._due = None, inf
        now, first = monotonic() + _RESOLUTION_S, inf
        for task, (at, _, why) in self._calls.items():
            if at <= now:
                self._end(task, why)
            else:
                first = min(first, at)
        if first < inf:
            self._set_timer(first)
