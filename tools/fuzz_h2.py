"""`python -m tools.fuzz_h2`: feeds the HTTP/2 engine mutated conversations, in both roles, while its users do anything.

Whatever comes, no exception may leave the engine or reach its log, no user hears anything after its stream's end, and
nothing is left once the connection is over: no stream, nobody that waits, no byte. Blocks that the engine's HPACK
decoder takes, the package `hpack` has to take too and to read the same. The exit code is 1 where that was not so.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable
from random import Random
from typing import Any, Final

import hpack

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.connection import H2Connection
from sidecar.proxy.h2.frames import (
    CONTINUATION,
    DATA,
    GOAWAY,
    HEADERS,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
)
from sidecar.proxy.h2.hpack import Decoder, Encoder, Fields, HpackError
from sidecar.proxy.h2.stream import H2Stream, StreamUser

MAX_LIST: Final = 4096

REQUEST: Final[Fields] = [
    *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Venue/Get"), (b":authority", b"venue")),
    *((b"content-type", b"application/grpc"), (b"te", b"trailers")),
]
RESPONSE: Final[Fields] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Final[Fields] = [(b"grpc-status", b"0"), (b"grpc-message", b"")]
ODD_FIELDS: Final[Fields] = [
    *((b"content-length", b"5"), (b"content-length", b"x"), (b":path", b""), (b":status", b"103"), (b"Upper", b"a")),
    *((b"connection", b"close"), (b"te", b"gzip"), (b"x", b"a\0"), (b"", b""), (b"x-long", b"v" * 3000), (b"x", b"y")),
    *((b":method", b"HEAD"), (b":method", b"CONNECT"), (b":status", b"204"), (b"cookie", b"a=b"), (b":odd", b"")),
]
OTHERS: Final = (RST_STREAM, SETTINGS, PING, PRIORITY, GOAWAY, 0x42)
SIZES: Final = (0, 1, 2, 100, 16384, 16385, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1)


# The world around an engine


class Loop:
    """Of the loop's, what the engine uses. `turn` runs what was put off."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], object]] = []
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def call_soon(self, action: Callable[[], object]) -> None:
        self.soon.append(action)

    def call_later(self, delay: float, action: Callable[[], object]) -> Loop:
        return self

    def cancel(self) -> None:
        pass

    def turn(self) -> None:
        while self.soon:
            due, self.soon = self.soon, []
            for action in due:
                action()


class Transport:
    """Counts what is written."""

    def __init__(self) -> None:
        self.written = 0
        self.closing = False

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def writelines(self, pieces: list[bytes]) -> None:
        self.written += len(b"".join(pieces))

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        pass

    def abort(self) -> None:
        self.closing = True


class User(StreamUser):
    """Does something, most of it sensible, whenever it hears anything."""

    def __init__(self, end: End) -> None:
        self.end = end
        self.stream: H2Stream | None = None
        self.over = False

    def head_received(self, fields: Fields, end: bool) -> None:
        self._heard()

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        self._heard()
        assert self.stream is not None
        self.stream.consumed(size)

    def trailers_received(self, fields: Fields) -> None:
        self._heard()

    def stream_lost(self, code: int, unprocessed: bool, why: str) -> None:
        self._heard()
        self.over = True

    def stream_writable(self) -> None:
        self._heard()

    def _heard(self) -> None:
        if self.over:
            self.end.faults.append("a user heard something after its stream's end")
        self.act()

    def act(self) -> None:
        stream, random = self.stream, self.end.random
        if stream is None:
            return
        what = random.randrange(12)
        if what < 3:
            stream.send_head(self.end.head(), random.random() < 0.2)
        elif what < 6:
            stream.send_data([bytes(random.choice((0, 1, 100, 20_000)))] * random.randrange(3), random.random() < 0.3)
        elif what == 6:
            stream.send_trailers(TRAILERS)
        elif what == 7 and random.random() < 0.2:
            stream.reset(random.randrange(14))
            self.over = True
        elif what >= 8 and stream.sent_head and stream.writable:
            stream.send_data([bytes(300_000)], False)


class End(H2Connection):
    """One end, of either role, whose streams have users as above."""

    def __init__(self, client: bool, random: Random, loop: Loop) -> None:
        super().__init__(client, MAX_LIST, loop.time, loop)  # type: ignore[arg-type]
        self.random = random
        self.faults: list[str] = []
        self.users: list[User] = []
        self.ends = 0

    def head(self) -> Fields:
        return list(REQUEST if self.client else RESPONSE)

    def stream_opened(self, stream: H2Stream) -> StreamUser | None:
        if self.random.random() < 0.05:
            return None
        user = User(self)
        user.stream = stream
        self.users.append(user)
        return user

    def ended(self, why: str) -> None:
        self.ends += 1


# The conversations


def block(encoder: Encoder, fields: Fields) -> bytes:
    out: list[bytes] = []
    encoder.encode(fields, out)
    return b"".join(out)


class Talk:
    """What a peer of a server, or of a client, sends: mostly what it may at that moment."""

    def __init__(self, random: Random, client: bool) -> None:
        self.random = random
        self.client = client
        self.encoder = Encoder()
        self.opened = [1, 3, 5] if client else [-1]
        self.heads: dict[int, int] = {}
        """How many of each stream's."""
        self.ended = {-1}

    def frame(self) -> bytes:
        random = self.random
        kind = random.choice((HEADERS,) * 6 + (DATA,) * 6 + (WINDOW_UPDATE,) * 4 + OTHERS)
        stream_id = random.choice(self.opened[-5:])
        if random.random() < 0.005:
            stream_id = random.randrange(80)
        if kind == HEADERS:
            return self._headers(stream_id)
        if stream_id < 0:
            return b""
        if kind == DATA and (stream_id not in self.ended or random.random() < 0.01):
            data = bytes(random.choice((0, 1, 5, 64, 1000, 16384)))
            flags = random.choice((0, 0, 0, 1))
            if random.random() < 0.1:
                flags |= 8
                data = bytes([min(5, len(data))]) + data
            if flags & 1:
                self.ended.add(stream_id)
            return frames.frame(DATA, flags, stream_id, data)
        if kind == WINDOW_UPDATE:
            size = random.choice(SIZES) if random.random() < 0.05 else random.choice((1, 65536, 1 << 20))
            return frames.window_update(random.choice((0, abs(stream_id))), size)
        if kind == SETTINGS:
            size = random.choice(SIZES) if random.random() < 0.1 else random.choice((0, 10, 65535))
            key = random.randrange(1, 8) if random.random() < 0.1 else random.choice((1, 3, 4, 6, 9))
            return frames.settings([(key, size)] * random.randrange(3))
        if kind == PRIORITY:
            return frames.frame(PRIORITY, 0, stream_id, bytes(5))
        if kind == RST_STREAM and random.random() < 0.3:
            self.ended.add(stream_id)
            return frames.rst_stream(stream_id, random.randrange(14))
        if kind == GOAWAY and random.random() < 0.1:
            return frames.goaway(random.randrange(9), 0, "")
        return frames.frame(random.choice((PING, 0x42)), random.choice((0, 1)), 0, bytes(8))

    def _headers(self, stream_id: int) -> bytes:
        random = self.random
        if not self.client and random.random() < 0.7:
            stream_id = self.opened[-1] + 2
            self.opened.append(stream_id)
        elif self.client and random.random() < 0.3:
            stream_id = random.choice(self.opened)
        if stream_id < 0 or (stream_id in self.ended and random.random() < 0.99):
            return b""
        before = self.heads.get(stream_id, 0)
        self.heads[stream_id] = before + 1
        fields = list(TRAILERS if before else RESPONSE if self.client else REQUEST)
        while random.random() < 0.08:
            fields.insert(random.randrange(len(fields) + 1), random.choice(ODD_FIELDS))
        payload = block(self.encoder, fields)
        end = 1 if before or random.random() < 0.3 else 0
        if end:
            self.ended.add(stream_id)
        if random.random() < 0.1:
            at = random.randrange(len(payload))
            first = frames.frame(HEADERS, end, stream_id, payload[:at])
            return first + frames.frame(CONTINUATION, 4, stream_id, payload[at:])
        return frames.frame(HEADERS, 4 | end, stream_id, payload)


def mutated(data: bytes, random: Random) -> bytes:
    """None to three changes of a byte, or of a few, or of a frame's type."""
    for _ in range(random.choice((0, 0, 0, 1, 2, 3))):
        at = random.randrange(len(data) + 1)
        change = random.randrange(4)
        if change == 0:
            data = data[:at] + bytes([random.randrange(256)]) + data[at + 1 :]
        elif change == 1:
            data = data[:at] + data[at + random.randrange(1, 12) :]
        elif change == 2:
            data = data[:at] + random.randbytes(random.randrange(1, 12)) + data[at:]
        else:
            data = (
                data[:at] + frames.frame(random.choice((PUSH_PROMISE, CONTINUATION, 3)), 4, 1, b"\0\0\0\2") + data[at:]
            )
    return data


def conversation(random: Random, client: bool) -> list[bytes]:
    """What the other end sends, in the pieces that it comes in."""
    talk = Talk(random, client)
    sent = [b"" if client else frames.PREFACE, frames.settings([(4, random.choice((0, 10, 65535, 1 << 20)))])]
    sent += [talk.frame() for _ in range(random.randrange(1, 80))]
    data = mutated(b"".join(sent), random)
    pieces = []
    while data:
        size = random.choice((1, 9, 50, 1000, 100_000))
        pieces.append(data[:size])
        data = data[size:]
    return pieces


def open_one(end: End) -> None:
    user = User(end)
    user.stream = end.open(user)
    end.users.append(user)
    if user.stream is not None:
        user.stream.send_head(end.head(), end.random.random() < 0.5)


def converse(pieces: list[bytes], random: Random, client: bool) -> list[str]:
    """What went wrong."""
    loop = Loop()
    end = End(client, random, loop)
    transport: Any = Transport()
    end.connection_made(transport)
    try:
        for _ in range(3 if client else 0):
            open_one(end)
        for piece in pieces:
            if client and random.random() < 0.5:
                open_one(end)
            end.data_received(piece)
            if end.users and random.random() < 0.5:
                random.choice(end.users).act()
            chance = random.random()
            if chance < 0.1:
                end.pause_writing()
                for user in end.users:
                    user.act()
            elif chance < 0.3:
                end.resume_writing()
            elif chance < 0.32:
                end.drain()
                end.drain_finally()
            if random.random() < 0.5:
                loop.turn()
        if random.random() < 0.5:
            end.close()
        end.connection_lost(None)
        loop.turn()
    except Exception as error:
        return [f"{type(error).__name__} left the engine: {error}"]
    faults = end.faults
    if end.streams or end.writer.waiting or end.writer.unsent:
        faults.append(f"left: {len(end.streams)} streams, {len(end.writer.waiting)} waiting, {end.writer.unsent} bytes")
    if end.ends != 1:
        faults.append(f"the end was said {end.ends} times")
    for user in end.users:
        if user.stream is not None and (user.stream.unsent or user.stream.user is not None):
            faults.append(f"left in {user.stream}")
    return faults


# Blocks


def decode_alike(random: Random) -> list[str]:
    """A few blocks of one connection, the last of them mutated."""
    encoder, decoder, other = Encoder(), Decoder(1 << 20), hpack.Decoder(1 << 20)
    for _ in range(random.randrange(1, 5)):
        fields = [
            random.choice((*REQUEST, *ODD_FIELDS, (b"x", random.randbytes(3)))) for _ in range(random.randrange(9))
        ]
        data = mutated(block(encoder, fields), random)
        try:
            found = decoder.decode(data)
        except HpackError:
            return []
        try:
            wanted = [(bytes(name), bytes(value)) for name, value in other.decode(data, raw=True)]
        except Exception as error:
            return [f"{data.hex()}: taken as {found}, and hpack says {error!r}"]
        if found != wanted:
            return [f"{data.hex()}: read as {found}, and by hpack as {wanted}"]
    return []


# The run


class Caught(logging.Handler):
    """What the engine logs, which is a fault each time."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.records.append(f"{record.getMessage()}: {error!r}")


def fuzz(random: Random, goes_on: Callable[[int], bool], most: int = 10) -> tuple[int, list[str]]:
    """How many conversations there were, and the first faults; it is asked before each whether the run goes on."""
    caught = Caught()
    logger = logging.getLogger("sidecar.proxy.h2")
    logger.addHandler(caught)
    propagates, logger.propagate = logger.propagate, False
    faults: list[str] = []
    count = 0
    try:
        while len(faults) < most and goes_on(count):
            count += 1
            client = random.random() < 0.4
            pieces = conversation(random, client)
            found = converse(pieces, random, client) + caught.records + decode_alike(random)
            caught.records = []
            faults += [f"{'client' if client else 'server'}, {b''.join(pieces).hex()[:2000]}: {one}" for one in found]
    finally:
        logger.removeHandler(caught)
        logger.propagate = propagates
    return count, faults


def main(arguments: list[str] | None = None) -> int:
    """0 where all went well, 1 where not."""
    parser = argparse.ArgumentParser(prog="python -m tools.fuzz_h2", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long; default %(default)s")
    parser.add_argument("--seed", type=int, default=None, help="of the random changes; default: another each time")
    options = parser.parse_args(arguments)
    seed = options.seed if options.seed is not None else time.time_ns() % 2**32
    print(f"fuzz_h2: seed {seed}", flush=True)
    until = time.monotonic() + options.seconds
    count, faults = fuzz(Random(seed), lambda _: time.monotonic() < until)
    for fault in faults:
        print(fault)
    print(f"fuzz_h2: {count} conversations, {len(faults)} faults")
    return 1 if faults or not count else 0


if __name__ == "__main__":
    sys.exit(main())
