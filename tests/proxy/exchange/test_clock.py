"""The times of a call: what each deadline means, and that it is told in words."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.policy.settings import Timeouts
from sidecar.proxy.exchange.service_call import BUFFER_MAX
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
