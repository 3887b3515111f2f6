"""Heads that change the protocol, HTTP/2 to HTTP/1.1 and back: what the other side reads is what was said.

What goes to HTTP/1.1 is read by llhttp's own callbacks. What goes to HTTP/2 is held against the rules of RFC 9113,
section 8, written down here once more.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httptools
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sidecar.proxy.h2.request import H2RequestHead, read_request
from sidecar.proxy.h2.response import H2ResponseHead, read_response
from sidecar.proxy.http1.head_syntax import UNTIL_CLOSE, BadRequest, BadResponse
from sidecar.proxy.http1.request_head import RequestHead, parse_request
from sidecar.proxy.http1.response_head import ResponseHead, parse_response
from tests.proxy.heads import (
    HOP_BY_HOP,
    Fields,
    Seen,
    assert_same_framing,
    attempt,
    options_of,
    request_heads,
    response_heads,
)

# A name and a value as RFC 9113, section 8.2.1, has them, with RFC 9110's rule for tokens.
NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
VALUE = re.compile(rb"|[^\0\r\n\t ](?:[^\0\r\n]*[^\0\r\n\t ])?")
OF_A_CONNECTION = {b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"}

names = st.text(st.sampled_from("abcdefxyz-_1!~"), min_size=1, max_size=8).map(str.encode)
values = st.binary(max_size=12).map(lambda raw: re.sub(rb"[\0\r\n\x01-\x08\x0a-\x1f\x7f]", b"", raw).strip(b" \t"))
MEANT: dict[bytes, list[bytes]] = {
    b"cookie": [b"a=1", b"b=2; c=3", b""],
    b"te": [b"trailers"],
    b"content-length": [b"0", b"5", b"05"],
    b"content-type": [b"application/json", b"application/grpc"],
    b"host": [b"venue:3002", b"other"],
    b"expect": [b"100-continue"],
    b"x-request-id": [b"id", b""],
    b"traceparent": [b"00-1-2-01", b""],
    b"x-sidecar-service": [b"venue"],
    b"dapr-app-id": [b"venue", b"shop"],
    b"x-sidecar-loop": [b"a", b"b"],
    b"via": [b"1.1 a"],
    b"x-forwarded-prefix": [b"/a"],
    b"grpc-timeout": [b"100m"],
    b"proxy-authorization": [b"Basic x"],
    b"x-envoy-upstream-rq-timeout-ms": [b"100"],
    b"x-envoy-attempt-count": [b"3"],
    b"idempotency-key": [b"k"],
    b"location": [b"/a"],
    b"retry-after": [b"3"],
    b"date": [b"d"],
    b"x-sidecar-reason": [b"reset", b"loop"],
    b"x-sidecar-fallback": [b"stale"],
    b"grpc-status": [b"5"],
}
one_field = st.one_of(
    st.sampled_from(sorted(MEANT)).flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(MEANT[name]))),
    st.tuples(names, values),
)
fields_of_h2 = st.lists(one_field, max_size=7)
methods = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"M-SEARCH", b"PATCH"])
paths = st.sampled_from([b"/", b"/a?b=%2F//", b"/a b", b"/a#b", b"a", b"*", b"http://venue/x", b"/\xe9", b""])
authorities = st.sampled_from([b"venue:3002", b"venue", b"[::1]:80", b"u@h", b"", None])

STAY_HERE = {
    *(b"x-sidecar-service", b"dapr-app-id", b"proxy-authorization", b"grpc-timeout", b"host"),
    *(b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-expected-rq-timeout-ms", b"x-envoy-attempt-count"),
}


def seen(parser: Callable[[Seen], httptools.HttpRequestParser | httptools.HttpResponseParser], head: bytes) -> Seen:
    found = Seen()
    found.parser = parser(found)
    return found.feed(head)


def lengths(fields: Fields) -> list[bytes]:
    return [value for name, value in fields if name == b"content-length"]


def counted(fields: Fields) -> Fields:
    """As HTTP/1.1 is to have them: without what belongs to one connection, cookies as one, last."""
    kept = [field for field in fields if field[0] not in (b"te", b"cookie")]
    crumbs = [value for name, value in fields if name == b"cookie"]
    return kept + [(b"cookie", b"; ".join(crumbs).strip(b" "))] * bool(crumbs)


def assert_is_a_line(head: bytes) -> None:
    """No reader, however lenient, finds more lines than llhttp."""
    assert b"\n" not in head.replace(b"\r\n", b"")
    assert b"\r" not in head.replace(b"\r\n", b"")
    assert b"\0" not in head


@given(methods, paths, authorities, fields_of_h2, st.booleans())
@example(b"POST", b"/a", b"venue", [(b"content-length", b"5")], False)
@example(b"POST", b"/a", b"venue", [], False)
@example(b"POST", b"/a", b"venue", [], True)
@example(b"GET", b"/a", b"venue", [(b"cookie", b"a"), (b"x", b"1"), (b"cookie", b"b"), (b"te", b"trailers")], True)
def test_a_request_of_http_2_as_http_1(
    method: bytes, path: bytes, authority: bytes | None, fields: Fields, ended: bool
) -> None:
    # The engine refuses these before anybody else sees them.
    assume(len(set(lengths(fields))) <= 1)
    assume(not ended or not lengths(fields) or int(lengths(fields)[0]) == 0)
    line = [(b":method", method), (b":scheme", b"http"), (b":path", path)]
    line += [(b":authority", authority)] * (authority is not None)
    request = attempt(lambda: read_request([*line, *fields], ended=ended))
    if not isinstance(request, H2RequestHead):
        assert isinstance(request, BadRequest)
        assert request.status in (400, 431)
        assert request.detail
        return
    hosts = {value for name, value in fields if name == b"host"} | {authority} - {None}
    assert len(hosts) == 1, "two names for one request are refused"
    assert request.host in hosts

    sent = request.bytes_for(request.target, b"endpoint:80", b"\r\nx-more: 1")
    assert_is_a_line(sent)
    read = seen(httptools.HttpRequestParser, sent)
    assert (read.method, read.url, read.version, read.heads) == (method, path, "1.1", 1)
    wanted = [
        (name, value)
        for name, value in counted(fields)
        if name not in STAY_HERE and not (name in (b"x-request-id", b"traceparent") and not value)
    ]
    framing = [
        (name, value) for name, value in read.fields if name.lower() in (b"transfer-encoding", b"content-length")
    ]
    written = [one for one in read.fields if one not in framing]
    assert written == [
        *((b"Host", b"endpoint:80"),),
        *[one for one in wanted if one[0] != b"content-length"],
        *((b"x-more", b"1"),),
    ]
    assert len(framing) <= 1, "nobody can read two lengths"
    assert_same_framing(request.length, read)
    assert (read.complete == 1) or not ended


@given(methods, fields_of_h2)
def test_what_a_request_of_http_2_says_goes_on_over_http_2(method: bytes, fields: Fields) -> None:
    line = [(b":method", method), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"venue:3002")]
    request = attempt(lambda: read_request([*line, *fields], ended=True))
    if isinstance(request, H2RequestHead):
        sent = request.fields_for(b"/b", b"endpoint:80", b"http", [(b"x-more", b"1")])
        assert_is_http_2(sent, 4)
        assert [name for name, _ in sent[4:-1] if name in STAY_HERE] == []


def assert_is_http_2(fields: Fields, pseudo: int) -> None:
    assert all(name.startswith(b":") for name, _ in fields[:pseudo])
    for name, value in fields[pseudo:]:
        assert NAME.fullmatch(name), name
        assert VALUE.fullmatch(value), value
        assert name not in OF_A_CONNECTION
        assert name != b"te" or value == b"trailers"
        assert name != b"host"
    assert len(lengths(fields)) <= 1


@given(request_heads())
@example(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
@example(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0005\r\nConnection: x-a\r\nX-A: 1\r\n\r\n")
@example(b"GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nUpgrade: h2c\r\nConnection: upgrade, HTTP2-Settings\r\n\r\n")
def test_a_request_of_http_1_as_http_2(head: bytes) -> None:
    request = attempt(parse_request, head)
    if not isinstance(request, RequestHead) or request.unusual:
        return
    read = seen(httptools.HttpRequestParser, head)
    sent = request.fields_for(request.target, b"endpoint:80", b"http", [(b"x-more", b"1")])
    assert sent[:4] == [
        *((b":method", read.method), (b":scheme", b"http")),
        *((b":path", read.url), (b":authority", b"endpoint:80")),
    ]
    assert_is_http_2(sent, 4)
    lost = HOP_BY_HOP | STAY_HERE | {b"transfer-encoding"} | (options_of(read.fields) - {b"close", b"keep-alive"})
    wanted = []
    for name, value in read.fields:
        lower = name.lower()
        if lower in lost or (lower in (b"x-request-id", b"traceparent") and not value):
            continue
        if (lower == b"expect" and not request.minor) or (lower == b"x-forwarded-prefix" and (lower, b"") in wanted):
            continue
        if lower == b"x-forwarded-prefix" and any(found == lower for found, _ in wanted):
            continue
        wanted.append((lower, b"%d" % int(value) if lower == b"content-length" else value))
    asked = {b"grpc-timeout", b"x-sidecar-service", b"dapr-app-id"}  # HTTP/1.1 has no such metadata, so they stay
    assert [one for one in sent[4:-1] if one[0] not in asked] == wanted
    assert sent[-1] == (b"x-more", b"1")


statuses = st.sampled_from([b"200"] * 5 + [b"204", b"304", b"302", b"503", b"599", b"103"])


@given(statuses, fields_of_h2, st.sampled_from(["GET", "HEAD", "POST"]), st.booleans())
@example(b"200", [(b"content-length", b"5")], "GET", True)
@example(b"200", [(b"content-length", b"5")], "HEAD", True)
@example(b"204", [(b"content-length", b"5")], "GET", True)
@example(b"204", [(b"content-length", b"0")], "GET", True)
@example(b"304", [(b"content-length", b"5")], "GET", True)
@example(b"103", [(b"content-length", b"5")], "GET", False)
@example(b"200", [(b"content-length", b"5"), (b"content-length", b"5")], "GET", False)
@example(b"200", [(b"content-length", b"5"), (b"content-length", b"6")], "GET", False)
def test_a_response_of_http_2_as_http_1(status: bytes, fields: Fields, method: str, ended: bool) -> None:
    response = attempt(lambda: read_response([(b":status", status), *fields], method=method, ended=ended))
    if not isinstance(response, H2ResponseHead):
        assert isinstance(response, BadResponse)
        bodyless = method == "HEAD" or status in (b"204", b"304", b"103")
        wrong = len({int(value) for value in lengths(fields)}) > 1
        assert wrong or (ended and not bodyless and int(lengths(fields)[0]) > 0), response
        return
    unframed = response.length == UNTIL_CLOSE
    sent = response.bytes_for(b"\r\nTransfer-Encoding: chunked" if unframed else b"")
    assert_is_a_line(sent)
    found = Seen()
    parser = httptools.HttpResponseParser(found)
    found.parser = parser
    found.feed(sent)
    assert (found.status, found.heads) == (int(status), 1)
    assert len([name for name, _ in found.fields if name.lower() == b"content-length"]) <= 1
    if status in (b"204", b"103"):
        assert not lengths([(name.lower(), value) for name, value in found.fields]), "RFC 9110, section 8.6"
    if method != "HEAD" and not unframed and status != b"103":  # llhttp does not know what was asked for
        if ended and not lengths(response.fields):
            return  # whoever writes it to the app says that its length is 0
        assert_same_framing(response.length, found)


@given(response_heads(), st.sampled_from(["GET", "HEAD"]))
def test_a_response_of_http_1_as_http_2(head: bytes, method: str) -> None:
    response = attempt(parse_response, head, method)
    if isinstance(response, ResponseHead):
        sent = response.fields_for([(b"x-more", b"1")])
        assert sent[0] == (b":status", b"%d" % response.status)
        assert_is_http_2(sent, 1)
