"""Which clock runs when: the app's time to send and to read is not the upstream's time to answer."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support import steps
from tests.support.client import request_bytes
from tests.support.eventually import eventually
from tests.support.message import chunked
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, response_head
from tests.support.upstream import Turn

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 300ms, request: 400ms, idle: 2s, client_idle: 1s}
  breaker: {volume_threshold: 10000}
services:
  venue: {endpoints: ["$venue"]}
"""

LONGER = 0.6
"""Seconds; longer than `attempt` and `request`, shorter than `idle`."""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue") as rig:
        yield rig


@pytest.mark.parametrize("size", [10, 300_000], ids=["kept for a retry", "streamed"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_slow_upload_is_the_apps_own_time(rig: Rig, size: int, framing: str) -> None:
    upstream = rig["venue"].play(answer())
    half = bytes(size // 2)
    with rig.client() as client:
        if framing == "length":
            client.send(request_bytes("POST", "/venue/", [("Content-Length", str(size))]) + half)
            rest = half
        else:
            head = request_bytes("POST", "/venue/", [("Transfer-Encoding", "chunked")])
            client.send(head + chunked(half).removesuffix(b"0\r\n\r\n"))
            rest = chunked(half)
        time.sleep(LONGER)
        client.send(rest)
        assert client.read_response().status == 200
    assert len(upstream.last.body) == size


def test_clocks_run_once_the_upload_is_complete(rig: Rig) -> None:
    rig["venue"].play(steps.silence)
    with rig.client() as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", "10")]) + b"half-")
        time.sleep(LONGER)
        began = time.monotonic()
        client.send(b"half-")
        assert_problem(client.read_response(), 504, "attempt_timeout", "venue")
        assert 0.25 <= time.monotonic() - began < 3


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_comes_with_its_head_is_complete_at_once(rig: Rig, framing: str) -> None:
    """So the app's own deadline runs, although no further byte of the body ever comes."""
    rig["venue"].play(steps.silence)
    given = ("x-envoy-upstream-rq-timeout-ms", "100")
    with rig.client() as client:
        if framing == "length":
            client.send(request_bytes("POST", "/venue/", [given], b"whole"))
        else:
            client.send(request_bytes("POST", "/venue/", [given, ("Transfer-Encoding", "chunked")]) + chunked(b"whole"))
        assert_problem(client.read_response(), 504, "request_timeout", "venue")


def test_slow_body_of_an_answer_is_no_timeout(rig: Rig) -> None:
    """`attempt` and `request` end at the head."""

    def step(turn: Turn) -> None:
        turn.read()
        turn.send(response_head(200, [("Content-Length", "5")]))
        for byte in b"hello":
            time.sleep(LONGER / 4)
            turn.send(bytes([byte]))

    rig["venue"].play(step)
    response = rig.ask("GET", "/venue/")
    assert (response.body, response.end) == (b"hello", "whole")


def test_upload_that_stalls(rig: Rig) -> None:
    """`idle` ends it: too slow is a bad request, and no fault of the upstream."""
    upstream = rig["venue"].play(answer())
    changes = rig.changes()
    with rig.client() as client:
        began = time.monotonic()
        client.send(request_bytes("POST", "/venue/", [("Content-Length", "300000")]) + bytes(100_000))
        assert_problem(client.read_response(), 408, "bad_request", "venue")
        assert 1.9 <= time.monotonic() - began < 5
        client.assert_closed()
    gain = changes.when_done("venue")
    for event in ("success", "failure", "timeout"):
        assert gain("sidecar_breaker_events_total", service="venue", event=event) == 0
    eventually(lambda: upstream.begun_and_open == 0)
    assert not any(request.complete for request in upstream.requests)


def test_idle_connection_of_an_app_is_closed(rig: Rig) -> None:
    """In order and without a word, whether or not it ever carried a request."""
    rig["venue"].play(answer())
    with rig.client() as unused, rig.client() as used:
        began = time.monotonic()
        used.assert_open("/venue/")
        used.assert_closed()
        assert 0.95 <= time.monotonic() - began < 4
        unused.assert_closed()


def test_connection_in_use_is_not_idle(rig: Rig) -> None:
    rig["venue"].play(answer())
    with rig.client() as client:
        for _ in range(4):
            client.assert_open("/venue/")
            time.sleep(0.4)


def test_interim_answers_do_not_stretch_an_attempt(rig: Rig) -> None:
    """`attempt` ends at the final head: an upstream cannot buy time with 1xx."""

    def step(turn: Turn) -> None:
        turn.read()
        for _ in range(40):
            try:
                turn.send(response_head(103, [("Link", "</a.css>")]))
            except OSError:
                return
            time.sleep(0.1)

    rig["venue"].play(step)
    began = time.monotonic()
    response = rig.ask("GET", "/venue/")
    assert_problem(response, 504, "attempt_timeout", "venue")
    assert response.interim
    assert time.monotonic() - began < 3
