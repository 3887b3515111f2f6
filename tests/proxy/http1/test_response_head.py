"""Heads of responses: held against llhttp's own callbacks on any input, then each rule and each bound by itself."""

from __future__ import annotations

import re

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.proxy.http1.head_syntax import CHUNKED, LONE_CR, MAX_FIELDS, NOT_HTTP, UNTIL_CLOSE, BadResponse
from sidecar.proxy.http1.response_head import ResponseHead, parse_response, why_no_response
from tests.proxy.heads import (
    HOP_BY_HOP,
    Fields,
    Seen,
    assert_same_framing,
    attempt,
    framed,
    options_of,
    response_heads,
)


def seen_response(head: bytes) -> Seen:
    """Raises HttpParserError."""
    seen = Seen()
    seen.parser = httptools.HttpResponseParser(seen)
    return seen.feed(head)


# Against llhttp.


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


@given(st.binary(max_size=80), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_a_refusal(data: bytes, blank: bool) -> None:
    head = data + b"\r\n\r\n" * blank
    assert isinstance(attempt(parse_response, head, "GET"), ResponseHead | BadResponse)
    assert why_no_response(head) in (NOT_HTTP, LONE_CR, None)


@given(response_heads())
def test_no_beginning_of_a_response_that_is_accepted_is_given_up(head: bytes) -> None:
    accepted = isinstance(attempt(parse_response, head, "GET"), ResponseHead)
    for end in range(len(head)):
        assert why_no_response(head[:end]) is None or not accepted


@pytest.mark.parametrize(
    ("beginning", "why"),
    [
        (b"", None),
        (b"HT", None),
        (b"HTTP/1.1 200 OK\r", None),
        (b"HTTP/1.0 200 OK\r\nX: y", None),
        (b"HTTP/1.1 200 OK\n", None),
        (b"HTTP/1.9", None),
        (b"HTTP/2", NOT_HTTP),
        (b"SSH-2", NOT_HTTP),
        (b"http/1.1", NOT_HTTP),
        (b"\r\n", NOT_HTTP),
        (b"HTTP/1.1 200 OK\rX", LONE_CR),
        (b"HTTP/1.1 200 OK\n\r\r", LONE_CR),
    ],
)
def test_whether_a_response_is_waited_for(beginning: bytes, why: str | None) -> None:
    assert why_no_response(beginning) == why
    for since in range(len(beginning)):
        assert why_no_response(beginning[:since]) or why_no_response(beginning, since) == why


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
        "HTTP/1.1 200",
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


@pytest.mark.parametrize("fields", [MAX_FIELDS - 1, MAX_FIELDS, MAX_FIELDS + 1])
def test_bound_on_the_number_of_fields(fields: int) -> None:
    more = [f"X-{number}: v" for number in range(fields - 1)]
    if fields <= MAX_FIELDS:
        assert len(relayed("Content-Length: 0", *more)) == fields
    else:
        with pytest.raises(BadResponse):
            answered("Content-Length: 0", *more)


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
    assert response.location() == b"/a"
    response.relocate(b"/venue/a")
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
    for phrase in (" OK", " ", " Rather Good"):
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


@pytest.mark.parametrize(
    ("fields", "dated"),
    [
        (["Date: x"], True),
        (["date:x"], True),
        (["DATE: x"], True),
        (["X-A: b", "dAtE:"], True),
        (["X-A: Date: x"], False),
        (["X-Date: x", "Update: y", "Dates: z"], False),
        (["Connection: date", "Date: x"], False),
        ([], False),
    ],
)
def test_whether_a_response_has_a_date(fields: list[str], dated: bool) -> None:
    assert answered(*fields, "Content-Length: 0").dated is dated


def test_the_same_head_over_http_2() -> None:
    response = answered("Content-Length: 3", "X-A:  1 ", "Connection: x-b", "X-B: 2")
    assert response.fields_for([(b"x-c", b"3")]) == [
        *((b":status", b"200"), (b"content-length", b"3"), (b"x-a", b"1"), (b"x-c", b"3")),
    ]
    assert response.location() is None
