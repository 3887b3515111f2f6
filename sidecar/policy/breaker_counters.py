"""Counters of a service's circuit breakers: Opossum's events, since the start.

They belong to the service. Its breakers come and go with its configuration and all count here, so no counter falls at a
reload.
"""

from __future__ import annotations


class BreakerCounters:
    """Every outcome counts, also one that comes too late to change a state. A timeout also counts as a failure.

    `fallbacks` is incremented by the code that serves the fallback.
    """

    __slots__ = ("closes", "failures", "fallbacks", "half_opens", "opens", "rejects", "successes", "timeouts")

    def __init__(self) -> None:
        self.opens = self.half_opens = self.closes = 0
        self.successes = self.failures = self.timeouts = 0
        self.rejects = 0
        self.fallbacks = 0
