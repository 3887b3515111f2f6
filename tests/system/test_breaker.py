"""The circuit breaker on the real daemon: when it opens, what it refuses, how it probes and closes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.support.client import Response, request_bytes
from tests.support.eventually import eventually
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, held
from tests.support.upstream import Upstream

RESET_SECONDS = 0.4
CLOCK_STEP_S = 0.005
"""The daemon's loop counts whole milliseconds."""

SERVICES = (
    "threshold", "ratio", "refusing", "probed", "reopened", "observed", "retried", "probed_once", "lenient", "routed",
    "ignoring",
)  # fmt: skip

CONFIG = """
defaults:
  timeout: {attempt: 5s, request: 10s}
  retry: {max_retries: 0}
  breaker: {volume_threshold: 5, reset_timeout: 400ms, max_reset_timeout: 60s, rolling_count_timeout: 60s}
services:
  threshold: {endpoints: ["$threshold"], breaker: {reset_timeout: 60s}}
  ratio: {endpoints: ["$ratio"], breaker: {volume_threshold: 10, reset_timeout: 60s}}
  refusing: {endpoints: ["$refusing"], breaker: {reset_timeout: 30s}}
  probed: {endpoints: ["$probed"], breaker: {half_open_requests: 2}}
  reopened: {endpoints: ["$reopened"]}
  observed: {endpoints: ["$observed"], breaker: {mode: observe, reset_timeout: 60s}}
  retried:
    endpoints: ["$retried"]
    retry: {max_retries: 2, backoff: {base: 1ms, max: 1ms}, budget: {min_per_second: 1000}}
    breaker: {reset_timeout: 60s}
  probed_once:
    endpoints: ["$probed_once"]
    retry: {max_retries: 2, backoff: {base: 1ms, max: 1ms}, budget: {min_per_second: 1000}}
  lenient: {endpoints: ["$lenient"], breaker: {failure_status: [503]}}
  ignoring: {endpoints: ["$ignoring"], impatience: ignore, breaker: {reset_timeout: 60s}}
  routed:
    endpoints: ["$routed"]
    routes:
      - match: {path: /fragile}
        breaker: {volume_threshold: 2, reset_timeout: 60s}
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, *SERVICES) as rig:
        yield rig


def fail(rig: Rig, service: str, times: int, path: str = "/") -> None:
    """So many requests that reach the upstream and are answered 500."""
    for _ in range(times):
        response = rig.ask("GET", f"/{service}{path}")
        assert (response.status, response.reason) == (500, None)


def refused(rig: Rig, service: str, path: str = "/") -> Response:
    response = rig.ask("GET", f"/{service}{path}")
    problem = assert_problem(response, 503, "circuit_open", service)
    assert problem["attempts"] == []
    assert int(response.get("retry-after") or "") >= 0
    return response


def state(rig: Rig, service: str) -> str:
    scraped = rig.daemon.metrics()
    active = [
        name
        for name in ("closed", "open", "half_open")
        if scraped.total("sidecar_breaker_state", service=service, state=name) == 1
    ]
    assert len(active) == 1
    return active[0]


def until_admitted(rig: Rig, service: str, upstream: Upstream) -> tuple[float, Response]:
    """Asks until a request is let through; returns when that one was begun, and its answer."""
    before = upstream.hits
    deadline = time.monotonic() + 5
    while True:
        began = time.monotonic()
        response = rig.ask("GET", f"/{service}/")
        if upstream.hits > before:
            return began, response
        assert response.reason == "circuit_open"
        assert began < deadline
        time.sleep(0.01)


def test_opens_at_the_threshold_and_not_one_call_before(rig: Rig) -> None:
    upstream = rig["threshold"].play(answer(500))
    changes = rig.changes()
    fail(rig, "threshold", 4)
    assert state(rig, "threshold") == "closed"
    fail(rig, "threshold", 1)
    assert state(rig, "threshold") == "open"
    refused(rig, "threshold")
    assert upstream.hits == 5
    gain = changes.now()
    events = {event: gain("sidecar_breaker_events_total", service="threshold", event=event) for event in EVENTS}
    assert events == {"open": 1, "half_open": 0, "close": 0, "success": 0, "failure": 5, "reject": 1}


EVENTS = ("open", "half_open", "close", "success", "failure", "reject")


def test_opens_at_the_percentage(rig: Rig) -> None:
    """Six successes and five failures are 45%; the sixth failure makes it 50%."""
    upstream = rig["ratio"].play(*[answer()] * 6, answer(500))
    for _ in range(6):
        assert rig.ask("GET", "/ratio/").status == 200
    fail(rig, "ratio", 5)
    assert state(rig, "ratio") == "closed"
    fail(rig, "ratio", 1)
    assert state(rig, "ratio") == "open"
    refused(rig, "ratio")
    assert upstream.hits == 12


def test_open_one_refuses_without_touching_the_upstream(rig: Rig) -> None:
    upstream = rig["refusing"].play(answer(500))
    fail(rig, "refusing", 5)
    bytes_in, connections = upstream.bytes_in, len(upstream.connections)
    changes = rig.changes()
    fields, members = set[int](), set[float]()
    for _ in range(20):
        response = refused(rig, "refusing")
        fields.add(int(response.get("retry-after") or ""))
        members.add(response.json()["retry_after"])
    assert 10 < min(members) <= max(members) < 36
    assert 10 < min(fields) <= max(fields) <= 36
    assert len(fields) > 2  # apps that were refused together are not told the same second: 7 of them are as likely
    assert len(members) > 10
    assert_problem(rig.ask("POST", "/refusing/", body=b"x"), 503, "circuit_open", "refusing")
    assert (upstream.bytes_in, len(upstream.connections)) == (bytes_in, connections)
    changes.eventually(21, "sidecar_requests_total", service="refusing", code="503", reason="circuit_open")
    assert changes("sidecar_attempts_total", service="refusing", endpoint=upstream.authority) == 0
    rig.idle("refusing")


def test_probes_with_exactly_so_many_closes_and_forgets(rig: Rig) -> None:
    """After `reset_timeout` two of eight requests go through, the rest are refused; two successes close it."""
    upstream = rig["probed"].play(*[answer(500)] * 5, held(answer()))
    fail(rig, "probed", 5)
    opened = time.monotonic()
    changes = rig.changes()
    refused(rig, "probed")

    with rig.client(timeout=10) as first:
        eventually(lambda: time.monotonic() >= opened + RESET_SECONDS + 0.05)
        first.send(request_bytes("GET", "/probed/"))
        eventually(lambda: upstream.hits == 6)
        assert state(rig, "probed") == "half_open"
        with ThreadPoolExecutor(7) as pool:
            others = [pool.submit(rig.ask, "GET", "/probed/", timeout=10) for _ in range(7)]
            eventually(lambda: sum(other.done() for other in others) == 6)
            eventually(lambda: upstream.hits == 7)
            upstream.gate.set()
            answers = [other.result() for other in others]
        assert first.read_response().status == 200
    assert sorted(response.status for response in answers) == [200] + [503] * 6
    assert {response.reason for response in answers} == {None, "circuit_open"}

    eventually(lambda: state(rig, "probed") == "closed")
    gain = changes.now()
    assert gain("sidecar_breaker_events_total", service="probed", event="half_open") == 1
    assert gain("sidecar_breaker_events_total", service="probed", event="close") == 1
    assert gain("sidecar_breaker_events_total", service="probed", event="reject") == 7

    # What was before is forgotten: it takes the whole threshold again.
    upstream.play(answer(500))
    fail(rig, "probed", 4)
    assert state(rig, "probed") == "closed"
    fail(rig, "probed", 1)
    refused(rig, "probed")
    assert upstream.hits == 5


def test_failed_probe_opens_it_again_for_twice_as_long(rig: Rig) -> None:
    upstream = rig["reopened"].play(answer(500))
    fail(rig, "reopened", 4)
    before_it_opens = time.monotonic()
    fail(rig, "reopened", 1)
    before_it_reopens, response = until_admitted(rig, "reopened", upstream)
    assert response.status == 500
    assert time.monotonic() - before_it_opens >= RESET_SECONDS - CLOCK_STEP_S
    refused(rig, "reopened")
    upstream.play(answer())
    _, response = until_admitted(rig, "reopened", upstream)
    assert response.status == 200
    assert time.monotonic() - before_it_reopens >= 2 * RESET_SECONDS - CLOCK_STEP_S
    assert state(rig, "reopened") == "closed"


def test_observe_decides_and_refuses_nothing(rig: Rig) -> None:
    upstream = rig["observed"].play(answer(500))
    changes = rig.changes()
    fail(rig, "observed", 10)
    assert upstream.hits == 10
    assert state(rig, "observed") == "open"
    gain = changes.now()
    assert gain("sidecar_breaker_events_total", service="observed", event="open") == 1
    assert gain("sidecar_requests_total", service="observed", reason="circuit_open") == 0


def test_counts_requests_and_not_attempts(rig: Rig) -> None:
    """Each of five GETs makes three attempts; the fifth request opens it, not the fifth attempt."""
    upstream = rig["retried"].play(answer(503))
    for _ in range(5):
        assert rig.ask("GET", "/retried/").reason is None
    assert upstream.hits == 15
    assert state(rig, "retried") == "open"
    refused(rig, "retried")


def test_probe_is_a_single_attempt(rig: Rig) -> None:
    upstream = rig["probed_once"].play(answer(503))
    for _ in range(5):
        rig.ask("GET", "/probed_once/")
    assert upstream.hits == 15
    _, response = until_admitted(rig, "probed_once", upstream)
    assert (response.status, response.reason) == (503, None)
    assert upstream.hits == 16


def test_only_failure_status_counts(rig: Rig) -> None:
    upstream = rig["lenient"].play(answer(500))
    fail(rig, "lenient", 10)
    upstream.play(answer(404))
    for _ in range(10):
        assert rig.ask("GET", "/lenient/").status == 404
    assert state(rig, "lenient") == "closed"


def test_disconnects_of_the_app_do_not_count(rig: Rig) -> None:
    upstream = rig["ignoring"].play(held(answer()))
    for number in range(8):
        with rig.client() as client:
            client.send(request_bytes("GET", "/ignoring/"))
            eventually(partial(upstream.reached, number + 1))
    rig.idle("ignoring")
    assert state(rig, "ignoring") == "closed"
    upstream.play(answer(500))
    fail(rig, "ignoring", 4)
    assert state(rig, "ignoring") == "closed"
    fail(rig, "ignoring", 1)
    assert state(rig, "ignoring") == "open"


def test_route_with_a_breaker_of_its_own(rig: Rig) -> None:
    """Its failures open its own breaker and not the service's."""
    upstream = rig["routed"].play(answer(500))
    fail(rig, "routed", 2, "/fragile/1")
    refused(rig, "routed", "/fragile/2")
    upstream.play(answer())
    assert rig.ask("GET", "/routed/sturdy").status == 200
    refused(rig, "routed", "/fragile")
    assert upstream.hits == 1
