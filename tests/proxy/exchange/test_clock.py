"""The times of a call: what each deadline means, and that it is told in words."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from sidecar.policy.settings import Timeouts
from sidecar.proxy.body_sink import ByteBudget
from sidecar.proxy.downstream.handler import Handler
from sidecar.proxy.exchange.clock import Clock
from sidecar.proxy.exchange.inner_call import InnerCall
from sidecar.proxy.exchange.outcome import Outcome
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.exchange.service_call import BUFFER_MAX
from sidecar.proxy.http1.request_head import parse_request
from sidecar.proxy.upstream.stream import Lost
from tests.proxy.fakes import Dial, World, field_of, problem, status
from tests.proxy.scenes import CHUNKED_POST, policy


@pytest.mark.parametrize("field", ["x-envoy-upstream-rq-timeout-ms", "x-envoy-expected-rq-timeout-ms"])
def test_apps_deadline_shortens(world: World, field: str) -> None:
    app = world.asks("GET /venue/", f"{field}: 500")
    assert field_of(world.upstream.heard, "x-envoy-expected-rq-timeout-ms") == ["500"]
    world.pass_time(0.45)
    assert app.heard == b""
    world.pass_time(0.1)
    assert (status(app.heard), problem(app.heard)["reason"]) == (504, "request_timeout")
    assert world.breaker() == (0, 1), "it waited for longer than 250 ms"


def test_apps_deadline_does_not_lengthen(world: World) -> None:
    app = world.asks("POST /venue/", "x-envoy-upstream-rq-timeout-ms: 60000")
    world.pass_time(1.05)
    assert problem(app.heard)["reason"] == "attempt_timeout"


def test_request_timeout_covers_attempts_and_backoff(make_world: Callable[..., World]) -> None:
    world = make_world(policy(timeout=Timeouts(attempt=1.0, request=2.5), max_retries=9, backoff_s=0.0))
    app = world.asks()
    world.pass_time(2.4)
    assert app.heard == b""
    world.pass_time(0.2)
    found = problem(app.heard)
    assert (found["status"], found["reason"]) == (504, "request_timeout")
    assert [one["reason"] for one in found["attempts"]] == ["attempt_timeout"] * 2 + ["request_timeout"]
    assert world.breaker() == (0, 1)


def test_timeouts_do_not_run_while_the_app_is_sending(world: World) -> None:
    app = world.asks("POST /venue/", "Content-Length: 10")
    for _ in range(10):
        world.pass_time(5)
        app.says(b"x")
    world.pass_time(0.9)
    assert app.heard == b""
    world.pass_time(0.2)
    assert problem(app.heard)["reason"] == "attempt_timeout"


def test_upload_that_stalls(world: World) -> None:
    app = world.asks("POST /venue/", "Content-Length: 10").says(b"x")
    world.pass_time(59.9)
    assert app.heard == b""
    world.pass_time(0.2)
    assert (status(app.heard), problem(app.heard)["reason"]) == (408, "bad_request")
    assert world.breaker() == (0, 0)
    world.check_at_rest()


def test_upload_to_a_service_that_takes_nothing(world: World) -> None:
    app = world.asks("POST /venue/", "Content-Length: 1000000")
    world.upstream.stall()
    app.says(b"x" * 400_000)
    world.pass_time(60.1)
    assert (status(app.heard), problem(app.heard)["reason"]) == (504, "attempt_timeout")
    assert world.breaker() == (0, 1)


def test_body_that_turns_bad(world: World) -> None:
    app = world.app().says(CHUNKED_POST + b"3\r\nabc\r\n")
    app.says(b"nonsense\r\n")
    assert (status(app.heard), problem(app.heard)["reason"]) == (400, "bad_request")
    assert not world.upstream.open
    assert world.breaker() == (0, 0)
    world.check_at_rest()


def test_body_is_read_ahead_up_to_a_bound_while_connecting(world: World) -> None:
    world.loop.network = Dial.hang
    app = world.asks("POST /venue/", "Content-Length: 1000000").says(b"x" * BUFFER_MAX)
    assert app.reading
    app.says(b"x")
    assert not app.reading
    world.loop.dials[0].accept()
    world.settle()
    assert app.reading
    assert world.upstream.heard.endswith(b"x" * (BUFFER_MAX + 1))


def grpc_clock(world: World) -> tuple[Clock, Request]:
    """Of a gRPC call to whose service the file says nothing about times."""
    head = parse_request(b"POST /shop.Venue/Watch HTTP/1.1\r\nHost: venue\r\n\r\n")
    stream = InnerCall(world.core, None, ByteBudget(0), lambda _: None)
    route = world.service.default_route.for_grpc()
    request = Request(head, None, stream, Handler(), b"id", world.loop.now, False)
    outcome = Outcome(request, world.service, route, False)
    outcome.attempt(world.service.endpoints[0], world.loop.now)
    clock = Clock(request, route, outcome, route.request_s, "timeout.request")
    clock.begin(world.loop.now)
    return clock, request


def test_nothing_ends_a_grpc_call_that_nobody_limits(world: World) -> None:
    clock, request = grpc_clock(world)
    now = world.loop.now
    clock.awaiting_answer(now)
    assert request.stream.deadline == inf
    clock.downloading(now)
    assert request.stream.deadline == now + world.service.default_route.attempt_s, "then it counts as a success"
    assert clock.left_s(now) == inf
    assert clock.app_left_s(now) == inf


def test_the_apps_deadline_is_that_of_the_whole_grpc_call(world: World) -> None:
    clock, request = grpc_clock(world)
    now = world.loop.now
    clock.ends_with_app(now + 2)
    assert (clock.left_s(now + 0.5), clock.app_left_s(now + 0.5)) == (1.5, 1.5)
    for arm in (clock.connecting, lambda: clock.awaiting_answer(now), clock.sleeping, lambda: clock.downloading(now)):
        arm()
        assert request.stream.deadline <= now + 2
    assert not clock.is_over(now + 1.9)
    assert clock.is_over(now + 2)
    end = clock.passed(now + 2, None)
    assert isinstance(end, Lost)
    assert (end.reason, end.ours) == ("request_timeout", True)
    assert "its grpc-timeout" in end.detail
