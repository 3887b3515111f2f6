"""One connection from the app: its requests in order, when it is kept, and an end that lets the app read the answer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import pytest

from sidecar.policy.settings import Policy
from sidecar.proxy.downstream.http1_connection import (
    HEAD_TIMEOUT_S,
    LINGER_S,
    MAX_PIPELINED,
    NEWCOMER_S,
)
from sidecar.proxy.downstream.registry import MOST_BEGUN
from sidecar.proxy.http1.head_syntax import MAX_HEAD
from tests.proxy.fakes import Wire, World, field_of, ok, problem, request, status

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED_POST = b"POST /venue/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


# Heads.


def test_head_split_at_every_position(world: World) -> None:
    head = request("GET /venue/a", "X-A: 1")
    for at in range(1, len(head)):
        app = world.app().says(head[:at])
        assert app.heard == b""
        app.says(head[at:])
        assert world.upstream.take().startswith(b"GET /a HTTP/1.1\r\n")
        world.upstream.says(ok(b"%d" % at))
        assert app.heard.endswith(b"%d" % at)
    assert len(world.upstreams) == 1


def test_head_byte_by_byte(world: World) -> None:
    head = b"\r\n" + request("POST /venue/a", body=b"body")
    app = world.app().says(*[head[at : at + 1] for at in range(len(head))])
    assert world.upstream.heard.endswith(b"\r\n\r\nbody")
    world.upstream.says(ok())
    assert status(app.heard) == 200


@pytest.mark.parametrize("at", [1, 2])
def test_one_empty_line_before_a_request_is_skipped(world: World, at: int) -> None:
    head = b"\r\n" + request()
    world.app().says(head[:at], head[at:])
    assert world.upstream.heard.startswith(b"GET / ")


def test_empty_line_alone_begins_no_request(world: World) -> None:
    """Some apps send one after a body, and rest. A 408 would be taken for the answer to the next request."""
    app = world.asks("POST /venue/", body=b"body")
    app.says(b"\r\n")
    world.upstream.says(ok())
    app.take()
    world.pass_time(HEAD_TIMEOUT_S + 1)
    assert app.heard == b""
    app.protocol.close_at_rest()
    assert app.how == "close"


@pytest.mark.parametrize("beginning", [b"\r\n\r\n", b"\x16\x03\x01\x02", b"GET /\r\n", b"GET / HTTP/2.0\r\n", b" GET"])
def test_what_cannot_become_a_request_is_refused_at_once(world: World, beginning: bytes) -> None:
    app = world.app().says(beginning)
    assert problem(app.heard)["reason"] == "bad_request"
    assert status(app.heard) == 400
    assert field_of(app.heard, "connection") == ["close"]
    assert not world.upstreams


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("bytewise", [False, True])
def test_bound_on_the_head(world: World, more: int, bytewise: bool) -> None:
    shortest = request("GET /venue/", "X: ")
    head = shortest[:-4] + b"a" * (MAX_HEAD + more - len(shortest)) + b"\r\n\r\n"
    assert len(head) == MAX_HEAD + more
    app = world.app()
    if bytewise:
        app.says(head[:-6], *[head[at : at + 1] for at in range(len(head) - 6, len(head))])
    else:
        app.says(head)
    if more <= 0:
        assert len(world.upstreams) == 1
    else:
        assert status(app.heard) == 431
        assert not world.upstreams


def test_head_that_takes_too_long(world: World) -> None:
    app = world.app()
    world.pass_time(5)
    app.says(b"GET /venue/ HTTP/1.1\r\n")
    for _ in range(9):
        world.pass_time(HEAD_TIMEOUT_S / 10)
        app.says(b"X: y\r\n")  # further bytes do not push the clock on
    assert app.heard == b""
    world.pass_time(HEAD_TIMEOUT_S / 10 + 0.1)
    assert status(app.heard) == 408
    assert problem(app.heard)["reason"] == "bad_request"
    assert app.eof_sent


def test_each_head_has_its_own_clock(world: World) -> None:
    app = world.app().says(b"GET /venue/ HTTP/1.1\r\n")
    world.pass_time(HEAD_TIMEOUT_S - 1)
    app.says(b"Host: a\r\n\r\n")
    world.upstream.says(ok())
    app.take()
    app.says(b"GET /venue/ HTTP/1.1\r\n")
    world.pass_time(HEAD_TIMEOUT_S - 1)
    assert app.heard == b""
    world.pass_time(2)
    assert status(app.heard) == 408


def test_end_of_file_within_a_head(world: World) -> None:
    app = world.app().says(b"GET /venue/ HTTP/1.1\r\n")
    app.leaves()
    assert status(app.heard) == 400


def test_end_of_file_at_rest_is_no_error(world: World) -> None:
    app = world.app()
    app.leaves()
    assert (app.heard, app.open) == (b"", False)
    assert not world.core.registry.connections


def test_idle_connection_is_closed(world: World) -> None:
    app = world.app()
    world.pass_time(59.9)
    assert app.open
    world.pass_time(0.2)
    assert (app.heard, app.how) == (b"", "close")


def test_idle_time_begins_anew_with_each_answer(world: World) -> None:
    app = world.app()
    for _ in range(3):
        world.pass_time(50)
        app.says(request())
        world.upstream.says(ok())
    assert app.open
    world.pass_time(60.1)
    assert not app.open


# Requests in order.


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    app = world.app().says(b"".join(request(f"GET /venue/{number}") for number in range(5)))
    for number in range(5):
        (line,) = [line for line in world.upstream.take().split(b"\r\n") if line.startswith(b"GET")]
        assert line == b"GET /%d HTTP/1.1" % number  # one at a time
        world.upstream.says(ok(b"body %d" % number))
    assert [part[:6] for part in app.heard.split(b"\r\n\r\n")[1:]] == [b"body %d" % number for number in range(5)]


def test_pipelined_bodies_are_told_apart(world: World) -> None:
    app = world.app().says(
        request("POST /venue/1", body=b"GET /x HTTP/1.1\r\n\r\n")
        + CHUNKED_POST
        + b"3\r\nabc\r\n0\r\n\r\n"
        + request("GET /venue/3")
    )
    assert world.upstream.take().endswith(b"\r\n\r\nGET /x HTTP/1.1\r\n\r\n")
    world.upstream.says(ok(b"one"))
    assert world.upstream.take().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    world.upstream.says(ok(b"two"))
    assert world.upstream.take().startswith(b"GET /3 ")
    world.upstream.says(ok(b"three"))
    assert app.heard.count(b"HTTP/1.1 200 OK") == 3
    assert app.heard.endswith(b"three")


def test_many_pipelined_requests_that_reach_nobody(world: World) -> None:
    """Answered at once, one after the other, without growing the stack."""
    app = world.app().says(b"".join([request("GET /nobody/")] * 2000))
    assert app.heard.count(b"HTTP/1.1 404 ") == 2000
    assert app.open


def test_answers_of_our_own_keep_their_place(world: World) -> None:
    app = world.app().says(request("GET /venue/") + request("GET /nobody/") + request("GET /venue/"))
    assert app.heard == b""
    world.upstream.says(ok(b"first"))
    assert status(app.take()) == 200
    world.upstream.says(ok(b"third"))
    assert app.heard.endswith(b"third")
    assert world.live.unrouted.requests == {(404, "unknown_service"): 1}


def test_bad_request_behind_a_good_one(world: World) -> None:
    app = world.app().says(request() + b"nonsense\r\n\r\n" + request())
    world.upstream.says(ok())
    assert app.heard.startswith(b"HTTP/1.1 200 ")
    assert app.heard.count(b"HTTP/1.1 400 ") == 1
    assert world.upstream.heard.count(b"GET") == 1  # nothing behind it is served


@pytest.mark.parametrize(("size", "reading"), [(MAX_PIPELINED, True), (MAX_PIPELINED + 1, False)])
def test_bound_on_what_is_read_ahead(world: World, size: int, reading: bool) -> None:
    app = world.asks().says(b"x" * size)
    assert app.reading is reading
    world.upstream.says(ok())
    assert app.reading


# Keeping and closing.


@pytest.mark.parametrize(
    ("head", "connection", "kept"),
    [
        ("GET /venue/", [], True),
        ("GET /venue/ HTTP/1.0", ["close"], False),
    ],
)
def test_connection_is_kept_as_the_version_wants(world: World, head: str, connection: list[str], kept: bool) -> None:
    app = world.asks(head)
    world.upstream.says(ok())
    assert field_of(app.heard, "connection") == connection
    assert app.heard.startswith(b"HTTP/1.1 200 OK\r\n")
    assert app.open is kept


def test_http_1_0_may_ask_to_be_kept(world: World) -> None:
    app = world.asks("GET /venue/ HTTP/1.0", "Connection: keep-alive")
    world.upstream.says(ok())
    assert field_of(app.take(), "connection") == ["keep-alive"]
    app.says(request("GET /nobody/ HTTP/1.0", "Connection: keep-alive"))
    assert field_of(app.heard, "connection") == ["keep-alive"]
    assert app.open


def test_app_asks_to_close(world: World) -> None:
    app = world.asks("GET /venue/", "Connection: close")
    world.upstream.says(ok())
    assert field_of(app.heard, "connection") == ["close"]
    assert app.how == "close"


def test_nothing_behind_a_request_that_closes_is_served(world: World) -> None:
    app = world.app().says(request("GET /venue/", "Connection: close") + request("GET /venue/2"))
    world.upstream.says(ok())
    assert app.eof_sent
    assert world.upstream.heard.count(b"GET") == 1
    world.pass_time(LINGER_S + 0.1)
    assert not app.open


def test_upstream_that_closes_does_not_close_the_app(world: World) -> None:
    app = world.asks()
    world.upstream.says(ok(b"ok", "Connection: close"))
    assert field_of(app.heard, "connection") == []
    assert app.open
    assert not world.upstream.open


def test_answer_until_close_becomes_chunks(world: World) -> None:
    app = world.asks()
    world.upstream.says(b"HTTP/1.1 200 OK\r\n\r\nab", b"cde")
    world.upstream.leaves()
    assert field_of(app.heard, "transfer-encoding") == ["chunked"]
    assert app.heard.endswith(b"\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n")
    assert app.open


@pytest.mark.parametrize(
    ("answer", "rest", "leaves"),
    [(CHUNKS, b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", False), (b"HTTP/1.1 200 OK\r\n\r\n", b"abcde", True)],
)
def test_http_1_0_gets_no_chunks(world: World, answer: bytes, rest: bytes, leaves: bool) -> None:
    app = world.asks("GET /venue/ HTTP/1.0", "Connection: keep-alive")
    world.upstream.says(answer, rest)
    if leaves:
        world.upstream.leaves()
    assert field_of(app.heard, "transfer-encoding") == []
    assert field_of(app.heard, "connection") == ["close"]
    assert app.heard.endswith(b"\r\n\r\nabcde")
    assert app.how == "close"


def test_http_1_0_gets_no_interim_answers(world: World) -> None:
    app = world.asks("GET /venue/ HTTP/1.0")
    world.upstream.says(b"HTTP/1.1 103 Early Hints\r\n\r\n", ok())
    assert app.heard.startswith(b"HTTP/1.1 200")


def test_interim_answers_are_relayed(world: World) -> None:
    app = world.asks("POST /venue/", "Expect: 100-continue", "Content-Length: 4")
    world.upstream.says(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert app.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    app.says(b"body")
    assert world.upstream.heard.endswith(b"body")
    world.upstream.says(ok())
    assert status(app.heard) == 200
    assert app.open


@pytest.mark.parametrize(("version", "how"), [("HTTP/1.1", "close"), ("HTTP/1.0", "abort")])
def test_answer_that_breaks_off_never_ends_cleanly(world: World, version: str, how: str) -> None:
    app = world.asks(f"GET /venue/ {version}")
    raw = app.get_extra_info("socket")
    world.upstream.says(CHUNKS + b"5\r\nhello\r\n")
    world.upstream.breaks()
    assert b"0\r\n\r\n" not in app.heard
    assert app.how == how
    if how == "abort":  # where the connection's end is the body's end, only a reset tells
        assert isinstance(raw, socket.socket)
        assert struct.unpack("ii", raw.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)


def test_answer_by_length_that_breaks_off(world: World) -> None:
    app = world.asks()
    world.upstream.says(ok(b"hello")[:-1])
    world.upstream.leaves()
    assert app.heard.endswith(b"\r\n\r\nhell")
    assert app.how == "close"
    assert world.reasons() == {(200, "truncated"): 1}


def test_own_answer_to_head_has_no_body(world: World) -> None:
    app = world.asks("HEAD /nobody/")
    assert app.heard.endswith(b"\r\n\r\n")
    assert int(field_of(app.heard, "content-length")[0]) > 0
    assert app.open


@pytest.mark.parametrize(
    "head",
    [
        b"HEAD /venue/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"HEAD https://venue/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_refused_head_request_gets_no_body_either(world: World, head: bytes) -> None:
    """RFC 9110, section 9.3.2."""
    app = world.app().says(head)
    assert status(app.heard) == 400
    assert app.heard.endswith(b"\r\n\r\n")


# Backpressure.


def test_slow_app_slows_the_upstream(world: World) -> None:
    app = world.asks()
    app.stall()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a" * 400_000)
    assert not world.upstream.reading
    app.flow()
    assert world.upstream.reading
    world.upstream.says(b"a" * 600_000)
    assert app.heard.endswith(b"a" * 1_000_000)
    assert world.reasons() == {(200, "ok"): 1}


def test_slow_upstream_slows_the_app(world: World) -> None:
    app = world.asks("POST /venue/", "Content-Length: 1000000")
    upstream = world.upstream
    upstream.stall()
    app.says(b"a" * 400_000)
    assert not app.reading
    upstream.flow()
    assert app.reading
    app.says(b"a" * 600_000)
    assert upstream.heard.endswith(b"a" * 1_000_000)


# Ends.


@pytest.mark.parametrize("end", [Wire.leaves, Wire.breaks])
def test_app_that_goes_away_takes_its_request_with_it(world: World, end: Callable[[Wire], None]) -> None:
    app = world.asks()
    end(app)
    assert not world.upstream.open
    assert world.reasons() == {(499, "client_disconnect"): 1}
    assert not world.core.registry.connections


def test_app_that_goes_away_takes_its_pipeline_with_it(world: World) -> None:
    app = world.asks().says(request("GET /venue/2"))
    app.leaves()
    assert len(world.upstreams) == 1
    assert world.reasons() == {(499, "client_disconnect"): 1}


def test_half_close_where_it_is_allowed(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(half_close=True))
    app = world.app().says(request("GET /venue/1") + request("GET /venue/2"))
    app.leaves()
    world.upstream.says(ok(b"one"))
    world.upstream.says(ok(b"two"))
    assert app.heard.endswith(b"two")
    assert app.how == "close"


def test_half_close_within_a_body_is_a_disconnect_all_the_same(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(half_close=True))
    app = world.asks("POST /venue/", "Content-Length: 10").says(b"01234")
    app.leaves()
    assert world.reasons() == {(499, "client_disconnect"): 1}
    assert not world.upstream.open


def test_draining_closes_after_the_present_answer(world: World) -> None:
    app = world.asks().says(request("GET /venue/2"))
    world.core.registry.draining = True
    world.upstream.says(ok())
    assert field_of(app.heard, "connection") == ["close"]
    assert app.eof_sent


def test_close_at_rest_goes_only_where_nothing_is_under_way(world: World) -> None:
    resting, busy, begun, unheard, newcomer = (world.app() for _ in range(5))
    busy.says(request())
    begun.says(b"GET /venue/")
    world.pass_time(NEWCOMER_S / 2)
    unheard.peer.send(request())  # in the kernel, not read yet
    newcomer = world.app()
    world.pass_time(NEWCOMER_S * 0.6)
    for wire in (resting, busy, begun, unheard, newcomer):
        wire.protocol.close_at_rest()
    world.settle()
    assert [wire.open for wire in (resting, busy, begun, unheard, newcomer)] == [False, True, True, True, True]
    assert repr(busy.protocol).startswith("<DownstreamConnection exchange ")


# Many requests at once.


def arrives(app: Wire, data: bytes | None) -> None:
    """What comes in the same turn of the loop as what came before it; None is the end of what the app sends."""
    app._incoming.append(data)
    app._deliver()


def test_few_of_the_requests_that_arrive_together_are_begun_in_one_turn(world: World) -> None:
    apps = [world.app() for _ in range(3 * MOST_BEGUN)]
    for app in apps:
        arrives(app, request())
    assert world.service.limit.in_flight == MOST_BEGUN
    assert len(world.core.registry.waiting) == 2 * MOST_BEGUN
    world.core.registry._next_turn()
    assert world.service.limit.in_flight == 2 * MOST_BEGUN
    assert list(world.core.registry.waiting) == [app.protocol for app in apps[2 * MOST_BEGUN :]], (
        "first come, first served"
    )
    world.settle()
    assert not world.core.registry.waiting
    assert world.service.limit.in_flight == 3 * MOST_BEGUN


def test_who_comes_later_does_not_overtake_those_that_wait(world: World) -> None:
    apps = [world.app() for _ in range(MOST_BEGUN + 2)]
    for app in apps[:-1]:
        arrives(app, request())
    late = apps[-1]
    world.core.registry._next_turn()
    arrives(late, request())
    assert late.protocol not in world.core.registry.waiting, "there was room in this turn"
    assert world.service.limit.in_flight == MOST_BEGUN + 2


@pytest.mark.parametrize("end", [None, "reset"])
def test_work_for_an_app_that_left_before_its_turn_is_not_begun(world: World, end: str | None) -> None:
    apps = [world.app() for _ in range(MOST_BEGUN + 1)]
    for app in apps:
        arrives(app, request())
    if end is None:
        arrives(apps[-1], None)
    else:
        apps[-1].breaks()
    world.settle()
    assert world.service.limit.in_flight == MOST_BEGUN
    assert not apps[-1].open
    assert world.live.unrouted.requests == {(499, "client_disconnect"): 1}
    assert len(world.core.registry.connections) == MOST_BEGUN


def test_an_app_that_may_half_close_is_served_when_it_left_before_its_turn(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(half_close=True))
    apps = [world.app() for _ in range(MOST_BEGUN + 1)]
    for app in apps:
        arrives(app, request())
    arrives(apps[-1], None)
    world.settle()
    assert world.service.limit.in_flight == MOST_BEGUN + 1


def test_a_pipeline_that_reaches_nobody_leaves_turns_to_the_others(world: World) -> None:
    app = world.app()
    arrives(app, request("GET /nobody/") * (2 * MOST_BEGUN + 1))
    assert app.heard.count(b"HTTP/1.1 404") == MOST_BEGUN
    world.settle()
    assert app.heard.count(b"HTTP/1.1 404") == 2 * MOST_BEGUN + 1


# CONNECT.

CONNECT = b"CONNECT venue:3002 HTTP/1.1\r\nHost: venue:3002\r\n\r\n"
CONNECTED = b"HTTP/1.1 200 Connection Established\r\n\r\n"


@pytest.mark.parametrize("head", [CONNECT, CONNECT.replace(b"1.1", b"1.0")])
def test_after_a_connect_comes_a_new_connection(world: World, head: bytes) -> None:
    app = world.app().says(head)
    assert app.take() == CONNECTED
    app.says(request("GET /a"))
    assert world.upstream.take().startswith(b"GET /a HTTP/1.1\r\n")
    world.upstream.says(ok(b"1"))
    assert app.take().endswith(b"1")
    app.says(request("GET /venue/b"))
    assert world.upstream.heard.startswith(b"GET /venue/b HTTP/1.1\r\n")
    world.upstream.says(ok(b"2"))
    assert app.take().endswith(b"2")


def test_what_stands_behind_a_connect_is_the_new_connection_s(world: World) -> None:
    app = world.app().says(CONNECT + request("GET /a"))
    assert app.take() == CONNECTED
    assert world.upstream.take().startswith(b"GET /a HTTP/1.1\r\n")
    world.upstream.says(ok(b"1"))
    assert app.take().endswith(b"1")


def test_a_connect_after_a_request(world: World) -> None:
    app = world.asks("GET /venue/")
    world.upstream.says(ok())
    app.take()
    app.says(CONNECT)
    assert app.take() == CONNECTED


def test_a_connect_inside_another_is_refused(world: World) -> None:
    app = world.app().says(CONNECT)
    app.take()
    app.says(CONNECT)
    assert status(app.heard) == 405
    assert "no CONNECT inside another" in problem(app.heard)["detail"]
    assert app.eof_sent
    world.pass_time(LINGER_S + 0.1)


def test_a_connect_to_nothing_known_is_refused(world: World) -> None:
    app = world.app().says(CONNECT.replace(b"venue:3002", b"example.org:443"))
    assert (status(app.heard), app.eof_sent) == (405, True)
    assert "no_grpc_proxy" in problem(app.heard)["detail"]
    assert world.live.unrouted.requests == {(405, "bad_request"): 1}
    world.pass_time(LINGER_S + 0.1)


def test_a_connection_to_a_service_that_rests_is_closed(world: World) -> None:
    app = world.app().says(CONNECT)
    world.pass_time(world.policy.timeout.client_idle - 1)
    assert app.open
    world.pass_time(2)
    assert not app.open


def test_a_head_behind_a_connect_has_its_own_clock(world: World) -> None:
    app = world.app().says(CONNECT[:10])
    world.pass_time(HEAD_TIMEOUT_S - 1)
    app.says(CONNECT[10:])
    app.take()
    world.pass_time(HEAD_TIMEOUT_S)
    assert app.open
    app.says(b"GET /")
    world.pass_time(HEAD_TIMEOUT_S + 0.1)
    assert status(app.heard) == 408
    world.pass_time(LINGER_S + 0.1)
