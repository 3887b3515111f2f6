"""Whatever the two sides of a request say of its end leaves nothing behind; defects, and what the log tells."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

import sidecar.proxy.exchange.retrying
from sidecar.policy.settings import (
    Limits,
)
from sidecar.proxy.exchange.service_call import BUFFER_MAX
from sidecar.proxy.outgoing import Outgoing
from tests.proxy.fakes import Dial, Wire, World, field_of, ok, request, status
from tests.proxy.scenes import (
    UNAVAILABLE,
    ask_tunnel,
    policy,
)

# The app goes away.


def while_connecting(world: World) -> Wire:
    world.loop.network = Dial.hang
    return world.asks()


def while_waiting_for_a_connection(world: World) -> Wire:
    while world.service.connections < world.service.max_connections:
        world.asks()
    return world.asks()


def while_awaiting_the_head(world: World) -> Wire:
    return world.asks()


def while_half_a_head_is_there(world: World) -> Wire:
    app = world.asks()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nConte")
    return app


def while_a_retry_waits(world: World) -> Wire:
    app = world.asks()
    world.upstream.breaks()
    return app


def while_a_retry_waits_and_its_answer_too(world: World) -> Wire:
    app = world.asks()
    world.upstream.says(UNAVAILABLE)
    return app


def while_half_an_answer_waits_for_its_retry(world: World) -> Wire:
    app = world.asks()
    world.upstream.says(UNAVAILABLE[:-1])
    return app


def while_the_retry_is_under_way(world: World) -> Wire:
    app = while_a_retry_waits_and_its_answer_too(world)
    world.pass_time(0.2)
    return app


def while_streaming(world: World) -> Wire:
    app = world.asks()
    world.upstream.says(ok(b"hello")[:-1])
    return app


def while_streaming_to_who_does_not_read(world: World) -> Wire:
    app = world.asks()
    app.stall()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a" * 400_000)
    return app


def while_uploading(world: World) -> Wire:
    return world.asks("POST /venue/", "Content-Length: 10").says(b"01234")


def while_uploading_to_who_does_not_read(world: World) -> Wire:
    app = world.asks("POST /venue/", "Content-Length: 1000000")
    world.upstream.stall()
    return app.says(b"x" * 400_000)


def while_uploading_before_there_is_a_connection(world: World) -> Wire:
    return while_connecting_upload(world).says(b"x" * (BUFFER_MAX + 1))


def while_connecting_upload(world: World) -> Wire:
    world.loop.network = Dial.hang
    return world.asks("POST /venue/", "Content-Length: 1000000")


def after_an_interim_answer(world: World) -> Wire:
    app = world.asks("POST /venue/", "Expect: 100-continue", "Content-Length: 10")
    world.upstream.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    return app


def while_a_tunnel_is_asked_for(world: World) -> Wire:
    return ask_tunnel(world)


@pytest.mark.parametrize("end", [Wire.breaks, Wire.leaves])
@pytest.mark.parametrize(
    "begin",
    [
        while_connecting,
        while_waiting_for_a_connection,
        while_awaiting_the_head,
        while_half_a_head_is_there,
        while_a_retry_waits,
        while_a_retry_waits_and_its_answer_too,
        while_half_an_answer_waits_for_its_retry,
        while_the_retry_is_under_way,
        while_streaming,
        while_streaming_to_who_does_not_read,
        while_uploading,
        while_uploading_to_who_does_not_read,
        while_uploading_before_there_is_a_connection,
        while_connecting_upload,
        after_an_interim_answer,
        while_a_tunnel_is_asked_for,
    ],
)
def test_app_goes_away(
    make_world: Callable[..., World], begin: Callable[[World], Wire], end: Callable[[Wire], None]
) -> None:
    world = make_world(policy(limits=Limits(max_connections=2)))
    app = begin(world)
    others = world.service.limit.in_flight - 1
    if end is Wire.leaves and not app.reading:  # heard only once it is read: then as a reset
        end = Wire.breaks
    end(app)
    assert world.service.limit.in_flight == others
    assert world.service.endpoints[0].active == others
    assert list(world.reasons()) == [(499, "client_disconnect")]
    failed = [reason for counts in world.attempts() for reason in counts if reason in ("status", "reset")]
    assert world.breaker() == (0, len(failed)), "what the app left says nothing; an attempt before it had failed"
    for dial in world.loop.dials:  # what was being opened comes up for nobody
        if dial.pending:
            dial.accept()
    world.pass_time(20)
    for wire in world.upstreams:
        assert not wire.open
    world.check_at_rest()
    assert world.service.connections == 0
    assert world.reasons()[499, "client_disconnect"] == 1


# A defect of ours.


@pytest.mark.parametrize("head", [b"", request("POST /venue/", body=b"body"), request("HEAD /venue/")])
def test_crash_before_the_answer_is_a_500(
    world: World, head: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: object, **__: object) -> bytes:
        raise ZeroDivisionError("a secret that only the log may tell")

    monkeypatch.setattr(Outgoing, "first", crash)
    app = world.app().says(head or request())
    assert status(app.heard) == 500
    assert field_of(app.heard, "x-sidecar-reason") == ["internal"]
    assert b"secret" not in app.heard
    assert "secret" in caplog.text
    assert world.reasons() == {(500, "internal"): 1}
    assert world.breaker() == (0, 0)
    world.check_at_rest()
    assert not world.upstream.open
    monkeypatch.undo()


def test_crash_while_a_retry_is_planned(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(*_: object) -> bool:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr(sidecar.proxy.exchange.retrying, "wants_retry", crash)
        app = world.asks()
        world.upstream.says(UNAVAILABLE)
    assert status(app.heard) == 500
    assert not world.upstream.open
    world.check_at_rest()
    app.take()
    app.says(request())  # the connection is as good as before
    world.upstream.says(ok())
    assert status(app.heard) == 200


def test_crash_while_streaming_is_never_a_clean_end(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = world.asks()
    world.upstream.says(ok(b"hello")[:-1])

    def crash(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch, caplog.at_level(logging.CRITICAL):
        patch.setattr(type(app.protocol), "end_response", crash)
        world.upstream.says(b"o")
    assert app.heard.count(b"HTTP/1.1") == 1
    assert not app.open
    assert not world.upstream.open
    assert world.reasons() == {(500, "internal"): 1}
    world.check_at_rest()


# The access log.


def test_the_log_tells_the_wait_for_a_connection_and_between_attempts_from_the_rest() -> None:
    with World(policy(backoff_s=0.2), access="all") as world:
        world.loop.network = Dial.hang
        world.asks("POST /venue/", body=b"12345")
        world.pass_time(0.5)
        world.loop.dials[-1].accept()
        world.settle()
        world.pass_time(0.25)
        world.upstream.says(ok(b"0123456789"))
        world.pass_time(1)
        (line,) = world.lines
    assert (line["waiting_ms"], line["upstream_ms"], line["duration_ms"]) == (500.0, 250.0, 750.0)
    assert (line["bytes_received"], line["bytes_sent"]) == (5, 10)


def test_the_log_counts_the_wait_between_attempts() -> None:
    with World(policy(backoff_s=0.2), access="all") as world:
        world.asks()
        world.upstream.says(UNAVAILABLE)
        world.pass_time(0.101)  # half of the backoff, and a millisecond
        world.upstream.says(ok())
        world.pass_time(1)
        (line,) = world.lines
    assert (line["waiting_ms"], line["upstream_ms"], line["duration_ms"]) == (101.0, 0.0, 101.0)


def test_an_answer_of_ours_is_counted_by_its_body_and_no_answer_as_none() -> None:
    with World(access="all") as world:
        world.asks()
        world.upstream.says(ok())
        world.loop.network = Dial.refuse
        world.upstream.breaks()
        app = world.asks("POST /venue/")
        world.pass_time(2)
        body = app.take().partition(b"\r\n\r\n")[2]
        world.loop.network = Dial.hang
        app.says(request("POST /venue/")).leaves()
        world.pass_time(1)
        _, refused, gone = world.lines
    assert (refused["reason"], refused["bytes_sent"]) == ("connect_failure", len(body))
    assert (gone["status"], gone["bytes_sent"]) == (499, 0)
