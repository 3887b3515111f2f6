"""Counts of breakers that are gone are kept."""

from __future__ import annotations

from sidecar.policy.breaker import Breaker
from sidecar.policy.settings import BreakerSettings
from sidecar.runtime.breaker_counts import BreakerCounts


def test_counts_are_summed() -> None:
    breaker = Breaker(BreakerSettings(), 0.0)
    breaker.failure(breaker.admit(0.0), 0.0)
    counts = BreakerCounts()
    counts.add(breaker)
    counts.add(breaker)
    assert (counts.failures, counts.successes) == (2, 0)
