"""The counters of the data path."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.counters import DURATION_BUCKETS_S, EndpointCounters, Histogram, ServiceCounters, grpc_statuses


def test_bounds_rise_and_reach_from_a_millisecond_to_a_minute() -> None:
    assert list(DURATION_BUCKETS_S) == sorted(set(DURATION_BUCKETS_S))
    assert (DURATION_BUCKETS_S[0], DURATION_BUCKETS_S[-1]) == (0.001, 60.0)


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [
        (0.0, 0),
        (0.0009, 0),
        (0.001, 0),  # a bound belongs to its own bucket: Prometheus' `le`
        (0.0011, 1),
        (0.25, 7),
        (0.2500001, 8),
        (60.0, 14),
        (60.001, 15),
        (1e9, 15),
    ],
)
def test_a_duration_is_counted_in_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    histogram = Histogram()
    histogram.observe(seconds)
    assert [index for index, count in enumerate(histogram.buckets) if count] == [bucket]
    assert histogram.total_s == seconds


@given(st.lists(st.floats(0, 1000)))
def test_every_duration_is_counted_once(durations: list[float]) -> None:
    histogram = Histogram()
    for seconds in durations:
        histogram.observe(seconds)
    assert sum(histogram.buckets) == len(durations)
    assert histogram.total_s == pytest.approx(sum(durations))
    for index, count in enumerate(histogram.buckets):
        assert count == sum(1 for one in durations if bisect_left(DURATION_BUCKETS_S, one) == index)


def test_histograms_do_not_share_buckets() -> None:
    first, second = Histogram(), Histogram()
    first.observe(0.1)
    assert sum(second.buckets) == 0


def test_requests_are_counted_by_code_and_reason() -> None:
    counters = ServiceCounters()
    for code, reason in [(200, "ok"), (200, "ok"), (503, "ok"), (503, "circuit_open")]:
        counters.request(code, reason, 0.01)
    assert counters.requests == {(200, "ok"): 2, (503, "ok"): 1, (503, "circuit_open"): 1}
    assert sum(counters.durations.buckets) == 4
    assert counters.durations.total_s == pytest.approx(0.04)


def test_retries_are_counted_by_result() -> None:
    counters = ServiceCounters()
    for result in ("sent", "sent", "denied_budget"):
        counters.retry(result)
    assert counters.retries == {"sent": 2, "denied_budget": 1}


def test_attempts_are_counted_by_reason() -> None:
    counters = EndpointCounters()
    for reason in ("ok", "reset", "ok"):
        counters.attempt(reason)
    assert counters.attempts == {"ok": 2, "reset": 1}


def test_new_counters_are_zero() -> None:
    counters = ServiceCounters()
    assert (counters.requests, counters.retries, counters.tunnels) == ({}, {}, 0)
    assert EndpointCounters().attempts == {}


def test_calls_of_grpc_are_counted_by_route_and_status() -> None:
    counters = ServiceCounters()
    for route, status in [("", 14), ("/a.B", 0), ("", 0), ("", 0), ("", 77)]:
        counters.grpc_call(route, status)
    assert counters.grpc == {("", 14): 1, ("/a.B", 0): 1, ("", 0): 2, ("", 77): 1}
    assert list(grpc_statuses(counters).items()) == [("OK", 3), ("UNAVAILABLE", 1), ("UNKNOWN", 1)]
