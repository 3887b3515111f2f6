"""Operator actions on a running service, and which are refused: nobody may take away the last endpoint."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.config.load import loads
from sidecar.config.schema import EndpointSpec, Url
from sidecar.policy.health_state import HealthState
from sidecar.policy.settings import HealthSettings
from sidecar.runtime import operator
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.operator import Refused
from sidecar.runtime.service import LiveService

START = 1000.0
OUTLIER = "outlier: {panic_threshold: 0%}"


class Stage:
    """A service with endpoints 10.0.0.0, 10.0.0.1, ..., and a clock of its own."""

    def __init__(self, endpoints: int = 2, policy: str = OUTLIER) -> None:
        text = f"services: {{venue: {{url: http://venue-service:3002, {policy}}}}}"
        self.now = START
        config = loads(text, "sidecar.yaml", {}).services["venue"]
        self.service = LiveService(config, START, lambda: 0.0, lambda: self.now)
        self.find(endpoints)

    def find(self, endpoints: int) -> None:
        spec = EndpointSpec(url=Url("http", "venue-service", 3002))
        self.service.set_endpoints([(spec, f"10.0.0.{number}") for number in range(endpoints)], self.now)

    def __getitem__(self, number: int) -> Endpoint:
        found = operator.endpoint_named(self.service, f"10.0.0.{number}:3002")
        assert found is not None
        return found

    def picked(self, times: int = 12) -> set[str]:
        found = [self.service.pick(self.now, ()) for _ in range(times)]
        return {one.address for one in found if one is not None}

    def drain(self, number: int, for_s: float = 60.0) -> None:
        operator.drain(self.service, self[number], self.now + for_s, self.now)

    def eject(self, number: int, for_s: float = 60.0) -> None:
        operator.eject(self.service, self[number], self.now + for_s, self.now)

    def restore(self, number: int) -> None:
        operator.restore(self.service, self[number], self.now)


@pytest.mark.parametrize("action", ["drain", "eject"])
@pytest.mark.parametrize("balancer", ["round_robin", "least_request", "random", "peak_ewma", "{hash: {source: true}}"])
def test_an_endpoint_gets_no_requests_until_the_time_is_over(action: str, balancer: str) -> None:
    stage = Stage(policy=f"{OUTLIER}, balancer: {balancer}")
    getattr(stage, action)(0)
    assert stage.picked() == {"10.0.0.1"}
    stage.now += 59.9
    assert stage.picked() == {"10.0.0.1"}
    stage.now += 0.1
    stage.picked()
    assert stage[0].available
    assert not stage[0].draining
    assert not stage[0].ejected


@pytest.mark.parametrize("action", ["drain", "eject"])
def test_the_last_available_endpoint_stays(action: str) -> None:
    stage = Stage(1)
    with pytest.raises(Refused) as refused:
        getattr(stage, action)(0)
    assert refused.value.reason == "last_endpoint"
    stage.find(2)
    getattr(stage, action)(0)
    for second in ("drain", "eject"):
        with pytest.raises(Refused):
            getattr(stage, second)(1)
    assert stage.picked() == {"10.0.0.1"}


def test_a_skipped_endpoint_does_not_count_as_another() -> None:
    stage = Stage()
    stage[1].connect_failed(stage.now)
    stage.service.changed(stage.now)
    with pytest.raises(Refused, match="last available"):
        stage.drain(0)
    stage.now += 1.0
    stage.drain(0)


@pytest.mark.parametrize("action", ["drain", "eject"])
def test_in_a_panic_unhealthy_endpoints_do_not_count_as_another(action: str) -> None:
    stage = Stage(3, "health: {path: /health}, outlier: {panic_threshold: 50%}")
    for number in (0, 1):
        stage[number].passing = False
    stage.service.changed(stage.now)
    assert stage.service.availability.panic
    with pytest.raises(Refused, match="last healthy") as refused:
        getattr(stage, action)(2)
    assert refused.value.reason == "last_endpoint"
    stage.drain(0)
    assert stage[2].available


def test_in_a_panic_a_skipped_endpoint_does_not_count_as_another() -> None:
    stage = Stage(4, "health: {path: /health}, outlier: {panic_threshold: 60%}")
    stage[0].passing = stage[1].passing = False
    stage[2].connect_failed(stage.now)
    stage.service.changed(stage.now)
    with pytest.raises(Refused, match="last healthy"):
        stage.drain(3)
    stage.now += 1.0
    stage.drain(3)


def test_when_none_is_healthy_an_available_endpoint_may_be_drained() -> None:
    stage = Stage(2, "health: {path: /health}, outlier: {panic_threshold: 50%}")
    stage[0].passing = stage[1].passing = False
    stage.service.changed(stage.now)
    stage.drain(0)
    assert stage.picked() == {"10.0.0.1"}


def test_drained_endpoints_are_used_again_when_no_others_are_left(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(3)
    stage.drain(0, 3600)
    stage.drain(1, 3600)
    stage.now += 1
    caplog.clear()
    stage.find(2)
    assert stage.picked() == {"10.0.0.0", "10.0.0.1"}
    assert (stage.service.availability.total, stage.service.availability.available) == (2, 2)
    assert stage[0].since == stage.now
    told = [record for record in caplog.records if getattr(record, "kind", "") == "endpoint"]
    assert [record.levelname for record in told] == ["WARNING", "WARNING"]
    assert [record.__dict__["fields"] for record in told] == [
        {"service": "venue", "endpoint": f"10.0.0.{number}:3002", "reason": "last_endpoint"} for number in (0, 1)
    ]


def test_a_drain_continues_while_another_endpoint_exists() -> None:
    stage = Stage(3)
    stage.drain(0)
    stage.find(2)
    assert stage.picked() == {"10.0.0.1"}


def test_an_endpoint_that_comes_back_alone_is_no_longer_drained() -> None:
    stage = Stage()
    stage.drain(1)
    stage.find(1)
    spec = EndpointSpec(url=Url("http", "venue-service", 3002))
    stage.service.set_endpoints([(spec, "10.0.0.1")], stage.now)
    assert stage.picked() == {"10.0.0.1"}


def test_an_ejection_that_causes_a_panic_is_refused_but_not_a_drain() -> None:
    stage = Stage(3, "outlier: {panic_threshold: 50%}")
    stage.eject(0)
    with pytest.raises(Refused) as refused:
        stage.eject(1)
    assert refused.value.reason == "would_panic"
    stage.drain(1)
    assert stage.picked() == {"10.0.0.2"}


def test_an_ejection_needs_no_outlier_settings_and_outlives_changes_of_the_set() -> None:
    stage = Stage(2, "outlier: off")
    stage.eject(0)
    stage.find(3)
    stage.service.outlier.reconfigure(None, stage.now)
    assert stage.picked() == {"10.0.0.1", "10.0.0.2"}


def test_a_passed_check_does_not_end_an_operators_ejection() -> None:
    stage = Stage(2, f"{OUTLIER}, health: {{path: /health}}")
    stage.eject(0)
    stage.now += 1
    stage.service.checked(stage[0], False, "status 500", 0.0)
    stage.now += 1
    stage.service.checked(stage[0], True, "ok", 0.0)
    assert stage[0].ejected


def test_a_drained_endpoint_is_not_ejected() -> None:
    stage = Stage(3)
    stage.drain(0)
    with pytest.raises(Refused) as refused:
        stage.eject(0)
    assert refused.value.reason == "draining"


def test_an_ejected_endpoint_can_be_drained() -> None:
    stage = Stage(3)
    stage.eject(0, 10)
    stage.drain(0, 100)
    stage.now += 11
    assert stage.picked() == {"10.0.0.1", "10.0.0.2"}


def test_restoring_ends_drain_ejection_and_skip() -> None:
    stage = Stage(4)
    stage.drain(0)
    stage.eject(1)
    stage[2].connect_failed(stage.now)
    stage.service.changed(stage.now)
    assert stage.picked() == {"10.0.0.3"}
    for number in range(3):
        stage.restore(number)
    assert stage.picked() == {"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"}
    assert stage.service.outlier.ejected == 0


def test_restoring_ends_an_ejection_caused_by_failures() -> None:
    stage = Stage(2, "outlier: {consecutive_failures: 1, panic_threshold: 0%}")
    stage.service.outlier.record(stage[0], True, stage.now)
    assert stage.picked() == {"10.0.0.1"}
    stage.restore(0)
    assert stage.picked() == {"10.0.0.0", "10.0.0.1"}


def test_restoring_ends_failing_at_once_but_not_failed_checks() -> None:
    stage = Stage(2, f"{OUTLIER}, health: {{path: /health}}")
    stage.service.fail_at_once(stage[0], stage.now)
    assert not stage[0].passing
    stage.restore(0)
    assert stage[0].passing
    stage.service.checked(stage[0], False, "status 500", 0.0)
    stage.service.checked(stage[0], False, "status 500", 0.0)
    assert not stage[0].passing
    stage.restore(0)
    assert not stage[0].passing


def test_forgiving_a_healthy_endpoint_changes_nothing() -> None:
    state = HealthState(HealthSettings(path="/"))
    assert not state.forgive()
    state.fail_at_once(1.0)
    assert state.forgive()
    assert state.passing


def test_restoring_a_healthy_endpoint_changes_nothing() -> None:
    stage = Stage()
    before = (stage[0].since, stage.service.outlier.returns)
    stage.restore(0)
    assert (stage[0].since, stage.service.outlier.returns) == before


ROUTES = """routes: [{match: {path: /reports, methods: [POST]}, breaker: {volume_threshold: 5}},
                     {match: {path: /slow}, timeout: {attempt: 9s}}]"""


def force(stage: Stage, state: str | None, route: str = "", for_s: float = 60.0) -> Any:
    return operator.force_breaker(stage.service, route, state, stage.now + for_s, stage.now)


def test_a_forced_breaker_ends_by_time_without_traffic_too() -> None:
    stage = Stage()
    breaker = force(stage, "open")
    assert (breaker.state, breaker.admit(stage.now)) == ("open", 0)
    stage.now += 59.9
    stage.service.expire(stage.now)
    assert breaker.forced == "open"
    stage.now += 0.1
    stage.service.expire(stage.now)
    assert breaker.forced is None
    assert breaker.admit(stage.now) != 0


def test_the_end_of_a_forced_breaker_is_logged_though_a_request_saw_it_first(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage()
    breaker = force(stage, "open")
    stage.now += 60.0
    with caplog.at_level("INFO"):
        assert breaker.admit(stage.now) != 0
        for _ in range(2):
            stage.service.expire(stage.now)
    assert caplog.messages.count("breaker is no longer forced") == 1


def test_a_forced_state_can_be_ended_early() -> None:
    stage = Stage()
    force(stage, "closed")
    assert force(stage, None).forced is None


def test_a_route_with_its_own_breaker_is_forced_separately() -> None:
    stage = Stage(policy=ROUTES)
    assert force(stage, "open", "POST /reports") is stage.service.routes[0].breaker
    assert stage.service.default_route.breaker.state == "closed"


@pytest.mark.parametrize(
    ("policy", "route", "reason"),
    [
        (ROUTES, "/slow", "no_breaker"),
        (ROUTES, "GET /reports", "unknown_route"),
        ("breaker: {mode: off}", "", "breaker_off"),
    ],
)
def test_a_breaker_that_cannot_be_forced_is_refused(policy: str, route: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        force(Stage(policy=policy), "open", route)
    assert refused.value.reason == reason


def test_an_unknown_endpoint_address() -> None:
    assert operator.endpoint_named(Stage().service, "10.0.0.9:3002") is None


# Looking at what would be picked.


def test_peek_does_not_advance_the_turn() -> None:
    stage = Stage(3)
    for _ in range(7):
        seen = stage.service.peek()
        assert stage.service.peek() is seen
        assert stage.service.pick(stage.now, ()) is seen


def test_peek_skips_an_unavailable_endpoint() -> None:
    stage = Stage(3)
    stage.drain(1)
    for _ in range(6):
        seen = stage.service.peek()
        assert stage.service.pick(stage.now, ()) is seen


@pytest.mark.parametrize(("endpoints", "seen"), [(0, None), (1, "10.0.0.0"), (2, None)])
def test_peek_knows_only_a_single_endpoint_of_a_random_balancer(endpoints: int, seen: str | None) -> None:
    stage = Stage(endpoints, "balancer: random")
    found = stage.service.peek()
    assert (found.address if found else None) == seen
