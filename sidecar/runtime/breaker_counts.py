"""The counts of breakers that are no longer in use.

Owns their sum: a route that leaves the configuration must not make a counter fall.
"""

from __future__ import annotations

from sidecar.policy.breaker import COUNTERS, Breaker


class BreakerCounts:
    """The counters of a breaker (`COUNTERS`), as sums."""

    def __init__(self) -> None:
        self.opens = self.half_opens = self.closes = 0
        self.successes = self.failures = self.timeouts = 0
        self.rejects = 0
        self.fallbacks = 0

    def add(self, breaker: Breaker) -> None:
        for counter in COUNTERS:
            setattr(self, counter, getattr(self, counter) + getattr(breaker, counter))
