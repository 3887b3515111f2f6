"""What all connections share: the fields that are added, names and ids, records, housekeeping."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from uuid import UUID

import pytest

from sidecar.policy.settings import Policy, Timeouts
from sidecar.proxy.core import HANG_UP_CHECK_S, SWEEP_S, TOLD_WHY, TURNED_AWAY_EVERY_S
from sidecar.proxy.downstream.http1_connection import LINGER_S
from sidecar.proxy.problem import Problem
from sidecar.telemetry.trace import Tracer
from tests.proxy.fakes import World, ok, request, status


def test_own_name_is_random_and_a_token(make_world: Callable[..., World]) -> None:
    names = {make_world().core.loop_name for _ in range(3)}
    assert len(names) == 3
    assert all(re.fullmatch(rb"sidecar-[0-9a-f]{12}", name) for name in names)


def test_fields_of_an_attempt(world: World) -> None:
    core, service = world.core, world.service
    assert core.lines(None, 2, 1.2345, via=False) == (
        b"\r\nx-sidecar-loop: %b\r\nx-envoy-attempt-count: 2\r\nx-envoy-expected-rq-timeout-ms: 1234" % core.loop_name
    )
    assert core.lines(service.prefix, 1, 1.0, via=True).endswith(b"\r\nX-Forwarded-Prefix: /venue")


@pytest.mark.parametrize("left_s", [0.0009, 0.0, -1.0])
def test_no_attempt_is_told_that_it_has_no_time(world: World, left_s: float) -> None:
    assert world.core.lines(None, 1, left_s, via=False).endswith(b"timeout-ms: 1")


def test_fields_of_a_first_attempt_are_those_of_the_whole_time(world: World) -> None:
    core, service, route = world.core, world.service, world.service.default_route
    for by_path in (True, False):
        first = core.first_lines(route, service, by_path=by_path)
        assert first == core.lines(service.prefix if by_path else None, 1, route.attempt_s, via=False)
        assert core.first_lines(route, service, by_path=by_path) is first


def test_request_ids(world: World) -> None:
    ids = {world.core.new_request_id() for _ in range(200)}
    assert len(ids) == 200
    for one in ids:
        parsed = UUID(one.decode())
        assert str(parsed).encode() == one
        assert (parsed.version, parsed.variant) == (4, "specified in RFC 4122")


def test_without_tracing_there_is_no_new_trace(world: World) -> None:
    assert world.core.new_traceparent() is None


def test_traceparents(world: World) -> None:
    world.core.tracer = Tracer(1.0, lambda span: None)
    parents = {world.core.new_traceparent() for _ in range(200)}
    assert len(parents) == 200
    for one in parents:
        found = re.fullmatch(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-01", one)
        assert found is not None
        assert int(found[1], 16)
        assert int(found[2], 16)


def test_request_is_recorded_with_its_time(world: World) -> None:
    world.asks()
    world.pass_time(0.3)
    world.upstream.says(ok())
    assert world.reasons() == {(200, "ok"): 1}
    assert world.service.counters.durations.total_s == pytest.approx(0.3)


def test_the_last_failure_is_kept_and_neither_a_good_answer_nor_the_app_s_leaving_changes_it(world: World) -> None:
    world.asks()
    world.upstream.says(ok())
    world.asks().leaves()
    assert world.service.last_failure is None
    world.asks()
    world.upstream.says(ok(status="500 Internal Server Error"))
    kept = world.service.last_failure
    assert kept is not None
    assert (kept.at, kept.reason) == (world.core.loop.time(), "status")
    assert kept.detail.endswith(":3002 answered 500")
    world.asks()
    world.upstream.says(ok())
    assert world.service.last_failure is kept


@pytest.mark.parametrize(("access", "lines"), [("off", 0), ("errors", 1), ("all", 2)])
def test_access_log_says_what_is_wanted(make_world: Callable[..., World], access: str, lines: int) -> None:
    world = make_world(access=access)
    world.asks("GET /venue/a?secret=1").leaves()
    world.asks()
    world.upstream.says(ok())
    world.pass_time(1)
    assert len(world.lines) == lines
    if lines:
        left = world.lines[0]
        assert (left["status"], left["reason"], left["target"]) == (499, "client_disconnect", "/venue/a")
        assert [one["reason"] for one in left["attempts"]] == ["client_disconnect"]


def test_what_reached_no_service_is_recorded_apart(make_world: Callable[..., World]) -> None:
    world = make_world(access="errors")
    world.core.refused(Problem(status=404, reason="unknown_service", detail="x", request_id="id"), None)
    world.pass_time(1)
    assert world.live.unrouted.requests == {(404, "unknown_service"): 1}
    assert [(line["status"], line["request_id"]) for line in world.lines] == [(404, "id")]


def test_idle_connections_are_swept(world: World) -> None:
    world.asks()
    world.upstream.says(ok())
    world.pass_time(4.0 - SWEEP_S)
    assert world.service.connections == 1
    world.pass_time(2 * SWEEP_S)
    assert world.service.connections == 0


def test_app_that_left_unheard_is_looked_for(world: World) -> None:
    """Reading is paused: 64 KiB of further requests wait."""
    app = world.asks()
    app.says(b"x" * 70_000)
    assert not app.reading
    world.pass_time(2 * HANG_UP_CHECK_S)
    assert app.open
    app.peer.close()
    world.pass_time(HANG_UP_CHECK_S)
    assert world.reasons() == {(499, "client_disconnect"): 1}
    assert not world.upstream.open
    world.check_at_rest()


def test_failed_connections_are_told_on(world: World) -> None:
    heard: list[str] = []
    world.core.on_connect_failure = heard.append
    world.loop.network = lambda dial: dial.refuse()
    app = world.asks()
    world.pass_time(1)
    assert status(app.heard) == 503
    assert set(heard) == {"venue-service"}


def test_crash_is_logged_with_its_request(world: World, caplog: pytest.LogCaptureFixture) -> None:
    app = world.asks("GET /venue/", "X-Request-Id: the-id")
    exchange = app.protocol._exchange
    with caplog.at_level(logging.ERROR):
        world.core.crashed(exchange, ValueError("of ours"))
    (record,) = caplog.records
    assert record.exc_info is not None
    assert record.__dict__["fields"] == {"service": "venue", "request_id": "the-id"}


def test_close_cuts_everything(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(timeout=Timeouts(connect=1.0)))
    resting = world.app()
    waiting = world.asks()
    world.asks()
    world.upstream.says(ok())
    tunnel = world.asks("GET /venue/", "Connection: upgrade", "Upgrade: websocket")
    world.upstream.says(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    world.loop.network = lambda dial: dial.hang()
    connecting = world.asks()
    assert len(world.core.tunnels) == 1
    world.loop.run(world.core.close())
    world.settle()
    assert not any(wire.open for wire in (resting, waiting, tunnel, connecting, *world.upstreams))
    world.check_at_rest()
    assert world.service.connections == 0


def test_a_connection_too_many_is_told_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.core.max_connections = 2
    first, second = world.app(), world.asks()
    with caplog.at_level(logging.WARNING):
        third = world.app().says(request())
    answer = third.heard
    assert (status(answer), third.eof_sent) == (503, True)
    assert b"x-sidecar-reason: overloaded" in answer
    assert b"Connection: close" in answer
    assert b"2 connections of apps are open" in answer
    assert [record.message for record in caplog.records] == ["connections of apps are turned away"]
    assert world.upstream.heard.count(b"GET ") == 1
    world.pass_time(LINGER_S + 0.1)
    assert not third.open

    # Those that were there go on, and one that leaves makes room for another.
    world.upstream.says(ok())
    assert status(second.heard) == 200
    first.leaves()
    assert world.asks().open
    assert len(world.core.connections) == 2
    assert world.live.unrouted.requests == {(503, "overloaded"): 1}


def test_of_a_flood_few_are_told_why_and_the_log_says_it_once_a_minute(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.core.max_connections = 1
    world.app()
    with caplog.at_level(logging.WARNING):
        flood = [world.app() for _ in range(50)]
        assert [status(one.heard) for one in flood if one.heard] == [503] * TOLD_WHY
        assert all(b"1 connections of apps are open" in one.heard for one in flood if one.heard)
        assert sum(one.open for one in flood) <= TOLD_WHY
        assert len(caplog.records) == 1
        world.pass_time(TURNED_AWAY_EVERY_S)
        world.app()
        world.app()
    assert len(caplog.records) == 2


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_what_the_end_cuts_is_not_blamed_on_the_app(make_world: Callable[..., World], answer: bytes) -> None:
    world = make_world(access="errors")
    app = world.app().says(request() + request("GET /venue/next"))
    if answer:
        world.upstream.says(answer)
    world.loop.run(world.core.close())
    world.settle()
    world.access_log.flush()
    (line,) = world.lines
    assert (line["status"], line["reason"]) == (499, "client_disconnect")
    assert line["detail"] == "the sidecar ended before the answer was whole"
    assert not app.open
    world.check_at_rest()


def test_requests_share_connections_and_each_is_answered(world: World) -> None:
    for number in range(3):
        app = world.app().says(request(f"GET /venue/{number}"))
        assert b"GET /%d " % number in world.upstream.take()
        world.upstream.says(ok(b"%d" % number))
        assert app.heard.endswith(b"%d" % number)
    assert len(world.upstreams) == 1
