"""The counters as Prometheus reads them: names, labels, and text that a scraper understands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar.policy.breaker import STATES
from sidecar.telemetry.counters import DURATION_BUCKETS_S, EndpointCounters, ServiceCounters
from sidecar.telemetry.metrics import BREAKER_STATES, CONTENT_TYPE, SidecarCollector, exposition, registry

Labels = frozenset[tuple[str, str]]


@dataclass
class FakeEndpoint:
    label: str
    active: int = 0
    counters: EndpointCounters = field(default_factory=EndpointCounters)

    def attempted(self, **reasons: int) -> FakeEndpoint:
        self.counters.attempts.update(reasons)
        return self


@dataclass
class FakeBreaker:
    state: str = "closed"
    opens: int = 0
    half_opens: int = 0
    closes: int = 0
    successes: int = 0
    failures: int = 0
    timeouts: int = 0
    rejects: int = 0
    fallbacks: int = 0


@dataclass
class FakeService:
    name: str
    in_flight: int = 0
    counters: ServiceCounters = field(default_factory=ServiceCounters)
    breakers: Sequence[FakeBreaker] = field(default_factory=lambda: [FakeBreaker()])
    present: Sequence[tuple[FakeEndpoint, bool]] = ()
    departed: Sequence[FakeEndpoint] = ()


def scraped(*services: FakeService, unrouted: ServiceCounters | None = None) -> dict[str, Metric]:
    """The families of a scrape, as Prometheus' own parser reads them."""
    made = CollectorRegistry(auto_describe=False)
    made.register(SidecarCollector(lambda: services, lambda: unrouted or ServiceCounters(), lambda: 3, lambda: 7))
    return {family.name: family for family in text_string_to_metric_families(exposition(made).decode())}


def samples(family: Metric, name: str) -> dict[Labels, float]:
    found = [(frozenset(sample.labels.items()), sample.value) for sample in family.samples if sample.name == name]
    assert len(found) == len(dict(found)), "a series is there twice"
    return dict(found)


def series(**labels: str) -> Labels:
    return frozenset(labels.items())


def busy() -> FakeService:
    service = FakeService("venue", in_flight=2)
    service.counters.request(200, "ok", 0.004)
    service.counters.request(200, "ok", 0.3)
    service.counters.request(503, "circuit_open", 0.0001)
    service.counters.retry("sent")
    service.counters.tunnels = 1
    well = FakeEndpoint("10.0.0.7:3002", active=1).attempted(ok=2)
    refusing = FakeEndpoint("[fd00::8]:3002").attempted(connect_failure=1)
    service.present = [(well, True), (refusing, False)]
    return service


def test_every_name_and_its_labels() -> None:
    families = scraped(busy(), unrouted=ServiceCounters())
    labels = {sample.name: set(sample.labels) for family in families.values() for sample in family.samples}
    assert labels == {
        "sidecar_requests_total": {"service", "code", "reason"},
        "sidecar_request_duration_seconds_bucket": {"service", "le"},
        "sidecar_request_duration_seconds_count": {"service"},
        "sidecar_request_duration_seconds_sum": {"service"},
        "sidecar_in_flight_requests": {"service"},
        "sidecar_tunnels": {"service"},
        "sidecar_retries_total": {"service", "result"},
        "sidecar_attempts_total": {"service", "endpoint", "reason"},
        "sidecar_endpoint_healthy": {"service", "endpoint"},
        "sidecar_endpoint_active_connections": {"service", "endpoint"},
        "sidecar_breaker_state": {"service", "state"},
        "sidecar_breaker_events_total": {"service", "event"},
        "sidecar_config_generation": set(),
        "sidecar_app_connections": set(),
        "sidecar_log_lines_dropped_total": set(),
    }
    for family in families.values():
        assert family.documentation
        for sample in family.samples:
            assert set(sample.labels) == labels[sample.name]


def test_types_are_what_prometheus_expects_of_such_names() -> None:
    kinds = {name: family.type for name, family in scraped(busy()).items()}
    assert kinds["sidecar_request_duration_seconds"] == "histogram"
    counters = {name for name, kind in kinds.items() if kind == "counter"}
    events = {"sidecar_requests", "sidecar_retries", "sidecar_attempts", "sidecar_breaker_events"}
    assert counters == {*events, "sidecar_log_lines_dropped"}
    assert all(kind == "gauge" for name, kind in kinds.items() if name not in counters and "duration" not in name)


def test_requests_by_service_code_and_reason() -> None:
    unrouted = ServiceCounters()
    unrouted.request(404, "unknown_service", 0.0)
    assert samples(scraped(busy(), unrouted=unrouted)["sidecar_requests"], "sidecar_requests_total") == {
        series(service="", code="404", reason="unknown_service"): 1,
        series(service="venue", code="200", reason="ok"): 2,
        series(service="venue", code="503", reason="circuit_open"): 1,
    }


def test_retries_and_gauges() -> None:
    families = scraped(busy())
    assert samples(families["sidecar_retries"], "sidecar_retries_total") == {series(service="venue", result="sent"): 1}
    for name, value in [("sidecar_in_flight_requests", 2), ("sidecar_tunnels", 1)]:
        assert samples(families[name], name) == {series(service="venue"): value}
    for name, value in [("sidecar_config_generation", 3), ("sidecar_app_connections", 7)]:
        assert samples(families[name], name) == {series(): value}


def test_the_histogram_is_cumulative_and_ends_with_the_count() -> None:
    family = scraped(busy())["sidecar_request_duration_seconds"]
    found = samples(family, "sidecar_request_duration_seconds_bucket")
    buckets = {dict(labels)["le"]: value for labels, value in found.items()}
    assert [float(bound) for bound in buckets] == [*DURATION_BUCKETS_S, float("inf")]
    assert buckets["0.001"] == buckets["0.0025"] == 1
    assert buckets["0.005"] == buckets["0.25"] == 2
    assert buckets["0.5"] == buckets["60.0"] == buckets["+Inf"] == 3
    assert samples(family, "sidecar_request_duration_seconds_count") == {series(service="venue"): 3}
    assert samples(family, "sidecar_request_duration_seconds_sum") == {series(service="venue"): pytest.approx(0.3041)}


@given(st.lists(st.floats(0, 100), max_size=20))
def test_whatever_is_observed_buckets_never_fall(durations: list[float]) -> None:
    service = FakeService("venue")
    for seconds in durations:
        service.counters.request(200, "ok", seconds)
    family = scraped(service)["sidecar_request_duration_seconds"]
    values = list(samples(family, "sidecar_request_duration_seconds_bucket").values())
    assert values == sorted(values)
    assert values[-1] == len(durations)
    for bound, value in zip(DURATION_BUCKETS_S, values, strict=False):
        assert value == sum(1 for seconds in durations if seconds <= bound)


def test_attempts_and_health_by_endpoint() -> None:
    families = scraped(busy())
    assert samples(families["sidecar_attempts"], "sidecar_attempts_total") == {
        series(service="venue", endpoint="10.0.0.7:3002", reason="ok"): 2,
        series(service="venue", endpoint="[fd00::8]:3002", reason="connect_failure"): 1,
    }
    assert samples(families["sidecar_endpoint_healthy"], "sidecar_endpoint_healthy") == {
        series(service="venue", endpoint="10.0.0.7:3002"): 1,
        series(service="venue", endpoint="[fd00::8]:3002"): 0,
    }
    assert samples(families["sidecar_endpoint_active_connections"], "sidecar_endpoint_active_connections") == {
        series(service="venue", endpoint="10.0.0.7:3002"): 1,
        series(service="venue", endpoint="[fd00::8]:3002"): 0,
    }


def test_a_departed_endpoint_keeps_its_attempts_and_has_no_health() -> None:
    service = FakeService("venue", departed=[FakeEndpoint("10.0.0.9:3002").attempted(ok=4)])
    families = scraped(service)
    assert list(samples(families["sidecar_attempts"], "sidecar_attempts_total").values()) == [4]
    assert not families["sidecar_endpoint_healthy"].samples


def test_endpoints_of_one_label_are_one_series() -> None:
    service = FakeService("venue", present=[(FakeEndpoint("10.0.0.9:3002").attempted(ok=1, reset=1), True)])
    service.departed = [FakeEndpoint("10.0.0.9:3002").attempted(ok=4)]
    attempts = samples(scraped(service)["sidecar_attempts"], "sidecar_attempts_total")
    assert {dict(labels)["reason"]: value for labels, value in attempts.items()} == {"ok": 5, "reset": 1}


@pytest.mark.parametrize("active", STATES)
def test_the_breaker_s_state_is_one_series_a_state_and_one_of_them_is_1(active: str) -> None:
    family = scraped(FakeService("venue", breakers=[FakeBreaker(active)]))["sidecar_breaker_state"]
    assert samples(family, "sidecar_breaker_state") == {
        series(service="venue", state=state): float(state == active) for state in ("closed", "open", "half_open")
    }
    assert set(BREAKER_STATES) == set(STATES)


def test_the_state_is_the_service_s_own_and_events_are_those_of_its_routes_too() -> None:
    breakers = [FakeBreaker("closed", successes=5, failures=1), FakeBreaker("open", opens=1, failures=3, rejects=2)]
    families = scraped(FakeService("venue", breakers=breakers))
    state = samples(families["sidecar_breaker_state"], "sidecar_breaker_state")
    assert state[series(service="venue", state="closed")] == 1
    events = samples(families["sidecar_breaker_events"], "sidecar_breaker_events_total")
    assert {dict(labels)["event"]: value for labels, value in events.items()} == {
        "open": 1,
        "half_open": 0,
        "close": 0,
        "success": 5,
        "failure": 4,
        "timeout": 0,
        "reject": 2,
        "fallback": 0,
    }


def test_a_service_without_traffic_has_its_gauges_and_an_empty_histogram() -> None:
    families = scraped(FakeService("venue"))
    assert samples(families["sidecar_in_flight_requests"], "sidecar_in_flight_requests") == {series(service="venue"): 0}
    duration = families["sidecar_request_duration_seconds"]
    assert samples(duration, "sidecar_request_duration_seconds_count") == {series(service="venue"): 0}
    assert not families["sidecar_requests"].samples


def test_services_are_asked_for_at_each_scrape() -> None:
    services = [FakeService("venue")]
    made = CollectorRegistry(auto_describe=False)

    def now() -> Iterable[FakeService]:
        return services

    made.register(SidecarCollector(now, ServiceCounters, lambda: 1, lambda: 0))
    before = exposition(made)
    services.append(FakeService("auth"))
    assert b'service="auth"' not in before
    assert b'service="auth"' in exposition(made)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_and_label_parse_back_to_themselves(name: str, label: str) -> None:
    service = FakeService(name, present=[(FakeEndpoint(label).attempted(ok=1), True)])
    attempts = samples(scraped(service)["sidecar_attempts"], "sidecar_attempts_total")
    assert attempts == {series(service=name, endpoint=label, reason="ok"): 1}


def test_the_registry_adds_the_process_s_own_figures_and_nothing_global() -> None:
    made = registry(SidecarCollector(list, ServiceCounters, lambda: 1, lambda: 0))
    text = exposition(made).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info", "python_gc_collections"} <= names
    assert "sidecar_config_generation" in names
    assert text.endswith("\n")
    registry(SidecarCollector(list, ServiceCounters, lambda: 1, lambda: 0))  # a second one is no conflict


def test_the_content_type_is_that_of_the_text_format() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
