from __future__ import annotations

from sidecar.proxy.h2 import frames
from tests.proxy.h2.wire import GET, OK, Peer, User, exchange, pair


def test_a_closed_stream_does_nothing() -> None:
    client, server = pair()
    call = client.call()
    exchange(client, server)
    stream = call.stream
    assert stream is not None
    stream.reset(frames.CANCEL)
    exchange(client, server)
    stream.send_head(GET, False)
    stream.send_data([b"x"], True)
    stream.send_trailers([])
    stream.consumed(1 << 20)
    stream.reset(frames.CANCEL)
    client.turns.turn()
    assert client.wire.out == []
    assert (stream.closed, stream.user, stream.unsent) == (True, None, 0)


def test_nothing_follows_the_end() -> None:
    peer = Peer(client=True)
    call = peer.tested.call(GET, end=True)
    assert call.stream is not None
    peer.received()
    call.stream.send_data([b"x"], True)
    call.stream.send_trailers([])
    assert peer.received() == []


def test_a_stream_that_sent_nothing_is_reset_in_silence() -> None:
    """RST_STREAM on an idle stream is a connection error (RFC 9113, section 5.1)."""
    peer = Peer(client=True)
    user = User()
    user.stream = peer.tested.open(user)
    assert user.stream is not None
    user.stream.reset(frames.CANCEL)
    assert peer.received() == []
    assert peer.tested.streams == {}
    assert peer.tested.call().stream.id == 1  # type: ignore[union-attr]


def test_the_end_waits_for_what_is_queued() -> None:
    peer = Peer()
    peer.send(peer.head(1))
    (user,) = peer.tested.users
    assert user.stream is not None
    user.stream.send_head(OK, False)
    user.stream.send_data([bytes(70_000)], False)
    user.stream.send_data([], True)
    assert user.stream.unsent == 70_000 - 65_535
    peer.received()
    peer.send(frames.window_update(1, 100_000), frames.window_update(0, 4464))
    assert user.stream.unsent == 1
    peer.received()
    peer.send(frames.window_update(0, 1))
    assert peer.received() == [(frames.DATA, frames.END_STREAM, 1, b"\0")]
    assert peer.tested.streams == {}


def test_the_window_may_be_below_zero() -> None:
    """RFC 9113, section 6.9.2."""
    peer = Peer()
    peer.send(peer.head(1))
    (user,) = peer.tested.users
    assert user.stream is not None
    user.stream.send_head(OK, False)
    user.stream.send_data([bytes(60_000)], False)
    peer.received()
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 10)]))
    user.stream.send_data([b"abc"], True)
    assert [one[0] for one in peer.received()] == [frames.SETTINGS]
    peer.send(frames.window_update(1, 59_990))
    assert peer.received() == []
    peer.send(frames.window_update(1, 1))
    assert [one[3] for one in peer.received()] == [b"a"]
    peer.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, 12)]))
    assert [one for one in peer.received() if one[0] == frames.DATA] == [(frames.DATA, frames.END_STREAM, 1, b"bc")]
    assert user.stream.closed


def test_a_window_update_is_returned_in_halves() -> None:
    peer = Peer()
    peer.send(peer.head(1, flags=0x4))
    (user,) = peer.tested.users
    user.keeps = True
    assert user.stream is not None
    user.stream.consumed(131_071)
    assert peer.received() == []
    user.stream.consumed(1)
    assert peer.received() == [(frames.WINDOW_UPDATE, 0, 1, (131_072).to_bytes(4, "big"))]
