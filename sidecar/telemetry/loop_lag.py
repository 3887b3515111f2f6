"""Event loop lag: how late the event loop runs, which delays requests in addition to their upstream.

Owns the sampling. A timer is set at intervals. How much later than planned it runs is the time that everything else on
the loop had to wait too: because of a long step of the loop, or for CPU time (a container's CPU limit counts). The
intervals are random, so that the samples do not fall into step with other timers. The share of late samples is then the
share of time in which the loop was late.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from typing import Final

LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds in seconds. One more bucket counts longer lags. The loop's timers have a resolution of 1 ms."""

EVERY_S: Final = 0.5
"""The average time between samples; a single one is between half and one and a half times as long."""

SPAN_S: Final = 60.0
"""The largest lag covers the last one to two spans, so that several scrapers can each see it."""


class LoopLag:
    """Takes samples from `start` to `stop`. `random` gives floats in [0, 1), `clock` monotonic seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, random: Callable[[], float], clock: Callable[[], float]
    ) -> None:
        self.buckets = [0] * (len(LAG_BUCKETS_S) + 1)
        """Samples by lag, not cumulative."""
        self.total_s = 0.0
        self._loop = loop
        self._random = random
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._span_began = self._ran_at = clock()
        self._largest = self._largest_before = 0.0

    def start(self) -> None:
        delay = EVERY_S * (0.5 + self._random())
        self._timer = self._loop.call_later(delay, self._sample, self._clock() + delay)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def silent_s(self) -> float:
        """Seconds since the loop last took a sample; at rest up to 0.75. Any thread may ask."""
        return self._clock() - self._ran_at

    def largest(self) -> float:
        """The largest lag of the last one to two minutes, in seconds."""
        self._turn_span(self._clock())
        return max(self._largest, self._largest_before)

    def _sample(self, due: float) -> None:
        now = self._clock()
        self._ran_at = now
        lag = max(0.0, now - due)  # uvloop may be 1 ms early
        self.buckets[bisect_left(LAG_BUCKETS_S, lag)] += 1
        self.total_s += lag
        self._turn_span(now)
        self._largest = max(self._largest, lag)
        self.start()

    def _turn_span(self, now: float) -> None:
        passed = now - self._span_began
        if passed >= SPAN_S:
            self._largest_before = self._largest if passed < 2 * SPAN_S else 0.0
            self._largest = 0.0
            self._span_began = now
