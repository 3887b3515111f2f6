"""The routes of a service and their breakers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from msgspec.structs import replace

from sidecar.config.schema import Match, Route
from sidecar.policy.breaker import HALF_OPEN, OPEN, NullBreaker
from sidecar.policy.settings import (
    BreakerSettings,
    Policy,
    Timeouts,
)
from tests.runtime.services import (
    START,
    live,
)


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


def test_a_timeout_that_comes_to_count_for_grpc_makes_another_route() -> None:
    """The value is the same, but it is the service's own now and not that of `defaults`."""
    service = live()
    first = service.default_route
    service.adopt(replace(service.config, own_timeouts=frozenset({"idle"})), START)
    assert service.default_route is not first
    assert service.default_route.grpc_idle_s == first.idle_s
    assert service.default_route.breaker is first.breaker
    again = service.default_route
    service.adopt(replace(service.config, hosts=("a",)), START)
    assert service.default_route is again
