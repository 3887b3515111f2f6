"""Background tasks: the one place in discovery that starts them.

asyncio keeps only a weak reference to a task. A task that nobody else holds may be collected while it runs, and nobody
sees its exception. `Tasks` holds each task until it ends, and logs its failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine


class Tasks:
    """The tasks of one owner. Needs a running event loop."""

    __slots__ = ("_logger", "_running")

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run `work` in the background. It ends by itself, by `task.cancel()` or by `cancel`."""
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - this is the helper
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def cancel(self) -> None:
        """Cancel every task."""
        for task in self._running:
            task.cancel()

    async def ended(self) -> None:
        """Wait until no task is left."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            self._logger.error("background task %s failed", task.get_name(), exc_info=failure)

    def __len__(self) -> int:
        return len(self._running)
