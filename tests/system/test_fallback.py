"""Fallbacks on the real daemon: what answers when a service is gone, and what an operator sees of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import steps
from tests.support.client import Client, request_bytes
from tests.support.eventually import eventually
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, answer_chunked, raw, response_head
from tests.support.upstream import RefusedPort

CONFIG = """
log: {access: errors}
defaults:
  retry: {max_retries: 1, backoff: {base: 1ms, max: 1ms}}
  timeout: {attempt: 1s, request: 2s}
  breaker: {volume_threshold: 1000}
services:
  venue:
    url: $venue
    fallback:
      - {service: venue-v1}
      - {stale: 5m}
      - {status: 200, headers: {content-type: application/json}, body: '{"venues": []}'}
  venue-v1: {url: $v1}
  stale: {url: $stale, fallback: [{stale: 5m}]}
  keyed: {url: $stale, fallback: [{stale: 5m, key_headers: [authorization]}]}
  order: {url: $order, fallback: [{service: order-2, methods: [POST]}]}
  order-2: {url: $order2}
  away: {url: $away, fallback: [{service: order-2, methods: [POST]}]}
  fragile:
    url: $fragile
    breaker: {volume_threshold: 1, reset_timeout: 60s}
    fallback: [{status: 418, body: teapot}]
  hooked: {url: $order, routes: [{match: {path: /soft}, fallback: [{status: 202}]}]}
"""
NAMES = ("venue", "v1", "stale", "order", "order2", "fragile")
WELL = answer(200, b"well")
DOWN = answer(503, b"down")


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, *NAMES, dead={"away": RefusedPort()}) as rig:
        yield rig


@pytest.fixture(autouse=True)
def _afresh(rig: Rig) -> Iterator[None]:
    for upstream in rig.upstreams.values():
        upstream.play(WELL)
    yield
    rig.assert_never_twice()


def test_another_version_answers(rig: Rig) -> None:
    rig["venue"].play(DOWN)
    rig["v1"].play(answer(200, b"from v1"))
    changes = rig.changes()
    response = rig.ask("GET", "/venue/list", [("X-Request-Id", "fall-1")])
    assert (response.status, response.body) == (200, b"from v1")
    assert response.get("x-sidecar-fallback") == "service:venue-v1"
    changes.eventually(1, "sidecar_fallbacks_total", service="venue", step="service:venue-v1")
    changes.eventually(1, "sidecar_requests_total", service="venue", code="200", reason="status")
    changes.eventually(1, "sidecar_requests_total", service="venue-v1", code="200", reason="ok")
    changes.eventually(1, "sidecar_breaker_events_total", service="venue", event="fallback")
    eventually(lambda: "fall-1" in rig.log)
    line = next(line for line in rig.daemon.log_lines() if line.get("request_id") == "fall-1")
    assert line["fallback"] == "service:venue-v1"
    assert [attempt["reason"] for attempt in line["attempts"]] == ["status", "status", "ok"]
    assert rig["v1"].last.get("x-request-id") == "fall-1"


def test_each_step_in_its_turn(rig: Rig) -> None:
    target = "/venue/in-turn"
    rig["venue"].play(answer(200, b"good once"))
    assert rig.ask("GET", target).get("x-sidecar-fallback") is None
    rig["venue"].play(DOWN)
    rig["v1"].play(steps.reset)
    stale = rig.ask("GET", target)
    assert (stale.body, stale.get("x-sidecar-fallback"), stale.get("age")) == (b"good once", "stale", "0")
    static = rig.ask("GET", "/venue/never-seen")
    assert (static.status, static.body) == (200, b'{"venues": []}')
    assert static.get("content-type") == "application/json"
    assert static.get("x-sidecar-fallback") == "static"
    head = rig.ask("HEAD", target)
    assert (head.status, head.body, head.get("content-length")) == (200, b"", "9")
    assert rig.ask("DELETE", target).status == 503


def test_a_silent_service_leaves_time_for_the_next(rig: Rig) -> None:
    rig["venue"].play(steps.silence)
    rig["v1"].play(answer(200, b"in time"))
    response = rig.ask("GET", "/venue/slow", [("x-envoy-upstream-rq-timeout-ms", "2000")])
    assert (response.status, response.body) == (200, b"in time")
    left = int(rig["v1"].last.get("x-envoy-expected-rq-timeout-ms") or 0)
    assert 0 < left <= 450


def test_stale_of_every_framing_and_never_of_what_broke_off(rig: Rig) -> None:
    rig["stale"].play(answer_chunked(b"ab", b"cde"))
    assert rig.ask("GET", "/stale/chunked").body == b"abcde"
    rig["stale"].play(raw(response_head(200, [("Content-Length", "10")]) + b"half-"), steps.reset)
    with Client(rig.ports.proxy) as client:
        client.send(request_bytes("GET", "/stale/half"))
        client.read_head()
    rig["stale"].play(DOWN)
    chunked = rig.ask("GET", "/stale/chunked")
    assert (chunked.body, chunked.get("content-length")) == (b"abcde", "5")
    assert rig.ask("GET", "/stale/half").status == 503


def test_one_callers_answer_is_not_anothers(rig: Rig) -> None:
    alice, bob = [("Authorization", "Bearer alice")], [("Authorization", "Bearer bob")]
    rig["stale"].play(answer(200, b"alice's"))
    rig.ask("GET", "/keyed/me", alice)
    rig.ask("GET", "/stale/me", alice)
    rig["stale"].play(DOWN)
    assert rig.ask("GET", "/keyed/me", alice).body == b"alice's"
    assert rig.ask("GET", "/keyed/me", bob).status == 503
    assert rig.ask("GET", "/keyed/me").status == 503
    assert rig.ask("GET", "/stale/me", alice).status == 503
    assert "Bearer" not in rig.log


def test_a_post_is_sent_once(rig: Rig) -> None:
    rig["order"].play(DOWN)
    refused = rig.ask("POST", "/order/", body=b"one")
    assert (refused.status, refused.body, rig["order2"].hits) == (503, b"down", 0)
    rig["order2"].play(answer(201, b"taken"))
    taken = rig.ask("POST", "/away/", body=b"two")
    assert (taken.status, taken.body) == (201, b"taken")
    assert taken.get("x-sidecar-fallback") == "service:order-2"
    assert rig["order2"].last.body == b"two"


def test_an_open_breaker_falls_back_at_once(rig: Rig) -> None:
    rig["fragile"].play(DOWN)
    assert rig.ask("GET", "/fragile/").status == 418
    hits = rig["fragile"].hits
    response = rig.ask("GET", "/fragile/")
    assert (response.status, response.body, rig["fragile"].hits) == (418, b"teapot", hits)
    assert response.get("x-sidecar-reason") is None
    gone = rig.ask("POST", "/fragile/", body=b"x")
    assert_problem(gone, status=503, reason="circuit_open", service="fragile")


def test_a_route_has_its_own(rig: Rig) -> None:
    rig["order"].play(DOWN)
    assert rig.ask("GET", "/hooked/soft/1").status == 202
    assert rig.ask("GET", "/hooked/hard").status == 503


def test_kept_connections_go_on_after_a_fallback(rig: Rig) -> None:
    rig["venue"].play(DOWN)
    rig["v1"].play(DOWN)
    with rig.client() as client:
        for number in range(5):
            response = client.ask("GET", f"/venue/keep-{number}")
            assert response.get("x-sidecar-fallback") == "static"
        rig["venue"].play(WELL)
        assert client.ask("GET", "/venue/keep-1").body == b"well"
    rig.idle("venue")
