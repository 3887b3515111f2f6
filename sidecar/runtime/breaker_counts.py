"""Counters of breakers that are no longer in use.

Owns their sum: when a route leaves the configuration, no counter may fall.
"""

from __future__ import annotations

from sidecar.policy.breaker import COUNTERS, Breaker


class BreakerCounts:
    """The sums of breaker counters (`COUNTERS`)."""

    def __init__(self) -> None:
        self.opens = self.half_opens = self.closes = 0
        self.successes = self.failures = self.timeouts = 0
        self.rejects = 0
        self.fallbacks = 0

    def add(self, breaker: Breaker) -> None:
        for counter in COUNTERS:
            setattr(self, counter, getattr(self, counter) + getattr(breaker, counter))
