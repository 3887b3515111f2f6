"""The text of `/metrics`: made in slices, and shared by those who ask at the same time.

Owns when a text is made anew. Any pod can ask the probe listener, so the CPU time of scrapes has a bound: one text is
made at a time, and one that took more than a moment answers all scrapes of the next seconds. A small text is made for
each scrape.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Sequence
from math import ceil
from typing import Final

from sidecar.net.tasks import Tasks
from sidecar.runtime.slices import Slices

CHEAP_S: Final = 0.01
"""A text that took less is not kept."""
KEPT_TIMES: Final = 4.0
"""A text is kept for this many times the time that it took, so scrapes get at most a fifth of the time."""
KEPT_S: Final = 5.0
"""The longest that a text is kept. Prometheus scrapes every 15 s or more seldom."""

log = logging.getLogger("sidecar.admin")


class Scrapes:
    """Makes texts by `make`. Create and use it in a running event loop."""

    def __init__(self, make: Callable[[], Generator[None, None, list[bytes]]], slices: Slices) -> None:
        self._make = make
        self._slices = slices
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(log)
        self._under_way: asyncio.Task[None] | None = None
        self._text: list[bytes] = []
        """The last text, or the one under way, which is empty until it is whole."""
        self._drop: asyncio.TimerHandle | None = None
        """Set while the last text is kept."""
        self._began = 0.0
        self.made = 0

    @property
    def kept(self) -> bool:
        """Whether the next scrape gets the last text."""
        return self._drop is not None

    async def text(self) -> tuple[Sequence[bytes], int]:
        """The metrics, in pieces, and their age in seconds as HTTP's `Age` says it.

        The age is 0 if the text was begun for this scrape, else it is rounded up: never 0 for what may be older.
        """
        asked = self._loop.time()
        if self.kept:
            return self._text, ceil(asked - self._began)
        own = self._under_way is None or self._under_way.done()
        if self._under_way is None or own:
            self._text = []
            self._under_way = self._tasks.start(self._render(self._text), "scrape")
        text = self._text  # on a busy machine, it may be dropped before this goes on
        await asyncio.shield(self._under_way)  # a scraper that leaves does not disturb the others
        return text, 0 if own else max(ceil(asked - self._began), 1)

    async def _render(self, text: list[bytes]) -> None:
        self._began = began = self._loop.time()
        text += await self._slices.run(self._make())
        self.made += 1
        took_s = self._loop.time() - began
        if took_s >= CHEAP_S:
            self._drop = self._loop.call_later(min(KEPT_TIMES * took_s, KEPT_S), self._forget)

    def _forget(self) -> None:
        self._drop = None
        self._text = []

    async def close(self) -> None:
        if self._drop is not None:
            self._drop.cancel()
        self._tasks.cancel()
        await self._tasks.ended()
