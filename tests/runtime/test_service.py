"""A live service: the order of endpoints, what survives a change of addresses, and the route of a request."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.schema import EndpointSpec, Match, Route, Service, Url
from sidecar.policy.breaker import HALF_OPEN, OPEN, NullBreaker
from sidecar.policy.settings import (
    BreakerSettings,
    HashSettings,
    HealthSettings,
    Limits,
    OutlierSettings,
    Policy,
    Timeouts,
)
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import DEPARTED_SERIES_S, LiveService

START = 1000.0


class Clock:
    """The time that a scrape sees."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def spec(host: str = "venue-service", port: int = 3002, *, scheme: str = "http", weight: int = 1) -> EndpointSpec:
    return EndpointSpec(url=Url(scheme, host, port), weight=weight)


def live(
    *addresses: str,
    weights: Sequence[int] = (),
    random: float = 0.0,
    clock: Clock | None = None,
    **config: Any,
) -> LiveService:
    """A service whose endpoints are at these addresses."""
    settings: dict[str, Any] = {"name": "venue", "endpoints": (spec(),), "policy": Policy()} | config
    made = LiveService(Service(**settings), START, lambda: random, clock or Clock())
    weights = weights or [1] * len(addresses)
    found = [(spec(weight=weight), address) for address, weight in zip(addresses, weights, strict=True)]
    made.set_endpoints(found, START)
    return made


def addresses(endpoints: Sequence[Endpoint | None]) -> str:
    return " ".join(one.address if one else "none" for one in endpoints)


def firsts(service: LiveService, number: int, now: float = START) -> str:
    """Where so many requests go first."""
    return addresses([service.pick(now, ()) for _ in range(number)])


def at(service: LiveService, *wanted: str) -> tuple[Endpoint, ...]:
    return tuple(one for address in wanted for one in service.endpoints if one.address == address)


def refuse(service: LiveService, *wanted: str, now: float = START) -> None:
    for endpoint in at(service, *wanted):
        endpoint.connect_failed(now)
    service.changed(now)


# Whose turn it is.


def test_requests_take_turns() -> None:
    assert firsts(live("a", "b", "c"), 7) == "a b c a b c a"


@pytest.mark.parametrize(("random", "first"), [(0.0, "a"), (0.34, "b"), (0.67, "c"), (0.999999, "c")])
def test_the_first_turn_starts_at_random(random: float, first: str) -> None:
    assert firsts(live("a", "b", "c", random=random), 1) == first


def test_weights_are_shares() -> None:
    assert firsts(live("a", "b", weights=[3, 1]), 8) == "a a b a a a b a"
    assert Counter(firsts(live("a", "b", weights=[3, 1]), 400).split()) == {"a": 300, "b": 100}


def test_without_endpoints_none_is_picked() -> None:
    service = live()
    assert service.pick(START, ()) is None
    assert service.pick_untried(START, ()) is None


def test_a_single_endpoint_gets_every_attempt() -> None:
    service = live("a")
    (a,) = service.endpoints
    assert service.pick(START, ()) is service.pick(START, (a,)) is service.pick(START, (a, a)) is a
    assert service.pick_untried(START, (a,)) is None


def test_a_retry_goes_to_an_untried_endpoint() -> None:
    service = live("a", "b", "c")
    a, b, c = service.endpoints
    for _ in range(3):
        assert service.pick(START, (a, b)) is c
        assert service.pick(START, (c, a)) is b
    assert {service.pick(START, (a,)) for _ in range(4)} == {b, c}


def test_when_all_are_tried_any_endpoint_may_be_picked() -> None:
    service = live("a", "b")
    assert Counter(service.pick(START, service.endpoints) for _ in range(4)) == dict.fromkeys(service.endpoints, 2)


def test_retries_do_not_move_the_turn_of_first_attempts() -> None:
    service = live("a", "b")
    a, b = service.endpoints
    picked = []
    for _ in range(6):
        first = service.pick(START, ())
        assert first is not None
        picked.append(first)
        if first is a:  # which fails each request, so each of them is retried, once
            assert service.pick(START, (a,)) is b
    assert addresses(picked) == "a b a b a b"
    service.pick_untried(START, (a,))
    assert firsts(service, 2) == "a b"


def test_retries_take_turns_too() -> None:
    service = live("a", "b", "c")
    (a,) = at(service, "a")
    assert addresses([service.pick(START, (a,)) for _ in range(4)]) == "b c b c"


def test_slots_of_a_skipped_endpoint_do_not_go_to_its_neighbour() -> None:
    service = live("a", "b", "c")
    refuse(service, "a")
    assert firsts(service, 6, START + 0.999) == "b c b c b c"
    assert set(firsts(service, 6, START + 1).split()) == {"a", "b", "c"}


def test_when_all_are_skipped_they_still_take_turns() -> None:
    service = live("a", "b", "c", "d")
    refuse(service, "a", "b", "c", "d")
    assert firsts(service, 8) == "a b c d a b c d"
    service = live("a")
    refuse(service, "a")
    assert firsts(service, 2) == "a a"


@pytest.mark.parametrize(
    ("tried", "skipped", "expected"),
    [
        ("a", "", "b c"),
        ("a", "b", "c"),
        ("a b", "", "c"),
        ("a b", "c", "a b"),  # tried and available goes before not tried and skipped
        ("a", "b c", "a"),
        ("a", "a b c", "b c"),
        ("a b", "a b c", "c"),
        ("a b c", "a", "b c"),
        ("a b c", "a b c", "a b c"),
    ],
)
def test_the_order_of_preference_of_a_further_attempt(tried: str, skipped: str, expected: str) -> None:
    service = live("a", "b", "c")
    refuse(service, *skipped.split())
    picks = addresses([service.pick(START, at(service, *tried.split())) for _ in range(12)])
    assert set(picks.split()) == set(expected.split())


@pytest.mark.parametrize(
    ("tried", "skipped", "expected"),
    [
        ("a", "", "b c"),
        ("a", "a", "b c"),
        ("a", "a b", "c"),
        ("a", "a b c", "b c"),
        ("a b", "c", "none"),
        ("a b c", "", "none"),
    ],
)
def test_after_a_refused_connection_only_untried_endpoints_are_picked(tried: str, skipped: str, expected: str) -> None:
    service = live("a", "b", "c")
    refuse(service, *skipped.split())
    picks = addresses([service.pick_untried(START, at(service, *tried.split())) for _ in range(12)])
    assert set(picks.split()) == set(expected.split())


@given(
    st.lists(st.integers(1, 3000), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 63), st.integers(0, 63)), min_size=1, max_size=20),
)
def test_pick_always_finds_one_of_the_best_endpoints(weights: list[int], steps: list[tuple[int, int]]) -> None:
    service = live(*[f"e{number}" for number in range(len(weights))], weights=weights)

    def rank(endpoint: Endpoint, tried: Sequence[Endpoint]) -> int:
        return 2 * (endpoint.skip_until > START) + (endpoint in tried)

    for tried_mask, skip_mask in steps:
        tried = tuple(one for number, one in enumerate(service.endpoints) if tried_mask >> number & 1)
        for number, endpoint in enumerate(service.endpoints):
            endpoint.skip_until = START + 1 if skip_mask >> number & 1 else 0.0
        service.changed(START)
        picked = service.pick(START, tried)
        assert picked is not None
        assert rank(picked, tried) == min(rank(one, tried) for one in service.endpoints)
        untried = service.pick_untried(START, tried)
        left = [one for one in service.endpoints if one.available and one not in tried]
        assert (untried in left) if left else (untried is None)


# As addresses change.


def test_an_endpoint_that_stays_keeps_its_state_and_takes_the_new_weight() -> None:
    service = live("a", "b")
    a, b = service.endpoints
    a.counters.attempt("ok")
    a.connect_failed(START)
    a.idle = 1
    service.set_endpoints([(spec(weight=3), "a"), (spec(), "c")], START + 1)
    assert addresses(service.endpoints) == "a c"
    assert service.endpoints[0] is a
    assert (a.counters.attempts, a.connect_failures, a.weight, a.departed_at) == ({"ok": 1}, 1, 3, None)
    assert a.idle == 1
    assert (b.departed_at, service.departed) == (START + 1, [b])
    assert Counter(firsts(service, 40, START + 1).split()) == {"a": 30, "c": 10}


def test_an_endpoint_is_known_by_scheme_address_and_port() -> None:
    service = live()
    service.set_endpoints([(spec(port=3002), "a"), (spec(port=3003), "a")], START)
    first, second = service.endpoints
    service.set_endpoints([(spec(port=3003), "a"), (spec(port=3002, scheme="https"), "a")], START)
    assert service.endpoints[0] is second
    assert service.endpoints[1] is not first
    assert service.departed == [first]


def test_idle_connections_of_one_that_leaves_are_closed_at_once() -> None:
    service = live("a", "b")
    a, _ = service.endpoints
    closed: list[Endpoint] = []
    service.close_idle = closed.append
    service.set_endpoints([(spec(), "b")], START)
    assert closed == [a]
    service.set_endpoints([(spec(), "b")], START)
    assert closed == [a]


def test_an_endpoint_that_left_gets_no_request() -> None:
    service = live("a", "b")
    service.set_endpoints([(spec(), "b")], START)
    assert firsts(service, 3) == "b b b"
    service.set_endpoints([], START)
    assert service.pick(START, ()) is None


def test_an_endpoint_that_left_is_reported_for_five_minutes() -> None:
    clock = Clock()
    service = live("a", "b", clock=clock)
    a, _ = service.endpoints
    clock.now = START + 10
    service.set_endpoints([(spec(), "b")], clock.now)
    assert DEPARTED_SERIES_S == 300
    for after_s, reported in [(0, [a]), (299.9, [a]), (300, []), (1000, [])]:
        clock.now = START + 10 + after_s
        assert service.departed == reported


def test_an_endpoint_that_left_at_time_zero_is_reported_too() -> None:
    clock = Clock()
    clock.now = 0.0
    service = live("a", clock=clock)
    service.set_endpoints([], 0.0)
    assert addresses(service.departed) == "a"


def test_endpoints_that_left_long_ago_are_forgotten() -> None:
    service = live()
    for number in range(50):
        service.set_endpoints([(spec(), f"e{number}")], START + 100 * number)
    assert addresses(service._departed) == "e46 e47 e48"


def test_an_endpoint_that_comes_back_in_time_keeps_its_state() -> None:
    clock = Clock()
    service = live("a", "b", clock=clock)
    a, _ = service.endpoints
    a.counters.attempt("ok")
    a.connect_failed(START)
    a.active = 1
    service.set_endpoints([(spec(), "b")], START)
    service.set_endpoints([(spec(), "b"), (spec(), "a")], START + 0.5)
    assert service.endpoints[1] is a
    assert (a.departed_at, a.active, a.counters.attempts) == (None, 1, {"ok": 1})
    assert service.departed == []
    assert firsts(service, 2, START + 0.5) == "b b"


def test_an_endpoint_that_comes_back_too_late_is_new() -> None:
    clock = Clock()
    service = live("a", clock=clock)
    (a,) = service.endpoints
    service.set_endpoints([], START)
    clock.now = START + DEPARTED_SERIES_S
    service.set_endpoints([(spec(), "a")], clock.now)
    assert service.endpoints[0] is not a
    assert service.departed == []


def test_the_first_of_two_specs_with_one_address_is_used() -> None:
    service = live()
    found = [(spec("one", weight=2), "a"), (spec("two", weight=5), "a"), (spec("two", weight=5), "b")]
    for _ in range(3):
        service.set_endpoints(found, START)
        assert addresses(service.endpoints) == "a b"
        assert [one.weight for one in service.endpoints] == [2, 5]
        assert [one.authority for one in service.endpoints] == [b"one:3002", b"two:3002"]


def test_an_address_with_a_new_name_is_called_by_that_name() -> None:
    service = live()
    service.set_endpoints([(spec("one"), "a"), (spec("two"), "b")], START)
    a, b = service.endpoints
    service.set_endpoints([(spec("one"), "b"), (spec("two"), "a")], START)
    assert service.endpoints == (b, a)
    assert (a.authority, b.authority) == (b"two:3002", b"one:3002")


def test_over_tls_an_address_with_a_new_name_is_a_new_endpoint() -> None:
    service = live()
    service.set_endpoints([(spec("one", scheme="https"), "a")], START)
    (old,) = service.endpoints
    closed: list[Endpoint] = []
    service.close_idle = closed.append
    service.set_endpoints([(spec("two", scheme="https"), "a")], START)
    (new,) = service.endpoints
    assert new is not old
    assert closed == [old]
    assert (old.departed_at, service.departed) == (START, [old])
    service.set_endpoints([(spec("two", scheme="https"), "a")], START + 1)
    assert service.endpoints == (new,)


@given(st.lists(st.lists(st.integers(0, 4), max_size=6), min_size=1, max_size=8))
def test_each_address_is_one_endpoint_over_any_changes(sets: list[list[int]]) -> None:
    service = live(clock=Clock())
    for numbers in sets:
        service.set_endpoints([(spec(), f"e{number}") for number in numbers], START)
        present = [endpoint.address for endpoint in service.endpoints]
        assert present == [f"e{number}" for number in dict.fromkeys(numbers)]
        departed = [endpoint.address for endpoint in service.departed]
        assert len(departed) == len(set(departed))
        assert not set(present) & set(departed)
        assert all(one.departed_at is None for one in service.endpoints)
        assert all(one.departed_at == START for one in service.departed)


def test_a_scrape_sees_which_endpoints_are_skipped() -> None:
    clock = Clock()
    service = live("a", "b", clock=clock)
    a, b = service.endpoints
    refuse(service, "a")
    assert service.present == [(a, False), (b, True)]
    clock.now += 1
    assert service.present == [(a, True), (b, True)]


# Routes.


def route(path: str, *methods: str, own_breaker: bool = False, **policy: Any) -> Route:
    return Route(match=Match(path=path, methods=frozenset(methods)), policy=Policy(**policy), own_breaker=own_breaker)


ROUTES = (
    route("/reports", "POST"),
    route("/reports/daily"),
    route("/reports"),
    route("/a%2Fb"),
    route("/", "DELETE", "PUT"),
)


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("POST", b"/reports", "POST /reports"),
        ("POST", b"/reports/daily", "POST /reports"),  # the first that matches, not the longest
        ("GET", b"/reports/daily", "/reports/daily"),
        ("GET", b"/reports/daily/x", "/reports/daily"),
        ("GET", b"/reports/dailyx", "/reports"),
        ("GET", b"/reports", "/reports"),
        ("GET", b"/reports/", "/reports"),
        ("GET", b"/reports?x", "/reports"),
        ("GET", b"/reports/daily?x", "/reports/daily"),
        ("GET", b"/reportsx", ""),
        ("GET", b"/report", ""),
        ("GET", b"/Reports", ""),
        ("GET", b"//reports", ""),
        ("GET", b"/%72eports", ""),
        ("GET", b"/x/reports", ""),
        ("GET", b"/x?/reports", ""),
        ("GET", b"/?/reports", ""),
        ("GET", b"/a%2Fb/c", "/a%2Fb"),
        ("GET", b"/a%2fb", ""),
        ("GET", b"/a/b", ""),
        ("PUT", b"/", "DELETE,PUT /"),
        ("DELETE", b"/x//y", "DELETE,PUT /"),
        ("DELETE", b"/reports", "/reports"),
        ("delete", b"/x", ""),
        ("OPTIONS", b"*", ""),
    ],
)
def test_the_first_route_wins_by_method_and_whole_segments(method: str, target: bytes, name: str) -> None:
    service = live(routes=ROUTES)
    found = service.route_for(method, target)
    assert found.name == name
    assert (found is service.default_route) == (name == "")


def test_a_request_gets_the_policy_of_its_route() -> None:
    slow = route("/reports", timeout=Timeouts(connect=2, attempt=30, request=60, idle=90), preserve_host=True)
    service = live(routes=(slow,))
    found = service.route_for("GET", b"/reports")
    assert (found.connect_s, found.attempt_s, found.request_s, found.idle_s) == (2, 30, 60, 90)
    assert found.preserve_host
    assert not service.default_route.preserve_host
    assert service.default_route.request_s == Policy().timeout.request
    assert found.retry_statuses == {502, 503, 504}
    assert 500 in found.failure_status


def test_a_route_shares_the_service_s_breaker_unless_it_has_its_own() -> None:
    service = live(routes=(route("/shared"), route("/own", own_breaker=True)))
    shared, own = service.routes
    assert shared.breaker is service.default_route.breaker
    assert own.breaker is not service.default_route.breaker
    assert service.breakers == [service.default_route.breaker, own.breaker]


def test_the_breakers_of_two_routes_are_counted_apart() -> None:
    settings = BreakerSettings(volume_threshold=1)
    service = live(routes=tuple(route(path, own_breaker=True, breaker=settings) for path in ("/one", "/two")))
    one, two = service.routes
    one.breaker.failure(one.breaker.admit(START), START)
    assert [breaker.state for breaker in service.breakers] == ["closed", OPEN, "closed"]
    assert two.breaker.admit(START)


def test_a_breaker_that_is_off_admits_everything() -> None:
    service = live(policy=Policy(breaker=BreakerSettings(mode="off")))
    assert isinstance(service.default_route.breaker, NullBreaker)


def test_each_change_of_a_breaker_is_a_log_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sidecar.runtime")
    settings = BreakerSettings(volume_threshold=1, reset_timeout=30, mode="observe")
    service = live(routes=(route("/own", "POST", own_breaker=True, breaker=settings),))
    breaker = service.routes[0].breaker
    breaker.failure(breaker.admit(START), START)
    breaker.success(breaker.admit(START + 30), START + 30)
    said = [(record.levelname, record.getMessage(), record.__dict__["fields"]) for record in caplog.records]
    where = {"service": "venue", "route": "POST /own", "mode": "observe"}
    assert said == [
        ("WARNING", "breaker open", where | {"from": "closed", "to": OPEN}),
        ("INFO", "breaker half_open", where | {"from": OPEN, "to": HALF_OPEN}),
        ("INFO", "breaker closed", where | {"from": HALF_OPEN, "to": "closed"}),
    ]


# What else it knows.


@pytest.mark.parametrize(
    ("url", "authorities"),
    [
        (
            Url("http", "venue-service", 3002),
            {b"venue-service", b"venue-service:3002", b"venue:3002", b"venue", b"v.prod:3002", b"v.prod"},
        ),
        (Url("https", "x", 443), {b"x", b"x:443", b"venue:443", b"venue", b"v.prod:443", b"v.prod"}),
        (Url("http", "fd00::7", 80), {b"[fd00::7]", b"[fd00::7]:80", b"venue:80", b"venue", b"v.prod:80", b"v.prod"}),
    ],
)
def test_the_authorities_that_mean_the_service_in_a_location(url: Url, authorities: set[bytes]) -> None:
    service = live(name="Venue", endpoints=(EndpointSpec(url=url),), hosts=("v.prod",))
    assert service.authorities == authorities


def test_its_limits_are_those_of_its_policy() -> None:
    service = live(policy=Policy(limits=Limits(max_concurrent=1, max_connections=7), timeout=Timeouts(pool_idle=2)))
    assert (service.max_connections, service.pool_idle_s, service.prefix) == (7, 2, b"/venue")
    assert service.in_flight == 0
    assert service.limit.acquire()
    assert not service.limit.acquire()
    assert service.in_flight == 1


def test_repr_shows_the_state() -> None:
    text = repr(live("10.0.0.7"))
    assert text.startswith("<LiveService venue in_flight=0 connections=0 (<Endpoint 10.0.0.7:3002")


# Who is available, with health, ejection and balancers other than plain round robin.


def service_with(policy: Policy, *priorities: int, now: float = 0.0) -> LiveService:
    specs = tuple(
        EndpointSpec(url=Url("http", f"10.0.0.{number}", 80), priority=priority)
        for number, priority in enumerate(priorities, 1)
    )
    live = LiveService(Service(name="venue", endpoints=specs, policy=policy), now, Random(7).random, clock=lambda: now)
    live.set_endpoints([(spec, spec.url.host) for spec in specs], now)
    return live


def picks(live: LiveService, now: float, times: int = 60, key: bytes | None = None) -> set[str]:
    found = [live.pick(now, (), key) for _ in range(times)]
    return {endpoint.address for endpoint in found if endpoint is not None}


def test_an_endpoint_that_fails_is_ejected_and_returns_by_itself() -> None:
    live = service_with(Policy(outlier=OutlierSettings(consecutive_failures=3, base_ejection_time=5.0)), 0, 0)
    bad = live.endpoints[0]
    for _ in range(2):
        live.outlier.record(bad, True, 1.0)
    assert picks(live, 1.0) == {"10.0.0.1", "10.0.0.2"}
    live.outlier.record(bad, True, 1.0)
    assert picks(live, 1.0) == picks(live, 5.9) == {"10.0.0.2"}
    assert [healthy for _, healthy in live.present] == [False, True]
    assert picks(live, 6.0) == {"10.0.0.1", "10.0.0.2"}


def test_an_endpoint_that_fails_its_checks_gets_no_requests_until_one_passes() -> None:
    live = service_with(Policy(health=HealthSettings(path="/health", unhealthy_threshold=2)), 0, 0)
    ill = live.endpoints[0]
    live.checked(ill, True, "ok", 0.01)
    for _ in range(2):
        live.checked(ill, False, "status 503", 0.01)
    assert picks(live, 0.0) == {"10.0.0.2"}
    live.checked(ill, True, "ok", 0.01)
    assert picks(live, 0.0) == {"10.0.0.1", "10.0.0.2"}


def test_a_good_check_ends_the_skip_after_a_refused_connection() -> None:
    """In a panic, endpoints that are down are tried again and again. A skip of up to 30 s must not outlast the
    outage.
    """
    live = service_with(Policy(health=HealthSettings(path="/health")), 0, 0, now=START)
    dead = live.endpoints[0]
    dead.connect_failed(START - 0.1)
    live.changed(START - 0.1)
    live.checked(dead, True, "ok", latency_s=0.2)
    assert picks(live, START) == {"10.0.0.2"}, "it began before the refusal"
    live.checked(dead, True, "ok", latency_s=0.05)
    assert picks(live, START) == {"10.0.0.1", "10.0.0.2"}


def test_failing_at_once_needs_active_checks() -> None:
    checked = service_with(Policy(health=HealthSettings(tcp=True)), 0, 0)
    checked.fail_at_once(checked.endpoints[0], 0.0)
    assert picks(checked, 0.0) == {"10.0.0.2"}
    unchecked = service_with(Policy(), 0, 0)
    unchecked.fail_at_once(unchecked.endpoints[0], 0.0)
    assert picks(unchecked, 0.0) == {"10.0.0.1", "10.0.0.2"}


@pytest.mark.parametrize("balancer", ["round_robin", "least_request", "peak_ewma", "random", HashSettings(source=True)])
def test_each_balancer_uses_all_endpoints_but_the_skipped_ones(balancer: Any) -> None:
    live = service_with(Policy(balancer=balancer, slow_start=1.0), 0, 0, 0)
    assert len({address for n in range(60) for address in picks(live, 10.0, 1, b"%d" % n)}) == 3
    live.endpoints[1].connect_failed(10.0)
    live.changed(10.0)
    assert {address for n in range(60) for address in picks(live, 10.0, 1, b"%d" % n)} == {"10.0.0.1", "10.0.0.3"}
    tried = [live.endpoints[0]]
    again = {one.address for n in range(60) if (one := live.pick(10.0, tried, b"%d" % n)) is not None}
    assert again == {"10.0.0.3"}


def test_the_second_priority_is_used_when_the_first_is_gone() -> None:
    live = service_with(Policy(), 0, 1)
    assert picks(live, 0.0) == {"10.0.0.1"}
    live.endpoints[0].connect_failed(1.0)
    live.changed(1.0)
    assert picks(live, 1.5) == {"10.0.0.2"}


def test_a_key_stays_with_its_endpoint() -> None:
    live = service_with(Policy(balancer=HashSettings(header="X-User")), 0, 0, 0)
    assert all(len(picks(live, 0.0, 5, b"user-%d" % n)) == 1 for n in range(20))
