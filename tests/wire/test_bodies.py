"""Bodies both ways, by length, chunked and until close; trailers; messages that have none."""

from __future__ import annotations

import pytest

from tests.support.client import Response, request_bytes
from tests.support.message import chunked
from tests.support.rig import Rig
from tests.support.steps import answer, answer_chunked, echo, raw, response_head, then_close
from tests.support.upstream import Received, Upstream


def received(rig: Rig, *headers: tuple[str, str], method: str = "GET", body: bytes | None = None) -> Received:
    """What the upstream got of a request to /venue/ with these headers."""
    response = rig.ask(method, "/venue/", headers, body)
    assert response.status == 200, response
    return rig["venue"].last


def assert_framed_once(message: Received | Response) -> None:
    assert len(message.all("content-length") + message.all("transfer-encoding")) == 1


@pytest.mark.parametrize("size", [0, 1, 100, 65_535, 65_536, 65_537, 300_000])
def test_bodies_by_length(rig: Rig, venue: Upstream, size: int) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    venue.play(echo())
    with rig.client() as client:
        for _ in range(2):
            response = client.ask("POST", "/venue/x", body=body)
            assert (response.framing, response.end) == ("length", "whole")
            assert response.body == b"POST /x\n" + body
            assert venue.last.body == body
            assert venue.last.get("content-length") == str(size)
            assert_framed_once(venue.last)


@pytest.mark.parametrize("pieces", [(), (b"one",), (b"one", b"2", b"three" * 1000), (b"x" * 70_000, b"y" * 70_000)])
def test_chunked_bodies(rig: Rig, venue: Upstream, pieces: tuple[bytes, ...]) -> None:
    venue.play(answer_chunked(*pieces))
    with rig.client() as client:
        for _ in range(2):
            client.send(request_bytes("POST", "/venue/", [("Transfer-Encoding", "chunked")]) + chunked(*pieces))
            response = client.read_response()
            assert (response.framing, response.end) == ("chunked", "whole")
            assert response.body == b"".join(pieces)
            assert_framed_once(response)
            assert venue.last.body == b"".join(pieces)
            assert_framed_once(venue.last)


def test_chunked_body_byte_by_byte(rig: Rig, venue: Upstream) -> None:
    venue.play(echo())
    with rig.client() as client:
        whole = request_bytes("POST", "/venue/x", [("Transfer-Encoding", "chunked")]) + chunked(
            b"hello", b"world", trailers=[("X-Sum", "1")]
        )
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
        assert client.read_response().body == b"POST /x\nhelloworld"
        client.assert_open("/venue/")


@pytest.mark.parametrize(
    "body",
    [
        b'5;name=value;other="quoted"\r\nhello\r\n0;last\r\n\r\n',
        b'5 ; name = value ;\tother= "quo ; ted"\r\nhello\r\n0\t;last\r\n\r\n',
    ],
    ids=["plain", "with white space"],
)
def test_chunk_extensions_are_dropped(rig: Rig, venue: Upstream, body: bytes) -> None:
    """White space around `;` and `=` is allowed, from both sides (RFC 9110, section 5.6.3)."""
    venue.play(answer(), raw(response_head(200, [("Transfer-Encoding", "chunked")]) + body), answer(body=b"next"))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/", [("Transfer-Encoding", "chunked")]))
        client.send(body)
        assert client.read_response().status == 200
    assert venue.last.body == b"hello"
    response = rig.ask("GET", "/venue/")
    assert (response.body, response.end) == (b"hello", "whole")
    assert rig.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 0, 0]


def test_a_service_may_pad_the_size_of_a_chunk(rig: Rig, venue: Upstream) -> None:
    body = b"5  \r\nhello\r\n1;\r\n!\r\n0 ; a b\r\n\r\n"
    venue.play(raw(response_head(200, [("Transfer-Encoding", "chunked")]) + body), answer(body=b"next"))
    response = rig.ask("GET", "/venue/")
    assert (response.body, response.end) == (b"hello!", "whole")
    assert rig.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 0]


def test_request_without_a_body_gets_no_framing(rig: Rig, venue: Upstream) -> None:
    for method in ("GET", "DELETE", "OPTIONS"):
        request = received(rig, method=method)
        assert request.all("content-length") + request.all("transfer-encoding") == []


def test_get_with_a_body(rig: Rig, venue: Upstream) -> None:
    assert received(rig, body=b"query").body == b"query"


TRAILERS = [("X-Checksum", "abc"), ("x-more", "d e")]
NO_TRAILERS = [
    ("Content-Length", "5"),
    ("Transfer-Encoding", "chunked"),
    ("Host", "evil"),
    ("Authorization", "Bearer evil"),
    ("Cookie", "evil"),
    ("Connection", "close"),
    ("Trailer", "x"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X-Envoy-Attempt-Count", "9"),
    ("Via", "1.1 evil"),
]


def test_trailers_of_a_request(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(
            request_bytes(
                "POST", "/venue/", [("Transfer-Encoding", "chunked"), ("Trailer", "X-Checksum"), ("TE", "trailers")]
            )
        )
        client.send(chunked(b"hello", trailers=[TRAILERS[0], *NO_TRAILERS, TRAILERS[1]]))
        assert client.read_response().status == 200
        client.assert_open("/venue/")
    assert venue.requests[0].body == b"hello"
    assert venue.requests[0].trailers == TRAILERS


def test_trailers_of_an_answer(rig: Rig, venue: Upstream) -> None:
    unwanted = [pair for pair in NO_TRAILERS if not pair[0].startswith("X-")]
    venue.play(answer_chunked(b"hello", trailers=[TRAILERS[0], *unwanted, ("Set-Cookie", "evil"), TRAILERS[1]]))
    with rig.client() as client:
        response = client.ask("GET", "/venue/", [("TE", "trailers"), ("Connection", "TE")])
        assert (response.body, response.end) == (b"hello", "whole")
        assert response.trailers == TRAILERS
        assert client.ask("GET", "/venue/").whole


def test_answer_until_close(rig: Rig, venue: Upstream) -> None:
    """It ends with the upstream's connection, and not with the app's."""
    for version in ("HTTP/1.1", "HTTP/1.0"):
        body = b"until the end" * 10_000
        venue.play(then_close(raw(response_head(200, [("X-A", "b")], version=version) + body)), answer())
        with rig.client() as client:
            response = client.ask("GET", "/venue/")
            assert (response.framing, response.end) == ("chunked", "whole")
            assert response.body == body
            client.assert_open("/venue/")


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(rig: Rig, venue: Upstream, status: int) -> None:
    """A 304 may bear the length of what is not sent."""
    headers = [("ETag", '"x"')] + ([("Content-Length", "1000")] if status == 304 else [])
    venue.play(raw(response_head(status, headers)), answer(body=b"next"))
    with rig.client() as client:
        response = client.ask("GET", "/venue/")
        assert (response.status, response.get("etag"), response.body) == (status, '"x"', b"")
        assert response.all("transfer-encoding") == []
        assert client.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 0]


@pytest.mark.parametrize("headers", [[("Content-Length", "1000")], [("Transfer-Encoding", "chunked")], []])
def test_head(rig: Rig, venue: Upstream, headers: list[tuple[str, str]]) -> None:
    venue.play(raw(response_head(200, headers)), answer(body=b"next"))
    with rig.client() as client:
        response = client.ask("HEAD", "/venue/")
        assert response.status == 200
        assert response.all("content-length") == [value for name, value in headers if name == "Content-Length"]
        assert client.ask("GET", "/venue/").body == b"next"


def test_own_answer_to_head_has_no_body(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        response = client.ask("HEAD", "/nowhere/")
        assert (response.status, response.reason) == (404, "unknown_service")
        client.assert_open("/venue/")
