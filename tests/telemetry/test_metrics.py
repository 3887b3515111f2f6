"""The counters as Prometheus reads them: names, labels, and text that a scraper understands."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from sidecar.policy.breaker import STATES
from sidecar.telemetry.counters import DURATION_BUCKETS_S, ServiceCounters
from sidecar.telemetry.metrics import CONTENT_TYPE, SidecarCollector, exposition
from tests.support.fake_metrics import (
    USED,
    FakeBreaker,
    FakeEndpoint,
    FakeService,
    FakeSource,
    asked,
    busy,
    samples,
    scraped,
    series,
)


def test_every_family_has_a_help_text_and_only_ours_begin_with_sidecar() -> None:
    families = scraped(busy())
    assert all(family.documentation for family in families.values())
    assert all(name.startswith("sidecar_") for name in families)


def test_a_series_has_exactly_the_labels_of_its_family() -> None:
    """The names and labels themselves are held by the page that lists them (tests/test_metrics_page.py)."""
    for family in scraped(busy(), sources=[("venue", FakeSource())], aggregates=asked(), certificates=USED).values():
        own = [set(sample.labels) - {"le"} for sample in family.samples]
        assert own, family.name
        assert all(labels == own[0] for labels in own)


def test_requests_by_service_code_and_reason() -> None:
    unrouted = ServiceCounters()
    unrouted.request(404, "unknown_service", 0.0)
    assert samples(scraped(busy(), unrouted=unrouted)["sidecar_requests"], "sidecar_requests_total") == {
        series(service="", code="404", reason="unknown_service"): 1,
        series(service="venue", code="200", reason="ok"): 2,
        series(service="venue", code="503", reason="circuit_open"): 1,
    }


def test_retries_fallbacks_and_gauges() -> None:
    families = scraped(busy())
    fallbacks = samples(families["sidecar_fallbacks"], "sidecar_fallbacks_total")
    assert fallbacks == {series(service="venue", step="stale"): 1}
    assert samples(families["sidecar_retries"], "sidecar_retries_total") == {series(service="venue", result="sent"): 1}
    for name, value in [("sidecar_in_flight_requests", 2), ("sidecar_tunnels", 1)]:
        assert samples(families[name], name) == {series(service="venue"): value}
    for name, value in [
        ("sidecar_config_generation", 3),
        ("sidecar_app_connections", 7),
        ("sidecar_app_http2_connections", 2),
        ("sidecar_app_http2_streams", 5),
    ]:
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
def test_buckets_never_fall(durations: list[float]) -> None:
    service = FakeService("venue")
    for seconds in durations:
        service.counters.request(200, "ok", seconds)
    family = scraped(service)["sidecar_request_duration_seconds"]
    values = list(samples(family, "sidecar_request_duration_seconds_bucket").values())
    assert values == sorted(values)
    assert values[-1] == len(durations)
    for bound, value in zip(DURATION_BUCKETS_S, values, strict=False):
        assert value == sum(1 for seconds in durations if seconds <= bound)


@pytest.mark.parametrize("active", STATES)
def test_the_breaker_s_state_is_one_series_a_state_and_one_of_them_is_1(active: str) -> None:
    family = scraped(FakeService("venue", breakers=[FakeBreaker(active)]))["sidecar_breaker_state"]
    assert samples(family, "sidecar_breaker_state") == {
        series(service="venue", state=state): float(state == active) for state in ("closed", "open", "half_open")
    }


def test_the_state_is_the_service_s_own_and_events_are_those_of_its_routes_too() -> None:
    service = FakeService("venue", breakers=[FakeBreaker("closed"), FakeBreaker("open")])
    counters = service.breaker_counters
    counters.opens, counters.successes, counters.failures, counters.rejects = 1, 5, 4, 2
    families = scraped(service)
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


def test_forced_breakers_are_counted_the_service_s_and_its_routes() -> None:
    held = FakeService("venue", breakers=[FakeBreaker(), FakeBreaker("open", forced="open")])
    assert samples(scraped(held, FakeService("auth"))["sidecar_breaker_forced"], "sidecar_breaker_forced") == {
        series(service="venue"): 1,
        series(service="auth"): 0,
    }


def test_a_service_without_traffic_has_its_gauges_and_an_empty_histogram() -> None:
    families = scraped(FakeService("venue"))
    assert samples(families["sidecar_in_flight_requests"], "sidecar_in_flight_requests") == {series(service="venue"): 0}
    duration = families["sidecar_request_duration_seconds"]
    assert samples(duration, "sidecar_request_duration_seconds_count") == {series(service="venue"): 0}
    assert not families["sidecar_requests"].samples


def test_services_are_asked_for_at_each_scrape() -> None:
    services = [FakeService("venue")]

    def now() -> Iterable[FakeService]:
        return services

    collector = SidecarCollector(now, ServiceCounters, lambda: 1, lambda: 0)
    before = exposition(collector)
    services.append(FakeService("auth"))
    assert b'service="auth"' not in before
    assert b'service="auth"' in exposition(collector)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_name_and_label_parse_back_to_themselves(name: str, label: str) -> None:
    service = FakeService(name, present=[(FakeEndpoint(label).attempted(ok=1), True)])
    attempts = samples(scraped(service)["sidecar_attempts"], "sidecar_attempts_total")
    assert attempts == {series(service=name, endpoint=label, reason="ok"): 1}


def test_the_process_s_own_figures_are_added() -> None:
    text = exposition(SidecarCollector(list, ServiceCounters, lambda: 1, lambda: 0)).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert {"process_cpu_seconds", "process_resident_memory_bytes", "python_info", "python_gc_collections"} <= names
    assert "sidecar_config_generation" in names
    assert text.endswith("\n")


def test_the_content_type_is_that_of_the_text_format() -> None:
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"
