"""Bad answers from upstreams: each is `bad_response`, and none of its bytes reach the app."""

from __future__ import annotations

import pytest

from tests.support.client import request_bytes
from tests.support.eventually import eventually
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, raw, response_head, then_close
from tests.support.upstream import Upstream

HEAD_LIMIT = 32 * 1024
HEADER_LIMIT = 128
GOOD = b"HTTP/1.1 200 OK\r\n"
LEAK = b"LEAK"


def with_length(*lines: bytes) -> bytes:
    return GOOD + b"\r\n".join([*lines, b"Content-Length: 4", b"", LEAK])


ANSWERS = {
    "words": b"LEAK is not HTTP\r\n\r\n",
    "binary": bytes(range(256)) + LEAK,
    "SSH": b"SSH-2.0-LEAK\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46" + LEAK,
    "HTTP/2 settings": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64" + LEAK,
    "HTTP/2 in words": b"HTTP/2 200 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "HTTP/0.9": b"<html>LEAK</html>",
    "a request": b"GET /LEAK HTTP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "HTTP/1.10": b"HTTP/1.10 200 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "lower case http/1.1": b"http/1.1 200 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "empty line first": b"\r\n" + GOOD + b"Content-Length: 4\r\n\r\nLEAK",
    "status 200.1": b"HTTP/1.1 200.1 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "status 99": b"HTTP/1.1 99 Low\r\nContent-Length: 4\r\n\r\nLEAK",
    "status 099": b"HTTP/1.1 099 Low\r\nContent-Length: 4\r\n\r\nLEAK",
    "status 600": b"HTTP/1.1 600 High\r\nContent-Length: 4\r\n\r\nLEAK",
    "status 999": b"HTTP/1.1 999 High\r\nContent-Length: 4\r\n\r\nLEAK",
    "status 1000": b"HTTP/1.1 1000 Higher\r\nContent-Length: 4\r\n\r\nLEAK",
    "status 20": b"HTTP/1.1 20 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "status 2x0": b"HTTP/1.1 2x0 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 4\r\n\r\nLEAK",
    "control character in the phrase": b"HTTP/1.1 200 O\x01K\r\nContent-Length: 4\r\n\r\nLEAK",
    "unasked 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nLEAK",
    "negative length": GOOD + b"Content-Length: -4\r\n\r\nLEAK",
    "signed length": GOOD + b"Content-Length: +4\r\n\r\nLEAK",
    "length in words": GOOD + b"Content-Length: four\r\n\r\nLEAK",
    "enormous length": GOOD + b"Content-Length: " + b"9" * 100 + b"\r\n\r\nLEAK",
    "two lengths": GOOD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nLEAK!",
    "list of lengths": GOOD + b"Content-Length: 4, 5\r\n\r\nLEAK!",
    "list of lengths with a gap": GOOD + b"Content-Length: 4,,4\r\n\r\nLEAK",
    "empty length": GOOD + b"Content-Length: \r\n\r\nLEAK",
    "folded length": GOOD + b"Content-Length: 4\r\n 4\r\n\r\nLEAK",
    "folded coding": GOOD + b"Transfer-Encoding:\r\n chunked\r\n\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "two lines of chunked": GOOD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "chunked twice": GOOD + b"Transfer-Encoding: chunked, chunked\r\n\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "coding in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "length and coding": GOOD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "coding and length": GOOD + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "gzip": GOOD + b"Transfer-Encoding: gzip\r\n\r\nLEAK",
    "gzip, chunked": GOOD + b"Transfer-Encoding: gzip, chunked\r\n\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "chunked, gzip": GOOD + b"Transfer-Encoding: chunked, gzip\r\n\r\n4\r\nLEAK\r\n0\r\n\r\n",
    "coding behind a bare line feed": GOOD + b"Content-Length: 4\r\nX-A: b\nTransfer-Encoding: chunked\r\n\r\nLEAK",
    "another length behind a bare line feed": GOOD + b"X-A: b\nContent-Length: 9\r\nContent-Length: 4\r\n\r\nLEAK",
    "no colon behind a bare line feed": with_length(b"X-A: b\nc"),
    "carriage returns only": with_length().replace(b"\r\n", b"\r"),
    "two carriage returns": with_length(b"X-A: b\r"),
    "two carriage returns and bare line feeds": with_length(b"X-A: b\r").replace(b"\n\r\n", b"\n\r\r\n"),
    "carriage return in a value": with_length(b"X-A: b\rc"),
    "NUL in a value": with_length(b"X-A: b\x00c"),
    "control character in a value": with_length(b"X-A: b\x01c"),
    "space before the colon": with_length(b"X-A : b"),
    "no colon": with_length(b"X-A"),
    "empty name": with_length(b": b"),
    "folded first line": GOOD + b" X-A: b\r\nContent-Length: 4\r\n\r\nLEAK",
    "NUL in a folded line": with_length(b"X-A: b", b" c\x00"),
    "space before the colon and bare line feeds": with_length(b"X-A : b").replace(b"\r\n", b"\n"),
    "head too large": with_length(b"X-A: " + b"a" * HEAD_LIMIT),
    "head without an end": GOOD + b"X-A: b\r\n" * 8000,
    "too many headers": with_length(*[b"X-%d: y" % n for n in range(HEADER_LIMIT)]),
    "interim too large": b"HTTP/1.1 103 Early Hints\r\nLink: " + b"a" * HEAD_LIMIT + b"\r\n\r\n" + with_length(),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_bad_answer(rig: Rig, venue: Upstream, name: str) -> None:
    venue.play(raw(ANSWERS[name]), answer(body=b"next"))
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/"))
        response = client.read_response()
        assert_problem(response, 502, "bad_response", "venue")
        assert LEAK not in response.head + response.body
        assert client.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 1]
    eventually(lambda: venue.connections[0].ended is not None)


@pytest.mark.parametrize(
    "name", ["words", "HTTP/2 settings", "status 600", "two lengths", "carriage returns only", "no colon"]
)
def test_bad_answer_and_the_end(rig: Rig, venue: Upstream, name: str) -> None:
    """What came is not HTTP, whether or not the upstream then closes."""
    venue.play(then_close(raw(ANSWERS[name])))
    response = rig.ask("POST", "/venue/", body=b"x")
    assert_problem(response, 502, "bad_response", "venue")
    assert LEAK not in response.head + response.body


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("words", "the answer is not HTTP/1"),
        ("status 600", "the status line has no status from 100 to 599"),
        ("two lengths", "Content-Length is given twice, with values that differ"),
        ("signed length", "Content-Length is not a number of bytes"),
        ("length and coding", "both Content-Length and Transfer-Encoding"),
        ("gzip, chunked", "Transfer-Encoding names a coding other than chunked"),
        ("two lines of chunked", "Transfer-Encoding names chunked more than once"),
        ("chunked twice", "Transfer-Encoding names chunked more than once"),
        ("coding in HTTP/1.0", "Transfer-Encoding in HTTP/1.0"),
        ("folded length", "Content-Length is folded over two lines"),
        ("carriage return in a value", "the head has a carriage return that does not end a line"),
        ("NUL in a value", "the field X-A has a control character in its value"),
        ("space before the colon", "white space stands before the colon of a field"),
        ("no colon", "a line of the head has no colon"),
        ("empty name", "a field has no name"),
    ],
)
def test_words_name_what_is_wrong(rig: Rig, venue: Upstream, name: str, words: str) -> None:
    venue.play(raw(ANSWERS[name]))
    assert words in rig.ask("GET", "/venue/").json()["detail"]


def test_limits_of_an_answer_themselves_are_allowed(rig: Rig, venue: Upstream) -> None:
    empty = len(with_length(b"X-A: ")) - len(LEAK)
    for whole in (
        with_length(b"X-A: " + b"a" * (HEAD_LIMIT - empty)),
        with_length(*[b"X-%d: y" % n for n in range(HEADER_LIMIT - 1)]),
    ):
        venue.play(raw(whole))
        assert rig.ask("GET", "/venue/").body == LEAK


ANSWER_CHUNKS = {
    "no number": b"LEAK\r\n",
    "negative size": b"-5\r\nLEAK!\r\n",
    "prefixed size": b"0x4\r\nLEAK\r\n",
    "size beyond 64 bits": b"10000000000000004\r\nLEAK\r\n",
    "line feed after the size": b"4\nLEAK\r\n",
    "line feeds only": b"4\nLEAK\n0\n\n",
    "white space before the size": b" 4\r\nLEAK\r\n",
    "carriage return in an extension": b"4;a\rb\r\nLEAK\r\n",
    "line feed for the last line": b"0\r\n\nLEAK",
    "line feed after a trailer": b"0\r\nX-A: b\nLEAK",
    "longer than its size": b"2\r\nokLEAK\r\n",
    "NUL in an extension": b"4;\x00\r\nLEAK\r\n",
    "NUL in a trailer": b"0\r\nX-A: \x00LEAK\r\n\r\n",
    "trailers too large": b"0\r\n" + b"X-A: LEAK\r\n" * 8000 + b"\r\n",
}


@pytest.mark.parametrize("name", ANSWER_CHUNKS)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "after the head"])
def test_bad_chunks_of_an_answer(rig: Rig, venue: Upstream, name: str, at_once: bool) -> None:
    """Refused while that is possible; else the app sees its answer break off, and none of what broke it."""
    head = response_head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nfirst\r\n"
    bad = ANSWER_CHUNKS[name]
    venue.play(raw(head + bad) if at_once else raw(head, bad), answer(body=b"next"))
    response = rig.ask("GET", "/venue/")
    assert LEAK not in response.head + response.body
    if response.status == 200:
        assert not response.whole
        assert response.body in (b"", b"first", b"firstok")
    else:
        assert_problem(response, 502, "bad_response", "venue")
    assert rig.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 1]
