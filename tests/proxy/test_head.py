"""Heads: held against llhttp's own callbacks on arbitrary input, then each rule and each bound by itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.proxy.head import (
    CHUNKED,
    MAX_FIELDS,
    MAX_HEAD,
    UNTIL_CLOSE,
    BadRequest,
    BadResponse,
    RequestHead,
    ResponseHead,
    check_partial,
    may_become_response,
    parse_request,
    parse_response,
)

Fields = list[tuple[bytes, bytes]]

HOP_BY_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"upgrade"}
WRITTEN_ANEW = {b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-expected-rq-timeout-ms", b"x-envoy-attempt-count"}


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


def seen_request(head: bytes) -> Seen:
    """Raises HttpParserError."""
    seen = Seen()
    seen.parser = httptools.HttpRequestParser(seen)
    return seen.feed(head)


def seen_response(head: bytes) -> Seen:
    """Raises HttpParserError."""
    seen = Seen()
    seen.parser = httptools.HttpResponseParser(seen)
    return seen.feed(head)


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
    phrase = draw(st.sampled_from([" OK", "", " ", " Rather Good", " caf\xe9", " a\tb", "OK", " \x01"]))
    return finish(draw, [f"{version} {code}{phrase}", *draw(lines)])


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


# Requests against llhttp.


def passed_on(fields: Fields, minor: int) -> Fields:
    """llhttp's fields less those that a request's are to lose."""
    lost = HOP_BY_HOP | WRITTEN_ANEW | (options_of(fields) - {b"close", b"keep-alive", b"upgrade", b"te"})
    out = []
    prefixes = 0
    for name, value in fields:
        lower = name.lower()
        prefixes += lower == b"x-forwarded-prefix"
        if (
            lower in lost
            or (lower in (b"x-request-id", b"traceparent") and not value)  # we make one
            or (lower == b"expect" and not minor)
            or (lower == b"x-forwarded-prefix" and prefixes > 1)
        ):
            continue
        out.append((name, b"endpoint:80") if lower == b"host" else framed(name, value))
    return out if any(name.lower() == b"host" for name, _ in out) else [(b"Host", b"endpoint:80"), *out]


@given(request_heads())
@example(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\nConnection: x-a\r\nX-A: 1\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nConnection: x-a\r\nX-A: 1\r\nHost: x-a:1\r\nx-a:2\r\n\r\n")
def test_a_request_is_refused_or_read_as_llhttp_reads_it(head: bytes) -> None:
    request = attempt(parse_request, head)
    if not isinstance(request, RequestHead):
        assert isinstance(request, BadRequest)
        assert request.status in (400, 405, 431, 501)
        assert request.detail
        return
    seen = seen_request(head)  # what passes here passes there
    assert seen.heads == 1
    assert (request.method.encode(), request.target, f"1.{request.minor}") == (seen.method, seen.url, seen.version)
    hosts = [value for name, value in seen.fields if name.lower() == b"host"]
    assert [request.host] == (hosts or [None])

    sent = seen_request(request.bytes_for(request.target, b"endpoint:80", b""))
    assert (sent.method, sent.url, sent.version, sent.heads) == (seen.method, seen.url, "1.1", 1)
    assert [framed(*one) for one in sent.fields] == passed_on(seen.fields, request.minor)
    assert not sent.upgrade

    both = {b"close", b"keep-alive"} <= options_of(seen.fields)  # llhttp keeps an HTTP/1.0 connection then, we do not
    others_say = any(name.lower() == b"proxy-connection" for name, _ in seen.fields)  # llhttp minds it, we do not
    if not (both or others_say):
        assert request.keep_alive == seen.keep_alive
    if not seen.upgrade:
        assert_same_framing(request.length, seen_request(head))
    assert_same_framing(request.length, sent)


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


@given(st.binary(max_size=80), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_a_refusal(data: bytes, blank: bool) -> None:
    head = data + b"\r\n\r\n" * blank
    for refusal in (attempt(parse_request, head), attempt(check_partial, head)):
        if isinstance(refusal, BadRequest):
            assert refusal.status in (400, 405, 431, 501)
    refusal = attempt(parse_response, head, "GET")
    assert isinstance(refusal, ResponseHead | BadResponse)
    assert may_become_response(head) in (True, False)


@given(request_heads())
def test_no_beginning_of_a_head_that_is_accepted_is_refused(head: bytes) -> None:
    if isinstance(attempt(parse_request, head), RequestHead):
        for end in range(1, len(head)):
            check_partial(head[:end])


@given(request_heads())
def test_what_is_refused_early_would_be_refused_whole(head: bytes) -> None:
    for end in range(1, len(head)):
        early = attempt(check_partial, head[:end])
        if early is not None:
            assert isinstance(early, BadRequest)
            assert early.status == 400
            assert isinstance(attempt(parse_request, head), BadRequest)


# Requests, rule by rule.


def read(*fields: str, line: str = "GET /venue/a HTTP/1.1", host: str | None = "Host: localhost") -> RequestHead:
    lines = [line, *([host] if host is not None else []), *fields]
    return parse_request("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")


def sent_on(*fields: str, **more: str) -> list[str]:
    """The field lines that go upstream, Host apart."""
    request = read(*fields, **more)
    head = request.bytes_for(b"/", b"h", b"").decode("latin-1")
    return [line for line in head[:-4].split("\r\n")[1:] if line != "Host: h"]


HEAD = "Host: a\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("GET /", "no version"),
        ("GET  / HTTP/1.1", "one space"),
        ("GET  HTTP/1.1", "one space"),
        ("GET", "one space"),
        ("GET / HTTP/1.2", "only HTTP/1.1 and HTTP/1.0"),
        ("GET / HTTP/2.0", "only HTTP/1.1 and HTTP/1.0"),
        ("GET / HTTP/1.1\nHost:a", "CRLF"),
        ("GET /caf\xe9 HTTP/1.1", "percent-encode"),
        ("GET /\x7f HTTP/1.1", "percent-encode"),
        ("G@T / HTTP/1.1", "not an HTTP request"),
    ],
)
def test_what_is_wrong_with_a_request_line_is_said(line: str, words: str) -> None:
    head = f"{line}\r\n{HEAD}".encode("latin-1")
    with pytest.raises(BadRequest, match=words):
        parse_request(head)
    with pytest.raises(BadRequest, match=words):
        check_partial(head[:-2])


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /\r\n\r\n", 400),  # HTTP/0.9
        ("GET  / HTTP/1.1\r\n" + HEAD, 400),
        ("GET /  HTTP/1.1\r\n" + HEAD, 400),
        ("GET / HTTP/1.1 \r\n" + HEAD, 400),
        (" GET / HTTP/1.1\r\n" + HEAD, 400),
        ("GET\t/\tHTTP/1.1\r\n" + HEAD, 400),
        ("GET / HTTP/2.0\r\n" + HEAD, 400),
        ("GET / HTTP/1.2\r\n" + HEAD, 400),
        ("GET / http/1.1\r\n" + HEAD, 400),
        ("PRI * HTTP/2.0\r\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\n" + HEAD, 400),
        ("GET /\xe9 HTTP/1.1\r\n" + HEAD, 400),
        ("G@T / HTTP/1.1\r\n" + HEAD, 400),
        ("{} / HTTP/1.1\r\n" + HEAD, 400),
        ("\x16\x03\x01 / HTTP/1.1\r\n" + HEAD, 400),
        ("get / HTTP/1.1\r\n" + HEAD, 501),
        ("BREW / HTTP/1.1\r\n" + HEAD, 501),
        ("CONNECT venue:80 HTTP/1.1\r\n" + HEAD, 405),
        ("GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),  # folded
        ("GET / HTTP/1.1\r\n X: a\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\nX : a\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\nX\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\n: a\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\nX: a\0b\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\nX: a\x7fb\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\nX: a\nY: b\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\nX: a\rY: b\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length: x\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length: +5\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length: -5\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length:\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n" + HEAD, 400),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + HEAD, 501),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + HEAD, 501),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n" + HEAD, 501),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n" + HEAD, 501),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + HEAD, 501),
        ("GET / HTTP/1.1\r\nConnection: a b\r\n" + HEAD, 400),
        ("GET / HTTP/1.1\r\nConnection: x@y\r\n" + HEAD, 400),
    ],
)
def test_what_is_refused(head: str, status: int) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_request(head.encode("latin-1"))
    assert caught.value.status == status


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "Content-Length",
        "content-type",
        "Content-Anything",
        "Transfer-Encoding",
        "Authorization",
        "Cookie",
        "Via",
        "X-Request-Id",
        "traceparent",
        "tracestate",
        "X-Forwarded-Prefix",
        "Idempotency-Key",
        "x-envoy-upstream-rq-timeout-ms",
        "X-Envoy-Attempt-Count",
        "x-sidecar-reason",
    ],
)
def test_connection_may_not_name_what_is_not_hop_by_hop(name: str) -> None:
    for value in (name, f"keep-alive, {name.upper()}", f"close,{name.lower()} ", f",,{name}"):
        with pytest.raises(BadRequest) as caught:
            read(f"Connection: {value}")
        assert caught.value.status == 400
    with pytest.raises(BadRequest):
        read("Connection: close", f"connection: {name}")


def test_what_connection_names_stays_here() -> None:
    fields = ["X-A: 1", "x-keep: 2", "X-b: 3", "X-A: 4", "X-AB: 5"]
    assert sent_on("Connection: x-a", *fields, "connection: keep-alive, X-B") == ["x-keep: 2", "X-AB: 5"]
    assert sent_on(*fields, "Connection: x-none") == fields


def test_what_connection_names_does_not_touch_a_value() -> None:
    assert sent_on("Connection: x-a", "X-B: x-a: 1", host="Host: x-a") == ["X-B: x-a: 1"]


@pytest.mark.parametrize(
    "field",
    [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic x",
        "TE: trailers",
        "Upgrade: h2c",
        "Upgrade: websocket",
        "Connection: keep-alive",
        "CONNECTION: close",
        "tE:gzip",
        "X-Envoy-Upstream-Rq-Timeout-Ms: 5",
        "x-envoy-expected-rq-timeout-ms: 5",
        "x-envoy-attempt-count: 5",
    ],
)
def test_hop_by_hop_fields_stay_here(field: str) -> None:
    assert sent_on("X-A: 1", field, "X-B: 2", field) == ["X-A: 1", "X-B: 2"]


def test_other_fields_pass_byte_for_byte() -> None:
    fields = ["x-lower:1", "X-UPPER:  two  spaces ", "Accept:*/*", "X-Latin: caf\xe9", "Te2: x", "Viaduct: y", "A:"]
    assert sent_on(*fields) == fields


def test_host_keeps_its_place_and_its_name() -> None:
    request = parse_request(b"GET /a HTTP/1.1\r\nX-A: 1\r\nhOsT:  venue:3002 \r\nX-B: 2\r\n\r\n")
    assert request.host == b"venue:3002"
    assert request.bytes_for(b"/b", b"new:1", b"\r\nMore: 3") == (
        b"GET /b HTTP/1.1\r\nX-A: 1\r\nhOsT:  new:1\r\nX-B: 2\r\nMore: 3\r\n\r\n"
    )


def test_host_is_added_where_there_was_none() -> None:
    request = read("X-A: 1", line="GET /a HTTP/1.0", host=None)
    assert request.host is None
    assert request.bytes_for(b"/a", b"h", b"") == b"GET /a HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n"


@pytest.mark.parametrize("host", ["a", "a.b:80", "a:", "", "[::1]", "[fe80::1]:80", "a_b", "127.0.0.1:1"])
def test_host_may_be(host: str) -> None:
    assert read(host=f"Host: {host}").host == host.encode()


@pytest.mark.parametrize(
    ("target", "host", "meant"),
    [
        ("/venue/a", "h:1", b"h:1"),
        ("http://venue:3002/a?b", "h", b"venue:3002"),
        ("http://venue?b", "h", b"venue"),
        ("HTTP://Venue", "h", b"Venue"),
        ("/a?u=http://venue/", "h", b"h"),
    ],
)
def test_host_that_the_app_addressed(target: str, host: str, meant: bytes) -> None:
    assert read(line=f"GET {target} HTTP/1.1", host=f"Host: {host}").host_sent() == meant


@pytest.mark.parametrize(
    ("fields", "length", "written"),
    [
        (["Content-Length: 5"], 5, ["Content-Length: 5"]),
        (["content-length:5"], 5, ["content-length:5"]),
        (["Content-Length: 0"], 0, ["Content-Length: 0"]),
        (["Content-Length: 0005"], 5, ["Content-Length: 5"]),
        (["Content-Length: 00"], 0, ["Content-Length: 0"]),
        (["Content-Length: 5 "], 5, ["Content-Length: 5"]),
        (["transfer-encoding:CHUNKED "], CHUNKED, ["Transfer-Encoding: chunked"]),
        ([], 0, []),
    ],
)
def test_framing_of_a_request(fields: list[str], length: int, written: list[str]) -> None:
    assert read(*fields, line="POST / HTTP/1.1").length == length
    assert sent_on("X-A: 1", *fields, "X-B: 2", line="POST / HTTP/1.1") == ["X-A: 1", *written, "X-B: 2"]


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        ("1.1", None, True),
        ("1.1", "close", False),
        ("1.1", "Close", False),
        ("1.1", "keep-alive", True),
        ("1.1", "x-a, close", False),
        ("1.1", "keep-alive, close", False),
        ("1.0", None, False),
        ("1.0", "keep-alive", True),
        ("1.0", "Keep-Alive, x-a", True),
        ("1.0", "close", False),
        ("1.0", "keep-alive, close", False),
        ("1.0", "x-a", False),
    ],
)
def test_whether_the_app_keeps_its_connection(version: str, connection: str | None, kept: bool) -> None:
    fields = [f"Connection: {connection}"] if connection else []
    assert read(*fields, line=f"GET / HTTP/{version}").keep_alive is kept


@pytest.mark.parametrize(
    ("line", "fields", "asked"),
    [
        ("GET / HTTP/1.1", ["Connection: Upgrade", "Upgrade: websocket"], True),
        ("GET / HTTP/1.1", ["Connection: keep-alive, upgrade", "upgrade: WebSocket "], True),
        ("GET / HTTP/1.1", ["Upgrade: websocket"], False),
        ("GET / HTTP/1.1", ["Connection: upgrade"], False),
        ("GET / HTTP/1.1", ["Connection: upgrade", "Upgrade: h2c"], False),
        ("GET / HTTP/1.1", ["Connection: upgrade", "Upgrade: websocket, h2c"], False),
        ("GET / HTTP/1.1", ["Connection: upgrade", "Upgrade: websocket", "Upgrade: websocket"], False),
        ("GET / HTTP/1.1", ["Connection: upgrade", "Upgrade: websocket", "Content-Length: 1"], False),
        ("GET / HTTP/1.1", ["Connection: upgrade", "Upgrade: websocket", "Transfer-Encoding: chunked"], False),
        ("POST / HTTP/1.1", ["Connection: upgrade", "Upgrade: websocket"], False),
        ("GET / HTTP/1.0", ["Connection: upgrade", "Upgrade: websocket"], False),
    ],
)
def test_what_asks_for_a_tunnel(line: str, fields: list[str], asked: bool) -> None:
    assert read(*fields, line=line).websocket is asked
    assert not [one for one in sent_on(*fields, line=line) if "pgrade" in one]


def test_what_policies_need_of_a_request() -> None:
    request = read(
        *("Via: 1.0 a", "x-request-id: id ", "Traceparent: 00-1-2-01", "VIA: 1.1 b", "idempotency-key: k"),
        *("Expect: 100-Continue", "x-envoy-expected-rq-timeout-ms: 50", "X-Envoy-Upstream-Rq-Timeout-Ms: 70"),
    )
    assert request.via == b"1.0 a, 1.1 b"
    assert request.request_id == b"id"
    assert request.traceparent == b"00-1-2-01"
    assert request.idempotency_key
    assert request.expects_continue
    assert request.deadline_ms == (b"50", b"70")

    request = read()
    assert (request.via, request.request_id, request.traceparent, request.deadline_ms) == (None, None, None, ())
    assert [request.idempotency_key, request.expects_continue, request.websocket] == [False] * 3


def test_empty_ids_are_none() -> None:
    request = read("X-Request-Id:", "traceparent: ")
    assert (request.request_id, request.traceparent) == (None, None)
    assert sent_on("X-Request-Id:", "traceparent: ", "X-A: 1") == ["X-A: 1"]


def test_two_traceparents_are_one_that_is_malformed() -> None:
    assert read("traceparent: 00-1-2-01", "Traceparent: 00-3-4-01").traceparent == b"00-1-2-01, 00-3-4-01"


def test_empty_id_beside_a_good_one_is_as_if_it_were_not_there() -> None:
    """Else the upstream gets the app's id and one of ours."""
    request = read("X-Request-Id: id", "traceparent: 00-1-2-01", "x-request-id:", "Traceparent: ")
    assert (request.request_id, request.traceparent) == (b"id", b"00-1-2-01")


def test_http_1_0_expects_nothing() -> None:
    """RFC 9110, section 10.1.1."""
    assert not read("Expect: 100-continue", line="POST / HTTP/1.0").expects_continue
    assert sent_on("Expect: 100-continue", line="POST / HTTP/1.0") == []
    assert sent_on("Expect: 100-continue", line="POST / HTTP/1.1") == ["Expect: 100-continue"]


@pytest.mark.parametrize("fields", [MAX_FIELDS - 1, MAX_FIELDS, MAX_FIELDS + 1])
def test_bound_on_the_number_of_fields(fields: int) -> None:
    assert MAX_FIELDS == 128
    more = [f"X-{number}: v" for number in range(fields - 1)]
    answer = "\r\n".join(["HTTP/1.1 200 OK", "Content-Length: 0", *more]).encode() + b"\r\n\r\n"
    if fields <= MAX_FIELDS:
        assert len(sent_on(*more)) == fields - 1
        assert parse_response(answer, "GET").status == 200
    else:
        with pytest.raises(BadRequest) as caught:
            read(*more)
        assert caught.value.status == 431
        with pytest.raises(BadResponse):
            parse_response(answer, "GET")


@pytest.mark.parametrize(
    "beginning",
    [
        "G",
        "GET",
        "GET ",
        "GET /",
        "GET / HTTP/1.",
        "GET / HTTP/1.1\r",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHo",
        "GET / HTTP/1.1\r\nHost: a\r",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
    ],
)
def test_beginnings_of_a_head_are_waited_for(beginning: str) -> None:
    check_partial(beginning.encode())


@pytest.mark.parametrize(
    "beginning",
    [
        "\x16\x03\x01",
        " ",
        "\r",
        "\rX",
        "\n",
        "GET\t",
        "GE(",
        "GET\r\n",
        "GET /\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r\nHost: a\n",
        "GET / HTTP/1.1\r\nHost: a\rX",
        "GET  / HTTP/1.1\r\n",
    ],
)
def test_what_cannot_become_a_head_is_refused_at_once(beginning: str) -> None:
    with pytest.raises(BadRequest) as caught:
        check_partial(beginning.encode())
    assert caught.value.status == 400


# Responses against llhttp.


def passed_back(fields: Fields, status: int) -> Fields:
    """llhttp's fields less those that a response's are to lose."""
    bodyless = status < 200 or status in (204, 304)
    framing = {b"content-length", b"transfer-encoding", b"location"}
    lost = HOP_BY_HOP | (options_of(fields) - framing - {b"close", b"keep-alive", b"upgrade", b"te"})
    lost |= {b"transfer-encoding", b"x-envoy-attempt-count"}
    if bodyless and status != 304:
        lost |= {b"content-length"}
    return [
        framed(name, value)
        for name, value in fields
        if name.lower() not in lost and not (name.lower() == b"x-sidecar-reason" and value != b"loop")
    ]


@given(response_heads(), st.sampled_from(["GET", "HEAD", "POST"]))
@example(b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", "GET")
@example(b"HTTP/1.1 200 OK\r\nConnection: location\r\nLocation: /a\r\n\r\n", "GET")
def test_a_response_is_refused_or_read_as_llhttp_reads_it(head: bytes, method: str) -> None:
    response = attempt(parse_response, head, method)
    if not isinstance(response, ResponseHead):
        assert isinstance(response, BadResponse)
        assert str(response)
        return
    seen = seen_response(head)
    assert (response.status, seen.heads) == (seen.status, 1)
    assert 100 <= response.status <= 599

    relayed = seen_response(response.bytes_for(b""))
    assert (relayed.status, relayed.version, relayed.heads) == (seen.status, "1.1", 1)
    assert [framed(*one) for one in relayed.fields] == passed_back(seen.fields, response.status)

    if method == "HEAD" or response.status < 200 or response.status in (204, 304):
        assert response.length == 0
    else:
        assert_same_framing(response.length, seen)
    others_say = any(name.lower() == b"proxy-connection" for name, _ in seen.fields)
    both = {b"close", b"keep-alive"} <= options_of(seen.fields)
    if response.keep_alive and not others_say and not both and response.length > 0:
        assert seen.keep_alive  # never kept where llhttp would not


@given(response_heads())
def test_no_beginning_of_a_response_that_is_accepted_is_given_up(head: bytes) -> None:
    accepted = isinstance(attempt(parse_response, head, "GET"), ResponseHead)
    for end in range(len(head)):
        assert may_become_response(head[:end]) or not accepted


@pytest.mark.parametrize(
    ("beginning", "waits"),
    [
        (b"", True),
        (b"HT", True),
        (b"HTTP/1.1 200 OK\r", True),
        (b"HTTP/1.0 200 OK\r\nX: y", True),
        (b"HTTP/2", False),
        (b"SSH-2", False),
        (b"http/1.1", False),
        (b"HTTP/1.1 200 OK\n", False),
        (b"HTTP/1.1 200 OK\rX", False),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD - 20), True),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD - 19), False),
    ],
)
def test_whether_a_response_is_waited_for(beginning: bytes, waits: bool) -> None:
    assert may_become_response(beginning) is waits


def answered(*fields: str, line: str = "HTTP/1.1 200 OK", method: str = "GET") -> ResponseHead:
    return parse_response("\r\n".join([line, *fields]).encode("latin-1") + b"\r\n\r\n", method)


def relayed(*fields: str, **more: str) -> list[str]:
    """The field lines that go to the app."""
    return answered(*fields, **more).bytes_for(b"").decode("latin-1")[:-4].split("\r\n")[1:]


@pytest.mark.parametrize(
    "head",
    [
        "HTTP/1.1 600 X",
        "HTTP/1.1 099 X",
        "HTTP/1.1 20 X",
        "HTTP/1.1 2000 X",
        "HTTP/2.0 200 OK",
        "HTTP/1.1  200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 200OK",
        "HTTP/1.1 200 O\x00K",
        "ICY 200 OK",
        "HTTP/1.1",
        "SSH-2.0-x",
        "HTTP/1.1 +20 X",
        "HTTP/1.1 200 OK\r\nX : a",
        "HTTP/1.1 200 OK\r\nX: a\r\n b",
        "HTTP/1.1 200 OK\r\nX: a\x00",
        "HTTP/1.1 200 OK\r\nX",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1",
        "HTTP/1.1 200 OK\r\nContent-Length: x",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nContent-Length:",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200 OK\r\nX: a\nY: b",
    ],
)
def test_what_is_no_response(head: str) -> None:
    with pytest.raises(BadResponse):
        parse_response(head.encode("latin-1") + b"\r\n\r\n", "GET")


@pytest.mark.parametrize(
    ("status", "method", "fields", "length", "written"),
    [
        (200, "GET", ["Content-Length: 5"], 5, ["Content-Length: 5"]),
        (200, "GET", ["Content-Length: 005"], 5, ["Content-Length: 5"]),
        (200, "GET", ["Content-Length: 0"], 0, ["Content-Length: 0"]),
        (200, "GET", ["Transfer-Encoding: chunked"], CHUNKED, []),
        (200, "GET", [], UNTIL_CLOSE, []),
        (200, "HEAD", ["Content-Length: 5"], 0, ["Content-Length: 5"]),
        (200, "HEAD", ["Content-Length: 05"], 0, ["Content-Length: 5"]),
        (200, "HEAD", ["Transfer-Encoding: chunked"], 0, []),
        (200, "HEAD", [], 0, []),
        (204, "GET", ["Content-Length: 5"], 0, []),
        (204, "GET", ["Transfer-Encoding: chunked"], 0, []),
        (304, "GET", ["Content-Length: 5"], 0, ["Content-Length: 5"]),
        (100, "POST", ["Content-Length: 5"], 0, []),
        (103, "GET", ["Content-Length: 5"], 0, []),
    ],
)
def test_framing_of_a_response(status: int, method: str, fields: list[str], length: int, written: list[str]) -> None:
    line = f"HTTP/1.1 {status} X"
    assert answered(*fields, line=line, method=method).length == length
    assert relayed("X-A: 1", *fields, "X-B: 2", line=line, method=method) == ["X-A: 1", *written, "X-B: 2"]


@pytest.mark.parametrize(
    ("version", "fields", "kept"),
    [
        ("1.1", ["Content-Length: 0"], True),
        ("1.1", ["Content-Length: 0", "Connection: close"], False),
        ("1.1", ["Content-Length: 0", "Connection: X-A, Close"], False),
        ("1.1", ["Content-Length: 0", "Connection: keep-alive"], True),
        ("1.1", ["Transfer-Encoding: chunked"], True),
        ("1.1", [], False),
        ("1.1", ["Connection: keep-alive"], False),
        ("1.0", ["Content-Length: 0"], False),
        ("1.0", ["Content-Length: 0", "Connection: Keep-Alive"], True),
        ("1.0", ["Content-Length: 0", "Connection: Keep-Alive, close"], False),
    ],
)
def test_whether_the_upstream_keeps_its_connection(version: str, fields: list[str], kept: bool) -> None:
    assert answered(*fields, line=f"HTTP/{version} 200 OK").keep_alive is kept


@pytest.mark.parametrize(
    "field",
    [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: close",
        "Proxy-Authorization: x",
        "TE: x",
        "Upgrade: h2c",
        "Connection: keep-alive",
        "X-Sidecar-Reason: reset",
        "x-sidecar-reason:circuit_open",
        "X-Envoy-Attempt-Count: 3",
        "X-Mine: 1",
    ],
)
def test_fields_of_a_response_that_stay_here(field: str) -> None:
    fields = ["Connection: x-mine", "X-A: 1", field, "X-B: 2", "Content-Length: 0"]
    assert relayed(*fields) == ["X-A: 1", "X-B: 2", "Content-Length: 0"]


def test_a_loop_is_one_wherever_it_was_found() -> None:
    assert relayed("x-sidecar-reason: loop ", "Content-Length: 0")[0].rstrip() == "x-sidecar-reason: loop"


def test_connection_of_a_response_cannot_strip_its_framing() -> None:
    fields = ["Location: /a", "Content-Length: 5"]
    assert relayed("Connection: content-length, location, transfer-encoding", *fields) == fields


def test_location_can_be_put_right() -> None:
    response = answered("X-A: 1", "location:  /a ", "X-B: 2", "Content-Length: 0", line="HTTP/1.1 302 Found")
    assert response.pieces[response.location_at] == b"/a"
    response.pieces[response.location_at] = b"/venue/a"
    assert response.bytes_for(b"") == (
        b"HTTP/1.1 302 Found\r\nX-A: 1\r\nlocation:  /venue/a\r\nX-B: 2\r\nContent-Length: 0\r\n\r\n"
    )
    assert answered("Content-Length: 0").location_at == -1


def test_location_is_found_among_fields_that_connection_strips() -> None:
    response = answered("X-A: 1", "Connection: x-a, x-b", "Location: /a", "X-B: 2", "Content-Length: 0")
    assert response.pieces[response.location_at] == b"/a"
    assert response.bytes_for(b"") == b"HTTP/1.1 200 OK\r\nLocation: /a\r\nContent-Length: 0\r\n\r\n"


def test_retry_after_is_read_and_passes() -> None:
    assert answered("Retry-After:  3 ", "Content-Length: 0").retry_after == b"3"
    assert relayed("Retry-After: 3", "Content-Length: 0") == ["Retry-After: 3", "Content-Length: 0"]


def test_status_line_passes_as_version_1_1() -> None:
    for phrase in (" OK", "", " ", " Rather Good"):
        head = answered("Content-Length: 0", line=f"HTTP/1.0 299{phrase}").bytes_for(b"\r\nConnection: close")
        assert head == f"HTTP/1.1 299{phrase}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


@pytest.mark.parametrize(
    ("fields", "agreed"),
    [
        (["Connection: Upgrade", "Upgrade: WebSocket"], True),
        (["Connection: keep-alive, Upgrade", "Upgrade: websocket"], True),
        (["Connection: Upgrade", "Upgrade: h2c"], False),
    ],
)
def test_what_agrees_to_a_tunnel(fields: list[str], agreed: bool) -> None:
    response = answered(*fields, line="HTTP/1.1 101 Switching Protocols")
    assert response.websocket is agreed
    assert not re.search(rb"upgrade|connection", response.bytes_for(b""), re.IGNORECASE)


@pytest.mark.parametrize("field", ["Upgrade: websocket", "Connection: Upgrade", "X-A: 1"])
def test_half_an_agreement_is_no_response(field: str) -> None:
    with pytest.raises(BadResponse):
        answered(field, line="HTTP/1.1 101 Switching Protocols")


def test_endpoint_that_says_it_should_get_no_requests() -> None:
    response = parse_response(b"HTTP/1.1 200 OK\r\nX-Envoy-Immediate-Health-Check-Fail: true\r\nA: b\r\n\r\n", "GET")
    assert response.immediate_fail
    assert response.bytes_for(b"") == b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n"
    assert not parse_response(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", "GET").immediate_fail
