"""Connections with the app and with the upstream: keep-alive, pipelining, HTTP/1.0, how they end."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from tests.support.client import request_bytes
from tests.support.eventually import eventually
from tests.support.message import chunked
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, answer_chunked, echo, held, interim, raw, response_head
from tests.support.upstream import Upstream


def test_keep_alive_both_ways(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        for number in range(5):
            assert client.ask("POST", f"/venue/{number}", body=b"x").status == 200
    assert [(request.connection, request.target) for request in venue.requests] == [(0, f"/{n}") for n in range(5)]


def test_pipelined_requests_are_answered_in_order(rig: Rig, venue: Upstream) -> None:
    venue.play(echo())
    with rig.client() as client:
        client.send(b"".join(request_bytes("GET", f"/venue/{number}") for number in range(20)))
        for number in range(20):
            assert client.read_response().body == f"GET /{number}\n".encode()


def test_pipelined_behind_a_slow_one(rig: Rig, venue: Upstream) -> None:
    slow = rig["slow"].play(held(answer(body=b"slow")))
    venue.play(answer(body=b"fast"))
    with rig.client() as client:
        client.send(
            request_bytes("GET", "/slow/") + request_bytes("GET", "/venue/") + request_bytes("GET", "/nowhere/")
        )
        eventually(lambda: slow.hits == 1)
        slow.gate.set()
        assert client.read_response().body == b"slow"
        assert client.read_response().body == b"fast"
        assert_problem(client.read_response(), 404, "unknown_service")


def test_long_pipeline(rig: Rig, venue: Upstream) -> None:
    """More than is read ahead: the rest waits in the kernel, and its app with it, until it reads its answers."""
    venue.play(echo())
    with rig.client() as client:
        whole = b"".join(request_bytes("GET", f"/venue/{number}", [("X-A", "a" * 500)]) for number in range(1000))
        sending = threading.Thread(target=client.send, args=(whole,), daemon=True)
        sending.start()
        for number in range(1000):
            assert client.read_response().body == f"GET /{number}\n".encode()
        sending.join(5)


def test_pipelined_with_bodies(rig: Rig, venue: Upstream) -> None:
    """By length and chunked, cut at every place where two messages could be taken for one."""
    venue.play(echo())

    def messages() -> bytes:
        return (
            request_bytes("POST", "/venue/1", body=b"GET /not HTTP/1.1\r\n\r\n")
            + request_bytes("POST", "/venue/2", [("Transfer-Encoding", "chunked")])
            + chunked(b"abc", b"defg", trailers=[("X-T", "1")])
            + request_bytes("GET", "/venue/3")
            + request_bytes("PUT", "/venue/4", body=b"")
            + request_bytes("GET", "/venue/5")
        )

    expected = [b"POST /1\nGET /not HTTP/1.1\r\n\r\n", b"POST /2\nabcdefg", b"GET /3\n", b"PUT /4\n", b"GET /5\n"]
    for cut in range(1, len(messages()), 7):
        whole = messages()
        with rig.client() as client:
            client.send(whole[:cut])
            client.send(whole[cut:])
            assert [client.read_response().body for _ in expected] == expected


def test_leading_empty_line_is_skipped(rig: Rig, venue: Upstream) -> None:
    """As some old clients send one after a body (RFC 9112, section 2.2)."""
    with rig.client() as client:
        client.send(b"\r\n" + request_bytes("GET", "/venue/1"))
        assert client.read_response().status == 200
        client.send(b"\r\n" + request_bytes("GET", "/venue/2"))
        assert client.read_response().status == 200
    assert [request.target for request in venue.requests] == ["/1", "/2"]


def test_head_in_pieces(rig: Rig, venue: Upstream) -> None:
    whole = request_bytes("GET", "/venue/x?y", [("X-A", "b")])
    with rig.client() as client:
        for at in range(len(whole)):
            client.send(whole[at : at + 1])
        assert client.read_response().status == 200
    assert (venue.last.target, venue.last.get("x-a")) == ("/x?y", "b")


# How connections end.


def test_app_asks_to_close(rig: Rig, venue: Upstream) -> None:
    """That is between it and us: the upstream's connection stays."""
    for connection in ("close", "Close", "x-a, close"):
        with rig.client() as client:
            response = client.ask("GET", "/venue/", [("Connection", connection)])
            assert (response.status, response.get("connection")) == (200, "close")
            client.assert_closed()
    assert {request.connection for request in venue.requests} == {0}
    assert all("close" not in request.all("connection") for request in venue.requests)


def test_upstream_asks_to_close(rig: Rig, venue: Upstream) -> None:
    """The app's connection stays; the upstream's is not used again, even if the upstream leaves it open."""
    venue.play(answer(headers=[("Connection", "close")]))
    with rig.client() as client:
        for number in range(3):
            response = client.ask("GET", "/venue/")
            assert (response.status, response.get("connection")) == (200, None)
            eventually(partial(venue.left, number))
    assert [request.connection for request in venue.requests] == [0, 1, 2]


def test_upstream_that_speaks_http_1_0(rig: Rig, venue: Upstream) -> None:
    """Its connections end with their answer unless it says otherwise (RFC 9112, section 9.3)."""
    venue.play(raw(response_head(200, [("Content-Length", "2")], version="HTTP/1.0") + b"ok"))
    with rig.client() as client:
        for _ in range(2):
            assert client.ask("GET", "/venue/").body == b"ok"
    assert [request.connection for request in venue.requests] == [0, 1]


@pytest.mark.parametrize("status", [204, 304])
def test_body_where_none_may_be(rig: Rig, venue: Upstream, status: int) -> None:
    """What follows such a head is no answer to anything."""
    venue.play(raw(response_head(status, [("Content-Length", "4")]) + b"LEAK"), answer(body=b"next"))
    with rig.client() as client:
        assert client.ask("GET", "/venue/").status == status
        assert client.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 1]


def test_nothing_after_a_request_that_closes(rig: Rig, venue: Upstream) -> None:
    """What follows `Connection: close` in the pipeline is not a request."""
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/1", [("Connection", "close")]) + request_bytes("GET", "/venue/2"))
        assert client.read_response().status == 200
        client.assert_closed()
    assert [request.target for request in venue.requests] == ["/1"]


# HTTP/1.0.


def test_http_1_0_closes(rig: Rig, venue: Upstream) -> None:
    venue.play(answer(body=b"hello"))
    with rig.client() as client:
        client.send(b"GET /venue/x HTTP/1.0\r\n\r\n")
        response = client.read_response()
        assert (response.body, response.end) == (b"hello", "whole")
        client.assert_closed()
    assert (venue.last.version, venue.last.get("host")) == ("HTTP/1.1", venue.authority)


def test_http_1_0_with_keep_alive(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        for _ in range(3):
            response = client.ask("POST", "/venue/", [("Connection", "Keep-Alive")], b"x", version="HTTP/1.0")
            assert (response.framing, response.end) == ("length", "whole")
            assert (response.get("connection") or "").lower() == "keep-alive"
    assert venue.hits == 3


def test_http_1_0_gets_no_chunks(rig: Rig, venue: Upstream) -> None:
    """Without a length its end is the connection's, keep-alive or not."""
    venue.play(answer_chunked(b"hello ", b"world", trailers=[("X-T", "1")]))
    for headers in ([], [("Connection", "keep-alive")]):
        with rig.client() as client:
            response = client.ask("GET", "/venue/", headers, version="HTTP/1.0")
            assert (response.framing, response.body, response.end) == ("close", b"hello world", "whole")
            assert response.all("transfer-encoding") == []
            assert response.all("trailer") == []
            client.assert_closed()


def test_http_1_0_gets_no_interim_answers(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(response_head(103, [("Link", "x")]), final=answer(body=b"final")))
    response = rig.ask("GET", "/venue/", version="HTTP/1.0")
    assert (response.interim, response.status, response.body) == ([], 200, b"final")
