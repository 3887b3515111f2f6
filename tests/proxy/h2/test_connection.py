"""A connection as a dialogue: what one end does, and what the other hears."""

from __future__ import annotations

import gc

import pytest

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.limits import MAX_STREAMS
from tests.proxy.h2.wire import (
    GET,
    OK,
    POST,
    TRAILERS,
    Connection,
    Loop,
    Peer,
    Transport,
    User,
    exchange,
    pair,
)


def answer(user: User, body: bytes = b"hello") -> None:
    assert user.stream is not None
    user.stream.send_head(OK, False)
    user.stream.send_data([body], False)
    user.stream.send_trailers(TRAILERS)


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
def test_a_unary_call(chunk: int) -> None:
    client, server = pair()
    call = client.call(POST, end=False)
    assert call.stream is not None
    call.stream.send_data([b"\0\0\0\0\5", b"Hello"], True)
    exchange(client, server, chunk)
    (request,) = server.users
    assert request.heard[0] == ("head", POST, False)
    assert (request.body, request.ended) == (b"\0\0\0\0\5Hello", True)
    answer(request)
    exchange(client, server, chunk)
    assert call.heard[0] == ("head", OK, False)
    assert call.body == b"hello"
    assert call.heard[-1] == ("trailers", TRAILERS)
    assert call.stream.closed
    assert client.streams == server.streams == {}


def test_what_a_turn_sends_is_one_write() -> None:
    client, server = pair()
    for _ in range(10):
        client.call()
    client.turns.turn()
    assert len(client.wire.out) == 1
    exchange(client, server)
    for one in server.users:
        answer(one)
    client.turns.turn()
    assert len(server.wire.out) == 1


def test_a_large_body_passes_as_the_windows_allow() -> None:
    client, server = pair()
    body = bytes(range(256)) * 12288
    call = client.call(POST, end=False)
    assert call.stream is not None
    call.stream.send_data([body], True)
    exchange(client, server)
    (request,) = server.users
    assert request.body == body
    answer(request, body)
    exchange(client, server)
    assert call.body == body
    assert call.heard[-1] == ("trailers", TRAILERS)


def test_a_stalled_stream_stops_no_other() -> None:
    client, server = pair()
    calls = [client.call() for _ in range(2)]
    exchange(client, server)
    calls[0].keeps = True
    for one in server.users:
        answer(one, bytes(600_000))
    exchange(client, server)
    assert len(calls[0].body) == 256 * 1024
    assert calls[1].ended
    stalled = server.users[0].stream
    assert stalled is not None
    assert stalled.unsent == 600_000 - 256 * 1024
    calls[0].keeps = False
    assert calls[0].stream is not None
    calls[0].stream.consumed(len(calls[0].body))
    exchange(client, server)
    assert calls[0].ended


def test_a_sender_is_told_to_wait_and_to_go_on() -> None:
    client, server = pair()
    call = client.call()
    exchange(client, server)
    call.keeps = True
    (request,) = server.users
    assert request.stream is not None
    request.stream.send_head(OK, False)
    assert request.stream.writable
    request.stream.send_data([bytes(600_000)], False)
    assert not request.stream.writable
    exchange(client, server)
    assert not request.stream.writable
    assert "writable" not in request.heard
    assert call.stream is not None
    call.keeps = False
    call.stream.consumed(len(call.body))
    exchange(client, server)
    assert request.heard[-1] == "writable"
    assert request.stream.writable


def test_a_reset_passes_on() -> None:
    client, server = pair()
    call = client.call(POST, end=False)
    exchange(client, server)
    assert call.stream is not None
    call.stream.reset(frames.CANCEL)
    exchange(client, server)
    assert server.users[0].heard[-1] == ("lost", frames.CANCEL, False)
    assert client.streams == server.streams == {}
    assert len(call.heard) == 0


def test_a_refused_stream_was_not_processed() -> None:
    client, server = pair()
    server.refuses = True
    call = client.call()
    exchange(client, server)
    assert call.heard == [("lost", frames.REFUSED_STREAM, True)]


def test_a_drain_lets_streams_end_and_takes_those_under_way() -> None:
    client, server = pair()
    first = client.call()
    exchange(client, server)
    server.drain()
    late = client.call()
    exchange(client, server)
    assert ("going away", frames.MAX_ID, frames.NO_ERROR) in client.events
    assert client.room == 0
    assert client.open(User()) is None
    server.drain_finally()
    exchange(client, server)
    assert server.is_open
    for one in server.users:
        answer(one)
    exchange(client, server)
    assert first.ended
    assert late.ended
    assert not server.is_open
    assert not client.is_open


def test_goaway_says_which_streams_were_not_processed() -> None:
    peer = Peer(client=True)
    calls = [peer.tested.call() for _ in range(3)]
    held = User()
    held.stream = peer.tested.open(held)
    peer.send(frames.goaway(3, frames.NO_ERROR, ""))
    assert [one.heard for one in calls] == [[], [], [("lost", frames.REFUSED_STREAM, True)]]
    assert held.heard == [("lost", frames.REFUSED_STREAM, True)]
    for one in (1, 3):
        peer.send(peer.head(one, OK, 0x5))
    assert not peer.tested.is_open
    assert peer.tested.events[-1][0] == "ended"


def test_the_end_of_the_connection_is_heard_by_all_and_once() -> None:
    client, server = pair()
    calls = [client.call() for _ in range(3)]
    exchange(client, server)
    client.connection_lost(ConnectionResetError("reset"))
    server.connection_lost(None)
    assert [one.heard for one in calls] == [[("lost", -1, False)]] * 3
    assert [one.heard[-1] for one in server.users] == [("lost", -1, False)] * 3
    assert [one for one in client.events if one[0] == "ended"] == [("ended", "the connection broke: reset")]
    assert client.open(User()) is None


def test_room_is_what_the_peer_allows() -> None:
    peer = Peer(client=True, settings=b"\0\3\0\0\0\2")
    assert peer.tested.room == 2
    calls = [peer.tested.call() for _ in range(2)]
    assert peer.tested.open(User()) is None
    peer.tested.events.clear()
    peer.send(peer.head(1, OK, 0x5))
    assert calls[0].ended
    assert peer.tested.events == ["room"]
    assert peer.tested.room == 1


def test_a_peer_that_names_no_limit_of_streams_has_none() -> None:
    assert Peer(client=True).tested.room > 10_000


def test_ids_follow_the_order_of_the_heads() -> None:
    peer = Peer(client=True)
    first, second = User(), User()
    first.stream, second.stream = peer.tested.open(first), peer.tested.open(second)
    assert first.stream is not None
    assert second.stream is not None
    second.stream.send_head(GET, True)
    first.stream.send_head(POST, True)
    assert (second.stream.id, first.stream.id) == (1, 3)
    assert [one[2] for one in peer.received()] == [1, 3]
    assert set(peer.tested.streams) == {1, 3}


def test_streams_above_the_limit_are_refused() -> None:
    peer = Peer()
    peer.send(*[peer.head(2 * at + 1) for at in range(MAX_STREAMS + 3)])
    assert peer.reset_codes() == [(2 * (MAX_STREAMS + at) + 1, frames.REFUSED_STREAM) for at in range(3)]
    assert len(peer.tested.users) == MAX_STREAMS


@pytest.mark.parametrize("where", ["head_received", "data_received", "stream_opened"])
def test_a_mistake_in_one_stream_ends_that_stream(
    where: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a mistake")

    client, server = pair()
    other = client.call()
    exchange(client, server)
    with monkeypatch.context() as patch:
        patch.setattr(Connection if where == "stream_opened" else User, where, fails)
        call = client.call(POST, end=False)
        assert call.stream is not None
        call.stream.send_data([b"x"], True)
        client.turns.turn()
        server.data_received(client.wire.taken())
    answer(server.users[0])
    exchange(client, server)
    assert call.heard == [("lost", frames.INTERNAL_ERROR, False)]
    assert other.ended
    assert "a mistake" in caplog.text


def test_a_call_leaves_no_cycle_behind() -> None:
    client, server = pair()
    gc.collect()
    gc.disable()
    try:
        for _ in range(50):
            call = client.call(POST, end=False)
            assert call.stream is not None
            call.stream.send_data([b"x"], True)
            exchange(client, server)
            answer(server.users.pop())
            exchange(client, server)
            assert call.ended
        del call
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_an_idle_client_that_drains_closes_at_once_and_a_busy_one_at_its_last_stream() -> None:
    idle, _ = pair()
    idle.drain()
    idle.turns.turn()
    assert not idle.is_open
    client, server = pair()
    call = client.call()
    exchange(client, server)
    client.drain()
    assert client.open(User()) is None
    exchange(client, server)
    assert client.is_open
    answer(server.users[0])
    exchange(client, server)
    assert call.ended
    assert not client.is_open


def test_a_transport_that_another_has_read_from_is_taken_over() -> None:
    loop = Loop()
    server = Connection(client=False, loop=loop)
    wire = Transport()
    peer = Peer(client=True)
    server.take_over(wire, frames.PREFACE + frames.settings([]) + peer.head(1))  # type: ignore[arg-type]
    loop.turn()
    assert wire.protocol is server
    assert server.users[0].heard == [("head", GET, True)]
    assert wire.out


def test_a_connection_over_tls_cannot_be_closed_by_half() -> None:
    peer = Peer(half_close=False)
    peer.tested.close(frames.NO_ERROR, "done")
    assert peer.tested.wire.closing
    assert peer.loop.timers == []


def test_the_end_of_the_socket_ends_the_wait_for_it() -> None:
    peer = Peer()
    peer.tested.close()
    (timer,) = peer.loop.timers
    assert not peer.tested.eof_received()
    peer.tested.connection_lost(None)
    assert timer.cancelled
    assert [one[0] for one in peer.tested.events if one[0] == "ended"] == ["ended"]
    peer.tested.ping()
    peer.tested.close()
    assert peer.received()[-1][0] == frames.GOAWAY


def test_a_mistake_of_our_own_ends_the_connection_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Peer()
    peer.send(peer.head(1))
    monkeypatch.setattr(Connection, "going_away", None)
    peer.send(frames.goaway(0, 0, ""))
    assert peer.goaway_code() == frames.INTERNAL_ERROR
    assert peer.tested.users[0].heard[-1] == ("lost", -1, False)
    assert "could not be worked on" in caplog.text


def test_a_user_that_takes_its_end_badly_stops_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise ValueError("a mistake")

    peer = Peer()
    peer.send(peer.head(1), peer.head(3))
    monkeypatch.setattr(peer.tested.users[0], "stream_lost", fails)
    peer.tested.connection_lost(None)
    assert peer.tested.users[1].heard[-1] == ("lost", -1, False)
    assert "a mistake" in caplog.text


def test_ids_run_out() -> None:
    peer = Peer(client=True)
    peer.tested.writer.next_id = frames.MAX_ID
    last = peer.tested.call()
    assert last.stream is not None
    assert last.stream.id == frames.MAX_ID
    assert peer.tested.open(User()) is None
    peer.send(peer.head(frames.MAX_ID, OK))
    assert last.ended


def test_a_stream_for_which_no_id_is_left_was_not_processed() -> None:
    peer = Peer(client=True)
    user = User()
    user.stream = peer.tested.open(user)
    assert user.stream is not None
    peer.tested.writer.next_id = frames.MAX_ID + 2
    user.stream.send_head(GET, True)
    assert user.heard == [("lost", frames.REFUSED_STREAM, True)]
    assert peer.tested.streams == {}
