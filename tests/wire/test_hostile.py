"""Bad input from the app: each refused with its status and an orderly close, and none of it passed on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.client import Client, Response, request_bytes
from tests.support.eventually import eventually
from tests.support.message import chunked
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.upstream import Upstream

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 4s, request: 8s}
  breaker: {volume_threshold: 10000}
services:
  venue: {endpoints: ["$venue"], hosts: [venue-service]}
  other: {endpoints: ["$other"]}
  slow: {endpoints: ["$slow"]}
"""

HEAD_LIMIT = 32 * 1024
HEADER_LIMIT = 128
HEAD_SECONDS = 10


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "other", "slow") as rig:
        yield rig


@dataclass
class SlowHead:
    """An app whose head never ends, though it keeps sending: a thread, so that its 10 s pass beside other tests."""

    client: Client
    response: Response | None = None
    seconds: float = 0.0
    end: tuple[bytes, str] | None = None

    def run(self) -> None:
        began = time.monotonic()
        self.client.send(b"GET /slow/ HTTP/1.1\r\nHost: localhost\r\n")
        while time.monotonic() - began < HEAD_SECONDS - 1:
            self.client.send(b"X-A: b\r\n")
            time.sleep(0.2)
        self.response = self.client.read_response()
        self.seconds = time.monotonic() - began
        self.end = self.client.rest()


@pytest.fixture(scope="module", autouse=True)
def slow_head(rig: Rig) -> Iterator[tuple[SlowHead, threading.Thread]]:
    """Begun with the module; its test is the last one."""
    with rig.client(timeout=HEAD_SECONDS) as client:
        slow = SlowHead(client)
        thread = threading.Thread(target=slow.run, daemon=True)
        thread.start()
        yield slow, thread
        client.half_close()
        thread.join(HEAD_SECONDS * 2)


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(answer())


def get(
    target: bytes = b"/venue/x", *lines: bytes, host: bytes = b"Host: localhost", version: bytes = b"HTTP/1.1"
) -> bytes:
    return b"\r\n".join([b"GET " + target + b" " + version, *([host] if host else []), *lines, b"", b""])


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST /venue/x HTTP/1.1", b"Host: localhost", *lines, b"", body])


def by_chunks(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


SMUGGLED = b"GET /other/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

CLIENT_HELLO = bytes.fromhex(
    "16030100f8010000f40303" + "7a" * 32 + "20" + "5b" * 32 + "003e130213031301c02cc030009fcca9cca8ccaac02bc02f009e"
) + bytes(range(100))

H2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00"

HEADS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    # The request line.
    "HTTP/0.9": (b"GET /venue/x\r\n", (400,)),
    "two spaces before the target": (b"GET  /venue/x HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "two spaces after the target": (b"GET /venue/x  HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "space before the method": (b" GET /venue/x HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "space after the version": (b"GET /venue/x HTTP/1.1 \r\nHost: localhost\r\n\r\n", (400,)),
    "tabs for spaces": (b"GET\t/venue/x\tHTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 501)),
    "no target": (b"GET HTTP/1.1\r\nHost: localhost\r\n\r\n", (400,)),
    "space in the target": (get(b"/venue/a b"), (400,)),
    "fragment": (get(b"/venue/x#y"), (400,)),
    "fragment in the query": (get(b"/venue/x?y#z"), (400,)),
    "fragment in absolute form": (get(b"http://venue-service/x#y"), (400,)),
    "NUL in the target": (get(b"/venue/\x00"), (400,)),
    "control character in the target": (get(b"/venue/\x01x"), (400,)),
    "DEL in the target": (get(b"/venue/\x7fx"), (400,)),
    "carriage return in the target": (get(b"/venue/\rx"), (400,)),
    "no slash": (get(b"venue/x"), (400,)),
    "user information": (get(b"http://user:password@venue-service/x"), (400,)),
    "empty user information": (get(b"http://@venue-service/x"), (400,)),
    "no authority": (get(b"http:///x"), (400,)),
    "HTTP/1.2": (get(version=b"HTTP/1.2"), (400, 505)),
    "HTTP/2.0": (get(version=b"HTTP/2.0"), (400, 505)),
    "HTTP/1.10": (get(version=b"HTTP/1.10"), (400,)),
    "HTTP/11": (get(version=b"HTTP/11"), (400,)),
    "lower case http/1.1": (get(version=b"http/1.1"), (400,)),
    "another protocol's name": (get(version=b"RTSP/1.0"), (400,)),
    "unknown method": (b"BREW /venue/x HTTP/1.1\r\nHost: localhost\r\n\r\n", (501,)),
    "long unknown method": (b"A" * 5000 + b" /venue/x HTTP/1.1\r\nHost: localhost\r\n\r\n", (501,)),
    "method in lower case": (b"get /venue/x HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 501)),
    "method with a colon": (b"GE:T /venue/x HTTP/1.1\r\nHost: localhost\r\n\r\n", (400, 501)),
    "CONNECT": (b"CONNECT venue-service:443 HTTP/1.1\r\nHost: venue-service:443\r\n\r\n", (405,)),
    # Host.
    "no Host": (get(host=b""), (400,)),
    "two Hosts": (get(b"/venue/x", b"Host: localhost"), (400,)),
    "two Hosts in different case": (get(b"/venue/x", b"hOST: venue-service"), (400,)),
    "two Hosts in absolute form": (get(b"http://venue-service/x", b"Host: b"), (400,)),
    "user information in Host": (get(host=b"Host: user@venue-service"), (400,)),
    "space in Host": (get(host=b"Host: venue-service evil"), (400,)),
    "path in Host": (get(host=b"Host: venue-service/x"), (400,)),
    "list in Host": (get(host=b"Host: venue-service, localhost"), (400,)),
    # Header lines.
    "space before the colon": (get(b"/venue/x", b"X-A : b"), (400,)),
    "tab before the colon": (get(b"/venue/x", b"X-A\t: b"), (400,)),
    "no colon": (get(b"/venue/x", b"X-A"), (400,)),
    "empty name": (get(b"/venue/x", b": b"), (400,)),
    "space in a name": (get(b"/venue/x", b"X A: b"), (400,)),
    "bracket in a name": (get(b"/venue/x", b"X(A): b"), (400,)),
    "beyond ASCII in a name": (get(b"/venue/x", b"X-\xe9: b"), (400,)),
    "NUL in a name": (get(b"/venue/x", b"X-\x00A: b"), (400,)),
    "space before the first header": (b"GET /venue/x HTTP/1.1\r\n Host: localhost\r\n\r\n", (400,)),
    "folded line": (get(b"/venue/x", b"X-A: b", b" c"), (400,)),
    "folded with a tab": (get(b"/venue/x", b"X-A: b", b"\tc"), (400,)),
    "folded Host": (get(host=b"Host:\r\n localhost"), (400,)),
    "NUL in a value": (get(b"/venue/x", b"X-A: b\x00c"), (400,)),
    "control character in a value": (get(b"/venue/x", b"X-A: b\x01c"), (400,)),
    "escape in a value": (get(b"/venue/x", b"X-A: \x1b[31m"), (400,)),
    "vertical tab in a value": (get(b"/venue/x", b"X-A: b\x0bc"), (400,)),
    "DEL in a value": (get(b"/venue/x", b"X-A: b\x7fc"), (400,)),
    "carriage return in a value": (get(b"/venue/x", b"X-A: b\rc"), (400,)),
    "two carriage returns": (get(b"/venue/x", b"X-A: b\r"), (400,)),
    "line feeds only": (get().replace(b"\r\n", b"\n"), (400,)),
    "line feed after the request line": (b"GET /venue/x HTTP/1.1\nHost: localhost\r\n\r\n", (400,)),
    "line feed after a header": (b"GET /venue/x HTTP/1.1\r\nHost: localhost\nX-A: b\r\n\r\n", (400,)),
    "line feed for the empty line": (b"GET /venue/x HTTP/1.1\r\nHost: localhost\r\n\n", (400,)),
    "carriage returns only": (get().replace(b"\r\n", b"\r"), (400,)),
    # Length and coding.
    "length given twice": (post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"), (400,)),
    "two lengths": (post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"), (400,)),
    "list of lengths": (post(b"Content-Length: 5, 5", body=b"hello"), (400,)),
    "signed length": (post(b"Content-Length: +5", body=b"hello"), (400,)),
    "negative length": (post(b"Content-Length: -5", body=b"hello"), (400,)),
    "hexadecimal length": (post(b"Content-Length: 0x5", body=b"hello"), (400,)),
    "length with an exponent": (post(b"Content-Length: 1e1", body=b"hello"), (400,)),
    "length with a point": (post(b"Content-Length: 5.0", body=b"hello"), (400,)),
    "length in two words": (post(b"Content-Length: 5 5", body=b"hello"), (400,)),
    "empty length": (post(b"Content-Length: ", body=b"hello"), (400,)),
    "length beyond 64 bits": (post(b"Content-Length: 18446744073709551621", body=b"hello"), (400, 413)),
    "enormous length": (post(b"Content-Length: " + b"9" * 200, body=b"hello"), (400, 413)),
    "length and coding": (post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=chunked(b"hello")), (400,)),
    "coding and length": (post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=chunked(b"hello")), (400,)),
    "coding in HTTP/1.0": (
        b"POST /venue/x HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"hello"),
        (400,),
    ),
    "gzip": (post(b"Transfer-Encoding: gzip", body=chunked(b"hello")), (400,)),
    "gzip, chunked": (post(b"Transfer-Encoding: gzip, chunked", body=chunked(b"hello")), (501,)),
    "gzip and chunked in two lines": (
        post(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=chunked(b"hello")),
        (501,),
    ),
    "chunked, gzip": (post(b"Transfer-Encoding: chunked, gzip", body=chunked(b"hello")), (400,)),
    "identity": (post(b"Transfer-Encoding: identity", body=b"hello"), (400,)),
    "chunked twice": (post(b"Transfer-Encoding: chunked, chunked", body=chunked(b"hello")), (400,)),
    "two lines of chunked": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=chunked(b"hello")),
        (400,),
    ),
    "chunked and gzip in two lines": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: gzip", body=chunked(b"hello")),
        (400,),
    ),
    "xchunked": (post(b"Transfer-Encoding: xchunked", body=chunked(b"hello")), (400,)),
    "chunked in quotes": (post(b'Transfer-Encoding: "chunked"', body=chunked(b"hello")), (400,)),
    "chunked with a parameter": (post(b"Transfer-Encoding: chunked;q=1", body=chunked(b"hello")), (400,)),
    "empty coding": (post(b"Transfer-Encoding: ", body=b"hello"), (400,)),
    # Smuggling: two readers of these bytes disagree where the first request ends.
    "CL.TE": (
        post(b"Content-Length: %d" % (len(SMUGGLED) + 5), b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
        (400,),
    ),
    "TE.CL": (post(b"Transfer-Encoding: chunked", b"Content-Length: 4", body=chunked(SMUGGLED)), (400,)),
    "TE.TE": (
        post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x", b"Content-Length: 4", body=chunked(SMUGGLED)),
        (400, 501),
    ),
    "coding before a space": (post(b"Content-Length: 4", b"Transfer-Encoding : chunked", body=b"0\r\n\r\n"), (400,)),
    "coding after a vertical tab": (post(b"Transfer-Encoding:\x0bchunked", body=chunked(SMUGGLED)), (400, 501)),
    "coding in a folded line": (post(b"X-A: b", b" Transfer-Encoding: chunked", body=chunked(SMUGGLED)), (400,)),
    "coding after a bare LF": (post(b"X-A: b\nTransfer-Encoding: chunked", body=chunked(SMUGGLED)), (400,)),
    "coding after a bare CR": (post(b"X-A: b\rTransfer-Encoding: chunked", body=chunked(SMUGGLED)), (400,)),
    "length with a NUL": (post(b"Content-Length: 0\x00", body=SMUGGLED), (400,)),
    # What strips framing or credentials.
    **{
        f"Connection: {name}": (
            post(b"Content-Length: 5", b"Connection: keep-alive, " + name.encode(), body=b"hello"),
            (400,),
        )
        for name in (
            "Host", "Content-Length", "content-type", "Content-Encoding", "Transfer-Encoding", "Authorization",
            "cookie", "Via", "X-Forwarded-Prefix", "x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms",
            "X-Request-Id",
        )
    },
    # Other protocols.
    "TLS": (CLIENT_HELLO, (400,)),
    "HTTP/2 preface after an empty line": (b"\r\n" + H2_PREFACE, (400,)),
    "half of an HTTP/2 preface": (H2_PREFACE[:14] + b"\r\nGET", (400,)),
    "binary": (bytes(range(256)) * 4, (400,)),
    "zeros": (bytes(1000), (400,)),
    "SSH": (b"SSH-2.0-OpenSSH_9.2p1\r\n", (400, 501)),
    "Redis": (b"*1\r\n$4\r\nPING\r\n", (400, 501)),
    # Too much.
    "head too large": (get(b"/venue/x", b"X-A: " + b"a" * HEAD_LIMIT), (431,)),
    "head too large in many lines": (get(b"/venue/x", *[b"X-%d: " % n + b"a" * 400 for n in range(100)]), (431,)),
    "target too large": (get(b"/venue/" + b"a" * HEAD_LIMIT), (414, 431)),
    "head without an end": (b"GET /venue/x HTTP/1.1\r\n" + b"X-A: b\r\n" * 8000, (431,)),
    "line without an end": (b"GET /venue/" + b"a" * 100_000, (414, 431)),
    "too many headers": (get(b"/venue/x", *[b"X-%d: y" % n for n in range(HEADER_LIMIT)]), (431,)),
}  # fmt: skip

CHUNKS = {
    "no number": b"zz\r\nhello\r\n0\r\n\r\n",
    "empty size": b"\r\nhello\r\n0\r\n\r\n",
    "negative size": b"-5\r\nhello\r\n0\r\n\r\n",
    "signed size": b"+5\r\nhello\r\n0\r\n\r\n",
    "prefixed size": b"0x5\r\nhello\r\n0\r\n\r\n",
    "space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "underscore in the size": b"1_0\r\nhello\r\n0\r\n\r\n",
    "size beyond 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "enormous size": b"f" * 200 + b"\r\nhello\r\n0\r\n\r\n",
    "longer than its size": b"4\r\nhello\r\n0\r\n\r\n",
    "shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
    "line feed after the size": b"5\nhello\r\n0\r\n\r\n",
    "carriage return after the size": b"5\rhello\r\n0\r\n\r\n",
    "line feed after the data": b"5\r\nhello\n0\r\n\r\n",
    "line feed in an extension": b"5;a\nb\r\nhello\r\n0\r\n\r\n",
    "NUL in an extension": b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
    "extension without an end": b"5;" + b"a" * 100_000,
    "white space after the size": b"5 \r\nhello\r\n0\r\n\r\n",
    "white space after an extension": b"5;a \r\nhello\r\n0\r\n\r\n",
    "extension without a name": b"5;\r\nhello\r\n0\r\n\r\n",
    "line feed for the empty line": b"5\r\nhello\r\n0\r\n\n",
    "line feeds after the last chunk": b"5\r\nhello\r\n0\r\nX-A: b\r\n\n",
    "carriage return in the trailers": b"5\r\nhello\r\n0\r\nX-A: b\rc",
    "trailer without a colon": b"5\r\nhello\r\n0\r\nX-A\r\n\r\n",
    "trailer with a space before the colon": b"5\r\nhello\r\n0\r\nX-A : b\r\n\r\n",
    "folded trailer": b"5\r\nhello\r\n0\r\nX-A: b\r\n c\r\n\r\n",
    "NUL in a trailer": b"5\r\nhello\r\n0\r\nX-A: \x00\r\n\r\n",
    "line feed after a trailer": b"5\r\nhello\r\n0\r\nX-A: b\nX-B: c\r\n\r\n",
    "trailers too large": b"5\r\nhello\r\n0\r\n" + b"X-A: b\r\n" * 8000 + b"\r\n",
}


def assert_refused(client: Client, statuses: tuple[int, ...]) -> None:
    """A whole problem that can be read, which says that the connection closes, and then that it did, in order."""
    response = client.read_response()
    assert_problem(response, statuses, "bad_request")
    assert response.get("connection") == "close"
    client.assert_closed()


def assert_untouched(rig: Rig) -> None:
    for name in ("venue", "other"):
        assert (rig[name].hits, rig[name].malformed) == (0, [])
        assert rig[name].bytes_in == 0


@pytest.mark.parametrize("name", HEADS)
def test_bad_head(rig: Rig, venue: Upstream, name: str) -> None:
    data, statuses = HEADS[name]
    rig["other"].play(answer())
    with rig.client() as client:
        client.send(data)
        assert_refused(client, statuses)
    assert_untouched(rig)


@pytest.mark.parametrize("name", ["two Hosts", "unknown method", "gzip", "no Host", "head too large", "TLS", "CL.TE"])
def test_answer_is_readable_behind_much_more(rig: Rig, venue: Upstream, name: str) -> None:
    """An app that goes on sending still reads the answer: closing on unread bytes would reset the connection."""
    data, statuses = HEADS[name]
    rig["other"].play(answer())
    with rig.client() as client:
        client.send(data + SMUGGLED * 2000)
        assert_refused(client, statuses)
    assert_untouched(rig)


@pytest.mark.parametrize("name", ["two Hosts", "unknown method", "gzip", "line feeds only", "folded line", "CL.TE"])
def test_bad_head_byte_by_byte(rig: Rig, venue: Upstream, name: str) -> None:
    data, statuses = HEADS[name]
    with rig.client() as client:
        try:
            for at in range(len(data)):
                client.send(data[at : at + 1])
        except OSError:
            pass  # It was refused before its end.
        assert_refused(client, statuses)
    assert_untouched(rig)


@pytest.mark.parametrize(
    "name",
    [
        *("two Hosts", "HTTP/0.9", "gzip", "line feeds only", "TLS", "Connection: Host", "CL.TE"),
        "HTTP/2 preface after an empty line",
    ],
)
def test_bad_head_after_a_good_request(rig: Rig, venue: Upstream, name: str) -> None:
    """On a connection that has carried requests, alone and pipelined: the good ones are answered first."""
    data, statuses = HEADS[name]
    rig["other"].play(answer())
    for pipelined in (True, False):
        with rig.client() as client:
            if pipelined:
                client.send(request_bytes("GET", "/venue/good") + data)
                assert client.read_response().status == 200
            else:
                assert client.ask("GET", "/venue/good").status == 200
                client.send(data)
            assert_refused(client, statuses)
    assert [request.target for request in venue.requests] == ["/good", "/good"]
    assert rig["other"].hits == 0


@pytest.mark.parametrize("name", CHUNKS)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after the head"])
def test_bad_chunks(rig: Rig, venue: Upstream, name: str, at_once: bool) -> None:
    """The upstream may have begun to get the request by then; it never gets a whole one."""
    with rig.client() as client:
        if at_once:
            client.send(by_chunks(CHUNKS[name]))
        else:
            client.send(by_chunks(b"3\r\nabc\r\n"))
            client.send(CHUNKS[name])
        assert_refused(client, (400, 413, 431))
    rig.idle("venue")
    assert not any(request.complete for request in venue.requests)
    assert venue.malformed == []
    eventually(lambda: venue.begun_and_open == 0)


def test_bad_chunk_far_into_a_streamed_body(rig: Rig, venue: Upstream) -> None:
    """What was forwarded breaks off for the upstream: its connection is closed, and no end of the body was sent."""
    with rig.client() as client:
        client.send(by_chunks(chunked(b"x" * 200_000).removesuffix(b"0\r\n\r\n")))
        eventually(lambda: venue.hits == 1)
        client.send(b"evil\r\n0\r\n\r\n")
        assert_refused(client, (400,))
    eventually(lambda: venue.connections[0].ended is not None)
    assert not venue.last.complete
    assert rig.ask("GET", "/venue/").status == 200
    assert [request.connection for request in venue.requests] == [0, 1]


def test_limits_themselves_are_allowed(rig: Rig, venue: Upstream) -> None:
    empty = len(get(b"/venue/x", b"X-A: "))
    with rig.client() as client:
        client.send(get(b"/venue/x", b"X-A: " + b"a" * (HEAD_LIMIT - empty)))
        assert client.read_response().status == 200
        client.send(get(b"/venue/x", *[b"X-%d: y" % n for n in range(HEADER_LIMIT - 1)]))
        assert client.read_response().status == 200
        client.send(get(b"/venue/x", b"X-A: " + b"a" * (HEAD_LIMIT - empty + 1)))
        assert_refused(client, (431,))
    assert venue.hits == 2


def test_no_host_in_http_1_0_is_allowed(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(get(host=b"", version=b"HTTP/1.0"))
        assert client.read_response().status == 200


@pytest.mark.parametrize(
    "data", [b"", b"GET", b"GET /venue/x HTTP/1.1", get()[:-2], get()[:-1], b"\r\n"], ids=lambda data: repr(data)[:30]
)
def test_end_of_file_within_a_head(rig: Rig, venue: Upstream, data: bytes) -> None:
    """Nothing to answer: refused, or just closed; in either case in order."""
    with rig.client() as client:
        if data:
            client.send(data)
        client.half_close()
        rest, how = client.rest()
        assert how == "eof"
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400 ")
    assert_untouched(rig)


def test_end_of_file_within_a_body(rig: Rig, venue: Upstream) -> None:
    for whole in (post(b"Content-Length: 10", body=b"half-"), by_chunks(b"5\r\nhalf-\r\n"), by_chunks(b"a\r\nhalf-")):
        with rig.client() as client:
            client.send(whole)
            client.half_close()
            assert client.rest()[1] in ("eof", "reset")
        rig.idle("venue")
    assert not any(request.complete for request in venue.requests)
    eventually(lambda: venue.begun_and_open == 0)


def test_requests_behind_a_refused_one_are_not_served(rig: Rig, venue: Upstream) -> None:
    other = rig["other"].play(answer())
    with rig.client() as client:
        client.send(HEADS["two Hosts"][0] + SMUGGLED * 3)
        assert_refused(client, (400,))
    rig.idle("other")
    assert other.hits == 0


def test_refusals_are_counted(rig: Rig, venue: Upstream) -> None:
    changes = rig.changes()
    for name in ("two Hosts", "unknown method", "head too large"):
        with rig.client() as client:
            client.send(HEADS[name][0])
            client.read_response()
    gain = changes.when_done("", 3)
    for code in ("400", "501", "431"):
        assert gain("sidecar_requests_total", service="", code=code, reason="bad_request") == 1


# The last one, so that its time has passed beside the others.


def test_slow_head(rig: Rig, slow_head: tuple[SlowHead, threading.Thread]) -> None:
    """Not even an app that keeps sending has longer than 10 s for a head."""
    slow, thread = slow_head
    thread.join(HEAD_SECONDS + 5)
    assert slow.response is not None
    assert_problem(slow.response, 408, "bad_request")
    assert HEAD_SECONDS - 0.5 <= slow.seconds < HEAD_SECONDS + 3
    assert slow.end == (b"", "eof")
    assert rig["slow"].bytes_in == 0
