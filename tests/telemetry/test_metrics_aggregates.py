"""Aggregates as Prometheus reads them."""

from __future__ import annotations

from sidecar.telemetry.counters import ServiceCounters
from tests.support.fake_metrics import FakeService, samples, scraped, series


def test_requests_for_each_aggregate_by_code_and_reason() -> None:
    page, quiet = ServiceCounters(), ServiceCounters()
    for code, reason in ((200, "ok"), (200, "ok"), (200, "partial"), (504, "request_timeout")):
        page.request(code, reason, 0.1)
    families = scraped(FakeService("venue"), aggregates={"venue-page": page, "quiet": quiet})
    assert samples(families["sidecar_aggregates"], "sidecar_aggregates_total") == {
        series(aggregate="venue-page", code="200", reason="ok"): 2,
        series(aggregate="venue-page", code="200", reason="partial"): 1,
        series(aggregate="venue-page", code="504", reason="request_timeout"): 1,
    }


def test_without_aggregates_the_family_is_there_and_empty() -> None:
    assert scraped()["sidecar_aggregates"].samples == []
