"""Counters of the data path: plain integers, incremented there and read by a scrape.

Owns what is counted for a service, an endpoint and the process. `sidecar.telemetry.metrics` owns the Prometheus names.
An increment costs a dictionary look-up and no lock, because everything runs on one thread.
"""

from __future__ import annotations

from typing import Final

from sidecar.policy.grpc import name_of

DURATION_BUCKETS_S: Final[tuple[float, ...]] = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
"""Upper bounds in seconds. One more bucket counts longer durations."""


class Histogram:
    """Durations in seconds, by bucket."""

    __slots__ = ("buckets", "total_s")

    def __init__(self) -> None:
        self.buckets = [0] * (len(DURATION_BUCKETS_S) + 1)
        self.total_s = 0.0

    def observe(self, seconds: float) -> None:
        # Not bisect_left: compiled, this compares machine numbers, which halves the cost of counting a request.
        low, high = 0, len(DURATION_BUCKETS_S)
        while low < high:
            middle = (low + high) >> 1
            if DURATION_BUCKETS_S[middle] < seconds:
                low = middle + 1
            else:
                high = middle
        self.buckets[low] += 1
        self.total_s += seconds


class EndpointCounters:
    """Attempts at one endpoint, by reason."""

    __slots__ = ("attempts",)

    def __init__(self) -> None:
        self.attempts: dict[str, int] = {}

    def attempt(self, reason: str) -> None:
        self.attempts[reason] = self.attempts.get(reason, 0) + 1


class ServiceCounters:
    """Requests of one service (or of none, when no service was found), by (status code, reason)."""

    __slots__ = ("checks", "durations", "fallbacks", "grpc", "requests", "retries", "tunnels")

    def __init__(self) -> None:
        self.requests: dict[tuple[int, str], int] = {}
        self.retries: dict[str, int] = {}
        """Retries by result: `sent`, `failover`, `stale_connection`, `denied_budget`, `denied_breaker`,
        `denied_deadline`, `denied_repeated`, `denied_pushback`.
        """
        self.fallbacks: dict[str, int] = {}
        """Fallbacks by what answered instead of this service: `service:<name>`, `stale`, `static`, or `none` if nothing
        did.
        """
        self.checks = {"success": 0, "failure": 0}
        """Active checks of its endpoints that ended, by result."""
        self.grpc: dict[tuple[str, int], int] = {}
        """Calls of gRPC by the name of their route (empty without one) and the number of their grpc-status. They are in
        `requests` too."""
        self.durations = Histogram()
        self.tunnels = 0
        """Tunnels that are open now."""

    def request(self, code: int, reason: str, seconds: float) -> None:
        key = (code, reason)
        self.requests[key] = self.requests.get(key, 0) + 1
        self.durations.observe(seconds)

    def grpc_call(self, route: str, status: int) -> None:
        key = (route, status)
        self.grpc[key] = self.grpc.get(key, 0) + 1

    def retry(self, result: str) -> None:
        self.retries[result] = self.retries.get(result, 0) + 1

    def fallback(self, step: str) -> None:
        self.fallbacks[step] = self.fallbacks.get(step, 0) + 1


def grpc_statuses(counters: ServiceCounters) -> dict[str, int]:
    """Calls of gRPC by the name of their status, in the order of its numbers."""
    totals: dict[str, int] = {}
    for (_, status), count in sorted(counters.grpc.items(), key=lambda item: item[0][1]):
        name = name_of(status)
        totals[name] = totals.get(name, 0) + count
    return totals
