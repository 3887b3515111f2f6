"""Heads that are nearly right, and what llhttp itself makes of a head, by its own callbacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httptools
from hypothesis import strategies as st

from sidecar.proxy.http1.head_syntax import CHUNKED, UNTIL_CLOSE, BadRequest, BadResponse

Fields = list[tuple[bytes, bytes]]

HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"upgrade"}


# What llhttp itself says of a head.


@dataclass
class Seen:
    """llhttp's view, by its callbacks."""

    method: bytes = b""
    status: int = 0
    version: str = ""
    url: bytes = b""
    fields: Fields = field(default_factory=list)
    heads: int = 0
    complete: int = 0
    keep_alive: bool = False
    upgrade: bool = False
    body: bytes = b""

    def __post_init__(self) -> None:
        self.parser: httptools.HttpRequestParser | httptools.HttpResponseParser | None = None

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        parser = self.parser
        assert parser is not None
        self.heads += 1
        self.version = parser.get_http_version()
        self.keep_alive = parser.should_keep_alive()
        if isinstance(parser, httptools.HttpRequestParser):
            self.method = parser.get_method()
        else:
            self.status = parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1

    def feed(self, data: bytes) -> Seen:
        assert self.parser is not None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.upgrade = True
        return self


# Heads that are nearly right.

TOKEN = st.text(st.sampled_from("abXY-_1!~"), min_size=1, max_size=6)
VALUES = {
    "Host": ["venue", "venue:3002", "[::1]:80", "", "a b", "u@h", "h:x"],
    "Connection": ["close", "keep-alive", "Keep-Alive, X-A", "upgrade", "x-a", "x-a,,x-b ", "Close ,x", "host", "a b"],
    "Content-Length": ["0", "5", "05", "000", "5 ", "+5", "5,5", "-1", "0x5", "", "99999999999999999999", "20"],
    "Transfer-Encoding": ["chunked", "Chunked", "chunked ", "gzip", "gzip, chunked", "chunked, gzip", "", "identity"],
    "Upgrade": ["websocket", "WebSocket ", "h2c", "websocket, h2c", ""],
    "Expect": ["100-continue", "100-Continue ", "other"],
    "Via": ["1.1 a", "1.0 b, 1.1 c"],
    "X-Request-Id": ["id", "", " "],
    "traceparent": ["00-1-2-01", ""],
    "X-Forwarded-Prefix": ["/a", ""],
    "Idempotency-Key": ["k"],
    "x-envoy-upstream-rq-timeout-ms": ["100", "x"],
    "x-envoy-expected-rq-timeout-ms": ["7"],
    "x-envoy-attempt-count": ["3", "1", "x"],
    "Keep-Alive": ["timeout=5"],
    "Proxy-Authorization": ["Basic x"],
    "TE": ["trailers"],
    "Location": ["/a", "http://venue/x "],
    "Retry-After": ["3", " 4 "],
    "X-Sidecar-Reason": ["reset", "loop", "loop "],
    "X-A": ["1", "two  words", "caf\xe9", "\ttab\t", ""],
    "X-B": ["x: y", '"q"'],
    "Hosts": ["not host"],
    "Content-Lengths": ["7"],
    "X-Via": ["no"],
}
CASES = [str, str.lower, str.upper, str.swapcase]
known = st.sampled_from(sorted(VALUES)).flatmap(
    lambda name: st.builds(
        lambda case, gap, value: f"{case(name)}:{gap}{value}",
        st.sampled_from(CASES),
        st.sampled_from(["", " ", "\t", "  "]),
        st.sampled_from(VALUES[name]),
    )
)
any_field = st.builds(
    lambda name, value: f"{name}: {value}",
    TOKEN,
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=12),
)
lines = st.lists(st.one_of(known, known, known, known, any_field), max_size=5)
versions = st.sampled_from(["HTTP/1.1"] * 12 + ["HTTP/1.0"] * 6 + ["HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.2", ""])


def finish(draw: st.DrawFn, head: list[str]) -> bytes:
    """The head's bytes, sometimes with a few of them changed, up to its first blank line."""
    data = bytearray("\r\n".join(head).encode("latin-1", "replace") + b"\r\n\r\n")
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        until = at + draw(st.integers(0, 2))
        data[at:until] = draw(
            st.sampled_from([b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b":", b"\0", b"\x7f", b"\xff", b"0"])
        )
    if b"\r\n\r\n" not in data:
        data += b"\r\n\r\n"
    return bytes(data[: data.index(b"\r\n\r\n") + 4])


methods = st.sampled_from(["GET"] * 8 + ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH", "CONNECT", "get", "A"])
targets = st.one_of(
    st.sampled_from(["/", "/venue/a?b=%2F//", "*", "http://venue:3002/x", "http://venue?x=/", "/a#b", "a:80", "/é"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=8).map("/".__add__),
)


@st.composite
def request_heads(draw: st.DrawFn) -> bytes:
    head = [f"{draw(methods)} {draw(targets)} {draw(versions)}"]
    if draw(st.integers(0, 5)):
        head.append(draw(st.sampled_from(["Host: venue", "hOST:venue:3002 ", "Host: "])))
    return finish(draw, [*head, *draw(lines)])


@st.composite
def response_heads(draw: st.DrawFn) -> bytes:
    version = draw(versions)
    code = draw(
        st.sampled_from(["200"] * 9 + ["100", "101", "103", "204", "304", "302", "503", "599", "099", "600", "2"])
    )
    phrase = draw(st.sampled_from([" OK", " OK", "", " ", " Rather Good", " caf\xe9", " a\tb", "OK", " \x01"]))
    return finish(draw, [f"{version} {code}{phrase}", *draw(lines)])


T = TypeVar("T")


def attempt(read: Callable[..., T], *args: object) -> T | BadRequest | BadResponse:
    """What was read, or the refusal. Nothing else may be raised."""
    try:
        return read(*args)
    except (BadRequest, BadResponse) as refusal:
        return refusal


def options_of(fields: Fields) -> set[bytes]:
    """What Connection names."""
    values = b",".join(value for name, value in fields if name.lower() == b"connection")
    return {option.strip(b" \t").lower() for option in values.split(b",")} - {b""}


def framed(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A framing field as we write it: its name's case is ours to choose."""
    if name.lower() == b"content-length":
        return b"content-length", b"%d" % int(value)
    return (b"transfer-encoding", b"chunked") if name.lower() == b"transfer-encoding" else (name, value)


def assert_same_framing(length: int, seen: Seen) -> None:
    """llhttp, which was fed the head, ends the message where `length` says."""
    if length == CHUNKED:
        assert not seen.complete
        seen.feed(b"3\r\nabc\r\n0\r\n\r")
        assert not seen.complete
        seen.feed(b"\n")
        assert (seen.complete, seen.body) == (1, b"abc")
    elif length == UNTIL_CLOSE:
        seen.feed(b"a" * 100)
        assert (seen.complete, seen.body) == (0, b"a" * 100)
    else:
        if length:
            assert not seen.complete
            seen.feed(b"a" * (length - 1))
            assert not seen.complete
            seen.feed(b"a")
        assert (seen.complete, len(seen.body)) == (1, length)
