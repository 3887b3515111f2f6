"""How late the loop is: on a clock that is put forward while a timer waits."""

from __future__ import annotations

import asyncio
from bisect import bisect_left

import pytest

from sidecar.telemetry.loop_lag import EVERY_S, LAG_BUCKETS_S, SPAN_S, LoopLag
from tests.support.jumping_loop import run


class Held:
    """A sampler that takes a sample each EVERY_S, and a clock that runs on by `hold` while its loop does not."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._held_s = 0.0
        self.lag = LoopLag(self._loop, lambda: 0.5, lambda: self._loop.time() + self._held_s)
        self.lag.start()

    def hold(self, seconds: float) -> None:
        self._held_s += seconds

    async def samples(self, count: int) -> None:
        """Waits for so many: with these draws there is one each EVERY_S."""
        before = sum(self.lag.buckets)
        await asyncio.sleep(EVERY_S * (count + 0.5))
        assert sum(self.lag.buckets) == before + count


def test_a_loop_in_time_has_no_lag() -> None:
    async def scenario() -> None:
        held = Held()
        await held.samples(10)
        held.lag.stop()
        assert held.lag.buckets == [10, *[0] * len(LAG_BUCKETS_S)]
        assert held.lag.total_s == pytest.approx(0)
        assert held.lag.largest() == pytest.approx(0)

    run(scenario())


@pytest.mark.parametrize("seconds", [0.0009, 0.0011, 0.2, 0.3, 99.0])
def test_the_lag_is_how_much_later_than_asked_the_timer_ran(seconds: float) -> None:
    async def scenario() -> None:
        held = Held()
        held.hold(seconds)
        await held.samples(1)
        held.lag.stop()
        assert held.lag.buckets[bisect_left(LAG_BUCKETS_S, seconds)] == 1
        assert sum(held.lag.buckets) == 1
        assert held.lag.total_s == pytest.approx(seconds)
        assert held.lag.largest() == pytest.approx(seconds)

    run(scenario())


def test_a_timer_that_is_early_is_not_late() -> None:
    async def scenario() -> None:
        held = Held()
        held.hold(-0.001)
        await held.samples(1)
        held.lag.stop()
        assert (held.lag.total_s, held.lag.largest()) == (0, 0)

    run(scenario())


def test_the_largest_is_forgotten_after_one_to_two_spans() -> None:
    async def scenario() -> None:
        held = Held()
        held.hold(3.0)
        await held.samples(1)
        shown = []
        for _ in range(24):
            await asyncio.sleep(SPAN_S / 10)
            shown.append(held.lag.largest() > 1)
        assert all(shown[:9])
        assert not any(shown[20:])
        held.lag.stop()

    run(scenario())


def test_an_old_largest_lag_is_not_shown_after_a_pause() -> None:
    async def scenario() -> None:
        held = Held()
        held.hold(3.0)
        await held.samples(1)
        held.lag.stop()
        held.hold(2 * SPAN_S)
        assert held.lag.largest() == 0

    run(scenario())


def test_times_between_samples_are_random() -> None:
    async def scenario() -> None:
        draws = iter([0.0, 0.999, 0.5, 0.5])
        loop = asyncio.get_running_loop()
        asked = []
        lag = LoopLag(loop, lambda: asked.append(loop.time()) or next(draws), loop.time)  # type: ignore[func-returns-value]
        lag.start()
        await asyncio.sleep(EVERY_S * 2.3)
        lag.stop()
        first, second, third = asked
        assert second - first == pytest.approx(EVERY_S * 0.5)
        assert third - second == pytest.approx(EVERY_S * 1.499)

    run(scenario())


def test_after_stop_there_are_no_more_samples() -> None:
    async def scenario() -> None:
        held = Held()
        await held.samples(2)
        held.lag.stop()
        held.lag.stop()
        await asyncio.sleep(10 * EVERY_S)
        assert sum(held.lag.buckets) == 2

    run(scenario())


def test_a_loop_that_does_not_run_is_silent() -> None:
    async def scenario() -> None:
        held = Held()
        await held.samples(1)
        assert held.lag.silent_s() <= EVERY_S
        held.hold(20.0)
        assert held.lag.silent_s() >= 20.0
        await asyncio.sleep(EVERY_S)
        assert held.lag.silent_s() <= EVERY_S
        held.lag.stop()

    run(scenario())
