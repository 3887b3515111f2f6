"""Writes log lines from a thread of its own, so that whoever reads them cannot stop the data path by not reading.

Owns the queue between the two, which is bounded: what does not fit is dropped, and counted.
"""

from __future__ import annotations

import os
import select
from queue import SimpleQueue
from threading import Thread
from typing import Final

MAX_QUEUED: Final = 4 * 1024 * 1024
"""Bytes that wait to be written."""


class LineWriter:
    """Takes whole lines for a file descriptor."""

    def __init__(self, descriptor: int = 1, max_queued: int = MAX_QUEUED) -> None:
        self._descriptor = descriptor
        self._max_queued = max_queued
        self._put = 0
        self._refused = 0
        self._done = self._lost = 0  # the thread alone changes them: what _put exceeds _done by is what waits
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines that did not fit, or could not be written."""
        return self._refused + self._lost

    def write(self, lines: bytes) -> None:
        """Never waits."""
        size = len(lines)  # no call within the additions below: threads may write, and must not see halves of them
        if self._put - self._done + size > self._max_queued:
            self._refused += lines.count(b"\n")
            return
        self._put += size
        self._queue.put(lines)

    def close(self, timeout_s: float) -> None:
        """Write what waits, for as long as `timeout_s`; nothing may be written after this."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            rest = memoryview(lines)
            try:
                while rest:
                    rest = rest[self._written(rest) :]
            except OSError:  # a closed pipe or a full disk: the lines are lost, the sidecar goes on
                self._lost += bytes(rest).count(b"\n")
            self._done += len(lines)

    def _written(self, rest: memoryview) -> int:
        """Bytes that went out; 0 where there was no room, and now is."""
        try:
            return os.write(self._descriptor, rest)
        except BlockingIOError:  # a process that shares our stdout, as Node may, made it non-blocking for all
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            poll.poll()
            return 0
