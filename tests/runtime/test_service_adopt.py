"""A service under another configuration: what stays, what changes at once, and what is shared."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.config.schema import EndpointSpec, Match, Route, Service, Url
from sidecar.policy.breaker import CLOSED, OPEN, NullBreaker
from sidecar.policy.settings import (
    BreakerSettings,
    BudgetSettings,
    FallbackStale,
    HashSettings,
    HealthSettings,
    Limits,
    OutlierSettings,
    Policy,
    RetrySettings,
    Timeouts,
)
from sidecar.runtime.service import LiveService
from sidecar.telemetry.metrics import BREAKER_EVENTS

START = 1000.0
SPEC = EndpointSpec(url=Url("http", "venue-service", 3002))
QUICK = BreakerSettings(volume_threshold=2, reset_timeout=10.0)
REPORTS = Match(path="/reports")
EXPORTS = Match(path="/exports", methods=frozenset({"POST"}))


def config(policy: Policy | None = None, *routes: Route, **more: Any) -> Service:
    return Service(name="venue", endpoints=(SPEC,), policy=policy or Policy(breaker=QUICK), routes=routes, **more)


def live(of: Service | None = None, *addresses: str) -> LiveService:
    made = LiveService(of or config(), START, lambda: 0.0, lambda: START)
    made.set_endpoints([(SPEC, address) for address in addresses or ("a", "b")], START)
    return made


def route(match: Match = REPORTS, breaker: BreakerSettings | None = None, **policy: Any) -> Route:
    """With a breaker of its own where one is given."""
    return Route(match=match, policy=Policy(breaker=breaker or QUICK, **policy), own_breaker=breaker is not None)


def fail(service: LiveService, times: int, now: float = START, target: bytes = b"/", method: str = "GET") -> None:
    breaker = service.route_for(method, target).breaker
    for _ in range(times):
        permit = breaker.admit(now)
        assert permit
        breaker.failure(permit, now)


def counts(service: LiveService) -> dict[str, int]:
    return {one: getattr(service.breaker_counters, one) for one in BREAKER_EVENTS.values()}


# What is as it was.


def test_an_equal_configuration_changes_nothing_and_the_old_one_is_kept() -> None:
    before = config(None, route(breaker=QUICK))
    service = live(before)
    routes, default = service.routes, service.default_route
    service.adopt(config(None, route(breaker=QUICK)), START)
    assert service.config is before
    assert service.routes is routes
    assert service.default_route is default


def test_an_unchanged_route_is_the_same_one_beside_a_changed_one() -> None:
    service = live(config(None, route(), route(EXPORTS)))
    reports, exports = service.routes
    service.adopt(config(None, route(), route(EXPORTS, timeout=Timeouts(attempt=1.0))), START)
    assert service.routes[0] is reports
    assert service.routes[1] is not exports
    assert service.routes[1].attempt_s == 1.0


def test_a_route_is_the_same_one_wherever_it_stands() -> None:
    service = live(config(None, route(breaker=QUICK), route(EXPORTS, breaker=QUICK)))
    reports, exports = service.routes
    service.adopt(config(None, route(EXPORTS, breaker=QUICK), route(breaker=QUICK)), START)
    assert service.routes == (exports, reports)
    service.adopt(config(None, route(breaker=QUICK)), START)
    assert service.routes == (reports,)


def test_a_request_in_flight_keeps_its_route_and_its_policy() -> None:
    service = live()
    kept = service.route_for("GET", b"/")
    service.adopt(config(Policy(timeout=Timeouts(attempt=0.5), breaker=QUICK)), START)
    assert kept.attempt_s == 5.0
    assert service.route_for("GET", b"/").attempt_s == 0.5
    assert service.route_for("GET", b"/").breaker is kept.breaker


def test_budget_permits_and_counts_stay() -> None:
    service = live(config(Policy(retry=RetrySettings(budget=BudgetSettings(ratio=0.0, min_per_second=2.0)))))
    assert service.limit.acquire()
    assert service.budget.withdraw(START)
    service.counters.request(200, "ok", 0.1)
    service.connections = 3
    policy = Policy(
        retry=RetrySettings(budget=BudgetSettings(ratio=0.0, min_per_second=1.0)),
        limits=Limits(max_concurrent=1, max_connections=2),
        timeout=Timeouts(pool_idle=1.0),
    )
    service.adopt(config(policy), START)
    assert not service.limit.acquire()
    service.limit.release()
    assert service.limit.acquire()
    assert service.budget.withdraw(START)
    assert not service.budget.withdraw(START)
    assert (service.connections, service.max_connections, service.pool_idle_s) == (3, 2, 1.0)
    assert sum(service.counters.requests.values()) == 1


# Breakers.


def test_an_open_breaker_stays_open_and_waits_as_long_as_the_new_settings_say() -> None:
    service = live()
    fail(service, 2)
    breaker = service.default_route.breaker
    assert breaker.state == OPEN
    service.adopt(config(Policy(breaker=replace(QUICK, reset_timeout=3.0))), START + 1)
    assert service.default_route.breaker is breaker
    assert breaker.state == OPEN
    assert breaker.probe_due == START + 3


def test_a_forced_breaker_stays_forced() -> None:
    service = live()
    service.default_route.breaker.force(OPEN, START + 300, START)
    service.adopt(config(Policy(breaker=replace(QUICK, volume_threshold=9), timeout=Timeouts(idle=5.0))), START + 1)
    breaker = service.default_route.breaker
    assert (breaker.state, breaker.forced, breaker.forced_until) == (OPEN, OPEN, START + 300)


def test_a_probe_due_after_a_forced_opening_stays_due_when_other_keys_change() -> None:
    service = live()
    breaker = service.default_route.breaker
    breaker.force(OPEN, START + 5, START)
    breaker.tick(START + 5)
    service.adopt(config(Policy(breaker=QUICK, timeout=Timeouts(idle=5.0))), START + 6)
    assert breaker.retry_after(START + 6) == 0.0
    assert breaker.admit(START + 6)


@pytest.mark.parametrize(
    ("change", "window"),
    [
        ({"volume_threshold": 50}, (0, 1)),
        ({"error_threshold_percentage": 90.0}, (0, 1)),
        ({"failure_status": frozenset({503})}, (0, 1)),
        ({"rolling_count_timeout": 20.0}, (0, 0)),
        ({"rolling_count_buckets": 5}, (0, 0)),
    ],
)
def test_the_window_starts_anew_only_when_its_geometry_changes(change: dict[str, Any], window: tuple[int, int]) -> None:
    service = live()
    fail(service, 1)
    service.adopt(config(Policy(breaker=replace(QUICK, **change))), START + 0.1)
    assert service.default_route.breaker.window(START + 0.1) == window


def test_a_permit_from_before_ends_at_the_breaker_in_use_after() -> None:
    service = live()
    breaker = service.default_route.breaker
    fail(service, 2)
    probe = breaker.admit(START + 10)
    assert breaker.is_probe(probe)
    service.adopt(config(Policy(breaker=replace(QUICK, volume_threshold=5))), START + 11)
    breaker.success(probe, START + 12)
    assert breaker.state == CLOSED


def test_turning_it_off_closes_it_and_turning_it_on_begins_anew_with_all_counts_kept() -> None:
    service = live()
    fail(service, 2)
    service.adopt(config(Policy(breaker=replace(QUICK, mode="off"))), START)
    assert isinstance(service.default_route.breaker, NullBreaker)
    assert service.default_route.breaker.state == CLOSED
    assert counts(service)["failures"] == 2
    service.adopt(config(), START + 1)
    assert not isinstance(service.default_route.breaker, NullBreaker)
    assert service.default_route.breaker.window(START + 1) == (0, 0)
    fail(service, 2, START + 1)
    assert counts(service)["opens"] == 2


@pytest.mark.parametrize("mode", ["enforce", "observe"])
def test_other_modes_keep_the_state(mode: Any) -> None:
    service = live()
    fail(service, 2)
    breaker = service.default_route.breaker
    service.adopt(config(Policy(breaker=replace(QUICK, mode=mode))), START)
    assert service.default_route.breaker is breaker
    assert breaker.state == OPEN
    assert bool(breaker.admit(START)) is (mode == "observe")


def test_a_route_that_gets_its_own_breaker_begins_with_a_new_one() -> None:
    service = live(config(None, route()))
    fail(service, 2, target=b"/reports/1")
    assert service.default_route.breaker.state == OPEN
    service.adopt(config(None, route(breaker=QUICK)), START)
    assert service.route_for("GET", b"/reports/1").breaker.state == CLOSED
    assert service.default_route.breaker.state == OPEN


@pytest.mark.parametrize("after", [config(), config(None, route())])
def test_the_counts_of_a_removed_breaker_are_kept(after: Service) -> None:
    service = live(config(None, route(breaker=QUICK)))
    fail(service, 2, target=b"/reports/1")
    fail(service, 1)
    before = counts(service)
    service.adopt(after, START)
    assert service.route_for("GET", b"/reports/1").breaker is service.default_route.breaker
    assert counts(service) == before
    service.adopt(config(None, route(breaker=QUICK)), START)
    assert service.routes[0].breaker.state == CLOSED, "one that comes again begins anew"
    assert counts(service) == before


def test_breakers_of_routes_keep_their_state_wherever_the_route_stands() -> None:
    service = live(config(None, route(breaker=QUICK), route(EXPORTS, breaker=QUICK)))
    fail(service, 2, target=b"/exports/1", method="POST")
    service.adopt(config(None, route(EXPORTS, breaker=QUICK), route(breaker=QUICK)), START)
    states = {one.name: one.breaker.state for one in service.routes}
    assert states == {"POST /exports": OPEN, "/reports": CLOSED}


# Endpoints.


def test_endpoints_keep_their_state() -> None:
    service = live(
        config(Policy(outlier=OutlierSettings(consecutive_failures=1), health=HealthSettings(path="/health")))
    )
    a, b = service.endpoints
    service.outlier.record(a, True, START, START)
    b.connect_failed(START)
    assert a.health is not None
    a.health.result(False, START)
    policy = Policy(
        outlier=OutlierSettings(consecutive_failures=3), health=HealthSettings(path="/other"), balancer="random"
    )
    service.adopt(config(policy), START + 0.5)
    assert service.endpoints == (a, b)
    assert a.ejected
    assert (a.health.passing, a.health.settings.path) == (False, "/other")
    assert b.skip_until == START + 1


def test_turning_health_off_makes_all_healthy_and_on_again_unknown() -> None:
    service = live(config(Policy(health=HealthSettings(path="/health"))))
    a = service.endpoints[0]
    service.fail_at_once(a, START)
    assert not a.passing
    assert [service.pick(START, ()) for _ in range(3)] == [service.endpoints[1]] * 3
    service.adopt(config(), START)
    assert a.passing
    assert a.health is None
    assert a in [service.pick(START, ()) for _ in range(2)]
    service.adopt(config(Policy(health=HealthSettings(path="/health"))), START)
    assert a.health is not None
    assert not a.health.known


def test_turning_ejection_off_returns_all_endpoints() -> None:
    service = live(config(Policy(outlier=OutlierSettings(consecutive_failures=1))))
    a = service.endpoints[0]
    service.outlier.record(a, True, START, START)
    assert a.ejected
    service.adopt(config(Policy(outlier=None)), START)
    assert not a.ejected
    assert a in [service.pick(START, ()) for _ in range(2)]
    service.adopt(config(Policy(outlier=OutlierSettings(consecutive_failures=1))), START)
    service.outlier.record(a, True, START + 1, START + 1)
    assert a.ejected


def test_operator_actions_on_an_endpoint_last_until_their_time() -> None:
    service = live(None, "a", "b", "c")
    a, b, _ = service.endpoints
    service.eject(a, START + 300, START)
    service.drain(b, START + 300, START)
    service.adopt(config(Policy(breaker=QUICK, timeout=Timeouts(idle=5.0))), START + 1)
    assert (a.ejected, b.draining) == (True, True)
    service.set_endpoints([(SPEC, address) for address in "abc"], START + 2)
    assert (a.ejected, b.draining) == (True, True)
    service.refresh(START + 301)
    assert (a.ejected, b.draining) == (False, False)


def test_a_new_panic_threshold_takes_effect_at_once() -> None:
    service = live(
        config(Policy(health=HealthSettings(path="/health"), outlier=OutlierSettings(panic_threshold=100.0)))
    )
    service.fail_at_once(service.endpoints[0], START)
    assert service.availability.panic
    calm = OutlierSettings(panic_threshold=0.0)
    service.adopt(config(Policy(health=HealthSettings(path="/health"), outlier=calm)), START)
    assert not service.availability.panic


@pytest.mark.parametrize("balancer", ["round_robin", "random", "least_request", "peak_ewma", HashSettings(header="x")])
@pytest.mark.parametrize("after", ["round_robin", "random", "least_request", "peak_ewma", HashSettings(query="q")])
def test_any_balancer_follows_any(balancer: Any, after: Any) -> None:
    service = live(config(Policy(balancer=balancer)))
    tried = service.endpoints[:1]
    assert service.pick(START, (), b"k") in service.endpoints
    service.adopt(config(Policy(balancer=after, slow_start=3.0)), START)
    assert service.pick(START, (), b"k") in service.endpoints
    assert service.pick(START, tried, b"k") == service.endpoints[1]
    assert (service.hash is None) is isinstance(after, str)
    assert [one.latency is not None for one in service.endpoints] == [after == "peak_ewma"] * 2


def test_the_other_options_of_a_service_follow() -> None:
    service = live()
    assert not service.keeps_stale
    service.adopt(config(Policy(fallback=(FallbackStale(stale=60.0),)), hosts=("venues",)), START)
    assert service.keeps_stale
    assert b"venues:3002" in service.authorities


# Any sequence of them.

ROUTES = st.lists(
    st.builds(
        route,
        st.sampled_from([REPORTS, EXPORTS, Match(path="/a")]),
        st.sampled_from([None, QUICK, replace(QUICK, mode="off"), replace(QUICK, rolling_count_buckets=3)]),
    ),
    max_size=3,
    unique_by=lambda one: one.match,
)
POLICIES = st.builds(
    Policy,
    breaker=st.sampled_from(
        [QUICK, BreakerSettings(), BreakerSettings(mode="off"), BreakerSettings(mode="observe", volume_threshold=1)]
    ),
    balancer=st.sampled_from(["round_robin", "random", "least_request", "peak_ewma", HashSettings(source=True)]),
    health=st.sampled_from([None, HealthSettings(path="/health")]),
    outlier=st.sampled_from([None, OutlierSettings(consecutive_failures=1, error_rate=50.0)]),
    limits=st.builds(Limits, max_concurrent=st.integers(1, 4)),
    slow_start=st.sampled_from([None, 5.0]),
    fallback=st.sampled_from([(), (FallbackStale(stale=1.0),)]),
)
STEPS = st.one_of(
    st.tuples(st.just("adopt"), POLICIES, ROUTES),
    st.tuples(st.just("endpoints"), st.lists(st.sampled_from("abc"), unique=True)),
    st.tuples(st.just("request"), st.sampled_from([b"/", b"/reports/1", b"/a"])),
    st.tuples(st.just("end"), st.booleans(), st.randoms(use_true_random=False)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 2.0, 40.0])),
)


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_sequence_loses_a_permit_or_a_count_and_the_last_configuration_is_in_force(steps: list[Any]) -> None:
    service, now = live(), START
    under_way: list[Callable[[bool, float], None]] = []
    last = counts(service)

    def request(target: bytes) -> None:
        if not service.limit.acquire():
            return
        breaker = service.route_for("GET", target).breaker
        permit = breaker.admit(now)
        endpoint = service.pick(now, (), b"key")
        assert (endpoint is None) == (not service.endpoints) or endpoint in service.endpoints

        def end(ok: bool, at: float) -> None:
            if permit:
                (breaker.success if ok else breaker.failure)(permit, at)
            if endpoint is not None:
                service.outlier.record(endpoint, not ok, at, at)
            service.limit.release()

        under_way.append(end)

    def end(ok: bool, random: Random) -> None:
        if under_way:
            under_way.pop(random.randrange(len(under_way)))(ok, now)

    wanted = service.config
    for kind, *args in steps:
        if kind == "adopt":
            wanted = config(args[0], *args[1])
            service.adopt(wanted, now)
            after = counts(service)
            assert all(after[one] >= last[one] for one in last)
        elif kind == "endpoints":
            service.set_endpoints([(SPEC, address) for address in args[0]], now)
        elif kind == "request":
            request(*args)
        elif kind == "end":
            end(*args)
        else:
            now += args[0]
        last = counts(service)
        assert service.limit.in_flight == len(under_way)
    while under_way:
        under_way.pop()(True, now)
    assert service.limit.in_flight == 0

    fresh = live(wanted)
    assert service.config == wanted
    assert [(one.name, one.match, one.policy) for one in service.routes] == [
        (one.name, one.match, one.policy) for one in fresh.routes
    ]
    assert len(service.breakers) == len(fresh.breakers)
    assert [type(one) for one in service.breakers] == [type(one) for one in fresh.breakers]
    service.set_endpoints([(SPEC, "a"), (SPEC, "b")], now)
    assert type(service._picker._balancer) is type(fresh._picker._balancer)
    assert (service.hash, service.keeps_stale) == (fresh.hash, fresh.keeps_stale)
    assert (service.limit.limit, service.pool_idle_s) == (fresh.limit.limit, fresh.pool_idle_s)
    assert service.authorities == fresh.authorities
    assert all((one.health is None) == (wanted.policy.health is None) for one in service.endpoints)
