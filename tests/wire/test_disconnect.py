"""The app goes away: the upstream's request is cancelled, everything is given back, and the breaker is told nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import steps
from tests.support.client import Client, NoResponseError, request_bytes
from tests.support.eventually import eventually, settled
from tests.support.message import chunked
from tests.support.rig import Changes, Rig
from tests.support.steps import answer, held, interim, raw, response_head
from tests.support.upstream import Turn, Upstream

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 20s, request: 30s, idle: 20s}
  breaker: {volume_threshold: 1}
services:
  venue: {endpoints: ["$venue"], limits: {max_concurrent: 1}}
  patient: {endpoints: ["$patient"], half_close: true}
"""

SOON = 2.0
"""Seconds within which the daemon notices: at once where it reads, within 1 s where reading is paused."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "patient") as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(steps.silence)


def gone(rig: Rig, upstream: Upstream, changes: Changes, code: str = "499") -> None:
    """The daemon has noticed: the upstream's connection is closed, and the one permit is there again."""
    eventually(lambda: upstream.begun_and_open == 0, timeout=SOON)
    gain = changes.when_done("venue")
    assert gain("sidecar_requests_total", service="venue", code=code, reason="client_disconnect") == 1
    for event in ("success", "failure", "timeout", "open"):
        assert gain("sidecar_breaker_events_total", service="venue", event=event) == 0
    assert rig.daemon.metric("sidecar_breaker_state", service="venue", state="closed") == 1
    upstream.play(answer())
    assert rig.ask("GET", "/venue/").status == 200


LEAVING = pytest.mark.parametrize(
    "leave", [Client.close, Client.reset, Client.half_close], ids=["close", "reset", "half"]
)


@LEAVING
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_while_it_waits_for_the_answer(rig: Rig, venue: Upstream, leave: Callable[[Client], None], method: str) -> None:
    changes = rig.changes()
    with rig.client() as client:
        client.send(request_bytes(method, "/venue/", body=b"x" if method == "POST" else None))
        eventually(lambda: venue.hits == 1)
        assert rig.daemon.metric("sidecar_in_flight_requests", service="venue") == 1
        leave(client)
        gone(rig, venue, changes)
    assert venue.hits == 1


@LEAVING
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_while_it_uploads(rig: Rig, venue: Upstream, leave: Callable[[Client], None], framing: str) -> None:
    """More than is kept for a retry, so that the upstream has begun to get it; it never gets an end."""
    changes = rig.changes()
    with rig.client() as client:
        if framing == "length":
            client.send(request_bytes("POST", "/venue/", [("Content-Length", "10000000")]) + bytes(200_000))
        else:
            head = request_bytes("POST", "/venue/", [("Transfer-Encoding", "chunked")])
            client.send(head + chunked(bytes(200_000)).removesuffix(b"0\r\n\r\n"))
        eventually(lambda: venue.hits == 1)
        leave(client)
        eventually(lambda: venue.connections[0].ended is not None, timeout=SOON)
        assert not venue.last.complete
        gone(rig, venue, changes)


def test_while_it_uploads_to_an_upstream_that_does_not_read(rig: Rig, venue: Upstream) -> None:
    """Reading from the app is paused then, and its end is noticed all the same."""

    def step(turn: Turn) -> None:
        turn.read_head()
        turn.wait_for_gate()
        turn.wait_closed()

    venue.play(step)
    changes = rig.changes()
    with rig.client(timeout=0.3) as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", str(1 << 30))]))
        with pytest.raises(TimeoutError):
            client.send(bytes(1 << 30))
        client.reset()
    assert changes.when_done("venue")("sidecar_requests_total", service="venue", code="499") == 1
    venue.gate.set()
    eventually(lambda: venue.begun_and_open == 0, timeout=SOON)


@LEAVING
def test_while_it_downloads(rig: Rig, venue: Upstream, leave: Callable[[Client], None]) -> None:
    """The head was sent: that status is what it was told; the reason says how it ended."""
    venue.play(steps.then(raw(response_head(200, [("Content-Length", "1000000")]) + bytes(1000)), Turn.wait_closed))
    changes = rig.changes()
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/"))
        assert client.read_head().status == 200
        client.receive(1000)
        leave(client)
        eventually(lambda: venue.begun_and_open == 0, timeout=SOON)
        gain = changes.when_done("venue")
        assert gain("sidecar_requests_total", service="venue", reason="client_disconnect") == 1
        for event in ("success", "failure", "timeout", "open"):
            assert gain("sidecar_breaker_events_total", service="venue", event=event) == 0


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
def test_while_it_does_not_read(rig: Rig, venue: Upstream, leave: Callable[[Client], None]) -> None:
    """The upstream sends without end, the daemon waits for the app, and the app goes away without having read."""
    sent = [0]

    def step(turn: Turn) -> None:
        turn.read()
        turn.send(response_head(200, [("Transfer-Encoding", "chunked")]))
        while True:
            turn.send(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            sent[0] += 1

    venue.play(step)
    changes = rig.changes()
    with rig.client(receive_buffer=65_536) as client:
        client.send(request_bytes("GET", "/venue/"))
        eventually(lambda: sent[0] > 0)
        settled(lambda: sent[0])
        leave(client)
        eventually(lambda: venue.begun_and_open == 0, timeout=SOON)
        assert changes.when_done("venue")("sidecar_requests_total", service="venue", reason="client_disconnect") == 1


def test_while_a_retry_waits(rig: Rig, venue: Upstream) -> None:
    """The retry is not made: it would be for nobody."""
    venue.play(answer(503, headers=[("Retry-After", "1")]), answer())
    changes = rig.changes()
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/"))
        eventually(lambda: venue.hits == 1)
        began = time.monotonic()
        client.close()
        gain = changes.when_done("venue")
        assert gain("sidecar_requests_total", service="venue", code="499", reason="client_disconnect") == 1
        eventually(lambda: time.monotonic() - began > 1.2)
    assert venue.hits == 1


def test_while_an_interim_answer_was_relayed(rig: Rig, venue: Upstream) -> None:
    venue.play(interim(response_head(103, [("Link", "x")]), final=steps.silence))
    changes = rig.changes()
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/"))
        assert client.read_head().status == 103
        client.close()
        gone(rig, venue, changes)


def test_with_requests_in_the_pipeline(rig: Rig, venue: Upstream) -> None:
    """Those that were not begun are not begun."""
    changes = rig.changes()
    with rig.client() as client:
        client.send(b"".join(request_bytes("GET", f"/venue/{number}") for number in range(5)))
        eventually(lambda: venue.hits == 1)
        client.close()
        gain = changes.when_done("venue")
        assert gain("sidecar_requests_total", service="venue", code="499", reason="client_disconnect") == 1
    assert [request.target for request in venue.requests] == ["/0"]


def test_many_at_once_give_everything_back(rig: Rig) -> None:
    upstream = rig["patient"].play(steps.silence)
    clients = [rig.client() for _ in range(50)]
    for client in clients:
        client.send(request_bytes("GET", "/patient/"))
    eventually(lambda: upstream.hits == 50)
    assert rig.daemon.metric("sidecar_in_flight_requests", service="patient") == 50
    for client in clients:
        client.reset()
    rig.idle("patient")
    eventually(lambda: upstream.begun_and_open == 0, timeout=SOON)


# With `half_close: true` the end of what the app sends is no disconnect.


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_half_close_is_allowed(rig: Rig, method: str) -> None:
    upstream = rig["patient"].play(held(answer(body=b"late")))
    with rig.client() as client:
        client.send(request_bytes(method, "/patient/", body=b"x" if method == "POST" else None))
        client.half_close()
        eventually(lambda: upstream.hits == 1)
        # Long enough for the daemon to have noticed and acted, as `test_while_it_waits_for_the_answer` shows it does.
        assert settled(lambda: upstream.begun_and_open, still_for=0.3) == 1
        upstream.gate.set()
        response = client.read_response()
        assert (response.status, response.body, response.end) == (200, b"late", "whole")
        client.assert_closed()


def test_half_close_with_requests_in_the_pipeline(rig: Rig) -> None:
    rig["patient"].play(steps.echo())
    with rig.client() as client:
        client.send(b"".join(request_bytes("GET", f"/patient/{number}") for number in range(3)))
        client.half_close()
        for number in range(3):
            assert client.read_response().body == f"GET /{number}\n".encode()
        client.assert_closed()


def test_reset_is_a_disconnect_even_then(rig: Rig) -> None:
    upstream = rig["patient"].play(steps.silence)
    changes = rig.changes()
    with rig.client() as client:
        client.send(request_bytes("GET", "/patient/"))
        eventually(lambda: upstream.hits == 1)
        client.reset()
    gain = changes.when_done("patient")
    assert gain("sidecar_requests_total", service="patient", code="499", reason="client_disconnect") == 1
    eventually(lambda: upstream.begun_and_open == 0, timeout=SOON)


def test_idle_app_may_leave(rig: Rig) -> None:
    """Between requests that is no event at all."""
    rig["patient"].play(answer())
    changes = rig.changes()
    with rig.client() as client:
        client.assert_open("/patient/")
        client.half_close()
        client.assert_closed()
    with rig.client() as client:
        client.half_close()
        with pytest.raises(NoResponseError, match="eof"):
            client.read_response()
    gain = changes.when_done("patient")
    assert gain("sidecar_requests_total") == 1
