"""Slices: long work of the control side on the event loop, a little at a time.

A scrape of a thousand services, or a reload of them, takes some hundred milliseconds of CPU. In one block, every
request would wait for it. A thread does not help, because a busy one keeps the interpreter's lock for 5 ms at a time.
So such work is a generator: each `yield` is a place where it may pause. Here it runs for `SLICE_S`, and then the loop
has a turn for the requests. All work shares the slice of a turn, in order of arrival, so that ten scrapes at once do
not make a turn ten times as long.

The author of a generator has to yield often enough: at least once in about a millisecond.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Generator
from time import thread_time
from typing import Any, Final, TypeVar

Done = TypeVar("Done")

SLICE_S: Final = 0.001
"""CPU seconds of a slice. A slice is longer by the step that is under way at its end."""


class Slices:
    """Runs generators. Use it on the thread of `loop`. `clock` gives seconds of CPU time of this thread."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        slice_s: float = SLICE_S,
        clock: Callable[[], float] = thread_time,
    ) -> None:
        self._loop = loop
        self._slice_s = slice_s
        self._clock = clock
        self._under_way: deque[tuple[Generator[None, None, Any], asyncio.Future[Any]]] = deque()
        self._next: asyncio.Handle | None = None

    def __len__(self) -> int:
        return len(self._under_way)

    async def run(self, work: Generator[None, None, Done]) -> Done:
        """Run a generator to its end, and return what it returns. When the caller is cancelled, the work ends too."""
        result: asyncio.Future[Done] = self._loop.create_future()
        self._under_way.append((work, result))
        self._plan()
        return await result

    def _plan(self) -> None:
        if self._next is None:
            self._next = self._loop.call_soon(self._slice)

    def _slice(self) -> None:
        self._next = None
        until = self._clock() + self._slice_s
        while self._under_way:
            work, result = self._under_way.popleft()
            if result.done():  # cancelled
                work.close()
                continue
            if not self._continued(work, result, until):
                self._under_way.append((work, result))
                self._plan()
                return

    def _continued(self, work: Generator[None, None, Done], result: asyncio.Future[Done], until: float) -> bool:
        """Continue one work until the slice is over. True if the work has ended."""
        try:
            while True:
                next(work)
                if self._clock() >= until:
                    return False
        except StopIteration as end:
            result.set_result(end.value)
        except Exception as error:
            result.set_exception(error)
        return True


def as_it_is(found: Any) -> Any:
    """For work that packs its parts, where they are wanted unpacked."""
    return found


def at_once(work: Generator[None, None, Done]) -> Done:
    """Run a generator to its end without a pause, where nothing else waits."""
    try:
        while True:
            next(work)
    except StopIteration as end:
        found: Done = end.value
        return found
