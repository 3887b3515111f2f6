"""Answers that come before the request is complete: interim ones, and final ones to an upload."""

from __future__ import annotations

from tests.support import steps
from tests.support.client import request_bytes
from tests.support.eventually import eventually
from tests.support.message import chunked
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, echo, held, interim, response_head
from tests.support.upstream import Turn, Upstream

SENT = ("sidecar_retries_total", frozenset({("service", "venue"), ("result", "sent")}))
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def test_expect_continue(rig: Rig, venue: Upstream) -> None:
    """The app holds its body back until the upstream's own 100 has come."""
    venue.play(interim(CONTINUE, final=echo()))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/x", [("Expect", "100-continue"), ("Content-Length", "5")]))
        head = client.read_head()
        assert head.status == 100
        assert venue.last.get("expect") == "100-continue"
        client.send(b"hello")
        response = client.read_response()
        assert (response.status, response.interim, response.body) == (200, [], b"POST /x\nhello")
        client.assert_open("/venue/")


def test_expect_continue_chunked(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(CONTINUE, final=echo()))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/x", [("Expect", "100-continue"), ("Transfer-Encoding", "chunked")]))
        assert client.read_head().status == 100
        client.send(chunked(b"hello"))
        assert client.read_response().body == b"POST /x\nhello"


def test_expect_refused(rig: Rig, venue: Upstream) -> None:
    """The upstream's final answer comes while the app still waits, and it never has to send its body."""
    venue.play(steps.answer_early(401, b"who are you?"))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/x", [("Expect", "100-continue"), ("Content-Length", "5")]))
        response = client.read_response()
        assert (response.status, response.body, response.interim) == (401, b"who are you?", [])


def test_app_that_expects_and_sends_at_once(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(CONTINUE, final=echo()))
    with rig.client() as client:
        response = client.ask("POST", "/venue/x", [("Expect", "100-continue")], b"hello")
        assert response.body == b"POST /x\nhello"
        client.assert_open("/venue/")


def test_interim_answers_are_relayed(rig: Rig, venue: Upstream) -> None:
    hints = response_head(103, [("Link", "</a.css>; rel=preload"), ("Link", "</b.js>")])
    venue.play(interim(hints, response_head(102), hints, final=answer(body=b"final")))
    with rig.client() as client:
        response = client.ask("GET", "/venue/")
        assert [head.status for head in response.interim] == [103, 102, 103]
        assert response.interim[0].all("link") == ["</a.css>; rel=preload", "</b.js>"]
        assert (response.status, response.body) == (200, b"final")
        assert client.ask("GET", "/venue/").body == b"final"


def test_interim_answer_is_relayed_before_the_final_one(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(response_head(103, [("Link", "x")]), final=held(answer())))
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/"))
        assert client.read_head().status == 103
        venue.gate.set()
        assert client.read_response().status == 200


# Answers that come before the request is complete.


def test_early_answer_and_the_rest_of_a_small_body(rig: Rig, venue: Upstream) -> None:
    """Up to 64 KiB are taken after the answer, and the connection goes on."""
    venue.play(steps.answer_early(), answer(body=b"next"))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/1", [("Content-Length", "20000")]) + bytes(1000))
        response = client.read_response()
        assert (response.body, response.get("connection")) == (b"early", None)
        client.send(bytes(19_000) + request_bytes("GET", "/venue/2"))
        assert client.read_response().body == b"next"
    assert [request.connection for request in venue.requests] == [0, 1]


def test_early_answer_to_a_large_body(rig: Rig, venue: Upstream) -> None:
    """The answer says that the connection closes, and the app can read it although it goes on sending."""
    venue.play(steps.answer_early(413))
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", "100000000")]) + bytes(1000))
        eventually(lambda: venue.hits == 1)
        client.send(bytes(100_000))
        response = client.read_response()
        assert (response.status, response.body, response.end) == (413, b"early", "whole")
        assert response.get("connection") == "close"
        client.assert_closed()


def test_own_early_answer_to_a_large_body(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(request_bytes("POST", "/nowhere/", [("Content-Length", "100000000")]) + bytes(200_000))
        response = client.read_response()
        assert_problem(response, 404, "unknown_service")
        assert response.get("connection") == "close"
        client.assert_closed()


def test_own_early_answer_to_a_small_body(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        whole = request_bytes("POST", "/nowhere/", body=bytes(50_000))
        client.send(whole[:-100])
        assert_problem(client.read_response(), 404, "unknown_service")
        client.send(whole[-100:])
        client.assert_open("/venue/")


def test_answer_and_request_stream_at_the_same_time(rig: Rig, venue: Upstream) -> None:
    """An upstream that answers as it reads: each piece comes back before the next is sent."""

    def step(turn: Turn) -> None:
        turn.read_head()
        turn.send(response_head(200, [("Transfer-Encoding", "chunked")]))
        for _ in range(3):
            piece = bytearray()
            turn.connection.stream.exactly(100_000, piece)
            turn.send(chunked(bytes(piece)).removesuffix(b"0\r\n\r\n"))
        turn.send(b"0\r\n\r\n")

    venue.play(step)
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", "300000")]))
        head = client.read_head()
        assert head.status == 200
        for number in range(3):
            client.send(bytes([number]) * 100_000)
            body = bytearray()
            while len(body) < 100_000:
                size = int(client.stream.until(b"\r\n"), 16)
                client.stream.exactly(size, body)
                assert client.receive(2) == b"\r\n"
            assert body == bytes([number]) * 100_000
        assert client.receive(5) == b"0\r\n\r\n"


def test_body_that_comes_while_a_retry_waits_is_for_the_retry_alone() -> None:
    """The first upstream has answered: what comes of the body after that must not reach it behind a gap."""
    config = """
services:
  venue:
    endpoints: ["$venue"]
    retry: {backoff: {base: 400ms, max: 400ms}}
"""
    with Rig(config, "venue") as rig:
        retry_after = [("Retry-After", "1")]
        upstream = rig["venue"].play(steps.answer_early(503, b"not now", retry_after), echo())
        with rig.client() as client:
            client.send(request_bytes("PUT", "/venue/x", [("Content-Length", "10")]) + b"first")
            eventually(lambda: rig.daemon.metrics().get(SENT, 0) == 1)
            client.send(b"-then")
            response = client.read_response()
            assert (response.status, response.body) == (200, b"PUT /x\nfirst-then")
            client.assert_open("/venue/")
        assert upstream.requests[0].body in (b"", b"first")
        assert not upstream.requests[0].complete
