"""Heads of requests: held against llhttp's own callbacks on any input, then each rule and each bound by itself."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.proxy.http1.head_syntax import CHUNKED, MAX_FIELDS, BadRequest
from sidecar.proxy.http1.request_head import ConnectAsked, RequestHead, check_partial, parse_request
from tests.proxy.heads import (
    HOP_BY_HOP,
    Fields,
    Seen,
    assert_same_framing,
    attempt,
    framed,
    options_of,
    request_heads,
)

WRITTEN_ANEW = {b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-expected-rq-timeout-ms", b"x-envoy-attempt-count"}


def seen_request(head: bytes) -> Seen:
    """Raises HttpParserError."""
    seen = Seen()
    seen.parser = httptools.HttpRequestParser(seen)
    return seen.feed(head)


# Against llhttp.


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
    if request.unusual:
        method = request.method.encode()
        with pytest.raises(httptools.HttpParserError):
            seen_request(head)
        assert seen_request(b"PUT" + head[len(method) :]).heads == 1  # nothing else is wrong with it
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


@given(st.binary(max_size=80), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_a_refusal(data: bytes, blank: bool) -> None:
    head = data + b"\r\n\r\n" * blank
    for refusal in (attempt(parse_request, head), attempt(check_partial, head)):
        if isinstance(refusal, BadRequest):
            assert refusal.status in (400, 405, 431, 501)


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


# Rule by rule.


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
    "head",
    [
        "CONNECT venue:80 HTTP/1.1\r\nHost: venue:80\r\n\r\n",
        "CONNECT venue:80 HTTP/1.0\r\nHost: venue:80\r\nUser-Agent: grpc-httpcli/0.0\r\n\r\n",  # grpc-core's
        "CONNECT venue:80 HTTP/1.0\r\n\r\n",
        "CONNECT venue:80 HTTP/1.1\r\nContent-Length: 0\r\nProxy-Connection: keep-alive\r\nHost: other\r\n\r\n",
    ],
)
def test_a_connect_says_what_authority_it_asks_for(head: str) -> None:
    with pytest.raises(ConnectAsked) as asked:
        parse_request(head.encode())
    assert (asked.value.authority, asked.value.status) == (b"venue:80", 405)


def test_tls_is_known_for_what_it_is() -> None:
    for head in (b"\x16\x03\x01\x02", b"\x16\x03\x01\x02\r\n\r\n"):
        with pytest.raises(BadRequest, match="this is TLS"):
            check_partial(head)


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
        ("get / HTTP/1.1\r\nX : y\r\n" + HEAD, 501),
        ("PLAY / HTTP/1.1\r\nX : y\r\n" + HEAD, 400),
        ("PRI / HTTP/1.1\r\n" + HEAD, 400),
        ("CONNECT venue:80 HTTP/1.1\r\n" + HEAD, 405),
        ("CONNECT venue HTTP/1.1\r\n" + HEAD, 400),
        ("CONNECT venue: HTTP/1.1\r\n" + HEAD, 400),
        ("CONNECT /venue HTTP/1.1\r\n" + HEAD, 400),
        ("CONNECT http://venue:80 HTTP/1.1\r\n" + HEAD, 400),
        ("CONNECT a@venue:80 HTTP/1.1\r\n" + HEAD, 400),
        ("CONNECT venue:80 HTTP/1.1\r\nContent-Length: 1\r\n" + HEAD, 400),
        ("CONNECT venue:80 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HEAD, 400),
        ("CONNECT venue:80 HTTP/1.1\r\nHost: b\r\n" + HEAD, 400),
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
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + HEAD, 501),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, gzip\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n" + HEAD, 501),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked,\r\n" + HEAD, 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n" + HEAD, 400),
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


@pytest.mark.parametrize("method", ["BREW", "get", "PLAY", "!#$%&'*+-.^_`|~", "POSTS", "GE"])
@pytest.mark.parametrize("fields", [(), ("Content-Length: 5",), ("Transfer-Encoding: chunked",), ("Upgrade: h2c",)])
def test_a_method_that_llhttp_does_not_know(method: str, fields: tuple[str, ...]) -> None:
    """Everything else of the head is as with a method that it knows."""
    request, known = read(*fields, line=f"{method} / HTTP/1.1"), read(*fields, line="PUT / HTTP/1.1")
    assert (request.method, request.unusual, known.unusual) == (method, True, False)
    for name in ("target", "host", "pieces", "length", "keep_alive", "websocket", "expects_continue"):
        assert getattr(request, name) == getattr(known, name)


@pytest.mark.parametrize("fields", [MAX_FIELDS - 1, MAX_FIELDS, MAX_FIELDS + 1])
def test_bound_on_the_number_of_fields(fields: int) -> None:
    assert MAX_FIELDS == 128
    more = [f"X-{number}: v" for number in range(fields - 1)]
    if fields <= MAX_FIELDS:
        assert len(sent_on(*more)) == fields - 1
    else:
        with pytest.raises(BadRequest) as caught:
            read(*more)
        assert caught.value.status == 431


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


def test_the_same_head_over_http_2() -> None:
    head = parse_request(
        b"POST /a HTTP/1.1\r\nHost: venue:3002\r\nX-A:  1 \r\nTE: trailers\r\nConnection: x-b\r\nX-B: 2\r\n"
        b"Transfer-Encoding: chunked\r\nCookie: a=1; b=2\r\n\r\n"
    )
    assert head.fields_for(b"/a", b"10.0.0.7:80", b"http", [(b"x-c", b"3")]) == [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"10.0.0.7:80")),
        *((b"x-a", b"1"), (b"cookie", b"a=1; b=2"), (b"x-c", b"3")),
    ]
