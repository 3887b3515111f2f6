"""A live route: its prepared options, and which requests it matches."""

from __future__ import annotations

import pytest

from sidecar.config.schema import Match
from sidecar.policy.breaker import make_breaker
from sidecar.policy.settings import (
    BreakerSettings,
    FallbackService,
    FallbackStale,
    FallbackStatic,
    FallbackStep,
    Policy,
    RetrySettings,
    Timeouts,
)
from sidecar.runtime.route import LiveRoute

BREAKER = make_breaker(BreakerSettings(), 0.0)


INF = float("inf")


def made(match: Match | None = None, policy: Policy | None = None) -> LiveRoute:
    return LiveRoute("", match, policy or Policy(), BREAKER)


def test_a_route_prepares_the_options_of_a_request() -> None:
    timeout = Timeouts(connect=1, attempt=2, request=3, idle=4, client_idle=5)
    policy = Policy(timeout=timeout, retry=RetrySettings(on=frozenset({"reset", 502, 503})), half_close=True)
    route = made(policy=policy)
    assert (route.connect_s, route.attempt_s, route.request_s, route.idle_s, route.client_idle_s) == (1, 2, 3, 4, 5)
    assert route.retry_statuses == {502, 503}
    assert route.failure_status == policy.breaker.failure_status
    assert (route.half_close, route.preserve_host) == (True, False)
    assert route.breaker is BREAKER


@pytest.mark.parametrize(
    ("unary", "own", "times"),
    [
        (False, set(), (INF, INF, INF)),
        (False, {"attempt"}, (2, INF, INF)),
        (False, {"request", "idle", "connect"}, (INF, 3, 4)),
        (True, set(), (2, 3, 4)),
    ],
)
def test_times_apply_to_grpc_where_they_are_set_for_it(
    unary: bool, own: set[str], times: tuple[float, float, float]
) -> None:
    policy = Policy(timeout=Timeouts(attempt=2, request=3, idle=4), unary=unary)
    route = LiveRoute("", None, policy, BREAKER, frozenset(own))
    assert (route.grpc_attempt_s, route.grpc_request_s, route.grpc_idle_s) == times
    assert (route.attempt_s, route.request_s, route.idle_s) == (2, 3, 4)


def test_the_statuses_of_grpc_are_numbers_in_a_route() -> None:
    route = made(policy=Policy(breaker=BreakerSettings(failure_grpc_status=frozenset({"INTERNAL", "UNAVAILABLE"}))))
    assert route.grpc_failure == {13, 14}
    assert made().grpc_failure == {2, 4, 13, 14, 15}


def test_calls_may_be_sent_twice_only_where_that_is_said() -> None:
    retry = RetrySettings(on=frozenset({"reset", 503, "UNAVAILABLE", "CANCELLED"}))
    careful, idempotent = made(policy=Policy(retry=retry)), made(policy=Policy(retry=retry, idempotent=True))
    assert (careful.idempotent, careful.grpc_retry) == (False, frozenset())
    assert (idempotent.idempotent, idempotent.grpc_retry) == (True, {1, 14})
    assert careful.repeatable_methods == RetrySettings().methods
    assert idempotent.repeatable_methods == RetrySettings().methods | {"POST", "PATCH"}
    assert careful.retry_statuses == idempotent.retry_statuses == {503}
    assert made(policy=Policy(idempotent=True)).grpc_retry == {14}


@pytest.mark.parametrize(
    ("path", "target", "matches"),
    [
        ("/reports", b"/reports", True),
        ("/reports", b"/reports/1", True),
        ("/reports", b"/reportsx", False),
        ("/reports", b"/", False),
        ("/", b"/anything", True),
        ("/", b"*", False),
        ("/reports/", b"/reports/1", True),
        ("/reports/", b"/reports", False),
    ],
)
def test_a_path_is_a_prefix_of_whole_segments(path: str, target: bytes, matches: bool) -> None:
    assert made(Match(path=path)).matches("GET", target) is matches


@pytest.mark.parametrize(("method", "matches"), [("POST", True), ("GET", False), ("post", False)])
def test_methods_are_compared_as_they_are_written(method: str, matches: bool) -> None:
    assert made(Match(path="/a", methods=frozenset({"POST"}))).matches(method, b"/a") is matches


POST_ONLY = FallbackStatic(status=503, methods=frozenset({"POST"}))


@pytest.mark.parametrize(
    ("steps", "methods", "keeps"),
    [
        ((), set(), False),
        ((FallbackStale(stale=60.0),), {"GET", "HEAD"}, True),
        ((POST_ONLY,), {"POST"}, False),
        ((FallbackService(service="other"), POST_ONLY), {"GET", "HEAD", "POST"}, False),
    ],
)
def test_the_methods_that_a_fallback_answers(steps: tuple[FallbackStep, ...], methods: set[str], keeps: bool) -> None:
    route = made(policy=Policy(fallback=steps))
    assert route.fallback_methods == methods
    assert route.keeps_stale is keeps
