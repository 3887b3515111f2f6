"""The compiled head scanner: what it takes and what it leaves, and that the parser reads all it takes the same."""

from __future__ import annotations

import importlib
import random
import re
import sys
from types import ModuleType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.proxy.http1 import request_head, response_head, scan
from sidecar.proxy.http1.head_syntax import CHUNKED, MAX_FIELDS, UNTIL_CLOSE
from tests.proxy.heads import request_heads, response_heads
from tests.support import wants
from tools import fuzz_scan

pytestmark = wants.of_the_machine("a C compiler and Python's headers", there=wants.can_compile())


@pytest.fixture(scope="module")
def scanner(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return fuzz_scan.load(fuzz_scan.build(tmp_path_factory.mktemp("scanner")))


def request_of(*fields: str, line: str = "GET /venue/a HTTP/1.1", host: str | None = "Host: localhost:15001") -> bytes:
    lines = [line, *([host] if host is not None else []), *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def response_of(*fields: str, line: str = "HTTP/1.1 200 OK") -> bytes:
    return "\r\n".join([line, *fields]).encode("latin-1") + b"\r\n\r\n"


def takes_request(scanner: ModuleType, head: bytes, max_fields: int = MAX_FIELDS) -> bool:
    """Whether the scanner takes it. If so, the parser has to read the same."""
    taken, unlike = fuzz_scan.request_difference(scanner, head, max_fields)
    assert not unlike, head
    return taken


def takes_response(scanner: ModuleType, head: bytes, method: str = "GET", max_fields: int = MAX_FIELDS) -> bool:
    taken, unlike = fuzz_scan.response_difference(scanner, head, method, max_fields)
    assert not unlike, head
    return taken


# What is taken.

REQUESTS = {
    "httpx": [
        "Accept: */*",
        "Accept-Encoding: gzip, deflate",
        "Connection: keep-alive",
        "User-Agent: python-httpx/0.28.1",
    ],
    "curl": ["User-Agent: curl/8.5.0", "Accept: */*"],
    "with a body": ["Content-Type: application/json", "Content-Length: 512"],
    "Node's fetch": ["connection: keep-alive", "accept: */*", "accept-language: *", "sec-fetch-mode: cors"],
    "Go, with a body of unknown length": ["User-Agent: Go-http-client/1.1", "Transfer-Encoding: chunked"],
    "closing": ["Connection: close"],
    "traced": ["X-Request-Id: 7f3a", "traceparent: 00-0af7-b7ad-01", "tracestate: a=b", "X-B3-TraceId: 1"],
    "of a request that passed a sidecar": [
        *("x-sidecar-loop: a1", "x-envoy-attempt-count: 1", "x-envoy-expected-rq-timeout-ms: 4999"),
        *("X-Request-Id: 7f3a", "x-envoy-upstream-rq-timeout-ms: 200"),
    ],
    "that may be repeated": ["Idempotency-Key: 1", "Content-Length: 0"],
    "signed in": ["Authorization: Bearer e", "Cookie: a=b; c=d", "X-Tenant: caf\xe9"],
}


@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(
    "line",
    [
        *("GET / HTTP/1.1", "HEAD /venue/a?b=%2F&c[]=~d HTTP/1.1", "POST /a HTTP/1.1", "PUT /a//b HTTP/1.1"),
        *("PATCH /a/../b HTTP/1.1", "DELETE /a HTTP/1.1", "OPTIONS /a HTTP/1.1"),
        *("GET http://venue-service:3002/a?b HTTP/1.1", "GET http://venue/ HTTP/1.1"),
    ],
)
def test_ordinary_requests_are_taken(scanner: ModuleType, line: str, fields: list[str]) -> None:
    assert takes_request(scanner, request_of(*fields, line=line))
    assert takes_request(scanner, request_of(*fields, "host:\t Venue_1.example:80 \t", line=line, host=None))


RESPONSES = {
    "nginx": ["Server: nginx", "Date: x", "Content-Type: text/html", "Content-Length: 30", "Connection: keep-alive"],
    "uvicorn": ["date: x", "server: uvicorn", "content-length: 2", "content-type: application/json"],
    "Express": [
        "X-Powered-By: Express",
        "Content-Length: 2",
        "ETag: W/1",
        "Connection: keep-alive",
        "Keep-Alive: timeout=5",
    ],
    "chunked": ["Content-Type: text/plain", "Transfer-Encoding: chunked", "Date: x"],
    "chunked, in lower case": ["transfer-encoding:chunked"],
    "until the connection closes": ["Connection: close", "Content-Type: text/plain"],
    "redirecting": ["Location: /a/b?c", "Content-Length: 0"],
    "asking for patience": ["Retry-After: 3 ", "Content-Length: 0"],
    "of a service with a sidecar": ["x-envoy-attempt-count: 2", "x-sidecar-fallback: stale", "Content-Length: 0"],
    "with cookies": ["Set-Cookie: a=b", "Set-Cookie: c=d", "Content-Length: 0"],
}


@pytest.mark.parametrize("fields", RESPONSES.values(), ids=RESPONSES)
@pytest.mark.parametrize(
    "line", ["HTTP/1.1 200 OK", "HTTP/1.1 404 ", "HTTP/1.1 302 Found", "HTTP/1.1 599 caf\xe9 \t x"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ordinary_responses_are_taken(scanner: ModuleType, line: str, fields: list[str], method: str) -> None:
    assert takes_response(scanner, response_of(*fields, line=line), method)


@pytest.mark.parametrize("line", ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified"])
def test_responses_that_never_have_a_body_are_taken(scanner: ModuleType, line: str) -> None:
    assert takes_response(scanner, response_of("ETag: a", "Date: x", line=line))


def test_what_is_found_in_a_request(scanner: ModuleType) -> None:
    fields = (
        "A: 1",
        "Connection: close",
        "X-Request-Id: id ",
        "traceparent: 00-1",
        "x-sidecar-loop: a ",
        "Content-Length: 7",
    )
    more = (
        "Keep-Alive: x",
        "x-envoy-attempt-count: 2",
        "x-envoy-upstream-rq-timeout-ms: 5 ",
        "Idempotency-Key: k",
        "B:2",
    )
    head = request_of(*fields[:1], "Host:  a:80 ", *fields[1:], *more, line="POST /x HTTP/1.1", host=None)
    behind = (
        b"\r\nX-Request-Id: id \r\ntraceparent: 00-1\r\nx-sidecar-loop: a \r\nContent-Length: 7"
        b"\r\nIdempotency-Key: k\r\nB:2"
    )
    assert scanner.scan_request(head, MAX_FIELDS) == (
        *("POST", b"/x", b"a:80", 7, False, True, True, b"id", b"00-1", b"a ", (b"5 ",)),
        [b"\r\nA: 1\r\nHost:  ", b"a:80", behind],
    )
    least = (*("GET", b"/venue/a", b"localhost:15001", 0, True, False, False, None, None, None, ()),)
    assert scanner.scan_request(request_of(), 1) == (*least, [b"\r\nHost: ", b"localhost:15001", b""])


def test_what_is_found_in_a_response(scanner: ModuleType) -> None:
    head = response_of(
        "Connection: close", "A: 1", "location: /a ", "Retry-After: 3 ", "DATE: x", "Content-Length: 7", "Keep-Alive: x"
    )
    assert scanner.scan_response(head, False, MAX_FIELDS) == (
        *(200, b" 200 OK", 7, False, True, True, b"3"),
        [b"\r\nA: 1\r\nlocation: ", b"/a", b"\r\nRetry-After: 3 \r\nDATE: x\r\nContent-Length: 7"],
    )
    plain = response_of("A: 1", "Transfer-Encoding: Chunked")
    assert scanner.scan_response(plain, False, 2) == (200, b" 200 OK", CHUNKED, True, False, False, None, [b"\r\nA: 1"])
    assert scanner.scan_response(plain, True, 2)[2] == 0
    assert scanner.scan_response(response_of(), False, 0) == (
        200,
        b" 200 OK",
        UNTIL_CLOSE,
        False,
        False,
        False,
        None,
        [b""],
    )


def test_parsers_have_what_the_scanner_found(scanner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(request_head, "parse_thoroughly")
    monkeypatch.delattr(response_head, "parse_thoroughly")
    with fuzz_scan.used(scanner):
        request = request_head.parse_request(request_of("A: 1", "Content-Length: 5"))
        response = response_head.parse_response(response_of("A: 1", "Location: /a", "Content-Length: 5"), "GET")
    assert request.bytes_for(b"/a", b"b", b"") == b"GET /a HTTP/1.1\r\nHost: b\r\nA: 1\r\nContent-Length: 5\r\n\r\n"
    assert (request.length, response.length, response.status) == (5, 5, 200)
    assert response.pieces[response.location_at] == b"/a"


# What is left to the parser.


@pytest.mark.parametrize(
    "line",
    [
        *("GET / HTTP/1.0", "GET / HTTP/1.2", "GET / http/1.1", "GET / HTTP/1.1 ", "GET / HTTP/1.1\n", "GET /", "GET"),
        *("GET  / HTTP/1.1", "GET /  HTTP/1.1", " GET / HTTP/1.1", "GET\t/ HTTP/1.1", "GET / a HTTP/1.1", "", " "),
        *(
            "get / HTTP/1.1",
            "PRI / HTTP/1.1",
            "CONNECT / HTTP/1.1",
            "TRACE / HTTP/1.1",
            "GETS / HTTP/1.1",
            "GE / HTTP/1.1",
        ),
        *("GET * HTTP/1.1", "GET a HTTP/1.1", "GET /a#b HTTP/1.1", "GET /\xe9 HTTP/1.1", "GET /\x7f HTTP/1.1"),
        *("GET http://a HTTP/1.1", "GET http:///a HTTP/1.1", "GET http://u@a/ HTTP/1.1", "GET http://[::1]/ HTTP/1.1"),
        *("GET HTTP://a/ HTTP/1.1", "GET https://a/ HTTP/1.1", "GET http://a?b HTTP/1.1", "GET http://a:b/ HTTP/1.1"),
    ],
)
def test_request_lines_that_are_left(scanner: ModuleType, line: str) -> None:
    assert not takes_request(scanner, request_of(line=line))


@pytest.mark.parametrize(
    "field",
    [
        *(
            "Host: a",
            "HOST: localhost:15001",
            "Connection: close, te",
            "Connection: x-a",
            "Connection: ",
            "Connection: closed",
        ),
        *("Content-Length: ", "Content-Length: 05", "Content-Length: 00", "Content-Length: +5", "Content-Length: -5"),
        *("Content-Length: 5 ", "Content-Length: 5,5", "Content-Length: 0x5", "Content-Length: 1234567890123456"),
        *("Transfer-Encoding: gzip", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked"),
        *(
            "Transfer-Encoding: Chunked",
            "transfer-encoding: chunked",
            "Transfer-Encoding:chunked",
            "Transfer-Encoding: chunked ",
        ),
        *(
            "Transfer-Encoding:  chunked",
            "Transfer-Encoding: chunked\t",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: ",
        ),
        *("Upgrade: websocket", "Expect: 100-continue", "TE: trailers", "Via: 1.1 a", "Proxy-Connection: close"),
        *("Proxy-Authorization: a", "X-Forwarded-Prefix: /a", "X-Request-Id: ", "traceparent:", "x-sidecar-loop:"),
        *(
            "x-envoy-attempt-count: x",
            "x-envoy-attempt-count: 01",
            "x-envoy-attempt-count: ",
            "x-envoy-attempt-count: 1 ",
        ),
        *("A : b", "A", ": b", " A: b", "A: b\r\n c", "A: b\r\n\tc", "A: b\nC: d", "A: b\rC: d", "A: b\r\r\nC: d"),
        *("A: \x00", "A: \x7f", "A: \x01", "A\x00: b", "A(: b", "\xe9: b", "A\t: b", "A;: b"),
    ],
)
def test_fields_of_requests_that_are_left(scanner: ModuleType, field: str) -> None:
    assert not takes_request(scanner, request_of(field))
    assert not takes_request(scanner, request_of("X-A: b", field, "X-C: d"))


@pytest.mark.parametrize(
    "name",
    [name for name in request_head.REQUEST_NAMES if name != "keep-alive"],
)
def test_a_field_that_matters_is_taken_once(scanner: ModuleType, name: str) -> None:
    for value in ("1", "close", "chunked", "a:80"):
        field = f"{name.title()}: {value}"
        assert not takes_request(scanner, request_of(field, f"{name}: {value}", host="Host: b"))
        assert not takes_request(scanner, request_of(field, field, host="Host: b"))


@pytest.mark.parametrize(
    "host",
    [
        None,
        "Host:",
        "Host: ",
        "Host: a b",
        "Host: u@a",
        "Host: [::1]:80",
        "Host: a:b",
        "Host: a:80:80",
        "Host: :80",
        "Hosts: a",
        "Host: a,b",
        "Host: a/b",
    ],
)
def test_requests_without_a_plain_host_are_left(scanner: ModuleType, host: str | None) -> None:
    assert not takes_request(scanner, request_of("A: b", host=host))


def test_a_request_framed_in_two_ways_is_left(scanner: ModuleType) -> None:
    """Request smuggling begins with one that is not."""
    fields = ["Content-Length: 5", "Transfer-Encoding: chunked"]
    assert not takes_request(scanner, request_of(*fields))
    assert not takes_request(scanner, request_of(*reversed(fields)))
    assert not takes_request(scanner, request_of("Content-Length: 0", fields[1]))
    assert not takes_response(scanner, response_of(*fields))
    assert not takes_response(scanner, response_of(*reversed(fields)))


@pytest.mark.parametrize(
    "line",
    [
        *(
            "HTTP/1.0 200 OK",
            "HTTP/1.2 200 OK",
            "http/1.1 200 OK",
            "HTTP/1.1 200",
            "HTTP/1.1  200 OK",
            "HTTP/1.1\t200 OK",
        ),
        *(
            "HTTP/1.1 100 Continue",
            "HTTP/1.1 101 x",
            "HTTP/1.1 199 x",
            "HTTP/1.1 600 x",
            "HTTP/1.1 2000 x",
            "HTTP/1.1 20 x",
        ),
        *(
            "HTTP/1.1 2x0 x",
            "HTTP/1.1 200\tOK",
            "HTTP/1.1 200 O\x00K",
            "HTTP/1.1 200 O\x7fK",
            "HTTP/1.1 200 O\rK",
            "",
            "HTTP/1.1",
        ),
    ],
)
def test_status_lines_that_are_left(scanner: ModuleType, line: str) -> None:
    assert not takes_response(scanner, response_of("Content-Length: 0", line=line))


@pytest.mark.parametrize(
    "field",
    [
        *(
            "Content-Length: ",
            "Content-Length: 05",
            "Content-Length: 5 ",
            "Content-Length: 5,5",
            "Connection: close, x-a",
        ),
        *(
            "Connection: upgrade",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: chunked ",
            "Transfer-Encoding: chunked, gzip",
        ),
        *(
            "Upgrade: h2c",
            "TE: a",
            "Proxy-Connection: close",
            "Proxy-Authorization: a",
            "x-sidecar-reason: loop",
            "Retry-After:",
        ),
        *("x-sidecar-reason: reset", "x-envoy-immediate-health-check-fail: true"),
        *(
            "A : b",
            "A",
            ": b",
            " A: b",
            "A: b\r\n c",
            "A: b\nC: d",
            "A: b\rC: d",
            "A: \x00",
            "A: \x7f",
            "A(: b",
            "\xe9: b",
        ),
    ],
)
def test_fields_of_responses_that_are_left(scanner: ModuleType, field: str) -> None:
    assert not takes_response(scanner, response_of(field))
    assert not takes_response(scanner, response_of("X-A: b", field, "X-C: d"), "HEAD")


@pytest.mark.parametrize(
    "field",
    [
        "Content-Length: 5",
        "Transfer-Encoding: chunked",
        "Connection: close",
        "Location: /a",
        "Retry-After: 3",
        "Date: x",
    ],
)
def test_a_field_of_a_response_that_matters_is_taken_once(scanner: ModuleType, field: str) -> None:
    assert takes_response(scanner, response_of(field))
    assert not takes_response(scanner, response_of(field, field))


@pytest.mark.parametrize("line", ["HTTP/1.1 204 No Content", "HTTP/1.1 304 Not Modified"])
@pytest.mark.parametrize("field", ["Content-Length: 5", "Content-Length: 0", "Transfer-Encoding: chunked"])
def test_framing_of_what_has_no_body_is_left(scanner: ModuleType, line: str, field: str) -> None:
    assert not takes_response(scanner, response_of(field, line=line))


def test_a_head_ends_with_its_bytes(scanner: ModuleType) -> None:
    for head, scan_one in (
        (request_of("A: b"), lambda part: scanner.scan_request(part, 9)),
        (response_of("A: b"), lambda part: scanner.scan_response(part, False, 9)),
    ):
        assert scan_one(head) is not None
        assert [end for end in range(len(head)) if scan_one(head[:end]) is not None] == []
        assert [more for more in (b"\r", b"\n", b"\r\n", b"\x00", head) if scan_one(head + more) is not None] == []


def test_bounds_on_the_number_of_fields(scanner: ModuleType) -> None:
    fields = [f"X-{number}: v" for number in range(9)]
    for most in (8, 9, 10):
        assert takes_request(scanner, request_of(*fields[1:]), most) == (most >= 9)
        assert takes_response(scanner, response_of(*fields), max_fields=most) == (most >= 9)


def test_bound_on_the_lines_that_stay_here(scanner: ModuleType) -> None:
    for count in (11, 12, 13):
        assert takes_request(scanner, request_of(*["Keep-Alive: a", "A: b"] * count)) == (count <= 12)
        assert takes_response(scanner, response_of(*["Keep-Alive: a"] * count)) == (count <= 12)


# Held against the parser.


@pytest.mark.parametrize(
    "place",
    ["GE%T / HTTP/1.1", "GET /a%b HTTP/1.1", "GET http://a%b/ HTTP/1.1", "GET http://a:8%/ HTTP/1.1", "GET /%HTTP/1.1"],
)
def test_every_byte_in_a_request_line(scanner: ModuleType, place: str) -> None:
    taken = {code for code in range(256) if takes_request(scanner, request_of(line=place.replace("%", chr(code))))}
    assert taken <= set(range(0x21, 0x7F)) | {0x20}
    assert bool(taken) == (place != "GE%T / HTTP/1.1")


@pytest.mark.parametrize(
    "place",
    [
        *("A%: b", "A%b: c", "A:%b", "A: b%", "A: b%c", "%A: b", "Host%: a", "Content-Length: 5%", "Content-Length:%5"),
        *(
            "Connection: close%",
            "Connection:%close",
            "Transfer-Encoding: chunked%",
            "X-Request-Id: %",
            "x-sidecar-loop: a%",
        ),
        *(
            "x-envoy-attempt-count: %",
            "x-envoy-upstream-rq-timeout-ms: %",
            "Date%: x",
            "Location: %",
            "Location: a%",
            "Retry-After: 3%",
        ),
        *("Content-%ength: 5", "Transfer%Encoding: chunked", "%eep-alive: x"),
    ],
)
def test_every_byte_in_a_field(scanner: ModuleType, place: str) -> None:
    for code in range(256):
        field = place.replace("%", chr(code))
        takes_request(scanner, request_of(field))
        takes_request(scanner, request_of("A: b", field, "C: d"))
        takes_response(scanner, response_of(field))
        takes_response(scanner, response_of("A: b", field, "C: d"), "HEAD")


@pytest.mark.parametrize("place", ["Host: a%", "Host:%a", "Host: %", "Host: a%b", "Host: a:%", "Host: a%:80"])
def test_every_byte_in_a_host(scanner: ModuleType, place: str) -> None:
    for code in range(256):
        takes_request(scanner, request_of(host=place.replace("%", chr(code))))


@pytest.mark.parametrize(
    "place",
    ["HTTP/1.1 200 %", "HTTP/1.1 200 O%K", "HTTP/1.1 20%", "HTTP/1.1%200 OK", "HTTP/1.%1 200 OK", "HTTP/1.1 200%OK"],
)
def test_every_byte_in_a_status_line(scanner: ModuleType, place: str) -> None:
    for code in range(256):
        takes_response(scanner, response_of(line=place.replace("%", chr(code))))


@pytest.mark.parametrize("name", fuzz_scan.NAMES)
def test_every_name_with_every_value(scanner: ModuleType, name: bytes) -> None:
    for value in fuzz_scan.VALUES:
        for written in (name, name.upper(), name.title()):
            field = (written + b": " + value).decode("latin-1")
            takes_request(scanner, request_of(field, host=None if name == b"host" else "Host: a"))
            takes_request(scanner, request_of(field, "Content-Length: 5", line="POST http://a/b HTTP/1.1"))
            for method in ("GET", "HEAD"):
                takes_response(scanner, response_of("A: b", field), method)
                takes_response(scanner, response_of(field, line="HTTP/1.1 304 x"), method)


def test_scanner_knows_each_name_that_the_parsers_look_for() -> None:
    known = re.findall(r'^    \{"([a-z-]+)", (\w+), (\w+)\},$', fuzz_scan.SOURCE.read_text(), re.MULTILINE)
    assert {name for name, in_request, _ in known if in_request != "OTHER"} == set(request_head.REQUEST_NAMES)
    in_responses = {name for name, _, in_response in known if in_response != "OTHER"}
    assert in_responses == {*response_head.RESPONSE_NAMES, "date"}
    lengths = [len(name) for name, _, _ in known]
    assert lengths == sorted(lengths), "look_up relies on the order"


@given(head=request_heads(), max_fields=st.sampled_from([0, 1, 3, MAX_FIELDS]))
@example(head=b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n", max_fields=MAX_FIELDS)
@example(head=b"GET / HTTP/1.1\r\nHost: a\r\nA:\r\n\r\n", max_fields=2)
def test_a_request_is_left_or_read_as_the_parser_reads_it(scanner: ModuleType, head: bytes, max_fields: int) -> None:
    takes_request(scanner, head, max_fields)


@given(head=response_heads(), method=st.sampled_from(["GET", "HEAD"]), max_fields=st.sampled_from([0, 3, MAX_FIELDS]))
def test_a_response_is_left_or_read_as_the_parser_reads_it(
    scanner: ModuleType, head: bytes, method: str, max_fields: int
) -> None:
    takes_response(scanner, head, method, max_fields)


@given(head=st.binary(max_size=80))
def test_arbitrary_bytes_are_no_head(scanner: ModuleType, head: bytes) -> None:
    for one in (head, b"GET / HTTP/1.1\r\n" + head, b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"):
        if one.find(b"\r\n\r\n") != len(one) - 4:
            assert scanner.scan_request(one, 99) is None
            assert scanner.scan_response(one, False, 99) is None


def test_mutated_heads_of_the_tests_are_left_or_read_as_the_parser_reads_them(scanner: ModuleType) -> None:
    """The short form of `make fuzz`. The seed is of the run, which prints it."""
    heads, requests, responses, differences = fuzz_scan.fuzz(
        scanner, random.Random(random.getrandbits(32)), lambda heads: heads < 50_000
    )
    assert differences == []
    assert heads == 50_000
    assert requests > 2_000
    assert responses > 2_000


@given(
    data=st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"bcd", b"\r\n\r\n"]), max_size=12).map(b"".join),
    since=st.integers(0, 30),
)
@example(data=b"a\r\n\r\n", since=2)
@example(data=b"", since=1)
@example(data=b"\r\r\n\r\n\r\n", since=0)
def test_where_a_head_ends(scanner: ModuleType, data: bytes, since: int) -> None:
    found = data.find(b"\r\n\r\n", since)
    assert scanner.head_end(data, since) == (found + 4 if found >= 0 else 0)


# As a module.


def test_wrong_arguments_are_errors(scanner: ModuleType) -> None:
    head = request_of()
    for arguments in ((head,), (head, 1, 2), (bytearray(head), 9), (head.decode(), 9), (head, "9"), (None, 9)):
        with pytest.raises(TypeError):
            scanner.scan_request(*arguments)
    for arguments in ((head,), (head, True), (head, True, 9, 9), (bytearray(head), True, 9), (head, True, "9")):
        with pytest.raises(TypeError):
            scanner.scan_response(*arguments)
    for arguments in ((head,), (head, 0, 0), (head.decode(), 0), (head, None)):
        with pytest.raises(TypeError):
            scanner.head_end(*arguments)
    for one in (scanner.scan_request, scanner.head_end):
        with pytest.raises(OverflowError):
            one(head, 1 << 80)
    assert scanner.head_end(head, -1) == 0
    assert scanner.scan_request(head, -1) is None


def test_nothing_is_kept_of_a_head(scanner: ModuleType) -> None:
    requests = [request_of(*fields) for fields in REQUESTS.values()] + [request_of("A: \x00"), b"", b"GET"]
    responses = [response_of(*fields) for fields in RESPONSES.values()] + [response_of("A: \x00"), b""]

    def scan_all(times: int) -> int:
        for _ in range(times):
            for head in requests:
                scanner.scan_request(head, MAX_FIELDS)
                scanner.head_end(head, 0)
            for head in responses:
                scanner.scan_response(head, False, MAX_FIELDS)
        return sys.getallocatedblocks()

    before = scan_all(10)
    assert scan_all(1000) - before < 500  # one object a call would be 20,000
    counts = [sys.getrefcount(one) for one in (None, True, False)]
    scan_all(1000)
    after = [sys.getrefcount(one) for one in (None, True, False)]
    assert max(abs(one - other) for one, other in zip(counts, after, strict=True)) < 500


def test_without_the_compiled_scanner_all_is_left(scanner: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "sidecar.proxy.http1._scan"
    try:
        monkeypatch.setitem(sys.modules, name, None)
        importlib.reload(scan)
        assert scan.scan_request(request_of(), MAX_FIELDS) is None
        assert scan.scan_response(response_of(), False, MAX_FIELDS) is None
        assert [scan.head_end(b"a\r\n\r\nb", since) for since in (0, 1, 2, 9)] == [5, 5, 0, 0]
        monkeypatch.setitem(sys.modules, name, scanner)
        importlib.reload(scan)
        assert scan.scan_request is scanner.scan_request
        assert scan.scan_response is scanner.scan_response
    finally:
        monkeypatch.undo()
        importlib.reload(scan)
