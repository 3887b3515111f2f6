"""Sees that the machine stood still: a shared one's processors are taken away from it for seconds at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

STALL_S = 0.25
"""Half of the shortest timeouts that tests give a real daemon."""

_PERIOD_S = 0.05
_SEEN_AFTER_S = 4 * _PERIOD_S
"""The witness stood still too: how long it may take to say so."""


class Witness:
    """A process with a thread on each processor, which sleep: one that wakes late has seen a stall there.

    Of its own, so that a test that keeps this interpreter busy is no stall. It ends with the process that made it.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", __file__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self._pipe = self._process.stdout.fileno()
        os.set_blocking(self._pipe, False)
        self._text = ""
        self._stalls: list[tuple[float, float]] = []

    def longest_s(self, since: float) -> float:
        """The longest stall, in seconds, of those that ended after `since`, a monotonic time; 0 without any."""
        time.sleep(_SEEN_AFTER_S)
        assert self._process.poll() is None, "the witness of stalls has ended"
        while text := self._read():
            self._text += text
        *lines, self._text = self._text.split("\n")
        for line in lines:
            began, ended = line.split()
            self._stalls.append((float(began), float(ended)))
        return max((ended - began for began, ended in self._stalls if ended > since), default=0.0)

    def close(self) -> None:
        self._process.communicate()

    def _read(self) -> str:
        try:
            return os.read(self._pipe, 65536).decode("ascii")
        except BlockingIOError:
            return ""


def _watch(processor: int) -> None:
    os.sched_setaffinity(0, {processor})  # of this thread alone
    while True:
        began = time.monotonic()
        time.sleep(_PERIOD_S)
        ended = time.monotonic()
        if ended - began - _PERIOD_S >= STALL_S:
            os.write(1, f"{began:.3f} {ended:.3f}\n".encode())


if __name__ == "__main__":
    for number in os.sched_getaffinity(0):
        threading.Thread(target=_watch, args=[number], daemon=True).start()
    sys.stdin.read()
