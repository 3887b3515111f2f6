"""Methods that the HTTP parser does not know: refused, unless `allow_methods` or the `match` of a route names them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.client import request_bytes
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, echo
from tests.support.upstream import Upstream

CONFIG = """
defaults: {retry: {backoff: {base: 1ms, max: 2ms}, budget: {min_per_second: 1000}}, breaker: {volume_threshold: 10000}}
services:
  venue: {endpoints: ["$venue"], allow_methods: [BAN, REPORT, PLAY]}
  other:
    endpoints: ["$other"]
    routes: [{match: {path: /cache, methods: [BAN, GET]}}, {match: {path: /any}, allow_methods: [FLUSH]}]
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "other") as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(echo())


@pytest.mark.parametrize("method", ["BAN", "REPORT", "PLAY"])
@pytest.mark.parametrize("body", [None, b"what to ban"])
def test_allowed_methods_pass(rig: Rig, venue: Upstream, method: str, body: bytes | None) -> None:
    """With and without a body; the connection stays fit for the next request."""
    with rig.client() as client:
        for _ in range(2):
            response = client.ask(method, "/venue/x", body=body)
            assert response.body == f"{method} /x\n".encode() + (body or b"")
        assert client.ask("GET", "/venue/y").body == b"GET /y\n"
    assert [request.method for request in venue.requests] == [method, method, "GET"]


def test_allowed_method_with_chunks(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(request_bytes("BAN", "/venue/x", [("Transfer-Encoding", "chunked")]) + b"2\r\nok\r\n0\r\n\r\n")
        assert client.read_response().body == b"BAN /x\nok"


@pytest.mark.parametrize(("method", "path"), [("BAN", "/other/cache/7"), ("FLUSH", "/other/any")])
def test_methods_of_a_route_are_allowed_there(rig: Rig, method: str, path: str) -> None:
    other = rig["other"].play(answer())
    assert rig.ask(method, path).status == 200
    assert_problem(rig.ask(method, "/other/"), 501, "bad_request")
    assert other.hits == 1


@pytest.mark.parametrize(
    ("method", "path"), [("BREW", "/venue/"), ("ban", "/venue/"), ("BAN", "/nobody/"), ("BAN", "/_aggregate/x")]
)
def test_other_unknown_methods_are_refused_and_say_how_to_allow_them(
    rig: Rig, venue: Upstream, method: str, path: str
) -> None:
    response = rig.ask(method, path)
    assert_problem(response, 501, "bad_request")
    assert "allow_methods" in response.json()["detail"]
    assert "a route's match" in response.json()["detail"]
    assert venue.hits == 0


@pytest.mark.parametrize(
    "head",
    [
        b"BAN /venue/ HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
        b"BAN /venue/ HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n",
        b"BAN /venue/ HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"BAN /venue/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"BAN /venue/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"BAN /venue/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
        b"BAN /venue/ HTTP/1.1\r\n\r\n",
        b"BAN /venue/\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_allowed_methods_have_strict_heads_too(rig: Rig, venue: Upstream, head: bytes) -> None:
    with rig.client() as client:
        client.send(head)
        assert client.read_response().status in (400, 501)
        client.assert_closed()
    assert venue.bytes_in == 0
    assert venue.malformed == []


def test_an_allowed_method_is_not_sent_twice(rig: Rig, venue: Upstream) -> None:
    """Nobody knows that it is idempotent, unless `retry.methods` says so."""
    venue.play(answer(503))
    assert rig.ask("BAN", "/venue/").status == 503
    assert venue.hits == 1
