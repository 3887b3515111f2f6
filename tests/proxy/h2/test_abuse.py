"""Peers that ask for much and let nothing come of it, and honest ones that look like them at first sight."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.frames import (
    CANCEL,
    CONTINUATION,
    DATA,
    ENHANCE_YOUR_CALM,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    SETTINGS,
    frame,
    rst_stream,
    window_update,
)
from sidecar.proxy.h2.limits import MAX_STREAMS
from sidecar.proxy.h2.stream import H2Stream
from tests.proxy.h2.wire import GET, OK, POST, TRAILERS, Peer, User

Flood = Callable[[Peer], Iterator[bytes]]

PER_READ = 50
"""Frames that come at once."""


def odd() -> Iterator[int]:
    return count(1, 2)


def rapid_reset(peer: Peer) -> Iterator[bytes]:
    for at in odd():
        yield peer.head(at) + rst_stream(at, CANCEL)


def reset_after_others(peer: Peer) -> Iterator[bytes]:
    for at in count(1, 200):
        yield b"".join(peer.head(one) for one in range(at, at + 200, 2))
        yield b"".join(rst_stream(one, CANCEL) for one in range(at, at + 200, 2))


def breaks(wrong: Callable[[Peer, int], bytes], flags: int = 0x4) -> Flood:
    """Made you reset: each stream is opened, and broken so that we reset it."""

    def flood(peer: Peer) -> Iterator[bytes]:
        for at in odd():
            yield peer.head(at, flags=flags) + wrong(peer, at)

    return flood


def always(data: bytes) -> Flood:
    def flood(_: Peer) -> Iterator[bytes]:
        while True:
            yield data

    return flood


def on_one_stream(data: bytes) -> Flood:
    def flood(peer: Peer) -> Iterator[bytes]:
        yield peer.head(1, POST, 0x4)
        while True:
            yield data

    return flood


def streams_without_end(peer: Peer) -> Iterator[bytes]:
    for at in odd():
        yield peer.head(at, flags=0x4)


def malformed_requests(peer: Peer) -> Iterator[bytes]:
    for at in odd():
        yield peer.head(at, GET[1:])


def large_requests(peer: Peer) -> Iterator[bytes]:
    for at in odd():
        yield peer.head(at, [*GET, *[(b"x-%d" % at, b"v" * 900)] * 40])


def bomb(peer: Peer) -> Iterator[bytes]:
    yield peer.head(1, [*GET, (b"x", b"v" * 900)])
    for at in count(3, 2):
        yield frame(HEADERS, 0x5, at, b"\xbe" * 16000)


def continuations(peer: Peer) -> Iterator[bytes]:
    yield frame(HEADERS, 0x1, 1, peer.block(GET))
    while True:
        yield frame(CONTINUATION, 0, 1, b"")


def continuations_of_many(peer: Peer) -> Iterator[bytes]:
    for at in odd():
        yield frame(HEADERS, 0x1, at, peer.block(GET)) + frame(CONTINUATION, 0, at, b"") * 30
        yield frame(CONTINUATION, 0x4, at, b"") + rst_stream(at, CANCEL)


FLOODS: dict[str, Flood] = {
    "rapid reset": rapid_reset,
    "resets by the hundred": reset_after_others,
    "made you reset: zero increment": breaks(lambda _, at: window_update(at, 0)),
    "made you reset: window overflow": breaks(lambda _, at: window_update(at, frames.MAX_WINDOW)),
    "made you reset: DATA on half-closed": breaks(lambda _, at: frame(DATA, 0, at, b"x"), 0x5),
    "made you reset: HEADERS on half-closed": breaks(lambda peer, at: peer.head(at), 0x5),
    "made you reset: HEADERS twice": breaks(lambda peer, at: peer.head(at, flags=0x4)),
    "made you reset: pseudo-field in trailers": breaks(lambda peer, at: peer.head(at)),
    "malformed requests": malformed_requests,
    "large requests": large_requests,
    "bomb": bomb,
    "CONTINUATION": continuations,
    "CONTINUATION of many": continuations_of_many,
    "PING": always(frame(PING, 0, 0, bytes(8))),
    "PING acks": always(frame(PING, 1, 0, bytes(8))),
    "SETTINGS": always(frame(SETTINGS, 0, 0, b"")),
    "SETTINGS acks": always(frame(SETTINGS, 1, 0, b"")),
    "SETTINGS of a window": always(frames.settings([(frames.INITIAL_WINDOW_SIZE, 1), (frames.INITIAL_WINDOW_SIZE, 9)])),
    "GOAWAY": always(frames.goaway(0, 0, "")),
    "empty DATA": on_one_stream(frame(DATA, 0, 1, b"")),
    "padded empty DATA": on_one_stream(frame(DATA, 8, 1, b"\3\0\0\0")),
    "WINDOW_UPDATE of the connection": always(window_update(0, 1)),
    "WINDOW_UPDATE of a stream": on_one_stream(window_update(1, 1)),
    "PRIORITY": always(frame(PRIORITY, 0, 1, b"\0\0\0\3\x10")),
    "unknown frames": always(frame(0x42, 0, 1, b"x")),
    "RST_STREAM of a closed stream": lambda peer: (peer.head(1) if at == 1 else rst_stream(1, CANCEL) for at in odd()),
    "streams without end": streams_without_end,
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_end_in_goaway(name: str) -> None:
    peer = Peer()
    written = asked = reads = 0
    flood = FLOODS[name](peer)
    while peer.tested.is_open:
        chunk = [next(flood) for _ in range(PER_READ)]
        peer.send(*chunk)
        reads += 1
        assert reads < 100, "at most 5,000 frames, and no second between them"
        assert len(peer.tested.streams) <= MAX_STREAMS
        asked += len(b"".join(chunk))
        if peer.tested.is_open:
            written += sum(9 + len(one[3]) for one in peer.received())
    assert peer.goaway_code() == ENHANCE_YOUR_CALM
    assert written < 100_000
    assert peer.tested.streams == {}
    assert all(one.heard[-1][0] == "lost" for one in peer.tested.users)


@pytest.mark.parametrize(
    "name", ["PING", "PING acks", "SETTINGS", "WINDOW_UPDATE of the connection", "PRIORITY", "unknown frames"]
)
def test_a_server_may_not_flood_either(name: str) -> None:
    peer = Peer(client=True)
    call = peer.tested.call()
    flood = FLOODS[name](peer)
    for _ in range(100):
        peer.send(*[next(flood) for _ in range(PER_READ)])
    assert peer.goaway_code() == ENHANCE_YOUR_CALM
    assert call.heard == [("lost", -1, False)]


def test_a_window_that_opens_byte_by_byte() -> None:
    """Each update makes us send a frame (CVE-2019-9511)."""
    peer = Peer(settings=b"\0\4\0\0\0\0")
    peer.send(peer.head(1))
    (user,) = peer.tested.users
    assert user.stream is not None
    user.stream.send_head(OK, False)
    user.stream.send_data([bytes(100_000)], True)
    for _ in range(100):
        peer.send(window_update(1, 1) * PER_READ)
    assert peer.goaway_code() == ENHANCE_YOUR_CALM


def test_a_server_of_endless_interim_responses() -> None:
    peer = Peer(client=True)
    call = peer.tested.call()
    sent = 0
    while peer.tested.is_open:
        peer.send(peer.head(1, [(b":status", b"103")], 0x4))
        sent += 1
        assert sent < 2_000
    assert call.heard[-1] == ("lost", -1, False)


@pytest.mark.parametrize(
    "wrong", [(b"connection", b"close"), (b"x-large", b"v" * 40_000)], ids=["malformed", "too large"]
)
def test_a_server_with_a_route_that_is_answered_wrong_keeps_the_connection(wrong: tuple[bytes, bytes]) -> None:
    """Other calls run on it."""
    peer = Peer(client=True)
    watch = peer.tested.call()
    for stream_id in range(3, 1_003, 2):
        call = peer.tested.call()
        block = peer.block([*OK, wrong])
        parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        for kind, part in zip([HEADERS] + [CONTINUATION] * len(parts), parts, strict=False):
            peer.send(frame(kind, 0, stream_id, part))
        peer.send(frame(CONTINUATION, 4, stream_id, b""))
        assert call.heard[-1][0] == "lost"
    assert peer.tested.is_open
    assert watch.heard == []


def test_a_priority_that_depends_on_itself_ends_the_connection() -> None:
    peer = Peer()
    peer.send(peer.head(1, flags=0x4), frame(PRIORITY, 0, 1, b"\0\0\0\1\x10"))
    assert peer.goaway_code() == PROTOCOL_ERROR


def test_output_for_a_window_that_stays_shut_is_bounded() -> None:
    """The users heed `writable`; what they may queue is the mark, and no byte is written."""
    peer = Peer(settings=b"\0\4\0\0\0\0")
    peer.send(*[peer.head(2 * at + 1) for at in range(MAX_STREAMS)])
    for user in peer.tested.users:
        assert user.stream is not None
        user.stream.send_head(OK, False)
        while user.stream.writable:
            user.stream.send_data([bytes(65536)], False)
        assert user.stream.unsent == 256 * 1024
    assert [one for one in peer.received() if one[0] == DATA] == []


class Answering(User):
    def head_received(self, fields: list[tuple[bytes, bytes]], end: bool) -> None:
        super().head_received(fields, end)
        if end:
            self.answer()

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        super().data_received(data, size, end)
        if end:
            self.answer()

    def answer(self) -> None:
        assert self.stream is not None
        self.stream.send_head(OK, False)
        self.stream.send_data([bytes(150)], False)
        self.stream.send_trailers(TRAILERS)


def answering(peer: Peer) -> Peer:
    def made(stream: H2Stream) -> User:
        peer.tested.users.clear()
        return Answering(stream)

    peer.tested.new_user = made
    return peer


def test_4000_calls_a_second_with_their_pings_are_honest() -> None:
    """As grpcio does: a BDP ping for what it reads, and small updates of both windows, for each call."""
    peer = answering(Peer())
    for at in range(8_000):
        stream_id = 2 * at + 1
        peer.loop.now += 1 / 4_000
        updates = window_update(0, 150) + window_update(stream_id, 5)
        peer.send(
            peer.head(stream_id, POST, 0x4), frame(DATA, 1, stream_id, bytes(64)), frame(PING, 0, 0, bytes(8)), updates
        )
    answers = peer.received()
    assert peer.tested.is_open
    assert sum(one[0] == HEADERS and one[1] & 1 for one in answers) == 8_000


def test_250_watches_that_open_at_once_and_are_cancelled_at_once_are_honest() -> None:
    peer = Peer()
    peer.send(*[peer.head(2 * at + 1) + window_update(2 * at + 1, 1 << 20) for at in range(250)])
    peer.loop.advance(3600)
    peer.send(*[rst_stream(2 * at + 1, CANCEL) for at in range(250)])
    assert peer.reset_codes() == []
    assert [one.heard[-1] for one in peer.tested.users] == [("lost", CANCEL, False)] * 250
    assert peer.tested.streams == {}


def test_250_watches_cancelled_as_soon_as_they_are_opened_are_honest() -> None:
    peer = Peer()
    peer.send(*[peer.head(2 * at + 1) for at in range(250)])
    peer.send(*[rst_stream(2 * at + 1, CANCEL) for at in range(250)])
    assert peer.reset_codes() == []


def test_1000_calls_at_once_are_honest() -> None:
    """Those above MAX_CONCURRENT_STREAMS are refused, to be sent again."""
    peer = Peer(shake=False)
    calls = [peer.head(2 * at + 1, POST, 0x4) + frame(DATA, 1, 2 * at + 1, bytes(64)) for at in range(1_000)]
    peer.send(frames.PREFACE, frame(SETTINGS, 0, 0, b""), *calls)
    assert len(peer.reset_codes()) == 1_000 - MAX_STREAMS
    assert len(peer.tested.users) == MAX_STREAMS


def test_deadlines_that_all_pass_are_honest() -> None:
    """A service hangs: at 100 ms each, 250 callers give up 2,500 calls a second."""
    peer = Peer()
    ids = odd()
    for _ in range(100):
        wave = [next(ids) for _ in range(250)]
        peer.send(*[peer.head(at) for at in wave])
        peer.loop.now += 0.1
        peer.send(*[rst_stream(at, CANCEL) for at in wave])
        peer.tested.users.clear()
    assert peer.tested.is_open


def test_goaway_is_read_before_the_connection_closes() -> None:
    """What still comes is thrown away for a while: a socket closed with bytes unread would reset the connection."""
    peer = Peer()
    peer.send(frame(PING, 0, 0, bytes(8)) * 2_000)
    wire = peer.tested.wire
    assert [one[0] for one in peer.received()][-1] == GOAWAY
    assert wire.eof
    assert not wire.closing
    peer.send(frame(PING, 0, 0, bytes(8)) * 2_000)
    assert peer.received() == []
    peer.loop.advance(0.6)
    assert wire.aborted


def test_a_peer_that_never_stops_is_cut_off() -> None:
    peer = Peer()
    peer.send(frame(PING, 0, 0, bytes(8)) * 2_000)
    for _ in range(100):
        peer.send(bytes(65536))
    assert peer.tested.wire.aborted
