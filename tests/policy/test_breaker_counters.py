"""The counters that the breakers of a service share."""

from __future__ import annotations

from sidecar.policy.breaker import Breaker, make_breaker
from sidecar.policy.breaker_counters import BreakerCounters
from sidecar.policy.settings import BreakerSettings


def test_every_breaker_of_a_service_counts_in_one_place() -> None:
    counters = BreakerCounters()
    breakers = [make_breaker(BreakerSettings(), 0.0, None, counters) for _ in range(3)]
    for breaker in breakers:
        breaker.failure(breaker.admit(0.0), 0.0, timed_out=True)
        breaker.success(breaker.admit(0.0), 0.0)
    assert (counters.successes, counters.failures, counters.timeouts) == (3, 3, 3)


def test_counts_go_on_when_a_breaker_is_turned_off_and_on_again() -> None:
    counters = BreakerCounters()
    breaker = Breaker(BreakerSettings(volume_threshold=1), 0.0, None, counters)
    breaker.failure(breaker.admit(0.0), 0.0)
    assert not breaker.admit(1.0)
    off = breaker.reconfigure(BreakerSettings(mode="off"), 1.0)
    on = off.reconfigure(BreakerSettings(), 2.0)
    assert off.counters is on.counters is counters
    assert (counters.opens, counters.closes, counters.rejects, on.opens, on.rejects) == (1, 1, 1, 1, 1)
