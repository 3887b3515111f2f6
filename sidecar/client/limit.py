"""The longest that a call without a deadline may take, so that a sidecar that hangs does not hang the app.

Owns ending such calls. One timer looks after all calls of an event loop: a timer for each, which hardly ever fires, is
a tenth of what a call costs (docs/performance.md). So the limit is a coarse one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

TOTAL_S: Final = 300.0
"""aiohttp's default, far above `timeout.request`, by which the sidecar has answered."""
_TICKS: Final = 60
"""In `TOTAL_S`. A call gets as many whole ones, so up to one more in all."""

Task = asyncio.Task[Any]


class Limit:
    """Of one event loop. A task has one call under way at most: another one would be another task's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, total_s: float = TOTAL_S) -> None:
        self._loop = loop
        self._tick_s = total_s / _TICKS
        self._now = 0
        self._began: dict[Task, int] = {}
        self._cut: dict[Task, int] = {}
        """How often each was being cancelled, by others, before we did."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Task:
        """The running task's call begins. Wants `end`, whatever comes of it. Raises RuntimeError outside a task."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("calls are made in a task")
        self._began[task] = self._now
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick)
        return task

    def end(self, task: Task) -> None:
        del self._began[task]
        if self._cut and self._cut.pop(task, None) is not None:
            task.uncancel()

    def is_cut(self, task: Task) -> bool:
        """Whether the CancelledError that has come is ours alone, and not somebody else's who wants the task to end."""
        before = self._cut.get(task)
        return before is not None and task.cancelling() - 1 <= before

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        self._now += 1
        for task, began in self._began.items():
            if self._now - began > _TICKS and task not in self._cut:
                self._cut[task] = task.cancelling()
                task.cancel()
        if self._began:
            self._timer = self._loop.call_later(self._tick_s, self._tick)
