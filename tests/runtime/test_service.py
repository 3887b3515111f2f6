"""A live service: what survives a change of addresses, and which endpoints are available."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.config.schema import EndpointSpec, Url
from sidecar.policy.settings import (
    HealthSettings,
    Limits,
    OutlierSettings,
    Policy,
    Timeouts,
)
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import DEPARTED_SERIES_S
from tests.runtime.services import (
    START,
    Clock,
    addresses,
    firsts,
    live,
    picks,
    refuse,
    service_with,
    spec,
)

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


def test_an_endpoint_that_is_called_by_another_protocol_is_another_endpoint() -> None:
    service = live("10.0.0.1")
    before = service.endpoints[0]
    assert (before.h2, service.h2) == (False, False)
    service.adopt(replace(service.config, protocol="h2"), START)
    service.set_endpoints([(spec(), "10.0.0.1")], START)
    after = service.endpoints[0]
    assert after is not before
    assert (after.h2, service.h2, service.grpc) == (True, True, False)
    assert before in service.departed


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


# Who is available, with health and ejection.


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
