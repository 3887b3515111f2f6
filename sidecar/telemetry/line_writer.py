"""Log writer: writes log lines in its own thread, so that a slow reader of stdout cannot stop the data path.

Owns the queue between the two. It is bounded: lines that do not fit are dropped and counted.
"""

from __future__ import annotations

import os
import select
from queue import SimpleQueue
from threading import Thread
from typing import Final

MAX_QUEUED: Final = 4 * 1024 * 1024
"""The most bytes that wait to be written."""


class LineWriter:
    """Writes complete lines to a file descriptor."""

    def __init__(self, descriptor: int = 1, max_queued: int = MAX_QUEUED) -> None:
        self._descriptor = descriptor
        self._max_queued = max_queued
        self._put = 0
        self._refused = 0
        self._done = self._lost = 0  # changed by the thread only; _put - _done is the number of waiting bytes
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that did not fit, or could not be written."""
        return self._refused + self._lost

    def write(self, lines: bytes) -> None:
        """Queue lines. Never waits."""
        size = len(
            lines
        )  # computed first: several threads may write, so the additions below must not be interrupted by a call
        if self._put - self._done + size > self._max_queued:
            self._refused += lines.count(b"\n")
            return
        self._put += size
        self._queue.put(lines)

    def close(self, timeout_s: float) -> None:
        """Write the waiting lines, for at most `timeout_s`. No line may be written after this."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            rest = memoryview(lines)
            try:
                while rest:
                    rest = rest[self._written(rest) :]
            except OSError:  # a closed pipe or a full disk: the lines are lost, and the sidecar continues
                self._lost += bytes(rest).count(b"\n")
            self._done += len(lines)

    def _written(self, rest: memoryview) -> int:
        """The number of bytes written; 0 if there was no room, which there is now."""
        try:
            return os.write(self._descriptor, rest)
        except BlockingIOError:  # another process that shares our stdout, such as Node, made it non-blocking
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0
