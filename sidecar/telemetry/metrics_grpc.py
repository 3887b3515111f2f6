"""Prometheus metrics of gRPC: what calls came to, by their grpc-status.

Owns the names and labels of `sidecar_grpc_*`. Statuses are the names that gRPC gives them. Of methods only those have a
series that a route of the configuration names.
"""

from __future__ import annotations

from collections.abc import Iterable

from sidecar.policy.grpc import name_of
from sidecar.telemetry.counters import ServiceCounters, grpc_statuses
from sidecar.telemetry.families import CounterFamily


def grpc_families(counted: Iterable[tuple[str, ServiceCounters]]) -> Iterable[CounterFamily]:
    """`counted` are pairs of (service, counters)."""
    calls = CounterFamily(
        "sidecar_grpc_requests", "Calls of gRPC that ended, by grpc-status", labels=["service", "grpc_status"]
    )
    by_route = CounterFamily(
        "sidecar_grpc_route_requests",
        "Calls of gRPC that a route matched, by grpc-status",
        labels=["service", "route", "grpc_status"],
    )
    for service, counters in counted:
        for (route, status), count in counters.grpc.items():
            if route:
                by_route.add_metric([service, route, name_of(status)], count)
        for name, count in grpc_statuses(counters).items():
            calls.add_metric([service, name], count)
    return calls, by_route
