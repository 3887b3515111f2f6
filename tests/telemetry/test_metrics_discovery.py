"""Sources of endpoints as Prometheus reads them: every kind alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_metrics import MONOTONIC_S, UNIX_S, FakeService, FakeSource, samples, scraped, series

LAST_SUCCESS = "sidecar_discovery_last_success_timestamp_seconds"
DNS = {"service": "venue", "source": "dns", "name": "venue.test."}


def test_updates_by_result_and_endpoints_of_each_source() -> None:
    dns = FakeSource(updates={"success": 7, "failure": 2}, endpoints=3)
    kubernetes = FakeSource("kubernetes", "shop/auth", {"success": 1, "broken": 4}, endpoints=1)
    families = scraped(FakeService("venue"), sources=[("venue", dns), ("auth", kubernetes)])
    auth = {"service": "auth", "source": "kubernetes", "name": "shop/auth"}
    assert samples(families["sidecar_discovery_updates"], "sidecar_discovery_updates_total") == {
        series(**DNS, result="success"): 7,
        series(**DNS, result="failure"): 2,
        series(**auth, result="success"): 1,
        series(**auth, result="broken"): 4,
    }
    assert samples(families["sidecar_discovery_endpoints"], "sidecar_discovery_endpoints") == {
        series(**DNS): 3,
        series(**auth): 1,
    }


@given(st.floats(0, 10 * 365 * 86400))
def test_last_success_is_a_time_of_the_wall_clock(age_s: float) -> None:
    family = scraped(sources=[("venue", FakeSource(last_success=MONOTONIC_S - age_s))])[LAST_SUCCESS]
    assert samples(family, LAST_SUCCESS) == {series(**DNS): pytest.approx(UNIX_S - age_s, abs=0.01)}


def test_without_a_success_last_success_is_zero() -> None:
    """So that an alert on the age sees a source that has never worked."""
    family = scraped(sources=[("venue", FakeSource(last_success=None))])[LAST_SUCCESS]
    assert samples(family, LAST_SUCCESS) == {series(**DNS): 0}


def test_several_sources_of_one_service_are_several_series() -> None:
    sources = [("venue", FakeSource("name", name, endpoints=1)) for name in ("a.test", "b.test")]
    family = scraped(sources=sources)["sidecar_discovery_endpoints"]
    assert [dict(labels)["name"] for labels in samples(family, "sidecar_discovery_endpoints")] == ["a.test", "b.test"]


def test_without_sources_there_is_no_series() -> None:
    families = scraped(FakeService("venue"))
    discovery = [family for name, family in families.items() if name.startswith("sidecar_discovery_")]
    assert len(discovery) == 3
    assert not any(family.samples for family in discovery)
