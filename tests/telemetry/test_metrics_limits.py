"""Metrics of a service's limits."""

from __future__ import annotations

import pytest

from tests.support.fake_metrics import FakeBudget, FakeEndpoint, FakeService, busy, samples, scraped, series


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sidecar_upstream_connections", 4),
        ("sidecar_upstream_idle_connections", 2),
        ("sidecar_upstream_waiting_requests", 1),
        ("sidecar_retry_budget_balance", 12),
    ],
)
def test_each_service_has_its_own(name: str, value: float) -> None:
    families = scraped(busy(), FakeService("auth"))
    assert samples(families[name], name) == {series(service="venue"): value, series(service="auth"): 0}


def test_idle_connections_of_an_endpoint_that_left_count_until_they_close() -> None:
    service = FakeService("venue", departed=[FakeEndpoint("10.0.0.9:3002", idle=1)])
    family = scraped(service)["sidecar_upstream_idle_connections"]
    assert list(samples(family, "sidecar_upstream_idle_connections").values()) == [1]


def test_the_balance_is_rounded() -> None:
    family = scraped(FakeService("venue", budget=FakeBudget(1 / 3)))["sidecar_retry_budget_balance"]
    assert list(samples(family, "sidecar_retry_budget_balance").values()) == [0.333]
