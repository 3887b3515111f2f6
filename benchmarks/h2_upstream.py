"""`python -m benchmarks.h2_upstream PORT...`: an HTTP/2 upstream that costs next to nothing, for the gRPC cases.

It answers each request of `:path` /venue.Venue/Get, and every other, with one gRPC message of 150 bytes; or with one of
1 MiB if it was started with `--down`. It cannot be told apart by a proxy from a gRPC server, but reads no heads: HPACK
wants the whole connection's history, and the port says already what is asked. So it takes some 5 us a call in the
interpreter, and is never the bottleneck.

Windows are those of a grpcio server: 4 MiB a stream, and the connection's is returned as bytes come.
"""

from __future__ import annotations

import argparse
import asyncio
import struct
from collections import deque
from typing import Final, cast

import uvloop

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SMALL: Final = b"\x00" + struct.pack(">I", 145) + b"n" * 145
BIG: Final = b"\x00" + struct.pack(">I", (1 << 20) - 5) + b"n" * ((1 << 20) - 5)

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
HEADER_TABLE_SIZE: Final = 1
INITIAL_WINDOW_SIZE: Final = 4
WINDOW: Final = 4 << 20
FRAME: Final = 16_384


def literal(name: bytes, value: bytes, kind: bytes = b"\x40") -> bytes:
    """A field that goes into the dynamic table, without Huffman coding (RFC 7541 6.2.1); with `kind` 0 it does not."""
    return kind + bytes([len(name)]) + name + bytes([len(value)]) + value


OK: Final = b"\x88"
"""`:status: 200`, of the static table."""
FIELDS: Final = (
    (b"content-type", b"application/grpc"),
    (b"grpc-encoding", b"identity"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
)
FIRST_HEAD: Final = OK + b"".join(literal(*field) for field in FIELDS)
PLAIN_HEAD: Final = OK + b"".join(literal(*field, b"\0") for field in FIELDS)
"""For a peer that keeps no table, as nginx."""
HEAD_BEFORE_TRAILERS: Final = OK + b"\xc0\xbf\xbe"
"""The same from the dynamic table, whose newest entry is 62."""
HEAD: Final = OK + b"\xc1\xc0\xbf"
"""The same once the trailers' field is newer."""
FIRST_TRAILERS: Final = literal(b"grpc-status", b"0")
PLAIN_TRAILERS: Final = literal(b"grpc-status", b"0", b"\0")
TRAILERS: Final = b"\xbe"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


class Connection(asyncio.Protocol):
    """One connection. Answers are written once for each read."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._buffer = b""
        self._greeted = False
        self._out: list[bytes] = []
        self._head, self._trailers = FIRST_HEAD, FIRST_TRAILERS
        self._window = 65_535
        self._stream_window = 65_535
        self._windows: dict[int, int] = {}
        """What streams whose answer is on its way may still be sent."""
        self._waiting: deque[tuple[int, int]] = deque()
        """(stream, sent so far) of those answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._out.append(frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW)))
        self._out.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW)))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at = 0
        if not self._greeted:
            if len(data) < len(PREFACE):
                self._buffer = data
                return
            self._greeted = True
            at = len(PREFACE)
        size = len(data)
        taken = 0
        while at + 9 <= size:
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            end = at + 9 + length
            if end > size:
                break
            kind, flags = data[at + 3], data[at + 4]
            stream = int.from_bytes(data[at + 5 : at + 9], "big")
            if kind == DATA:
                taken += length
                if flags & END_STREAM:
                    self._answer(stream)
                elif length:
                    self._out.append(frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", length)))
            elif kind == HEADERS:
                if flags & END_STREAM:
                    self._answer(stream)
            else:
                self._control(kind, flags, stream, data[at + 9 : end])
            at = end
        self._buffer = data[at:]
        if taken:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", taken)))
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == INITIAL_WINDOW_SIZE:
                    for one in self._windows:
                        self._windows[one] += value - self._stream_window
                    self._stream_window = value
                elif name == HEADER_TABLE_SIZE and value == 0:
                    self._head, self._trailers = PLAIN_HEAD, PLAIN_TRAILERS
            self._out.append(frame(SETTINGS, ACK, 0))
            self._go_on()
        elif kind == PING and not flags & ACK:
            self._out.append(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream == 0:
                self._window += more
            elif stream in self._windows:
                self._windows[stream] += more
            self._go_on()
        elif kind == RST_STREAM:
            self._windows.pop(stream, None)

    def _answer(self, stream: int) -> None:
        self._out.append(frame(HEADERS, END_HEADERS, stream, self._head))
        if self._head is FIRST_HEAD:
            self._head = HEAD_BEFORE_TRAILERS
        self._windows[stream] = self._stream_window
        self._waiting.append((stream, 0))
        self._go_on()

    def _go_on(self) -> None:
        """Sends what the windows allow, to one stream after the other."""
        message = self._message
        for _ in range(len(self._waiting)):
            if not self._window:
                return
            stream, sent = self._waiting.popleft()
            window = self._windows.get(stream)
            if window is None:
                continue
            while (size := min(FRAME, len(message) - sent, window, self._window)) > 0:
                self._out.append(frame(DATA, 0, stream, message[sent : sent + size]))
                sent += size
                window -= size
                self._window -= size
            if sent == len(message):
                del self._windows[stream]
                self._out.append(frame(HEADERS, END_STREAM | END_HEADERS, stream, self._trailers))
                if self._trailers is FIRST_TRAILERS:
                    self._head, self._trailers = HEAD, TRAILERS
            else:
                self._windows[stream] = window
                self._waiting.append((stream, sent))


async def serve(ports: list[int], message: bytes) -> None:
    loop = asyncio.get_running_loop()
    for port in ports:
        await loop.create_server(lambda: Connection(message), "127.0.0.1", port, backlog=4096)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.h2_upstream")
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--down", action="store_true", help="answer with 1 MiB")
    options = parser.parse_args()
    uvloop.run(serve(options.ports, BIG if options.down else SMALL))


if __name__ == "__main__":
    main()
