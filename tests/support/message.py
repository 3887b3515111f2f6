"""HTTP/1 messages as bytes: strict reading and writing for both ends of the rig, client and upstream.

It accepts no deviation: what it refuses, the daemon should not have sent. It has no sockets.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

Headers = list[tuple[str, str]]
"""Names and values in order, as latin-1 text, so that every byte is kept."""

HEAD_END = b"\r\n\r\n"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([^\x00-\x20\x7f]+) (HTTP/1\.[01])")
_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?")


class MalformedError(AssertionError):
    """The bytes are not HTTP according to RFC 9112."""


class BrokenError(Exception):
    """The other side ended before its message did. `how` is `eof`, `reset` or `timeout`."""

    def __init__(self, how: str, so_far: bytes = b"") -> None:
        super().__init__(how)
        self.how = how
        self.so_far = so_far


@dataclass
class Fields:
    """The header section of a request or a response."""

    head: bytes = b""
    headers: Headers = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The only value of `name`; None if absent. Two values are an error."""
        values = self.all(name)
        if len(values) > 1:
            raise AssertionError(f"{name} came {len(values)} times: {values}")
        return values[0] if values else None


def parse_fields(lines: Iterable[bytes]) -> Headers:
    headers = []
    for line in lines:
        if (match := _FIELD.fullmatch(line)) is None:
            raise MalformedError(f"header line {line!r}")
        headers.append((match[1].decode("latin-1"), match[2].decode("latin-1")))
    return headers


def parse_request_head(head: bytes) -> tuple[str, str, str, Headers]:
    """(method, target, version, headers) of a head that ends with its empty line."""
    first, *rest = head.removesuffix(HEAD_END).split(b"\r\n")
    if (match := _REQUEST_LINE.fullmatch(first)) is None:
        raise MalformedError(f"request line {first!r}")
    return match[1].decode(), match[2].decode("latin-1"), match[3].decode(), parse_fields(rest)


def parse_response_head(head: bytes) -> tuple[str, int, str, Headers]:
    """(version, status, phrase, headers) of a head that ends with its empty line."""
    first, *rest = head.removesuffix(HEAD_END).split(b"\r\n")
    if (match := _STATUS_LINE.fullmatch(first)) is None:
        raise MalformedError(f"status line {first!r}")
    return match[1].decode(), int(match[2]), match[3].decode("latin-1"), parse_fields(rest)


def body_framing(fields: Fields) -> str | int | None:
    """`"chunked"`, a length, or None if neither header is present. Any doubt is an error."""
    lengths, codings = fields.all("content-length"), fields.all("transfer-encoding")
    if lengths and codings:
        raise MalformedError(f"both Content-Length and Transfer-Encoding in {fields.head!r}")
    if len(lengths) > 1 or len(codings) > 1:
        raise MalformedError(f"framing given twice in {fields.head!r}")
    if codings:
        if codings[0] != "chunked":
            raise MalformedError(f"Transfer-Encoding {codings[0]!r}")
        return "chunked"
    if lengths:
        if re.fullmatch("[0-9]+", lengths[0]) is None:
            raise MalformedError(f"Content-Length {lengths[0]!r}")
        return int(lengths[0])
    return None


class Stream:
    """A buffer over a receive function. It reads lines, counted bytes and chunked bodies.

    `receive()` returns bytes, or b"" at the end of file, and raises OSError. In both cases, every reading method raises
    BrokenError.
    """

    def __init__(self, receive: Callable[[], bytes]) -> None:
        self._receive = receive
        self.buffer = bytearray()
        self.ended: str | None = None
        """`eof` or `reset`, after it has occurred."""

    def more(self) -> None:
        if self.ended is not None:
            raise BrokenError(self.ended)
        try:
            data = self._receive()
        except TimeoutError:
            raise BrokenError("timeout") from None
        except OSError:
            self.ended = "reset"
            raise BrokenError("reset") from None
        if not data:
            self.ended = "eof"
            raise BrokenError("eof")
        self.buffer += data

    def until(self, mark: bytes) -> bytes:
        """Everything up to `mark`, including it."""
        seen = 0
        while (at := self.buffer.find(mark, max(0, seen - len(mark)))) < 0:
            seen = len(self.buffer)
            self.more()
        return self.take(at + len(mark))

    def take(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def exactly(self, count: int, into: bytearray) -> None:
        """Appends `count` bytes to `into`. If the rest does not arrive, `into` has what did arrive."""
        while count:
            if not self.buffer:
                self.more()
            piece = self.take(min(count, len(self.buffer)))
            into += piece
            count -= len(piece)

    def chunked(self, into: bytearray) -> Headers:
        """Appends a chunked body to `into`; returns its trailers."""
        while True:
            line = self.until(b"\r\n")[:-2]
            if (match := _CHUNK_SIZE.fullmatch(line)) is None:
                raise MalformedError(f"chunk size line {line!r}")
            if not (size := int(match[1], 16)):
                break
            self.exactly(size, into)
            end = bytearray()
            self.exactly(2, end)
            if end != b"\r\n":
                raise MalformedError(f"chunk followed by {bytes(end)!r}")
        lines = []
        while line := self.until(b"\r\n")[:-2]:
            lines.append(line)
        return parse_fields(lines)


def head_bytes(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    return "".join([first, "\r\n", *(f"{name}: {value}\r\n" for name, value in headers), "\r\n"]).encode("latin-1")


def chunked(*pieces: bytes, trailers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A complete chunked body, one chunk for each piece."""
    out = bytearray()
    for piece in pieces:
        out += b"%x\r\n%b\r\n" % (len(piece), piece)
    return bytes(out) + head_bytes("0", trailers)
