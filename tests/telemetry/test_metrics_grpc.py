"""Calls of gRPC as Prometheus reads them."""

from __future__ import annotations

from sidecar.telemetry.counters import ServiceCounters
from sidecar.telemetry.metrics_grpc import grpc_families
from tests.support.fake_metrics import samples, series


def test_calls_are_counted_by_status_and_by_the_routes_of_the_file() -> None:
    counters, unrouted = ServiceCounters(), ServiceCounters()
    for route, status in [("", 0), ("", 0), ("/shop.v1.Venue/Get", 0), ("/shop.v1.Venue/Get", 14), ("", 99)]:
        counters.grpc_call(route, status)
    unrouted.grpc_call("", 12)
    calls, by_route = grpc_families([("", unrouted), ("shop", counters)])
    assert samples(calls, "sidecar_grpc_requests_total") == {
        series(service="", grpc_status="UNIMPLEMENTED"): 1,
        series(service="shop", grpc_status="OK"): 3,
        series(service="shop", grpc_status="UNAVAILABLE"): 1,
        series(service="shop", grpc_status="UNKNOWN"): 1,
    }
    assert samples(by_route, "sidecar_grpc_route_requests_total") == {
        series(service="shop", route="/shop.v1.Venue/Get", grpc_status="OK"): 1,
        series(service="shop", route="/shop.v1.Venue/Get", grpc_status="UNAVAILABLE"): 1,
    }


def test_a_service_without_calls_has_no_series() -> None:
    assert [family.samples for family in grpc_families([("shop", ServiceCounters())])] == [[], []]
