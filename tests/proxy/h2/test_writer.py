from __future__ import annotations

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.hpack import Decoder
from sidecar.proxy.h2.limits import BURST
from tests.proxy.h2.wire import GET, Peer


def test_a_large_header_list_is_one_block() -> None:
    peer = Peer(client=True)
    fields = [*GET, *[(b"x-%d" % at, b"v" * 1000) for at in range(60)]]
    call = peer.tested.call(fields, end=True)
    found = peer.received()
    assert [one[0] for one in found] == [frames.HEADERS] + [frames.CONTINUATION] * 3
    assert [one[1] for one in found] == [frames.END_STREAM, 0, 0, frames.END_HEADERS]
    assert max(len(one[3]) for one in found) == frames.MAX_FRAME
    assert Decoder(1 << 20).decode(b"".join(one[3] for one in found)) == fields
    assert call.heard == []


def test_data_is_cut_into_frames_and_pieces_share_one() -> None:
    peer = Peer(client=True, settings=b"\0\4\0\1\0\0")
    call = peer.tested.call(end=False)
    assert call.stream is not None
    peer.received()
    call.stream.send_data([b"ab", b"cd", b""], False)
    call.stream.send_data([b"x" * 20_000, b"y" * 10], True)
    assert [(one[1], len(one[3])) for one in peer.received()] == [(0, 4), (0, 16384), (0, 3616), (1, 10)]


def test_streams_that_wait_share_the_window() -> None:
    peer = Peer(settings=b"\0\4\0\x40\0\0")
    peer.send(*[peer.head(at) for at in (1, 3, 5)])
    for one in peer.tested.users:
        assert one.stream is not None
        one.stream.send_head([(b":status", b"200")], False)
        one.stream.send_data([bytes(300_000)], True)
    peer.received()
    peer.send(frames.window_update(0, 3 * 64 * 1024))
    sent: dict[int, int] = {}
    for kind, _, stream_id, payload in peer.received():
        assert kind == frames.DATA
        sent[stream_id] = sent.get(stream_id, 0) + len(payload)
    assert sent == {1: 65536, 3: 65536, 5: 65536}


def test_large_writes_are_not_joined() -> None:
    peer = Peer(settings=b"\0\4\0\x10\0\0")
    peer.send(peer.head(1), peer.head(3), frames.window_update(0, 1 << 20))
    peer.received()
    first, second = [user.stream for user in peer.tested.users]
    assert first is not None
    assert second is not None
    first.send_data([bytes(32_000)], False)
    assert len(peer.received()[0][3]) == 16_384
    assert peer.tested.wire.pieces == 0
    second.send_data([bytes(33_000)], False)
    assert sum(len(one[3]) for one in peer.received()) == 33_000
    assert peer.tested.wire.pieces == 6
    for _ in range(2_000):
        first.send_data([b"crumb of a message"], False)
    assert sum(len(one[3]) for one in peer.received()) == 36_000
    assert peer.tested.wire.pieces == 6


def test_a_peer_that_does_not_read_gets_no_heads_and_no_data() -> None:
    peer = Peer()
    peer.send(peer.head(1))
    (user,) = peer.tested.users
    assert user.stream is not None
    peer.tested.pause_writing()
    assert not user.stream.writable
    user.stream.send_head([(b":status", b"200")], False)
    user.stream.send_data([b"x"], False)
    user.stream.send_trailers([(b"grpc-status", b"0")])
    assert peer.received() == []
    peer.tested.resume_writing()
    assert [one[0] for one in peer.received()] == [frames.HEADERS, frames.DATA, frames.HEADERS]
    assert peer.tested.streams == {}


def test_a_peer_that_makes_us_answer_and_does_not_read_is_left() -> None:
    peer = Peer()
    peer.tested.pause_writing()
    pings = 0
    while peer.tested.is_open:
        peer.tested.writer.credit.left = BURST
        peer.send(frames.frame(frames.PING, 0, 0, bytes(8)))
        pings += 1
        assert pings < 10_000
    assert peer.goaway_code() == frames.ENHANCE_YOUR_CALM
    assert 3_000 < pings
