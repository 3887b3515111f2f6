"""Concurrency limit: how many requests of a service may be in flight at once (`limits.max_concurrent`).

Owns the count. There is no queue. A request above the limit is refused at once: a caller with a deadline gains more
from an early refusal than from a late answer (Envoy's circuit breaker threshold `max_requests`).
"""

from __future__ import annotations


class ConcurrencyLimit:
    """Permits for `limit` requests (and tunnels) at once.

    `limit` may be set at any time. A lower limit ends no request; new ones are refused until the count is below it.
    """

    __slots__ = ("in_flight", "limit", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.refused = 0

    def acquire(self) -> bool:
        """Take a permit. False, counted in `refused`, when all are taken."""
        if self.in_flight < self.limit:
            self.in_flight += 1
            return True
        self.refused += 1
        return False

    def release(self) -> None:
        """Give a permit back. Raises RuntimeError when no permit is taken, which means that a caller released twice."""
        if self.in_flight <= 0:
            raise RuntimeError("a concurrency permit was released twice, or never acquired")
        self.in_flight -= 1

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.in_flight} of {self.limit} in flight, {self.refused} refused>"
