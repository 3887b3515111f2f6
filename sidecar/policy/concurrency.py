"""The concurrency limit: how many requests of a service may be in flight at once (`limits.max_concurrent`).

Owns the count. There is no queue: what does not fit is refused at once, because a caller with a deadline gains more
from an early no than from a late answer (Envoy's circuit breaker thresholds, `max_requests`).
"""

from __future__ import annotations


class ConcurrencyLimit:
    """Permits for `limit` requests (and tunnels) at once.

    `limit` may be set at any time: what is in flight stays, nothing more is let in until it is below.
    """

    __slots__ = ("in_flight", "limit", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self.refused = 0

    def acquire(self) -> bool:
        """Take a permit; False (and counted in `refused`) where there is none."""
        if self.in_flight < self.limit:
            self.in_flight += 1
            return True
        self.refused += 1
        return False

    def release(self) -> None:
        """Give a permit back. Raises RuntimeError where none is out: something releases twice."""
        if self.in_flight <= 0:
            raise RuntimeError("a concurrency permit was released that was not acquired")
        self.in_flight -= 1

    def __repr__(self) -> str:
        return f"<ConcurrencyLimit {self.in_flight} of {self.limit} in flight, {self.refused} refused>"
