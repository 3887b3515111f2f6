"""Endpoints as Prometheus reads them: attempts, who is healthy, ejections, panics and checks."""

from __future__ import annotations

from tests.support.fake_metrics import (
    FakeAvailability,
    FakeEndpoint,
    FakeOutlier,
    FakeService,
    busy,
    samples,
    scraped,
    series,
)


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


def test_two_endpoints_with_one_label_have_the_health_of_the_worse_one() -> None:
    """One address by http and by https."""
    both = [FakeEndpoint("10.0.0.9:3002", active=1), FakeEndpoint("10.0.0.9:3002", active=2)]
    families = scraped(FakeService("venue", present=[(both[0], False), (both[1], True)]))
    labels = series(service="venue", endpoint="10.0.0.9:3002")
    assert samples(families["sidecar_endpoint_healthy"], "sidecar_endpoint_healthy") == {labels: 0}
    active = samples(families["sidecar_endpoint_active_connections"], "sidecar_endpoint_active_connections")
    assert active == {labels: 3}


def test_a_service_without_endpoints_has_a_count_of_zero() -> None:
    families = scraped(busy(), FakeService("auth", departed=[FakeEndpoint("10.0.0.9:3002")]))
    assert samples(families["sidecar_endpoints"], "sidecar_endpoints") == {
        series(service="venue"): 2,
        series(service="auth"): 0,
    }


def test_ejections_of_a_service() -> None:
    venue = FakeService("venue", outlier=FakeOutlier(ejected=1, ejections=5, returns=4, overflows=2))
    families = scraped(venue, FakeService("auth"))
    for family, name, value in [
        ("sidecar_ejected_endpoints", "sidecar_ejected_endpoints", 1),
        ("sidecar_endpoint_ejections", "sidecar_endpoint_ejections_total", 5),
        ("sidecar_endpoint_returns", "sidecar_endpoint_returns_total", 4),
        ("sidecar_endpoint_ejection_overflows", "sidecar_endpoint_ejection_overflows_total", 2),
    ]:
        assert samples(families[family], name) == {series(service="venue"): value, series(service="auth"): 0}


def test_panic_is_a_state_and_panics_are_counted() -> None:
    venue = FakeService("venue", availability=FakeAvailability(panic=True, panics=2))
    auth = FakeService("auth", availability=FakeAvailability(panic=False, panics=1))
    families = scraped(venue, auth)
    assert samples(families["sidecar_panic"], "sidecar_panic") == {
        series(service="venue"): 1,
        series(service="auth"): 0,
    }
    assert samples(families["sidecar_panics"], "sidecar_panics_total") == {
        series(service="venue"): 2,
        series(service="auth"): 1,
    }


def test_checks_of_the_services_that_are_checked() -> None:
    checked, unchecked = FakeService("venue", checker=object()), FakeService("auth")
    checked.counters.checks.update(success=9, failure=3)
    families = scraped(checked, unchecked)
    assert samples(families["sidecar_health_checks"], "sidecar_health_checks_total") == {
        series(service="venue", result="success"): 9,
        series(service="venue", result="failure"): 3,
    }


def test_a_scrape_ends_ejections_whose_time_is_over() -> None:
    """Asking for `present` is what makes a live service look at the clock, so it comes before the rest."""

    class Live(FakeService):
        @property
        def present(self) -> list[tuple[FakeEndpoint, bool]]:
            self.outlier.ejected = 0
            self.availability.panic = False
            return []

        @present.setter
        def present(self, _: object) -> None: ...

    families = scraped(Live("venue", outlier=FakeOutlier(ejected=1), availability=FakeAvailability(panic=True)))
    for name in ("sidecar_ejected_endpoints", "sidecar_panic"):
        assert list(samples(families[name], name).values()) == [0]
