"""Aggregates against the real daemon: what the app gets, what each service sees, and that nothing stays behind."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.client import AggregateFailed, NotFound, ServiceClient
from tests.support import steps
from tests.support.client import request_bytes
from tests.support.eventually import eventually
from tests.support.problem import MEMBERS
from tests.support.rig import Rig
from tests.support.steps import answer, answer_chunked, raw, response_head, then_close
from tests.support.upstream import Step

CONFIG = """
log: {access: all}
services:
  venue: {url: "$venue", retry: {max_retries: 0}}
  event: {url: "$event", retry: {max_retries: 0}, breaker: {volume_threshold: 4}}
aggregates:
  venue-page:
    timeout: 600ms
    parts:
      venue: {service: venue, path: "/venues/{query.id}", required: true}
      events: {service: event, path: "/events?venue={query.id}"}
  patient:
    timeout: 10s
    parts: {venue: {service: venue, path: /venues}}
  needs-venue:
    timeout: 10s
    parts: {venue: {service: venue, path: /venues, required: true}, events: {service: event, path: /events}}
  strict:
    timeout: 10s
    parts:
      venue: {service: venue, path: /venues, required: true, pass_status: [401, 403, 404]}
      events: {service: event, path: /events}
"""
TARGET = "/_aggregate/venue-page?id=42"
MIB = 1024 * 1024


def says(value: object) -> Step:
    return answer(200, json.dumps(value).encode(), [("Content-Type", "application/json")])


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "event") as rig:
        rig["venue"].play(says({"name": "Arena"}))
        rig["event"].play(says([1, 2]))
        yield rig


def test_all_well(rig: Rig) -> None:
    changes = rig.changes()
    response = rig.ask("GET", TARGET)
    assert (response.status, response.reason, response.get("content-type")) == (200, None, "application/json")
    assert response.body == b'{"venue":{"name": "Arena"},"events":[1, 2]}'
    assert (rig["venue"].last.target, rig["event"].last.target) == ("/venues/42", "/events?venue=42")
    changes.eventually(1, "sidecar_aggregates_total", aggregate="venue-page", code="200", reason="ok")
    for service in ("venue", "event"):
        changes.eventually(1, "sidecar_requests_total", service=service, code="200", reason="ok")
        rig.idle(service)
    assert changes("sidecar_requests_total", service="") == 0


def test_head_and_other_methods(rig: Rig) -> None:
    with rig.client() as client:
        head = client.ask("HEAD", TARGET)
        assert (head.status, head.get("content-length")) == (200, "43")
        refused = client.ask("POST", TARGET, body=b"{}")
        assert (refused.status, refused.reason, refused.get("allow")) == (405, "bad_request", "GET, HEAD")
        assert client.ask("GET", TARGET).status == 200


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        (answer(404, b'{"why": "no"}'), 404, "status"),
        (answer(200, b"<html>"), 502, "not_json"),
        (answer(302, b"", [("Location", "/elsewhere")]), 302, "status"),
        (raw(response_head(200, [("Content-Length", str(MIB + 1))]) + b'"' + b"a" * 10), 502, "too_large"),
        (answer_chunked(*[b" " * 65536] * 17), 502, "too_large"),
        (then_close(raw(response_head(200, [("Content-Length", "9")]) + b"[1,")), 502, "truncated"),
        (steps.close_unread, 502, "reset"),
    ],
)
def test_an_optional_part_that_fails(rig: Rig, script: Step, code: int, reason: str) -> None:
    rig["event"].play(script)
    response = rig.ask("GET", TARGET)
    assert response.status == 200
    found = response.json()
    error = found["errors"].pop("events")
    assert found == {"venue": {"name": "Arena"}, "errors": {}, "partial": True}
    assert (error["status"], error["reason"], error["service"]) == (code, reason, "event")
    assert rig["event"].authority not in response.body.decode()
    rig.idle("event")


def test_a_required_part_that_fails_ends_the_others(rig: Rig) -> None:
    rig["venue"].play(answer(503, b"{}"))
    rig["event"].play(steps.silence)
    began = time.monotonic()
    response = rig.ask("GET", "/_aggregate/needs-venue")
    assert time.monotonic() - began < 4
    assert (response.status, response.reason) == (502, "aggregate_failed")
    found = response.json()
    assert set(found) == MEMBERS | {"errors"}
    assert (list(found["errors"]), found["errors"]["venue"]["status"]) == (["venue"], 503)
    eventually(lambda: rig["event"].begun_and_open == 0)
    rig.idle("event")


def test_out_of_time(rig: Rig) -> None:
    rig["event"].play(steps.silence)
    response = rig.ask("GET", TARGET)
    assert (response.status, response.json()["errors"]["events"]["reason"]) == (200, "request_timeout")
    rig["venue"].play(steps.stalled_body)
    response = rig.ask("GET", TARGET, [("x-envoy-upstream-rq-timeout-ms", "200")])
    assert (response.status, response.reason) == (504, "request_timeout")
    eventually(lambda: rig["venue"].begun_and_open + rig["event"].begun_and_open == 0)
    rig.idle("venue")


def test_the_largest_bodies(rig: Rig) -> None:
    whole = b'"' + b"a" * (MIB - 2) + b'"'
    rig["venue"].play(answer(200, whole))
    rig["event"].play(answer_chunked(whole[:100_000], whole[100_000:]))
    for _ in range(3):
        response = rig.ask("GET", TARGET)
        assert response.whole
        assert response.body == b'{"venue":' + whole + b',"events":' + whole + b"}"


def test_what_parts_are_sent(rig: Rig) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    passed = {"authorization": "Bearer x", "cookie": "a=1; b=2", "tracestate": "k=v", "x-request-id": "r-1"}
    others = [("X-Other", "1"), ("Accept", "text/html"), ("User-Agent", "app"), ("X-Forwarded-For", "192.0.2.9")]
    rig.ask("GET", TARGET, [*passed.items(), ("traceparent", trace), *others])
    for service in ("venue", "event"):
        last = rig[service].last
        assert {name: last.get(name) for name in passed} == passed
        assert last.get("traceparent") == trace
        assert last.get("accept") == "application/json"
        assert last.get("host") == rig[service].authority
        assert 0 < int(last.get("x-envoy-expected-rq-timeout-ms") or 0) <= 600
        ours = {"host", "accept", "accept-encoding", "traceparent", "x-sidecar-loop", "x-forwarded-prefix"}
        ours |= {"x-envoy-attempt-count", "x-envoy-expected-rq-timeout-ms"}
        assert {name.lower() for name, _ in last.headers} == ours | set(passed)

    def logged() -> None:
        lines = [line for line in rig.daemon.log_lines() if line.get("request_id") == "r-1"]
        assert {line["service"] for line in lines} == {"venue", "event", ""}
        assert [line["aggregate"] for line in lines if "aggregate" in line] == ["venue-page"]
        assert "Bearer" not in rig.daemon.stdout

    eventually(logged)


def test_an_open_breaker_is_a_part_s_failure(rig: Rig) -> None:
    rig["event"].play(answer(500, b""))
    for _ in range(4):
        assert rig.ask("GET", TARGET).json()["errors"]["events"]["reason"] == "status"
    response = rig.ask("GET", TARGET)
    assert response.json()["errors"]["events"] == {
        "service": "event",
        "status": 503,
        "reason": "circuit_open",
        "detail": "The circuit breaker is open",
    }
    assert rig["event"].hits == 4


def test_an_app_that_goes_away_gives_everything_back(rig: Rig) -> None:
    rig["venue"].play(steps.silence)
    rig["event"].play(steps.silence)
    changes = rig.changes()
    with rig.client() as client:
        client.send(request_bytes("GET", TARGET))
        eventually(lambda: rig["venue"].reached(1) and rig["event"].reached(1))
        assert rig.daemon.metric("sidecar_app_connections") == 1
        assert changes("sidecar_in_flight_requests", service="venue") == 1
    rig.idle("venue")
    rig.idle("event")
    eventually(lambda: rig["venue"].begun_and_open + rig["event"].begun_and_open == 0)
    changes.eventually(1, "sidecar_aggregates_total", code="499", reason="client_disconnect")


def test_pipelined_on_one_connection(rig: Rig) -> None:
    with rig.client() as client:
        one = request_bytes("GET", "/venue/x")
        client.send((request_bytes("GET", TARGET) + one) * 3)
        for _ in range(3):
            assert client.read_response().json() == {"venue": {"name": "Arena"}, "events": [1, 2]}
            assert client.read_response().json() == {"name": "Arena"}


@pytest.mark.parametrize(
    ("target", "status"),
    [
        *[("/_aggregate/venue-page", 400), ("/_aggregate/venue-page?id=1&id=2", 400), ("/_aggregate/nobody?id=1", 404)],
        *[("/_aggregate/venue%2dpage?id=1", 404), ("/_aggregate/x%2fvenue-page?id=1", 404), ("/_aggregate/", 404)],
        *[("/_aggregate/venue-page?id=%2e%2e", 400), ("/_aggregate/venue-page?id=" + "a" * 20_000, 414)],
    ],
)
def test_hostile_targets_reach_nobody(rig: Rig, target: str, status: int) -> None:
    changes = rig.changes()
    with rig.client() as client:
        assert client.ask("GET", target).status == status
        assert client.ask("GET", TARGET).status == 200
    assert rig["venue"].hits == 1
    assert changes("sidecar_requests_total", service="", code=str(status)) == 1


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=24).filter(lambda value: value not in (b".", b"..")))
def test_no_value_changes_the_shape_of_what_is_asked(rig: Rig, value: bytes) -> None:
    response = rig.ask("GET", "/_aggregate/venue-page?id=" + quote(value, safe=""))
    assert response.status == 200
    _, venues, segment = rig["venue"].last.target.split("/")
    assert (venues, unquote_to_bytes(segment)) == ("venues", value)
    path, _, query = rig["event"].last.target.partition("?")
    name, _, written = query.partition("=")
    assert (path, name, unquote_to_bytes(written)) == ("/events", "venue", value)
    assert "&" not in query
    assert "?" not in segment


def test_the_end_waits_for_an_aggregate(rig: Rig) -> None:
    rig["venue"].play(steps.held(says(1)))
    with rig.client() as client:
        client.send(request_bytes("GET", "/_aggregate/patient"))
        eventually(lambda: rig["venue"].reached(1))
        rig.daemon.signal()
        eventually(lambda: rig.daemon.probe("/readyz").status == 503)
        rig["venue"].gate.set()
        response = client.read_response()
    assert (response.status, response.json()["venue"], response.get("connection")) == (200, 1, "close")
    assert rig.daemon.wait(20) == 0


@pytest.mark.parametrize("status", [401, 403, 404])
def test_answer_that_is_passed_on(rig: Rig, status: int) -> None:
    fields = [("Content-Type", "application/problem+json"), ("WWW-Authenticate", "Bearer"), ("Set-Cookie", "a=b")]
    rig["venue"].play(answer(status, b'{"why": "no"}', fields))
    rig["event"].play(steps.silence)
    changes = rig.changes()
    for method, body in (("GET", b'{"why": "no"}'), ("HEAD", b"")):
        found = rig.ask(method, "/_aggregate/strict")
        assert (found.status, found.reason, found.body, found.get("content-type")) == (
            status,
            None,
            body,
            "application/problem+json",
        )
        assert (found.get("www-authenticate"), found.get("set-cookie")) == ("Bearer", None)
    changes.eventually(2, "sidecar_aggregates_total", aggregate="strict", code=str(status), reason="passed")
    for service in ("venue", "event"):
        rig.idle(service)


async def test_client_takes_it_as_the_service_s_own(rig: Rig) -> None:
    rig["venue"].play(answer(404, b"none"))
    async with ServiceClient("_aggregate", base_url=f"http://127.0.0.1:{rig.ports.proxy}") as pages:
        assert await pages.get_json("/strict", type=dict[str, int], missing_ok=True) is None
        with pytest.raises(NotFound) as caught:
            await pages.get("/strict")
    assert (caught.value.status, caught.value.body) == (404, b"none")


async def test_attempts_are_those_of_the_parts(rig: Rig) -> None:
    async with ServiceClient("_aggregate", base_url=f"http://127.0.0.1:{rig.ports.proxy}") as pages:
        assert (await pages.get("/strict")).attempts == 2
        rig["event"].play(steps.silence)
        rig["venue"].play(answer(500))
        with pytest.raises(AggregateFailed) as caught:
            await pages.get("/strict")
    error = caught.value
    assert error.attempts == len(error.tries) == 2
    assert [(one.endpoint, one.reason, one.status) for one in error.tries] == [
        ("venue", "status", 500),
        ("event", "client_disconnect", None),
    ]
    assert all(0 <= one.duration_ms < 10_000 for one in error.tries)


def test_compressed_body_and_byte_order_mark(rig: Rig) -> None:
    rig["venue"].play(answer(200, gzip.compress(b'{"a": 1}'), [("Content-Encoding", "gzip")]))
    rig["event"].play(answer(200, b"\xef\xbb\xbf[1]"))
    assert rig.ask("GET", "/_aggregate/strict").json() == {"venue": {"a": 1}, "events": [1]}
    rig["event"].play(answer(200, gzip.compress(bytes(64 * MIB)), [("Content-Encoding", "gzip")]))
    assert rig.ask("GET", "/_aggregate/strict").json()["errors"]["events"]["reason"] == "too_large"
    rig["event"].play(answer(200, b"\x0b\x02\x80[1]\x03", [("Content-Encoding", "br")]))
    assert rig.ask("GET", "/_aggregate/strict").json()["errors"]["events"]["detail"].endswith("be undone: br")
