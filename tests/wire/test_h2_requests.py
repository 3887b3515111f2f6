"""Requests that an app sends over HTTP/2, to a service that speaks HTTP/1.1."""

from __future__ import annotations

import json

import pytest

from tests.support.eventually import eventually
from tests.support.h2_app import H2Client
from tests.support.rig import Rig
from tests.support.steps import (
    answer,
    answer_chunked,
    answer_early,
    echo,
    held,
    interim,
    raw,
    response_head,
    then_close,
)
from tests.support.upstream import Upstream

BIG = 3 * 1024 * 1024


def test_one_port_for_both_protocols(rig: Rig, venue: Upstream) -> None:
    venue.play(echo())
    with rig.client() as old, H2Client(rig.ports.proxy) as new:
        for number in range(3):
            assert old.ask("GET", f"/venue/{number}").body == f"GET /{number}\n".encode()
            found = new.ask(f"/venue/{number}")
            assert (found.status, found.body) == (200, f"GET /{number}\n".encode())


@pytest.mark.parametrize("at", [1, 3, 14, 16, 18, 20, 24, 30])
def test_preface_in_two_pieces(rig: Rig, venue: Upstream, at: int) -> None:
    with H2Client(rig.ports.proxy, cut=at) as client:
        assert client.ask("/venue/x").status == 200


@pytest.mark.parametrize("authority", ["venue", "venue-service", "VENUES.example.org."])
def test_the_authority_names_the_service(rig: Rig, venue: Upstream, authority: str) -> None:
    with H2Client(rig.ports.proxy) as client:
        assert client.ask("/slow/x", authority=authority).status == 200
    assert venue.last.target == "/slow/x"


@pytest.mark.parametrize("name", ["x-sidecar-service", "dapr-app-id"])
def test_metadata_names_the_service(rig: Rig, venue: Upstream, name: str) -> None:
    with H2Client(rig.ports.proxy) as client:
        assert client.ask("/x", [(name, "venue")]).status == 200
        assert venue.last.get(name) is None
        assert client.ask("/x", [(name, "nobody")]).status == 404


def test_many_at_once(rig: Rig, venue: Upstream) -> None:
    venue.play(echo())
    with H2Client(rig.ports.proxy) as client:
        numbers = [client.app.ask(f"/venue/{number}") for number in range(200)]
        for number, stream in enumerate(numbers):
            assert client.answer(stream).body == f"GET /{number}\n".encode()


def test_bodies_of_both_kinds(rig: Rig, venue: Upstream) -> None:
    venue.play(echo())
    with H2Client(rig.ports.proxy) as client:
        assert client.ask("/venue/", body=b"hello").body == b"POST /\nhello"
        assert venue.last.get("transfer-encoding") == "chunked"
        assert client.ask("/venue/", [("content-length", "5")], body=b"hello").body == b"POST /\nhello"
        assert venue.last.get("content-length") == "5"
        assert client.ask("/venue/", method="POST").body == b"POST /\n"
        assert venue.last.get("content-length") == "0"


@pytest.mark.parametrize("window", [65535, 1 << 20])
def test_a_large_answer(rig: Rig, venue: Upstream, window: int) -> None:
    venue.play(answer(body=b"x" * BIG))
    with H2Client(rig.ports.proxy, window=window) as client:
        assert len(client.ask("/venue/").body) == BIG


def test_a_large_upload(rig: Rig, venue: Upstream) -> None:
    venue.play(answer())
    with H2Client(rig.ports.proxy) as client:
        app = client.app
        number = app.ask("/venue/", method="POST", end=False)
        left = BIG
        while left:
            client.until(lambda: app.h2.local_flow_control_window(number) > 0)
            size = min(left, app.h2.local_flow_control_window(number), 16384)
            app.h2.send_data(number, b"x" * size)
            left -= size
            client.flush()
        app.h2.end_stream(number)
        assert client.answer(number).status == 200
    assert len(venue.last.body) == BIG


def test_trailers_both_ways(rig: Rig, venue: Upstream) -> None:
    venue.play(answer_chunked(b"abc", trailers=[("X-Sum", "1"), ("X-Request-Id", "no")]))
    with H2Client(rig.ports.proxy) as client:
        number = client.app.ask("/venue/", method="POST", end=False)
        client.app.say(number, b"abc")
        client.app.h2.send_headers(number, [("x-t", "1")], end_stream=True)
        found = client.answer(number)
    assert (found.body, found.trailers) == (b"abc", [("x-sum", "1")])
    assert venue.last.trailers == [("x-t", "1")]


def test_interim_answers(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", final=answer()))
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/venue/")
    assert (found.interim, found.status) == ([103], 200)


def test_an_early_answer(rig: Rig, venue: Upstream) -> None:
    """The upload that nobody needs any more is ended without an error."""
    venue.play(answer_early(413, b"too much"))
    with H2Client(rig.ports.proxy) as client:
        number = client.app.ask("/venue/", method="POST", end=False)
        client.app.say(number, b"x" * 1000)
        found = client.answer(number)
        client.until(lambda: found.reset is not None)
    assert (found.status, found.body, found.reset) == (413, b"too much", 0)


def test_an_answer_that_breaks_off(rig: Rig, venue: Upstream) -> None:
    venue.play(then_close(raw(response_head(200, [("Content-Length", "10")]) + b"half-")))
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/venue/")
        assert (found.ended, found.reset) == (False, 2)
        venue.play(answer())
        assert client.ask("/venue/").status == 200


def test_a_slow_one_holds_up_no_other(rig: Rig, venue: Upstream) -> None:
    slow = rig["slow"].play(held(answer(body=b"slow")))
    with H2Client(rig.ports.proxy) as client:
        first = client.app.ask("/slow/")
        assert client.ask("/venue/").status == 200
        assert not client.app.answers[first].over
        slow.gate.set()
        assert client.answer(first).body == b"slow"


def test_grpc_to_a_service_of_http_1_is_refused_in_words(rig: Rig, venue: Upstream) -> None:
    with H2Client(rig.ports.proxy) as client:
        found = client.call("/a.B/C", authority="venue")
    status, words = found.grpc
    assert (found.status, status) == (200, 12)
    assert "HTTP/1.1" in words
    assert venue.hits == 0


def test_a_refusal_is_a_problem(rig: Rig) -> None:
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/nowhere/")
    assert (found.status, found.get("x-sidecar-reason")) == (404, "unknown_service")
    assert json.loads(found.body)["status"] == 404


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_behind_a_connect(rig: Rig, venue: Upstream, version: str) -> None:
    """As gRPC libraries begin where HTTP_PROXY is set."""
    opening = f"CONNECT venue-service:{venue.port} {version}\r\nHost: venue-service:{venue.port}\r\n\r\n"
    with H2Client(rig.ports.proxy, connect=opening.encode()) as client:
        assert client.ask("/slow/x", authority="whatever:1").status == 200
    assert venue.last.target == "/slow/x"


def test_counted(rig: Rig, venue: Upstream) -> None:
    daemon = rig.daemon
    eventually(lambda: daemon.metric("sidecar_app_http2_connections") == 0)
    slow = rig["slow"].play(held(answer()))
    with H2Client(rig.ports.proxy) as client:
        numbers = [client.app.ask("/slow/") for _ in range(3)]
        client.flush()
        eventually(lambda: daemon.metric("sidecar_app_http2_streams") == 3)
        assert daemon.metric("sidecar_app_http2_connections") == 1
        slow.gate.set()
        for number in numbers:
            assert client.answer(number).status == 200
    eventually(lambda: daemon.metric("sidecar_app_http2_connections") == 0)
    assert daemon.metric("sidecar_app_http2_streams") == 0
