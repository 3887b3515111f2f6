"""Two ends of an HTTP/2 connection without sockets: a loop that turns when told, transports, users that remember."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.connection import H2Connection
from sidecar.proxy.h2.hpack import Decoder, Encoder, Fields
from sidecar.proxy.h2.stream import H2Stream, StreamUser

GET: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"venue")]
POST: Fields = [(b":method", b"POST"), *GET[1:], (b"content-type", b"application/grpc"), (b"te", b"trailers")]
OK: Fields = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Fields = [(b"grpc-status", b"0")]


class Timer:
    def __init__(self, when: float, action: Callable[[], object]) -> None:
        self.when, self.action, self.cancelled = when, action, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """`turn` runs what was put off, and what that puts off."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], object]] = []
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, action: Callable[[], object]) -> None:
        self.soon.append(action)

    def call_later(self, delay: float, action: Callable[[], object]) -> Timer:
        self.timers.append(Timer(self.now + delay, action))
        return self.timers[-1]

    def turn(self) -> None:
        while self.soon:
            due, self.soon = self.soon, []
            for action in due:
                action()

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [one for one in self.timers if one.when <= self.now]
        self.timers = [one for one in self.timers if one.when > self.now]
        for one in due:
            if not one.cancelled:
                one.action()
        self.turn()


class Transport:
    """Keeps what is written."""

    def __init__(self, *, half_close: bool = True) -> None:
        self.out: list[bytes] = []
        self.closing = self.aborted = self.eof = False
        self.half_close = half_close
        self.high = 0
        self.pieces = 0
        """How many were written without being joined."""
        self.protocol: object = None

    def set_write_buffer_limits(self, high: int) -> None:
        self.high = high

    def set_protocol(self, protocol: object) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self.eof
        self.out.append(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self.write(b"".join(pieces))
        self.pieces += len(pieces)

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return self.half_close

    def write_eof(self) -> None:
        self.eof = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = self.aborted = True

    def taken(self) -> bytes:
        data, self.out = b"".join(self.out), []
        return data


class User(StreamUser):
    """Remembers what it heard, and gives the window back at once unless it `keeps` it."""

    def __init__(self, stream: H2Stream | None = None, *, keeps: bool = False) -> None:
        self.stream = stream
        self.keeps = keeps
        self.heard: list[Any] = []

    def head_received(self, fields: Fields, end: bool) -> None:
        self.heard.append(("head", fields, end))

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        self.heard.append(("data", data, end))
        if not self.keeps and self.stream is not None:
            self.stream.consumed(size)

    def trailers_received(self, fields: Fields) -> None:
        self.heard.append(("trailers", fields))

    def stream_lost(self, code: int, unprocessed: bool, why: str) -> None:
        self.heard.append(("lost", code, unprocessed))

    def stream_writable(self) -> None:
        self.heard.append("writable")

    @property
    def body(self) -> bytes:
        return b"".join(one[1] for one in self.heard if one[0] == "data")

    @property
    def ended(self) -> bool:
        return any(one[0] == "trailers" or (one[0] in ("head", "data") and one[2]) for one in self.heard)


class Connection(H2Connection):
    """Of either role, with a user for each stream that comes."""

    def __init__(self, *, client: bool, loop: Loop, max_list: int = 32768, half_close: bool = True) -> None:
        super().__init__(client, max_list, loop.time, loop)  # type: ignore[arg-type]
        self.turns = loop
        self.wire = Transport(half_close=half_close)
        self.users: list[User] = []
        self.events: list[Any] = []
        self.refuses = False
        self.new_user: Callable[[H2Stream], User] = User
        self.connection_made(self.wire)  # type: ignore[arg-type]

    def stream_opened(self, stream: H2Stream) -> StreamUser | None:
        if self.refuses:
            return None
        self.users.append(self.new_user(stream))
        return self.users[-1]

    def became_ready(self) -> None:
        self.events.append("ready")

    def room_changed(self) -> None:
        self.events.append("room")

    def going_away(self, last_id: int, code: int) -> None:
        self.events.append(("going away", last_id, code))

    def pong_received(self) -> None:
        self.events.append("pong")

    def ended(self, why: str) -> None:
        self.events.append(("ended", why))

    def call(self, fields: Fields = GET, *, end: bool = True) -> User:
        user = User()
        user.stream = self.open(user)
        assert user.stream is not None
        user.stream.send_head(fields, end)
        return user


def pair(**more: Any) -> tuple[Connection, Connection]:
    """A client and a server that have shaken hands."""
    loop = Loop()
    client, server = Connection(client=True, loop=loop, **more), Connection(client=False, loop=loop, **more)
    exchange(client, server)
    return client, server


def exchange(client: Connection, server: Connection, chunk: int = 1 << 30) -> None:
    """Until neither has anything to say; `chunk` bytes at a time."""
    loop = client.turns
    loop.turn()
    while client.wire.out or server.wire.out:
        for one, other in ((client, server), (server, client)):
            data = one.wire.taken()
            for at in range(0, len(data), chunk):
                other.data_received(data[at : at + chunk])
        loop.turn()


class Peer:
    """The other end, frame by frame: what it sends it may get wrong."""

    def __init__(self, *, client: bool = False, shake: bool = True, settings: bytes = b"", **more: Any) -> None:
        """`client`: the one tested is."""
        self.loop = Loop()
        self.tested = Connection(client=client, loop=self.loop, **more)
        self.encoder = Encoder()
        self.decoder = Decoder(1 << 20)
        self.rest = b""
        if shake:
            hello = b"" if client else frames.PREFACE
            self.send(hello + frames.frame(frames.SETTINGS, 0, 0, settings) + frames.frame(frames.SETTINGS, 1, 0, b""))
            self.received()

    def send(self, *data: bytes) -> None:
        self.tested.data_received(b"".join(data))
        self.loop.turn()

    def block(self, fields: Fields) -> bytes:
        out: list[bytes] = []
        self.encoder.encode(fields, out)
        return b"".join(out)

    def head(self, stream_id: int, fields: Fields = GET, flags: int = 0x5) -> bytes:
        return frames.frame(frames.HEADERS, flags, stream_id, self.block(fields))

    def received(self) -> list[tuple[int, int, int, bytes]]:
        """The frames since: type, flags, stream, payload."""
        self.loop.turn()
        data = self.rest + self.tested.wire.taken()
        data = data.removeprefix(frames.PREFACE)
        found = []
        at = 0
        while len(data) - at >= 9:
            size = int.from_bytes(data[at : at + 3], "big")
            if len(data) < at + 9 + size:
                break
            stream_id = int.from_bytes(data[at + 5 : at + 9], "big")
            found.append((data[at + 3], data[at + 4], stream_id, data[at + 9 : at + 9 + size]))
            at += 9 + size
        self.rest = data[at:]
        return found

    def goaway_code(self) -> int:
        """Of the GOAWAY that the connection ended with; -1: it did not."""
        codes = [int.from_bytes(one[3][4:8], "big") for one in self.received() if one[0] == frames.GOAWAY]
        assert not codes or not self.tested.is_open
        return codes[-1] if codes else -1

    def reset_codes(self) -> list[tuple[int, int]]:
        """Stream and code of each RST_STREAM; the connection goes on."""
        found = [(one[2], int.from_bytes(one[3], "big")) for one in self.received() if one[0] == frames.RST_STREAM]
        assert self.tested.is_open
        return found
