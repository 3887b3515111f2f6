"""The counts of breakers that are gone."""

from __future__ import annotations

from sidecar.policy.breaker import COUNTERS, make_breaker
from sidecar.policy.settings import BreakerSettings
from sidecar.runtime.breaker_counts import BreakerCounts


def test_every_counter_of_a_breaker_is_added() -> None:
    counts = BreakerCounts()
    assert [getattr(counts, one) for one in COUNTERS] == [0] * len(COUNTERS)
    for times in (1, 10):
        breaker = make_breaker(BreakerSettings(), 0.0)
        for number, counter in enumerate(COUNTERS, 1):
            setattr(breaker, counter, number * times)
        counts.add(breaker)
    assert [getattr(counts, one) for one in COUNTERS] == [number * 11 for number in range(1, len(COUNTERS) + 1)]
