"""Writes log lines from a thread of its own, so that whoever reads them cannot stop the data path by not reading.

Owns the queue between the two, which is bounded: what does not fit is dropped, and counted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Final

MAX_QUEUED: Final = 4 * 1024 * 1024
"""Bytes that wait to be written."""


class LineWriter:
    """Takes whole lines for a file descriptor. `dropped` counts the pieces that were not written."""

    def __init__(self, descriptor: int = 1, max_queued: int = MAX_QUEUED) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._max_queued = max_queued
        self._put = 0
        self._done = 0  # the thread alone changes it: the difference to _put is what waits
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    def write(self, lines: bytes) -> None:
        """Never waits."""
        size = len(lines)  # no call within the additions below: threads may write, and must not see halves of them
        if self._put - self._done + size > self._max_queued:
            self.dropped += lines.count(b"\n")
            return
        self._put += size
        self._queue.put(lines)

    def close(self, timeout_s: float) -> None:
        """Write what waits, for as long as `timeout_s`; nothing may be written after this."""
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (lines := self._queue.get()) is not None:
            with suppress(OSError):  # a closed pipe or a full disk: the lines are lost, the sidecar goes on
                rest = memoryview(lines)
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            self._done += len(lines)
