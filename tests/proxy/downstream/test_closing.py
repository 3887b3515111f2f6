"""A connection's end: the app can read the last answer, and it takes no longer than it may."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sidecar.policy.settings import Limits, Policy, Timeouts
from sidecar.proxy.downstream.closing import (
    DRAIN_MAX,
    DRAIN_S,
    LINGER_MAX,
    LINGER_S,
    Closing,
    hung_up,
    nothing_unread,
    reset,
    send_before_close,
    worth_draining,
)
from sidecar.proxy.http1.head_syntax import CHUNKED
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import parse_request
from tests.proxy.fakes import World, field_of, ok, request, status

CHUNKED_POST = b"POST /venue/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


# As an app sees it.


def test_refused_app_can_read_the_answer(world: World) -> None:
    """The sending side is closed, what still comes is thrown away, then it is over."""
    app = world.app().says(b"nonsense\r\n\r\n")
    assert app.eof_sent
    assert app.open
    app.says(b"x" * 1000)
    assert app.heard.count(b"HTTP/1.1") == 1
    world.pass_time(LINGER_S - 0.1)
    assert app.open
    world.pass_time(0.2)
    assert app.how == "abort"


def test_refused_app_that_leaves_is_let_go(world: World) -> None:
    app = world.app().says(b"nonsense\r\n\r\n")
    app.leaves()
    assert app.how == "close"


@pytest.mark.parametrize(("size", "read_on"), [(LINGER_MAX, True), (LINGER_MAX + 1, False)])
def test_bound_on_what_is_thrown_away(world: World, size: int, read_on: bool) -> None:
    app = world.app().says(b"nonsense\r\n\r\n", b"x" * size)
    assert app.open
    assert app.reading is read_on
    world.pass_time(LINGER_S + 0.1)
    assert app.how == "abort"


@pytest.mark.parametrize(("left", "kept"), [(DRAIN_MAX - 1, True), (DRAIN_MAX, True), (DRAIN_MAX + 1, False)])
def test_small_rest_of_a_body_is_drained_and_the_connection_kept(world: World, left: int, kept: bool) -> None:
    app = world.asks("POST /venue/", f"Content-Length: {left + 1}").says(b"x")
    world.upstream.says(ok(b"early"))
    assert app.heard.endswith(b"early")
    assert field_of(app.take(), "connection") == ([] if kept else ["close"])
    assert not world.upstream.open  # it answered early, and is not used again
    assert app.eof_sent is not kept
    if kept:
        app.says(b"x" * (left - 1), b"x" + request("GET /venue/next"))
        assert world.upstream.heard.startswith(b"GET /next ")


def test_rest_of_a_chunked_body_is_not_waited_for(world: World) -> None:
    app = world.app().says(CHUNKED_POST + b"3\r\nabc\r\n")
    world.upstream.says(ok(b"early"))
    assert field_of(app.heard, "connection") == ["close"]
    assert app.eof_sent


def test_rest_of_a_body_that_never_comes(world: World) -> None:
    app = world.asks("POST /venue/", "Content-Length: 10")
    world.upstream.says(ok(b"early"))
    world.pass_time(DRAIN_S - 0.1)
    assert app.open
    world.pass_time(0.2)
    assert app.how == "abort"


def test_body_of_a_request_that_reaches_nobody_is_drained(world: World) -> None:
    app = world.asks("POST /nobody/", "Content-Length: 10").says(b"01234")
    assert status(app.take()) == 404
    app.says(b"56789" + request())
    world.upstream.says(ok())
    assert status(app.heard) == 200


def test_body_that_was_expected_and_refused_is_not_waited_for(world: World) -> None:
    """Nobody knows whether the app sends it now."""
    app = world.asks("POST /venue/", "Expect: 100-continue", "Content-Length: 10")
    world.upstream.says(ok(b"", status="417 Expectation Failed"))
    assert field_of(app.heard, "connection") == ["close"]
    assert app.eof_sent


def test_app_that_never_reads_its_last_answer_is_let_go(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(timeout=Timeouts(client_idle=10.0), limits=Limits()))
    app = world.asks("GET /venue/", "Connection: close")
    app.stall()
    world.upstream.says(ok(b"a" * 5000))
    assert app.how == "close"
    assert not app.lost
    world.pass_time(10.1)
    assert app.lost


# By itself.


class Transport:
    """With a real socket, or none, and as much unsent as a test says."""

    def __init__(self, raw: socket.socket | None = None, unsent: int = 0) -> None:
        self.raw = raw
        self.unsent = unsent
        self.aborted = False
        self.closing = False

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str) -> socket.socket | None:
        assert name == "socket"
        return self.raw

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True
        if self.raw is not None:
            self.raw.close()


def test_an_app_that_takes_its_answer_is_waited_for_and_one_that_does_not_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sidecar.proxy.downstream.closing.monotonic", lambda: 100.0)
    transport: Any = Transport(unsent=1000)
    closing = Closing(transport, 10.0)
    assert closing.goes_on(109.0)
    transport.unsent = 900
    assert closing.goes_on(110.0)  # it took some
    assert closing.goes_on(119.0)
    assert not closing.goes_on(120.0)
    transport.unsent = 0
    assert closing.goes_on(120.0)  # all is out: a last time to linger
    assert not closing.goes_on(121.0)


def test_what_is_thrown_away_adds_up() -> None:
    transport: Any = Transport()
    closing = Closing(transport, 10.0)
    assert closing.discard(LINGER_MAX - 1)
    assert closing.discard(1)
    assert not closing.discard(1)


@pytest.mark.parametrize(
    ("expect", "length", "received", "worth"),
    [
        (False, DRAIN_MAX, 0, True),
        (False, DRAIN_MAX + 1, 0, False),
        (False, DRAIN_MAX + 1, 1, True),
        (False, CHUNKED, 0, False),
        (True, 10, 0, False),
        (True, 10, 1, True),
    ],
)
def test_what_is_worth_reading_on(expect: bool, length: int, received: int, worth: bool) -> None:
    head = parse_request(request("POST /", *["Expect: 100-continue"] * expect))
    body = RequestBody(length, 0)
    if received:
        body.take(b"a" * received)
    assert worth_draining(head, body) is worth


@pytest.fixture
def pair() -> Iterator[tuple[Any, socket.socket]]:
    """A transport on TCP, and its other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        other = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    with ours, other:
        yield Transport(ours), other


def test_what_the_kernel_holds_is_unread(pair: tuple[Any, socket.socket]) -> None:
    transport, other = pair
    assert nothing_unread(transport)
    other.send(b"a")
    assert not nothing_unread(transport)


def test_who_has_ended_its_sending_has_gone_but_where_that_is_allowed(pair: tuple[Any, socket.socket]) -> None:
    transport, other = pair
    other.send(b"a")
    assert not hung_up(transport, half_close=False)
    other.shutdown(socket.SHUT_WR)
    assert hung_up(transport, half_close=False)
    assert not hung_up(transport, half_close=True)


def test_a_reset_is_no_end_in_order(pair: tuple[Any, socket.socket]) -> None:
    transport, other = pair
    reset(transport)
    assert transport.aborted
    with pytest.raises(ConnectionResetError):
        other.recv(1)


def test_the_last_bytes_arrive_before_the_end(pair: tuple[Any, socket.socket]) -> None:
    transport, other = pair
    assert send_before_close(transport, b"last") == b""
    assert transport.raw.fileno() >= 0, "the descriptor was only borrowed"
    transport.raw.close()
    assert other.makefile("rb").read() == b"last"


def test_what_the_kernel_does_not_take_is_left_to_the_transport(pair: tuple[Any, socket.socket]) -> None:
    transport, other = pair
    transport.raw.setblocking(False)
    data = bytes(range(256)) * (1 << 16)
    before, rest = data, send_before_close(transport, data)
    while rest != before:  # until it takes nothing, which is no failure
        before, rest = rest, send_before_close(transport, rest)
    assert 0 < len(rest) < len(data)
    assert data.endswith(rest)
    taken = len(data) - len(rest)
    assert other.recv(taken, socket.MSG_WAITALL) == data[:taken]


@pytest.mark.parametrize(("unsent", "closing"), [(1, False), (0, True)])
def test_nothing_overtakes_what_waits_nor_follows_the_end(
    pair: tuple[Any, socket.socket], unsent: int, closing: bool
) -> None:
    transport, other = pair
    transport.unsent, transport.closing = unsent, closing
    assert send_before_close(transport, b"last") == b"last"
    transport.raw.close()
    assert other.recv(10) == b""


def test_a_connection_that_is_gone_takes_nothing(pair: tuple[Any, socket.socket]) -> None:
    transport, other = pair
    other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    other.close()
    assert send_before_close(transport, b"last") == b"last"


def test_without_a_socket_nothing_is_known() -> None:
    for transport in (Transport(), Transport(socket.socket())):
        if transport.raw is not None:
            transport.raw.close()
        of_any: Any = transport
        assert nothing_unread(of_any)
        assert not hung_up(of_any, half_close=False)
        assert send_before_close(of_any, b"last") == b"last"
        reset(of_any)
        assert transport.aborted
