"""Requests that change the protocol on their way: HTTP/1.1 apps and services of HTTP/2, and what smuggling tries.

More of the other direction, apps of HTTP/2 and services of HTTP/1.1, is in test_h2_requests.py.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import request_bytes
from tests.support.eventually import eventually
from tests.support.h2_app import Answer, H2Client
from tests.support.h2_service import Call, H2Service, answer, at_once, echo
from tests.support.message import chunked
from tests.support.rig import Rig
from tests.support.steps import answer as answer_http1
from tests.support.steps import echo as echo_http1
from tests.support.steps import raw, response_head, then_close
from tests.support.upstream import Turn, Upstream

CONFIG = """
log: {access: all}
defaults:
  timeout: {connect: 2s, attempt: 4s, request: 8s}
  retry: {backoff: {base: 1ms, max: 2ms}, budget: {min_per_second: 1000}}
  breaker: {volume_threshold: 10000}
services:
  shop: {endpoints: ["$shop"], hosts: [shop-service]}
  both:
    endpoints: ["$shop", "$other"]
    balancer: {hash: {header: x-user}}
  stale: {endpoints: ["$shop"], fallback: [{stale: 1m}]}
  fixed: {endpoints: ["$shop"], fallback: [{status: 299, body: "instead"}]}
  quick: {endpoints: ["$shop"], timeout: {attempt: 300ms, idle: 300ms}, retry: {max_retries: 0}}
  checked:
    endpoints: ["$well"]
    health: {path: /health, interval: 50ms, idle_interval: 50ms, timeout: 1s}
  loop: {endpoints: ["h2c://127.0.0.1:$proxy"]}
  venue: {endpoints: ["$venue"]}
aggregates:
  page:
    parts:
      shop: {service: shop, path: /a, required: true}
      venue: {service: venue, path: /b}
"""
BIG = 3 * 1024 * 1024
HUGE = 40 * 1024 * 1024
"""More than what kernels keep for two connections."""


class H2Rig(Rig):
    """The rig, with services of HTTP/2 beside the others."""

    shop: H2Service
    other: H2Service
    well: H2Service


@pytest.fixture(scope="module")
def rig() -> Iterator[H2Rig]:
    with H2Service() as shop, H2Service() as other, H2Service() as well:
        config = CONFIG.replace("$shop", shop.url).replace("$other", other.url).replace("$well", well.url)
        with H2Rig(config, "venue") as rig:
            rig.shop, rig.other, rig.well = shop, other, well
            yield rig


@pytest.fixture
def shop(rig: H2Rig) -> Iterator[H2Service]:
    yield rig.shop.play(echo)
    assert rig.shop.faults == [], "the package h2 found a fault in what the sidecar sent"


def pattern(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


# From HTTP/1.1 to HTTP/2.


def test_a_request_and_its_answer(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(201, b"made", ("x-kind", "b"), ("set-cookie", "a=1"), ("set-cookie", "b=2")))
    response = rig.ask("POST", "/shop/x?y=1", [("X-Mine", "Yes"), ("Cookie", "a=1; b=2")], b"body")
    assert (response.status, response.phrase, response.body, response.end) == (201, "Created", b"made", "whole")
    assert response.all("set-cookie") == ["a=1", "b=2"]
    assert response.get("date"), "a response without a Date gets one"
    assert len(response.all("content-length")) == 1
    call = shop.last
    assert (call.method, call.target, bytes(call.body)) == ("POST", "/x?y=1", b"body")
    assert call.get(":scheme") == "http"
    assert call.get(":authority") == shop.url.removeprefix("h2c://")
    assert (call.get("x-mine"), call.get("content-length"), call.get("host")) == ("Yes", "4", None)
    assert "; ".join(call.all("cookie")) == "a=1; b=2"
    assert call.get("x-request-id")
    assert call.get("x-forwarded-prefix") == "/shop"
    assert call.get("x-sidecar-loop")


def test_by_host_the_path_is_kept(rig: H2Rig, shop: H2Service) -> None:
    assert rig.ask("GET", "/x", host="shop-service").body == b"GET /x\n"
    assert shop.last.get("x-forwarded-prefix") is None


def test_fields_of_the_connection_stay_here(rig: H2Rig, shop: H2Service) -> None:
    rig.ask(
        "GET",
        "/shop/",
        [("Connection", "x-a, keep-alive"), ("X-A", "1"), ("Keep-Alive", "timeout=5"), ("TE", "trailers, deflate")],
    )
    names = {name for name, _ in shop.last.fields}
    assert not names & {b"connection", b"x-a", b"keep-alive", b"transfer-encoding", b"upgrade"}
    assert shop.last.get("te") in (None, "trailers")


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 262_145, BIG])
def test_bodies_by_length(rig: H2Rig, shop: H2Service, size: int) -> None:
    body = pattern(size)
    with rig.client(timeout=20) as client:
        for _ in range(2):
            response = client.ask("POST", "/shop/x", body=body)
            assert (response.status, response.end) == (200, "whole")
            assert response.body == b"POST /x\n" + body
    assert bytes(shop.last.body) == body


@pytest.mark.parametrize("pieces", [(), (b"one",), (b"one", b"2", b"three" * 1000), (b"x" * 70_000, b"y" * 70_000)])
def test_chunked_uploads_and_answers_of_unknown_length(rig: H2Rig, shop: H2Service, pieces: tuple[bytes, ...]) -> None:
    def spoken(call: Call) -> None:
        call.head(200)
        for piece in pieces:
            call.data(piece)
        call.data(b"", end=True)

    shop.play(spoken)
    with rig.client() as client:
        for _ in range(2):
            client.send(request_bytes("POST", "/shop/", [("Transfer-Encoding", "chunked")]) + chunked(*pieces))
            response = client.read_response()
            assert (response.framing, response.end) == ("chunked", "whole")
            assert response.body == b"".join(pieces)
            assert bytes(shop.last.body) == b"".join(pieces)
            assert shop.last.get("content-length") is None


def test_an_app_of_http_1_0_reads_until_the_end(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(200, b"x" * 100_000, length=False))
    with rig.client() as client:
        client.send(b"GET /shop/ HTTP/1.0\r\nHost: localhost\r\n\r\n")
        response = client.read_response()
        assert (response.framing, response.body) == ("close", b"x" * 100_000)


def test_trailers_both_ways(rig: H2Rig, shop: H2Service) -> None:
    def spoken(call: Call) -> None:
        call.head(200)
        call.data(b"body")
        call.end(("x-sum", "1"), ("x-other", "2"))

    shop.play(spoken)
    with rig.client() as client:
        client.send(
            request_bytes("POST", "/shop/", [("Transfer-Encoding", "chunked"), ("TE", "trailers")])
            + chunked(b"up", trailers=[("X-Sum", "3"), ("Content-Length", "5")])
        )
        response = client.read_response()
    assert (response.body, response.end) == (b"body", "whole")
    assert sorted(response.trailers) == [("x-other", "2"), ("x-sum", "1")]
    assert shop.last.trailers == [(b"x-sum", b"3")]


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body(rig: H2Rig, shop: H2Service, status: int) -> None:
    def spoken(call: Call) -> None:
        call.head(status, *([("content-length", "5")] if status == 304 else []), end=True)

    shop.play(spoken)
    with rig.client() as client:
        for _ in range(2):
            response = client.ask("GET", "/shop/")
            assert (response.status, response.body, response.end) == (status, b"", "whole")
            assert response.get("transfer-encoding") is None


def test_head(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(200, b"12345"))
    with rig.client() as client:
        for _ in range(2):
            response = client.ask("HEAD", "/shop/")
            assert (response.status, response.get("content-length"), response.body) == (200, "5", b"")
        assert client.ask("GET", "/shop/").body == b"12345"


def test_interim_answers_and_expect(rig: H2Rig, shop: H2Service) -> None:
    @at_once
    def spoken(call: Call) -> None:
        call.head(103, ("link", "</a>"))
        call.head(100)
        while not call.complete and call.more():
            pass
        answer(200, bytes(call.body))(call)

    shop.play(spoken)
    with rig.client() as client:
        client.send(request_bytes("POST", "/shop/", [("Content-Length", "4"), ("Expect", "100-continue")]))
        client.send(b"late")
        response = client.read_response()
        assert (response.status, response.body) == (200, b"late")
        assert 103 in [head.status for head in response.interim]
        assert client.ask("POST", "/shop/", body=b"again").body == b"again"


def test_a_websocket_is_refused_in_words(rig: H2Rig, shop: H2Service) -> None:
    headers = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    response = rig.ask("GET", "/shop/", [*headers, ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")])
    assert response.status == 501
    assert "HTTP/2" in response.json()["detail"]
    assert shop.calls == []


def test_another_upgrade_is_dropped(rig: H2Rig, shop: H2Service) -> None:
    response = rig.ask("GET", "/shop/x", [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c")])
    assert (response.status, response.body) == (200, b"GET /x\n")


# Ends that are not clean.


@pytest.mark.parametrize("framing", ["length", "unknown"])
@pytest.mark.parametrize("how", ["reset", "close", "rst"])
def test_a_cut_answer_stays_cut(rig: H2Rig, shop: H2Service, framing: str, how: str) -> None:
    def spoken(call: Call) -> None:
        call.head(200, *([("content-length", "100")] if framing == "length" else []))
        call.data(b"half")
        if how == "rst":
            call.reset(2)
        else:
            call.close(reset=how == "reset")

    shop.play(spoken)
    response = rig.ask("GET", "/shop/")
    assert response.status == 200
    assert response.end != "whole"
    assert b"half".startswith(response.body)


def test_data_beyond_its_length_is_never_a_whole_answer(rig: H2Rig, shop: H2Service) -> None:
    def spoken(call: Call) -> None:
        call.head(200, ("content-length", "4"))
        call.data(b"four and more", end=True)

    shop.play(spoken)
    with rig.client() as client:
        response = client.ask("GET", "/shop/")
        assert not (response.status == 200 and response.whole and response.body != b"four")


def test_data_short_of_its_length_is_cut(rig: H2Rig, shop: H2Service) -> None:
    def spoken(call: Call) -> None:
        call.head(200, ("content-length", "40"))
        call.data(b"short", end=True)

    shop.play(spoken)
    response = rig.ask("GET", "/shop/")
    assert response.status == 502 or response.end != "whole"


def test_an_app_that_leaves_cancels_its_stream_alone(rig: H2Rig, shop: H2Service) -> None:
    go = threading.Event()

    @at_once
    def spoken(call: Call) -> None:
        call.head(200)
        call.data(b"first")
        while call.reset_by_peer is None and not go.is_set() and call.more():
            pass

    shop.play(spoken, echo)
    before = shop.connections
    with rig.client() as client:
        client.send(request_bytes("GET", "/shop/"))
        assert client.read_head().status == 200
    call = shop.calls[0]

    def cancelled() -> None:
        assert call.reset_by_peer == 8

    eventually(cancelled)
    assert rig.ask("GET", "/shop/x").body == b"GET /x\n"
    assert shop.connections - before <= 1


def test_an_app_that_leaves_in_its_upload_is_no_end_of_it(rig: H2Rig, shop: H2Service) -> None:
    with rig.client() as client:
        client.send(request_bytes("POST", "/shop/", [("Transfer-Encoding", "chunked")]) + b"4\r\nhalf\r\n")
        eventually(lambda: _true(shop.calls and bytes(shop.calls[0].body) == b"half"))
    eventually(lambda: _true(shop.calls[0].reset_by_peer == 8))
    assert not shop.calls[0].complete


def _true(found: Any) -> None:
    assert found


def test_an_upload_waits_for_the_service(rig: H2Rig, shop: H2Service) -> None:
    """A service that takes nothing: what it owes of the body is bounded, and the rest waits at the app."""
    shop.reads = False
    body = pattern(HUGE)
    try:
        with rig.client(timeout=30) as client:
            head = request_bytes("POST", "/shop/x", [("Content-Length", str(HUGE))])
            sending = threading.Thread(target=client.send, args=(head + body,))
            sending.start()
            eventually(lambda: _true(shop.calls and len(shop.calls[0].body) >= 16_384))
            call = shop.calls[0]
            time.sleep(0.2)
            assert len(call.body) <= 65_535
            assert sending.is_alive()
            shop.reads = True
            call._on.h2.increment_flow_control_window(HUGE)
            call._on.h2.increment_flow_control_window(HUGE, call.stream)
            call._on.flush()
            response = client.read_response()
            sending.join(10)
        assert response.body == b"POST /x\n" + body
    finally:
        shop.reads = True


def test_an_answer_waits_for_the_app(rig: H2Rig, shop: H2Service) -> None:
    sent = []

    def spoken(call: Call) -> None:
        call.head(200, ("content-length", str(8 * BIG)))
        for _ in range(8):
            call.data(pattern(BIG))
            sent.append(1)
        call.data(b"", end=True)

    shop.play(spoken)
    with rig.client(timeout=30) as client:
        client.send(request_bytes("GET", "/shop/"))
        time.sleep(0.5)
        assert len(sent) < 8, "nobody reads, so it waits"
        response = client.read_response()
    assert len(response.body) == 8 * BIG
    assert response.body[-BIG:] == pattern(BIG)


# Policies.


def test_a_get_is_repeated_and_a_post_is_not(rig: H2Rig, shop: H2Service) -> None:
    shop.play(lambda call: call.reset(2), echo)
    assert rig.ask("GET", "/shop/x").body == b"GET /x\n"
    assert len(shop.calls) == 2
    shop.play(lambda call: call.reset(2), echo)
    response = rig.ask("POST", "/shop/x", body=b"x")
    assert (response.status, response.reason) == (502, "reset")
    assert len(shop.calls) == 1
    shop.play(lambda call: call.reset(7), echo)
    assert rig.ask("POST", "/shop/x", body=b"x").body == b"POST /x\nx", "REFUSED_STREAM: it has not been seen"


def test_statuses_are_retried(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(503), answer(502), echo)
    assert rig.ask("GET", "/shop/x").body == b"GET /x\n"
    assert [call.get("x-envoy-attempt-count") for call in shop.calls] == ["1", "2", "3"]


def test_a_service_that_is_silent(rig: H2Rig, shop: H2Service) -> None:
    shop.play(lambda call: None)
    response = rig.ask("GET", "/quick/")
    assert (response.status, response.reason) == (504, "attempt_timeout")
    eventually(lambda: _true(shop.last.reset_by_peer == 8))


def test_a_fallback(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(503))
    response = rig.ask("GET", "/fixed/")
    assert (response.status, response.body) == (299, b"instead")


def test_a_stale_copy(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(200, b"good", ("content-type", "text/plain")), answer(503))
    assert rig.ask("GET", "/stale/x").body == b"good"
    response = rig.ask("GET", "/stale/x")
    assert (response.status, response.body, response.get("content-type")) == (200, b"good", "text/plain")
    assert response.get("x-sidecar-fallback") == "stale"


def test_an_app_of_http_2_gets_fallback_and_stale_copy(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(503))
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/fixed/")
        assert (found.status, found.body) == (299, b"instead")
        shop.play(answer(200, b"good", length=False), answer(503))
        assert client.ask("/stale/y").body == b"good"
        found = client.ask("/stale/y")
        assert (found.body, found.get("x-sidecar-fallback")) == (b"good", "stale")


def test_an_aggregate(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(200, b'{"a": 1}', ("content-type", "application/json"), length=False))
    rig["venue"].play(answer_http1(200, b'{"b": 2}', [("Content-Type", "application/json")]))
    found = rig.ask("GET", "/_aggregate/page").json()
    assert (found["shop"], found["venue"]) == ({"a": 1}, {"b": 2})
    with H2Client(rig.ports.proxy) as client:
        assert json.loads(client.ask("/_aggregate/page").body)["shop"] == {"a": 1}


def test_the_hash_balancer(rig: H2Rig, shop: H2Service) -> None:
    rig.other.play(echo)
    for user in range(8):
        before = len(shop.calls), len(rig.other.calls)
        for _ in range(3):
            rig.ask("GET", "/both/", [("X-User", str(user))])
        gained = len(shop.calls) - before[0], len(rig.other.calls) - before[1]
        assert sorted(gained) == [0, 3], "one user, one endpoint"
    assert shop.calls
    assert rig.other.calls


def test_location_and_prefix(rig: H2Rig, shop: H2Service) -> None:
    shop.play(answer(302, b"", ("location", "/login"), ("x-a", "1")))
    response = rig.ask("GET", "/shop/x")
    assert (response.status, response.get("location"), response.get("x-a")) == (302, "/shop/login", "1")
    with H2Client(rig.ports.proxy) as client:
        assert client.ask("/shop/x").get("location") == "/shop/login"
    shop.play(answer(302, b"", ("location", f"http://127.0.0.1:{shop.port}/login")))
    assert rig.ask("GET", "/shop/x").get("location") in ("/shop/login", "http://localhost/shop/login")


def test_a_request_id_is_kept_and_told(rig: H2Rig, shop: H2Service) -> None:
    rig.ask("GET", "/shop/x", [("X-Request-Id", "an-id-of-mine")])
    assert shop.last.get("x-request-id") == "an-id-of-mine"
    eventually(lambda: _true('"request_id":"an-id-of-mine"' in rig.log.replace(" ", "")))


def test_a_loop_is_found(rig: H2Rig) -> None:
    response = rig.ask("GET", "/loop/loop/loop/loop/loop/x")
    assert (response.status, response.reason) == (508, "loop")
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/loop/loop/loop/loop/loop/x")
        assert (found.status, found.get("x-sidecar-reason")) == (508, "loop")


def test_health_checks(rig: H2Rig) -> None:
    rig.well.play(echo)

    def checked() -> None:
        assert any((call.method, call.target) == ("GET", "/health") for call in rig.well.calls)

    eventually(checked)
    assert rig.ask("GET", "/checked/x").body == b"GET /x\n"
    rig.well.play(answer(503))
    eventually(lambda: _true(rig.daemon.metric("sidecar_endpoint_healthy", service="checked") == 0))
    rig.well.play(echo)


def test_the_access_log(rig: H2Rig, shop: H2Service) -> None:
    rig.ask("GET", "/shop/logged?x=1")

    def line() -> dict[str, Any]:
        lines = [one for one in rig.daemon.log_lines() if str(one.get("target")).startswith("/shop/logged")]
        assert lines
        return lines[0]

    found = eventually(line)
    assert (found["service"], found["method"], found["status"], found["reason"]) == ("shop", "GET", 200, "ok")


# What only looks like a request: RFC 9113, sections 8.2, 8.3 and 10.3.


class Raw(H2Client):
    """An app that sends fields as they are."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        config = self.app.h2.config
        config.validate_outbound_headers = False
        config.normalize_outbound_headers = False

    def fields(self, *fields: tuple[str, str], body: bytes | None = None, line: bool = True) -> Answer:
        """The answer to a request of these fields, behind an ordinary request line."""
        number = self.app.h2.get_next_available_stream_id()
        head = [(":method", "POST" if body is not None else "GET"), (":scheme", "http")]
        head += [(":path", "/venue/x"), (":authority", "localhost")]
        self.app.answers[number] = Answer()
        self.app.h2.send_headers(number, [*(head if line else []), *fields], end_stream=body is None)
        if body is not None:
            self.app.h2.send_data(number, body, end_stream=True)
        return self.answer(number)


BAD_FIELDS = [
    ("x-a", "b\r\nx-smuggled: 1"),
    ("x-a", "b\nx-smuggled: 1"),
    ("x-a", "b\rc"),
    ("x-a", "b\0c"),
    ("x-a\r\nx-smuggled", "1"),
    ("x-a: 1\r\nx-smuggled", "1"),
    ("x:a", "1"),
    ("x a", "1"),
    ("X-Upper", "1"),
    ("", "1"),
    ("x-a", " b"),
    ("x-a", "b\t"),
    ("transfer-encoding", "chunked"),
    ("connection", "close"),
    ("connection", "x-a"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("upgrade", "websocket"),
    ("te", "trailers, chunked"),
    ("te", "gzip"),
    ("host", "other"),
    ("content-length", "5"),
    ("content-length", "+0"),
    ("content-length", "0, 0"),
    (":path", "/other"),
    (":status", "200"),
    (":unknown", "1"),
]


@pytest.mark.parametrize("field", BAD_FIELDS, ids=lambda field: f"{field[0]!a}-{field[1]!a}")
def test_what_no_service_of_http_1_may_see(rig: H2Rig, field: tuple[str, str]) -> None:
    venue: Upstream = rig["venue"].play(answer_http1())
    with Raw(rig.ports.proxy) as client:
        found = client.fields(field)
        assert found.reset is not None or found.status == 400, found
    assert venue.requests == []
    with H2Client(rig.ports.proxy) as client:
        assert client.ask("/venue/x").status == 200


@pytest.mark.parametrize("length", ["3", "5", "99"])
def test_a_length_that_is_not_that_of_the_body(rig: H2Rig, length: str) -> None:
    venue: Upstream = rig["venue"].play(answer_http1())
    with Raw(rig.ports.proxy) as client:
        found = client.fields(("content-length", length), body=b"four")
        assert found.reset is not None or found.status == 400, found
    assert not any(request.complete for request in venue.requests)


@pytest.mark.parametrize(
    "line",
    [
        [(":method", "GET\r\nX: 1"), (":scheme", "http"), (":path", "/venue/x"), (":authority", "localhost")],
        [(":method", "GET / HTTP/1.1"), (":scheme", "http"), (":path", "/venue/x"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/venue/x HTTP/1.1\r\nX: 1"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/venue/x y"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/venue/x#y"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "venue/x"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "*"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/venue/x"), (":authority", "local\r\nhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/venue/x"), (":authority", "user@localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/venue/x"), (":authority", "a b")],
        [(":method", "GET"), (":path", "/venue/x"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":path", "/venue/x")],
        [(":scheme", "http"), (":path", "/venue/x"), (":authority", "localhost")],
        [(":method", "GET"), (":scheme", "http"), (":authority", "localhost")],
        [(":method", "GET"), (":method", "POST"), (":scheme", "http"), (":path", "/venue/x"), (":authority", "a")],
        [("x-a", "1"), (":method", "GET"), (":scheme", "http"), (":path", "/venue/x"), (":authority", "localhost")],
    ],
    ids=lambda line: "-".join(f"{value!a}" for _, value in line)[:60],
)
def test_a_request_line_that_is_none(rig: H2Rig, line: list[tuple[str, str]]) -> None:
    venue: Upstream = rig["venue"].play(answer_http1())
    with Raw(rig.ports.proxy) as client:
        found = client.fields(*line, line=False)
        assert found.reset is not None or found.status == 400, found
    assert venue.requests == []


def test_cookies_are_joined_for_http_1(rig: H2Rig) -> None:
    venue: Upstream = rig["venue"].play(answer_http1())
    with Raw(rig.ports.proxy) as client:
        assert client.fields(("cookie", "a=1"), ("x-a", "b"), ("cookie", "b=2"), ("te", "trailers")).status == 200
    assert venue.last.all("cookie") == ["a=1; b=2"]
    assert venue.last.get("te") is None
    assert len(venue.last.all("host")) == 1


# What a service may not send either.


@pytest.mark.parametrize(
    "field",
    [
        ("x-a", "b\r\nx-smuggled: 1"),
        ("x-a", "b\nc"),
        ("x-a", "b\0c"),
        ("x-a\r\nx-smuggled", "1"),
        ("x:a", "1"),
        ("X-Upper", "1"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("content-length", "5, 5"),
    ],
    ids=lambda field: f"{field[0]!a}-{field[1]!a}",
)
def test_what_no_app_of_http_1_may_see(rig: H2Rig, shop: H2Service, field: tuple[str, str]) -> None:
    def spoken(call: Call) -> None:
        call.head(200, field)
        call.data(b"12345", end=True)

    shop.play(spoken)
    response = rig.ask("GET", "/shop/")
    assert (response.status, response.get("x-smuggled")) == (502, None)
    shop.play(echo)
    assert rig.ask("GET", "/shop/x").body == b"GET /x\n"


def test_trailers_that_would_be_lines(rig: H2Rig, shop: H2Service) -> None:
    def spoken(call: Call) -> None:
        call.head(200)
        call.data(b"body")
        call.end(("x-a", "b\r\nx-smuggled: 1"))

    shop.play(spoken)
    response = rig.ask("GET", "/shop/")
    assert response.end != "whole"


# From HTTP/2 to HTTP/1.1, and to HTTP/2 again.


def test_head_and_answers_without_a_body_for_an_app_of_http_2(rig: H2Rig) -> None:
    venue: Upstream = rig["venue"].play(answer_http1(200, b"12345"))
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/venue/x", method="HEAD")
        assert (found.status, found.get("content-length"), found.body, found.ended) == (200, "5", b"", True)
        for status in (204, 304):
            venue.play(raw(response_head(status, [("ETag", "x")])))
            found = client.ask("/venue/x")
            assert (found.status, found.body, found.ended) == (status, b"", True)
            assert not {name for name, _ in found.headers} & {"connection", "transfer-encoding", "keep-alive"}


def test_a_body_until_the_connection_ends(rig: H2Rig) -> None:
    rig["venue"].play(then_close(raw(response_head(200, [("Connection", "close")]) + b"x" * 100_000)))
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/venue/x")
    assert (found.body, found.ended) == (b"x" * 100_000, True)


@pytest.mark.parametrize("head", [("Content-Length", "10"), ("Transfer-Encoding", "chunked")])
def test_a_cut_answer_of_http_1_is_no_clean_end(rig: H2Rig, head: tuple[str, str]) -> None:
    body = b"half" if head[0] == "Content-Length" else b"4\r\nhalf\r\n"
    rig["venue"].play(then_close(raw(response_head(200, [head]) + body)))
    with H2Client(rig.ports.proxy) as client:
        found = client.ask("/venue/x")
    assert (found.status, found.ended) == (200, False)
    assert found.reset not in (None, 0)


@pytest.mark.parametrize("length", [True, False])
def test_a_cut_upload_is_no_clean_end_at_a_service_of_http_1(rig: H2Rig, length: bool) -> None:
    venue: Upstream = rig["venue"].play(answer_http1())
    with H2Client(rig.ports.proxy) as client:
        headers = [("content-length", "100")] if length else []
        number = client.app.ask("/venue/x", headers, b"half", end=False)
        client.flush()
        eventually(lambda: _true(venue.requests))
        client.app.reset(number)
        client.flush()
        assert client.ask("/venue/y").status == 200
    assert not venue.requests[0].complete


def test_expect_from_an_app_of_http_2(rig: H2Rig) -> None:
    def goes_on(turn: Turn) -> None:
        turn.read_head()
        turn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        echo_http1()(turn)

    venue: Upstream = rig["venue"].play(goes_on)
    with H2Client(rig.ports.proxy) as client:
        number = client.app.ask("/venue/x", [("expect", "100-continue")], method="POST", end=False)
        answered = client.app.answers[number]
        client.until(lambda: 100 in answered.interim or answered.over)
        client.app.say(number, b"late", end=True)
        assert client.answer(number).body == b"POST /x\nlate"
    assert venue.last.body == b"late"


def test_http_2_on_both_sides(rig: H2Rig, shop: H2Service) -> None:
    def spoken(call: Call) -> None:
        call.head(103, ("link", "</a>"))
        call.head(200, ("x-a", "1"))
        call.data(bytes(call.body))
        call.end(("x-sum", "1"))

    shop.play(spoken)
    with H2Client(rig.ports.proxy, timeout=20) as client:
        found = client.ask("/shop/x", [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")], b"body")
        assert (found.status, found.interim, found.body, found.ended) == (200, [103], b"body", True)
        assert (found.get("x-a"), found.trailers) == ("1", [("x-sum", "1")])
        assert shop.last.get("te") == "trailers"
        assert "; ".join(shop.last.all("cookie")) == "a=1; b=2"
        shop.play(answer(200, pattern(BIG)))
        assert client.ask("/shop/x").body == pattern(BIG)
        shop.play(lambda call: (call.head(200), call.data(b"half"), call.reset(2)))
        found = client.ask("/shop/x")
        assert (found.status, found.ended) == (200, False)
