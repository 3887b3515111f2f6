"""An HTTP/2 connection from the app: how it begins, how long it may rest, and how it takes leave."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from sidecar.proxy.downstream.h2_connection import LEAVE_S, SETTINGS_TIMEOUT_S
from sidecar.proxy.downstream.http1_connection import HEAD_TIMEOUT_S, LINGER_S
from sidecar.proxy.h2.connection import LINGER_S as GOAWAY_LINGER_S
from sidecar.proxy.h2.frames import NO_ERROR, PREFACE
from sidecar.proxy.http1.head_syntax import MAX_HEAD
from sidecar.proxy.listener import ProxyListener
from sidecar.proxy.problem import Problem
from tests.proxy.fakes import World, ok, problem, request, status
from tests.proxy.h2_scene import AppSide
from tests.support.h2_app import H2App

ALL_IDS = 2**31 - 1


# Its beginning.


def test_preface_split_at_every_position(world: World) -> None:
    for at in range(1, len(PREFACE) + 9):
        app = H2App()
        number = app.ask("/venue/a")
        said = app.take()
        wire = world.app().says(said[:at])
        assert not wire.heard.startswith(b"HTTP/1.1")
        wire.says(said[at:])
        world.upstream.says(ok(b"%d" % at))
        app.hear(wire.take())
        assert (app.answers[number].status, app.answers[number].body) == (200, b"%d" % at)
    assert len(world.upstreams) == 1
    assert len(world.core.registry.connections) == len(world.core.registry.http2)


def test_the_port_takes_both_protocols(world: World) -> None:
    old, new = world.asks(), AppSide(world)
    world.upstream.says(ok())
    answer = new.ask()
    world.upstream.says(ok())
    new.news()
    assert (status(old.heard), answer.status) == (200, 200)
    assert len(world.core.registry.connections) == 2
    assert list(map(type, world.core.registry.http2)) == [type(new.wire.protocol)]


def test_a_preface_is_for_the_beginning_of_a_connection(world: World) -> None:
    app = world.app().says(request("GET /venue/"))
    world.upstream.says(ok())
    app.take()
    app.says(PREFACE)
    assert status(app.heard) == 400
    assert problem(app.heard)["reason"] == "bad_request"
    world.pass_time(LINGER_S + 0.1)


@pytest.mark.parametrize(
    "wrong",
    [b"PRI * HTTP/1.1\r\n\r\n", b"PRI /x HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\nHost: a\r\n\r\n", b"PRI * HTTP/2.1"],
)
def test_what_only_looks_like_a_preface_is_refused(world: World, wrong: bytes) -> None:
    app = world.app().says(wrong + b"\r\n")
    assert status(app.heard) == 400
    world.pass_time(LINGER_S + 0.1)


def test_half_a_preface_has_the_time_of_a_head(world: World) -> None:
    app = world.app().says(PREFACE[:16])
    world.pass_time(HEAD_TIMEOUT_S - 0.5)
    assert app.heard == b""
    world.pass_time(1)
    assert status(app.heard) == 408
    world.pass_time(LINGER_S + 0.1)


@pytest.mark.parametrize("size", [18, 20, 24])
def test_a_preface_and_nothing_more(world: World, size: int) -> None:
    wire = world.app().says(PREFACE[:size])
    app = H2App()
    world.pass_time(SETTINGS_TIMEOUT_S - 0.5)
    assert wire.open
    world.pass_time(1)
    app.hear(wire.take())
    assert [code for code, _ in app.goaways] == [4]  # SETTINGS_TIMEOUT
    world.pass_time(GOAWAY_LINGER_S + 0.1)
    assert not wire.open
    world.check_at_rest()


def test_settings_are_to_be_acknowledged(world: World) -> None:
    app = H2App()
    wire = world.app().says(app.take())  # what it hears, it does not answer
    wire.take()
    world.pass_time(SETTINGS_TIMEOUT_S + 0.5)
    assert b"no acknowledgement of SETTINGS" in wire.heard


def test_what_the_app_is_told(world: World) -> None:
    side = AppSide(world)
    assert side.app.settings == {3: 256, 4: 256 * 1024, 6: MAX_HEAD}


def test_behind_a_connect(world: World) -> None:
    """As gRPC libraries begin where HTTP_PROXY is set: the authority is that of the CONNECT, whatever a call says."""
    side = AppSide(world, before=b"CONNECT venue:3002 HTTP/1.0\r\nHost: venue:3002\r\n\r\n")
    answer = side.ask("/a", authority="any.example.org")
    assert world.upstream.heard.startswith(b"GET /a HTTP/1.1\r\n")
    world.upstream.says(ok())
    side.news()
    assert answer.status == 200


# Rest.


def test_a_connection_that_rests_takes_leave(world: World) -> None:
    side = AppSide(world)
    world.pass_time(world.policy.timeout.client_idle - 1)
    assert not side.app.goaways
    assert side.wire.open
    world.pass_time(2)
    side.news()
    assert side.app.goaways == [(NO_ERROR, ALL_IDS), (NO_ERROR, 0), (NO_ERROR, 0)]
    world.pass_time(GOAWAY_LINGER_S + 0.1)
    assert not side.wire.open


def test_rest_begins_with_the_end_of_the_last_stream(world: World) -> None:
    idle_s = world.policy.timeout.client_idle
    side = AppSide(world)
    world.pass_time(idle_s - 1)
    answer = side.ask()
    world.pass_time(0.5)
    world.upstream.says(ok())
    side.news()
    assert answer.ended
    world.pass_time(idle_s - 0.5)
    assert not side.app.goaways
    side.hear()
    assert not side.app.goaways
    world.pass_time(1)
    side.news()
    assert side.app.goaways


def test_a_request_on_its_way_when_the_app_hears_of_the_leave_is_served(world: World) -> None:
    side = AppSide(world)
    side.wire.protocol.retire()
    answer = side.ask("/venue/a")  # sent before anything was heard
    assert side.app.goaways[0] == (NO_ERROR, ALL_IDS)
    world.upstream.says(ok())
    side.news()
    assert (answer.status, answer.ended) == (200, True)
    assert side.app.goaways[-1] == (NO_ERROR, 1)
    world.pass_time(GOAWAY_LINGER_S + 0.1)
    assert not side.wire.open


def test_an_app_that_answers_no_ping_has_a_second(world: World) -> None:
    side = AppSide(world)
    side.wire.protocol.retire()
    world.pass_time(LEAVE_S - 0.1)
    assert side.wire.open
    assert side.wire.how is None
    world.pass_time(0.2)
    assert side.wire.eof_sent


# The proxy's end.


def drain(world: World, delay_s: float, timeout_s: float) -> asyncio.Task[int]:
    listener = ProxyListener(world.core, [])
    work = listener.drain(delay_s, timeout_s, asyncio.Event())
    task = world.loop.create_task(work)
    world.settle()
    return cast(Any, task)


def test_draining_ends_connections_that_rest(world: World) -> None:
    sides = [AppSide(world) for _ in range(3)]
    task = drain(world, 1.0, 20.0)
    world.pass_time(1.1)
    for side in sides:
        side.news()
        assert side.app.goaways[0] == (NO_ERROR, ALL_IDS)
    world.pass_time(GOAWAY_LINGER_S + 0.1)
    assert task.result() == 0
    assert not world.core.registry.connections


def test_draining_lets_streams_end(world: World) -> None:
    side = AppSide(world)
    answer = side.ask("/venue/a")
    task = drain(world, 0.0, 20.0)
    world.pass_time(0.5)
    side.news()
    world.pass_time(0.4)
    side.news()
    assert side.app.goaways[:2] == [(NO_ERROR, ALL_IDS), (NO_ERROR, 1)]
    assert not task.done()
    world.upstream.says(ok())
    side.news()
    assert answer.ended
    world.pass_time(GOAWAY_LINGER_S + 0.1)
    assert task.result() == 0
    assert not side.wire.open


def test_an_answer_while_draining_tells_the_app_to_leave(world: World) -> None:
    """As `Connection: close` does over HTTP/1.1."""
    world.core.registry.draining = True
    side = AppSide(world)
    assert not side.app.goaways
    answer = side.ask()
    world.upstream.says(ok())
    side.news()
    assert answer.ended
    assert side.app.goaways[0] == (NO_ERROR, ALL_IDS)


def test_what_takes_longer_than_the_drain_is_cut(make_world: Any) -> None:
    world = make_world()
    side = AppSide(world)
    side.ask("/venue/a")
    task = drain(world, 0.0, 0.5)
    world.pass_time(0.6)
    assert task.result() == 1
    world.loop.run(world.core.close())
    world.settle()
    assert not side.wire.open
    assert world.reasons() == {(499, "client_disconnect"): 1}
    world.check_at_rest()


def test_a_connection_too_many_is_told_before_it_speaks(world: World) -> None:
    world.core.registry.max_connections = 1
    AppSide(world)
    late = world.app()
    assert status(late.heard) == 503
    world.pass_time(LINGER_S + 0.1)


def test_one_that_is_turned_away_later_is_told_by_goaway(world: World) -> None:
    side, other = AppSide(world), AppSide(world)
    side.wire.protocol.turn_away(Problem(status=503, reason="overloaded", detail="no room"))
    assert b"no room" in side.wire.heard
    other.wire.protocol.turn_away(None)
    world.pass_time(GOAWAY_LINGER_S + 0.1)
    assert not side.wire.open
    assert not other.wire.open


# What ends a connection.


def test_an_app_that_breaks_the_protocol_hears_why(world: World) -> None:
    side = AppSide(world)
    side.ask("/venue/a")
    side.wire.says(b"\0\0\1\6\0\0\0\0\0x")  # a PING of one byte
    assert b"a frame of a size" in side.wire.heard
    world.pass_time(GOAWAY_LINGER_S + 0.1)
    assert not side.wire.open
    assert world.reasons() == {(499, "client_disconnect"): 1}
    world.check_at_rest()


@pytest.mark.parametrize("how", ["leaves", "breaks"])
def test_streams_end_with_their_connection(world: World, how: str) -> None:
    side = AppSide(world)
    for number in range(5):
        side.ask(f"/venue/{number}")
    getattr(side.wire, how)()
    assert world.reasons() == {(499, "client_disconnect"): 5}
    assert not world.core.registry.connections
    assert not world.core.registry.http2
    world.check_at_rest()
