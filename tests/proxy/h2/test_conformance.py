"""RFC 9113's rules as a table: what a peer sends, and how the stream or the connection ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.frames import (
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    frame,
    rst_stream,
    window_update,
)
from sidecar.proxy.h2.hpack import Fields
from tests.proxy.h2.wire import GET, OK, POST, TRAILERS, Peer, User

Sends = Callable[[Peer], list[bytes]]


def served(peer: Peer) -> None:
    """All streams that are open are answered, and so closed where the peer has ended its side."""
    for user in peer.tested.users:
        assert user.stream is not None
        user.stream.send_head(OK, True)
    peer.received()


def closed(peer: Peer) -> list[bytes]:
    """Stream 1 has had its answer."""
    peer.send(peer.head(1))
    served(peer)
    assert peer.tested.streams == {}
    return []


def keeping(peer: Peer) -> list[bytes]:
    """Nobody returns a window."""
    peer.tested.new_user = lambda stream: User(stream, keeps=True)
    return []


OPEN = 0x4
CONNECTION: dict[str, tuple[Sends, int]] = {
    "5.1 idle: DATA": (lambda p: [frame(DATA, 1, 1, b"x")], PROTOCOL_ERROR),
    "5.1 idle: RST_STREAM": (lambda p: [rst_stream(1, 8)], PROTOCOL_ERROR),
    "5.1 idle: WINDOW_UPDATE": (lambda p: [window_update(1, 100)], PROTOCOL_ERROR),
    "5.1 idle: CONTINUATION": (lambda p: [frame(CONTINUATION, 4, 1, p.block(GET))], PROTOCOL_ERROR),
    "5.1 idle, though others are open: DATA": (lambda p: [p.head(3), frame(DATA, 1, 5, b"x")], PROTOCOL_ERROR),
    "5.1 idle, and ours: DATA": (lambda p: [p.head(3), frame(DATA, 1, 2, b"x")], PROTOCOL_ERROR),
    "5.1 half-closed: CONTINUATION": (lambda p: [p.head(1), frame(CONTINUATION, 4, 1, b"")], PROTOCOL_ERROR),
    "5.1 closed: DATA": (lambda p: [*closed(p), frame(DATA, 1, 1, b"x")], STREAM_CLOSED),
    "5.1 closed: HEADERS": (lambda p: [*closed(p), p.head(1)], STREAM_CLOSED),
    "5.1.1 even id": (lambda p: [p.head(2)], PROTOCOL_ERROR),
    "5.1.1 lower id": (lambda p: [p.head(5), p.head(3)], PROTOCOL_ERROR),
    "4.2 frame too large: DATA": (lambda p: [p.head(1, POST, OPEN), frame(DATA, 1, 1, bytes(16385))], FRAME_SIZE_ERROR),
    "4.2 frame too large: HEADERS": (lambda p: [frame(HEADERS, 5, 1, bytes(16385))], FRAME_SIZE_ERROR),
    "4.3 block that cannot be decoded": (lambda p: [frame(HEADERS, 5, 1, b"\xff" * 20)], COMPRESSION_ERROR),
    "4.3 the same in trailers": (lambda p: [p.head(1, flags=OPEN), frame(HEADERS, 5, 1, b"\x80")], COMPRESSION_ERROR),
    "4.3 block interrupted by PRIORITY": (
        lambda p: [p.head(1, flags=0), frame(PRIORITY, 0, 1, b"\0\0\0\0\1")],
        PROTOCOL_ERROR,
    ),
    "4.3 block interrupted by another stream's HEADERS": (lambda p: [p.head(1, flags=0), p.head(3)], PROTOCOL_ERROR),
    "5.3.1 HEADERS that depend on themselves": (
        lambda p: [frame(HEADERS, 0x25, 1, b"\0\0\0\1\xff" + p.block(GET))],
        PROTOCOL_ERROR,
    ),
    "6.1 DATA on stream 0": (lambda p: [frame(DATA, 1, 0, b"x")], PROTOCOL_ERROR),
    "6.1 padding": (lambda p: [p.head(1, POST, OPEN), frame(DATA, 9, 1, b"\6test")], PROTOCOL_ERROR),
    "6.2 padding": (lambda p: [frame(HEADERS, 0xD, 1, b"\xff" + p.block(GET))], PROTOCOL_ERROR),
    "6.2 HEADERS on stream 0": (lambda p: [p.head(0)], PROTOCOL_ERROR),
    "6.3 PRIORITY on stream 0": (lambda p: [frame(PRIORITY, 0, 0, bytes(5))], PROTOCOL_ERROR),
    "6.3 PRIORITY too short": (lambda p: [frame(PRIORITY, 0, 1, bytes(4))], FRAME_SIZE_ERROR),
    "6.4 RST_STREAM on stream 0": (lambda p: [rst_stream(0, 8)], PROTOCOL_ERROR),
    "6.4 RST_STREAM too short": (lambda p: [p.head(1), frame(RST_STREAM, 0, 1, bytes(3))], FRAME_SIZE_ERROR),
    "6.5 SETTINGS ack with a payload": (lambda p: [frame(SETTINGS, 1, 0, bytes(6))], FRAME_SIZE_ERROR),
    "6.5 SETTINGS on a stream": (lambda p: [frame(SETTINGS, 0, 1, bytes(6))], PROTOCOL_ERROR),
    "6.5 SETTINGS of a wrong size": (lambda p: [frame(SETTINGS, 0, 0, bytes(3))], FRAME_SIZE_ERROR),
    "6.5.2 ENABLE_PUSH": (lambda p: [frames.settings([(2, 2)])], PROTOCOL_ERROR),
    "6.5.2 INITIAL_WINDOW_SIZE": (lambda p: [frames.settings([(4, 1 << 31)])], FLOW_CONTROL_ERROR),
    "6.5.2 MAX_FRAME_SIZE below": (lambda p: [frames.settings([(5, 16383)])], PROTOCOL_ERROR),
    "6.5.2 MAX_FRAME_SIZE above": (lambda p: [frames.settings([(5, 1 << 24)])], PROTOCOL_ERROR),
    "6.6 PUSH_PROMISE": (lambda p: [frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + p.block(GET))], PROTOCOL_ERROR),
    "6.7 PING on a stream": (lambda p: [frame(PING, 0, 1, bytes(8))], PROTOCOL_ERROR),
    "6.7 PING of a wrong size": (lambda p: [frame(PING, 0, 0, bytes(6))], FRAME_SIZE_ERROR),
    "6.8 GOAWAY on a stream": (lambda p: [frame(GOAWAY, 0, 1, bytes(8))], PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE by 0": (lambda p: [window_update(0, 0)], PROTOCOL_ERROR),
    "6.9 WINDOW_UPDATE of a wrong size": (lambda p: [frame(WINDOW_UPDATE, 0, 0, bytes(3))], FRAME_SIZE_ERROR),
    "6.9.1 window above 2^31-1": (lambda p: [window_update(0, 2**31 - 1)] * 2, FLOW_CONTROL_ERROR),
    "6.9.2 windows above 2^31-1 by SETTINGS": (
        lambda p: [p.head(1), window_update(1, 2**31 - 1 - 65535), frames.settings([(4, 65536)])],
        FLOW_CONTROL_ERROR,
    ),
    "6.10 CONTINUATION after END_HEADERS": (
        lambda p: [p.head(1, flags=0), frame(CONTINUATION, 4, 1, b""), frame(CONTINUATION, 4, 1, b"")],
        PROTOCOL_ERROR,
    ),
    "6.10 CONTINUATION on stream 0": (lambda p: [p.head(1, flags=0), frame(CONTINUATION, 4, 0, b"")], PROTOCOL_ERROR),
    "6.10 CONTINUATION after DATA": (
        lambda p: [p.head(1, flags=OPEN), frame(DATA, 0, 1, b"x"), frame(CONTINUATION, 4, 1, b"")],
        PROTOCOL_ERROR,
    ),
}


@pytest.mark.parametrize("name", CONNECTION)
def test_connection_errors(name: str) -> None:
    sends, code = CONNECTION[name]
    peer = Peer()
    peer.send(*sends(peer))
    assert peer.goaway_code() == code
    assert peer.tested.streams == {}


def malformed(*fields: tuple[bytes, bytes], base: Fields = GET) -> tuple[Sends, int]:
    return lambda p: [p.head(1, [*base, *fields])], PROTOCOL_ERROR


def length(said: bytes, *parts: bytes, trailers: bool = False) -> tuple[Sends, int]:
    def sends(peer: Peer) -> list[bytes]:
        head = peer.head(1, [*POST, (b"content-length", said)], OPEN)
        data = [frame(DATA, at == len(parts) - 1 and not trailers, 1, part) for at, part in enumerate(parts)]
        return [head, *data, *([peer.head(1, TRAILERS)] if trailers else [])]

    return sends, PROTOCOL_ERROR


STREAM: dict[str, tuple[Sends, int]] = {
    "5.1 half-closed: DATA": (lambda p: [p.head(1), frame(DATA, 1, 1, b"x")], STREAM_CLOSED),
    "5.1 half-closed: HEADERS": (lambda p: [p.head(1), p.head(1)], STREAM_CLOSED),
    "5.1 reset by the peer: DATA": (
        lambda p: [p.head(1, flags=OPEN), rst_stream(1, 8), frame(DATA, 1, 1, b"x")],
        STREAM_CLOSED,
    ),
    "5.1 reset by the peer: HEADERS": (
        lambda p: [p.head(1, flags=OPEN), rst_stream(1, 8), p.head(1)],
        STREAM_CLOSED,
    ),
    "6.9 WINDOW_UPDATE by 0": (lambda p: [p.head(1), window_update(1, 0)], PROTOCOL_ERROR),
    "6.9.1 window above 2^31-1": (lambda p: [p.head(1), *[window_update(1, 2**31 - 1)] * 2], FLOW_CONTROL_ERROR),
    "6.9.1 DATA above the window": (
        lambda p: [*keeping(p), p.head(1, POST, OPEN), *[frame(DATA, 0, 1, bytes(16384))] * 17],
        FLOW_CONTROL_ERROR,
    ),
    "8.1 HEADERS twice without END_STREAM": (
        lambda p: [p.head(1, flags=OPEN), p.head(1, TRAILERS, OPEN)],
        PROTOCOL_ERROR,
    ),
    "8.1 pseudo-field in trailers": (
        lambda p: [p.head(1, flags=OPEN), p.head(1, [(b":method", b"GET")])],
        PROTOCOL_ERROR,
    ),
    "8.2.1 uppercase": malformed((b"X-Test", b"ok")),
    "8.2.1 space in a name": malformed((b"x test", b"ok")),
    "8.2.1 byte above 0x7e in a name": malformed((b"x\x80", b"ok")),
    "8.2.1 colon in a name": malformed((b"x:test", b"ok")),
    "8.2.1 empty name": malformed((b"", b"ok")),
    "8.2.1 NUL": malformed((b"x", b"a\0b")),
    "8.2.1 CR": malformed((b"x", b"a\rb")),
    "8.2.1 LF": malformed((b"x", b"a\nb")),
    "8.2.1 leading space": malformed((b"x", b" a")),
    "8.2.1 trailing tab": malformed((b"x", b"a\t")),
    "8.2.1 in trailers": (lambda p: [p.head(1, flags=OPEN), p.head(1, [(b"X", b"y")])], PROTOCOL_ERROR),
    "8.2.2 connection": malformed((b"connection", b"keep-alive")),
    "8.2.2 transfer-encoding": malformed((b"transfer-encoding", b"chunked")),
    "8.2.2 te": malformed((b"te", b"trailers, deflate")),
    "8.3 unknown pseudo-field": malformed((b":test", b"ok"), base=[]),
    "8.3 pseudo-field of responses": malformed((b":status", b"200")),
    "8.3 pseudo-field after a regular one": malformed((b"x", b"y"), GET[-1], base=GET[:-1]),
    "8.3.1 empty :path": malformed((b":path", b""), base=[GET[0], GET[1], GET[3]]),
    "8.3.1 no :method": malformed(base=GET[1:]),
    "8.3.1 no :scheme": malformed(base=[GET[0], *GET[2:]]),
    "8.3.1 no :path": malformed(base=[*GET[:2], GET[3]]),
    "8.3.1 :method twice": malformed(GET[0]),
    "8.3.1 :scheme twice": malformed(GET[1]),
    "8.3.1 :path twice": malformed(GET[2]),
    "8.5 CONNECT with :path": malformed(base=[(b":method", b"CONNECT"), (b":path", b"/"), (b":authority", b"a")]),
    "8.1.1 content-length and no body": malformed((b"content-length", b"1")),
    "8.1.1 content-length above DATA": length(b"5", b"test"),
    "8.1.1 content-length below DATA": length(b"3", b"test"),
    "8.1.1 content-length, and DATA in parts": length(b"4", b"test", b"test"),
    "8.1.1 content-length above DATA, with trailers": length(b"5", b"test", trailers=True),
}


@pytest.mark.parametrize("name", STREAM)
def test_stream_errors(name: str) -> None:
    """The stream is reset with that code; the next one is served, so both sides' tables are still in step."""
    sends, code = STREAM[name]
    peer = Peer()
    peer.send(*sends(peer))
    assert peer.reset_codes() == [(1, code)]
    fields: Fields = [*GET, (b"x-after", b"all")]
    peer.send(peer.head(7, fields))
    assert peer.tested.users[-1].heard == [("head", fields, True)]


GOOD: dict[str, Sends] = {
    "DATA in two frames": lambda p: [p.head(1, POST, OPEN), frame(DATA, 0, 1, b"a"), frame(DATA, 1, 1, b"b")],
    "padded DATA": lambda p: [p.head(1, POST, OPEN), frame(DATA, 9, 1, b"\2a\0\0")],
    "padded HEADERS with priority": lambda p: [frame(HEADERS, 0x2D, 1, b"\1\x80\0\0\3\xff" + p.block(GET) + b"\0")],
    "content-length": lambda p: [p.head(1, [*POST, (b"content-length", b"2")], OPEN), frame(DATA, 1, 1, b"ab")],
    "content-length and trailers": lambda p: [
        *(p.head(1, [*POST, (b"content-length", b"2")], OPEN), frame(DATA, 0, 1, b"ab"), p.head(1, TRAILERS)),
    ],
    "trailers without DATA": lambda p: [p.head(1, POST, OPEN), p.head(1, TRAILERS)],
    "CONTINUATION": lambda p: [p.head(1, flags=1), frame(CONTINUATION, 0, 1, b""), frame(CONTINUATION, 4, 1, b"")],
    "PRIORITY of an idle stream": lambda p: [frame(PRIORITY, 0, 9, b"\0\0\0\3\x10"), p.head(1)],
    "an unknown frame": lambda p: [frame(0x16, 0xFF, 1, b"x"), p.head(1), frame(0x16, 0, 0, b"")],
    "unknown flags": lambda p: [p.head(1, flags=0xD7 & ~0x2A)],
    "an unknown setting": lambda p: [frame(SETTINGS, 0, 0, b"\0\x99\0\0\0\1"), p.head(1)],
    "WINDOW_UPDATE up to 2^31-1": lambda p: [p.head(1), window_update(1, 2**31 - 1 - 65535)],
    "reserved bits": lambda p: [p.head(1), frame(WINDOW_UPDATE, 0, 1, b"\x80\0\0\1")],
    "OPTIONS *": lambda p: [p.head(1, [(b":method", b"OPTIONS"), GET[1], (b":path", b"*"), GET[3]])],
    "CONNECT": lambda p: [p.head(1, [(b":method", b"CONNECT"), (b":authority", b"venue:80")])],
    "GOAWAY of an unknown code": lambda p: [frames.goaway(0, 0xFF, ""), p.head(1)],
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_allowed(name: str) -> None:
    peer = Peer()
    peer.send(*GOOD[name](peer))
    assert peer.reset_codes() == []
    (user,) = peer.tested.users
    assert user.ended
    served(peer)
    assert peer.tested.streams == {}


def test_ping_is_answered_and_an_ack_is_not() -> None:
    peer = Peer()
    peer.send(frame(PING, 0, 0, b"12345678"), frame(PING, 1, 0, b"87654321"))
    assert peer.received() == [(PING, 1, 0, b"12345678")]
    assert peer.tested.events == ["ready"]
    peer.tested.ping()
    ((kind, flags, _, payload),) = peer.received()
    assert (kind, flags) == (PING, 0)
    peer.send(frame(PING, 1, 0, payload))
    assert peer.tested.events == ["ready", "pong"]


def test_what_we_say_first() -> None:
    peer = Peer(shake=False)
    settings, update = peer.received()
    assert settings[0] == SETTINGS
    assert settings[3] == frames.settings([(3, 256), (4, 1 << 18), (6, 32768)])[9:]
    assert update[0] == WINDOW_UPDATE
    client = Peer(client=True, shake=False)
    client.loop.turn()
    assert client.tested.wire.out[0].startswith(frames.PREFACE)
    settings, update = client.received()
    assert settings[3] == frames.settings([(2, 0), (4, 1 << 18), (6, 32768)])[9:]


@pytest.mark.parametrize(
    "hello",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.PREFACE[:-1] + b"x",
        b"PRI * HTTP/2.0\r\n\r\nXX",
        frames.PREFACE + frame(PING, 0, 0, bytes(8)),
        frames.PREFACE + frame(SETTINGS, 1, 0, b""),
    ],
)
def test_a_wrong_beginning(hello: bytes) -> None:
    peer = Peer(shake=False)
    peer.send(hello)
    assert peer.goaway_code() == PROTOCOL_ERROR


def test_settings_are_acknowledged_and_the_ack_of_ours_is_seen() -> None:
    peer = Peer(shake=False)
    peer.received()
    peer.send(frames.PREFACE, frame(SETTINGS, 0, 0, b""))
    assert peer.received() == [(SETTINGS, 1, 0, b"")]
    assert (peer.tested.ready, peer.tested.settings_acked) == (True, False)
    peer.send(frame(SETTINGS, 1, 0, b""))
    assert peer.tested.settings_acked


def test_frames_for_a_stream_that_we_reset_are_ignored_and_their_window_is_returned() -> None:
    peer = Peer()
    peer.send(peer.head(1, POST, OPEN))
    (user,) = peer.tested.users
    assert user.stream is not None
    user.stream.reset(frames.CANCEL)
    assert peer.reset_codes() == [(1, frames.CANCEL)]
    peer.send(*[frame(DATA, 0, 1, bytes(16384))] * 16, peer.head(1, [(b"x-new", b"name")]))
    peer.send(*[frame(DATA, 0, 1, bytes(16384))] * 48)
    assert [one[:3] for one in peer.received()] == [(WINDOW_UPDATE, 0, 0)]
    peer.send(peer.head(3, [*GET, (b"x-new", b"name")]))
    assert peer.tested.users[-1].heard == [("head", [*GET, (b"x-new", b"name")], True)]


def test_data_above_the_connections_window() -> None:
    peer = Peer()
    peer.tested._receivable = 16384
    peer.send(peer.head(1, POST, OPEN), frame(DATA, 0, 1, bytes(16384)))
    assert peer.tested.is_open
    peer.send(frame(DATA, 0, 1, b"x"))
    assert peer.goaway_code() == FLOW_CONTROL_ERROR


def test_a_request_whose_header_list_is_too_large_is_refused_and_the_next_is_served() -> None:
    peer = Peer(max_list=2000)
    peer.send(peer.head(1, [*GET, *[(b"x-%d" % at, b"v" * 100) for at in range(20)]]))
    assert peer.reset_codes() == [(1, frames.ENHANCE_YOUR_CALM)]
    assert peer.tested.users == []
    fields: Fields = [*GET, (b"x-9", b"v" * 100)]
    peer.send(peer.head(3, fields))
    assert peer.tested.users[0].heard == [("head", fields, True)]


def test_a_request_after_the_last_goaway_is_ignored() -> None:
    peer = Peer()
    peer.send(peer.head(1))
    peer.tested.drain()
    peer.tested.drain_finally()
    assert [frames.number(one[3], 0) for one in peer.received()] == [frames.MAX_ID, 1]
    peer.send(peer.head(3, POST, OPEN), frame(DATA, 0, 3, b"x"), peer.head(3, [(b"x-new", b"name")]))
    assert peer.received() == []
    assert len(peer.tested.users) == 1
    served(peer)
    assert not peer.tested.is_open


# The other role: responses.


def length_of(fields: Fields, *data: bytes, end: bool = True) -> Sends:
    return lambda p: [p.head(1, fields, OPEN), *[frame(DATA, end, 1, one) for one in data]]


RESPONSES: dict[str, tuple[Sends, int]] = {
    "DATA before HEADERS": (lambda p: [frame(DATA, 1, 1, b"x")], PROTOCOL_ERROR),
    "no :status": (lambda p: [p.head(1, [(b"x", b"y")])], PROTOCOL_ERROR),
    ":status of no number": (lambda p: [p.head(1, [(b":status", b"2x0")])], PROTOCOL_ERROR),
    "101": (lambda p: [p.head(1, [(b":status", b"101")], OPEN)], PROTOCOL_ERROR),
    "interim with END_STREAM": (lambda p: [p.head(1, [(b":status", b"103")])], PROTOCOL_ERROR),
    "connection": (lambda p: [p.head(1, [*OK, (b"connection", b"close")])], PROTOCOL_ERROR),
    "uppercase": (lambda p: [p.head(1, [*OK, (b"X", b"y")])], PROTOCOL_ERROR),
    "trailers without END_STREAM": (lambda p: [p.head(1, OK, OPEN), p.head(1, TRAILERS, OPEN)], PROTOCOL_ERROR),
    "DATA after the end": (lambda p: [p.head(1, OK), frame(DATA, 1, 1, b"x")], STREAM_CLOSED),
    "content-length above DATA": (length_of([*OK, (b"content-length", b"2")], b"a"), PROTOCOL_ERROR),
    "content-length below DATA": (length_of([*OK, (b"content-length", b"2")], b"abc"), PROTOCOL_ERROR),
    "two content-lengths": (
        length_of([*OK, (b"content-length", b"2"), (b"content-length", b"3")], b"ab"),
        PROTOCOL_ERROR,
    ),
    "204 with DATA": (length_of([(b":status", b"204")], b"a"), PROTOCOL_ERROR),
    "content-length and nothing": (lambda p: [p.head(1, [*OK, (b"content-length", b"2")])], PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_that_are_wrong(name: str) -> None:
    sends, code = RESPONSES[name]
    peer = Peer(client=True)
    call, other = peer.tested.call(POST, end=False), peer.tested.call()
    peer.received()
    peer.send(*sends(peer))
    assert peer.reset_codes() == [(1, code)]
    assert call.heard[-1] == ("lost", code, False)
    peer.send(peer.head(3, OK))
    assert other.heard == [("head", OK, True)]


RIGHT_RESPONSES: dict[str, tuple[bytes, Sends]] = {
    "HEAD": (b"HEAD", lambda p: [p.head(1, [*OK, (b"content-length", b"7")])]),
    "HEAD, with an empty DATA": (b"HEAD", length_of([*OK, (b"content-length", b"7")], b"")),
    "304": (b"GET", lambda p: [p.head(1, [(b":status", b"304"), (b"content-length", b"7")])]),
    "204": (b"GET", lambda p: [p.head(1, [(b":status", b"204")])]),
    "content-length": (b"GET", length_of([*OK, (b"content-length", b"2")], b"ab")),
    "interim": (b"GET", lambda p: [p.head(1, [(b":status", b"103")], OPEN), p.head(1, OK)]),
}


@pytest.mark.parametrize("name", RIGHT_RESPONSES)
def test_responses_that_are_right(name: str) -> None:
    method, sends = RIGHT_RESPONSES[name]
    peer = Peer(client=True)
    call = peer.tested.call([(b":method", method), *GET[1:]])
    peer.received()
    peer.send(*sends(peer))
    assert call.ended
    assert [one[0] for one in peer.received()] == []
    assert peer.tested.streams == {}


SERVERS: dict[str, tuple[Sends, int]] = {
    "PUSH_PROMISE": (lambda p: [frame(PUSH_PROMISE, 4, 1, b"\0\0\0\2" + p.block(GET))], PROTOCOL_ERROR),
    "ENABLE_PUSH": (lambda p: [frames.settings([(2, 1)])], PROTOCOL_ERROR),
    "HEADERS on an idle stream": (lambda p: [p.head(5, OK)], PROTOCOL_ERROR),
    "HEADERS on an even stream": (lambda p: [p.head(2, OK)], PROTOCOL_ERROR),
    "WINDOW_UPDATE on an idle stream": (lambda p: [window_update(5, 1)], PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", SERVERS)
def test_servers_that_are_wrong(name: str) -> None:
    sends, code = SERVERS[name]
    peer = Peer(client=True)
    call = peer.tested.call()
    peer.received()
    peer.send(*sends(peer))
    assert peer.goaway_code() == code
    assert call.heard == [("lost", -1, False)]
