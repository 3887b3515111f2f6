"""Rates and latencies from counters that only grow: at each second, and at each point of a chart."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.counters import DURATION_BUCKETS_S, EndpointCounters, Histogram, ServiceCounters
from sidecar.telemetry.history import INTERVAL_S, POINTS, Failed, History, is_failure, quantile_ms

UNIX = 1763859600.0


@dataclass
class FakeEndpoint:
    label: str
    counters: EndpointCounters = field(default_factory=EndpointCounters)


@dataclass
class FakeService:
    name: str = "venue"
    counters: ServiceCounters = field(default_factory=ServiceCounters)
    in_flight: int = 0
    endpoints: list[FakeEndpoint] = field(default_factory=list)

    def serve(self, count: int, reason: str = "ok", seconds: float = 0.002) -> None:
        for _ in range(count):
            self.counters.request(200, reason, seconds)


class Run:
    """A history that is sampled once a second."""

    def __init__(self, *services: FakeService) -> None:
        self.history = History()
        self.services = list(services)
        self.now = 0.0
        self.sample()

    def sample(self) -> None:
        self.history.sample(self.services, self.now, UNIX + self.now)

    def second(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += 1
            self.sample()


def test_rates_are_of_the_last_ten_seconds() -> None:
    venue = FakeService()
    run = Run(venue)
    venue.serve(1000)
    run.second()
    for _ in range(10):
        venue.serve(20)
        venue.counters.retry("sent")
        run.second()
    rates = run.history.rates(venue, run.now)
    assert (rates.requests_per_s, rates.retries_per_s, rates.success_rate) == (20.0, 1.0, 100.0)


def test_failures_by_reason_are_of_the_last_ten_seconds() -> None:
    venue = FakeService()
    run = Run(venue)
    venue.counters.request(503, "circuit_open", 0.001)
    venue.counters.request(500, "status", 0.001)
    run.second()
    run.second(10)
    assert run.history.failed(venue, run.now) == Failed(0, {})
    for code, reason in ((500, "status"), (502, "reset"), (503, "status"), (200, "ok"), (499, "client_disconnect")):
        venue.counters.request(code, reason, 0.001)
    assert run.history.failed(venue, run.now) == Failed(4, {"status": 2, "reset": 1})
    assert run.history.failed(FakeService("other"), run.now) == Failed(0, {})


def test_at_once_after_the_first_sample_there_is_a_rate() -> None:
    venue = FakeService()
    run = Run(venue)
    venue.serve(5)
    assert run.history.rates(venue, 0.5).requests_per_s == 10.0


def test_an_unsampled_service_has_no_rates() -> None:
    rates = History().rates(FakeService(), 1.0)
    assert (rates.requests_per_s, rates.success_rate, rates.p50_ms) == (0.0, None, None)


@pytest.mark.parametrize(
    ("reason", "success_rate"),
    [
        ("status", 50.0),
        ("circuit_open", 50.0),
        ("overloaded", 50.0),
        ("client_disconnect", 100.0),
        ("bad_request", 100.0),
    ],
)
def test_reasons_caused_by_the_app_are_not_failures(reason: str, success_rate: float) -> None:
    venue = FakeService()
    run = Run(venue)
    venue.serve(4)
    venue.serve(4, reason)
    assert run.history.rates(venue, 1.0).success_rate == success_rate
    assert is_failure(reason) is (success_rate < 100)


def test_without_requests_there_is_no_success_rate() -> None:
    venue = FakeService()
    run = Run(venue)
    run.second(12)
    rates = run.history.rates(venue, run.now)
    assert (rates.requests_per_s, rates.success_rate, rates.p50_ms, rates.p99_ms) == (0.0, None, None, None)


@pytest.mark.parametrize(("seconds", "points"), [(4, 0), (5, 1), (9, 1), (600, 120), (601, 120), (605, 120)])
def test_there_is_a_point_every_five_seconds_for_ten_minutes(seconds: int, points: int) -> None:
    run = Run(FakeService())
    run.second(seconds - 1)  # the one at the start counts
    series = run.history.series("venue")
    assert len(series.t) == len(series.requests_per_s) == len(series.in_flight) == points
    assert points <= POINTS
    if points:
        assert series.t[-1] - series.t[0] == (points - 1) * INTERVAL_S


def test_a_point_is_of_its_own_five_seconds() -> None:
    venue = FakeService(in_flight=3)
    run = Run(venue)
    run.second(4)
    venue.serve(10)
    venue.serve(10, "status")
    run.second(5)
    run.second(5)
    series = run.history.series("venue")
    assert series.requests_per_s == [0.0, 4.0, 0.0]
    assert series.success_rate == [None, 50.0, None]
    assert series.in_flight == [3, 3, 3]


def test_a_service_that_left_and_came_back_starts_again() -> None:
    venue = FakeService()
    run = Run(venue)
    venue.serve(50)
    run.second(6)
    run.services = []
    run.second()
    assert run.history.series("venue").t == []
    run.services = [FakeService()]
    run.second(2)
    assert run.history.rates(run.services[0], run.now).requests_per_s == 0.0


def test_a_new_service_with_the_same_name_has_no_negative_rates() -> None:
    venue = FakeService()
    run = Run(venue)
    venue.serve(50)
    run.second()
    run.services = [FakeService()]
    run.second()
    assert run.history.rates(run.services[0], run.now).requests_per_s == 0.0


def test_shares_are_of_the_last_seconds() -> None:
    a, b = FakeEndpoint("a"), FakeEndpoint("b")
    venue = FakeService(endpoints=[a, b])
    run = Run(venue)
    for _ in range(30):
        a.counters.attempt("ok")
    run.second(10)
    assert run.history.shares(venue) == {}
    for _ in range(3):
        b.counters.attempt("ok")
    a.counters.attempt("reset")
    assert run.history.shares(venue) == {"a": 25.0, "b": 75.0}


@pytest.mark.parametrize(
    ("durations", "share", "milliseconds"),
    [
        ([], 0.5, None),
        ([0.0005], 0.5, 0.5),
        ([0.0005] * 10, 1.0, 1.0),
        ([0.002] * 50 + [0.2] * 50, 0.5, 2.5),
        ([0.002] * 50 + [0.2] * 50, 0.75, 175.0),
        ([100.0], 0.5, 60_000.0),
    ],
)
def test_quantiles_are_interpolated(durations: list[float], share: float, milliseconds: float | None) -> None:
    histogram = Histogram()
    for each in durations:
        histogram.observe(each)
    assert quantile_ms(histogram.buckets, share) == milliseconds


@given(st.lists(st.floats(0, 100), min_size=1), st.floats(0.01, 1))
def test_a_quantile_is_within_the_bucket_of_the_real_one(durations: list[float], share: float) -> None:
    histogram = Histogram()
    for each in durations:
        histogram.observe(each)
    found = quantile_ms(histogram.buckets, share)
    assert found is not None
    assert 0 <= found <= DURATION_BUCKETS_S[-1] * 1000
    assert found <= min([bound for bound in DURATION_BUCKETS_S if bound >= max(durations)] or [60.0]) * 1000


def test_sampling_a_hundred_services_takes_little() -> None:
    """A second's sample; it is taken between two requests, which wait for it."""
    services = [FakeService(f"service-{number}") for number in range(100)]
    for service in services:
        for code in (200, 404, 500, 503):
            service.counters.request(code, "ok" if code < 500 else "status", 0.01)
    run = Run(*services)
    run.second(10)
    gc.collect()
    began = process_time()
    run.second(20)
    assert (process_time() - began) / 20 < 0.02
