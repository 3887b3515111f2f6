"""What would happen to a request now: breaker, endpoints, limits and retries, in words."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.runtime import operator
from sidecar.runtime.last_failure import last_failure
from tests.admin.explained import asked, asked_grpc, story
from tests.admin.stage import START, Source, Stage


def test_the_breaker_is_the_routes_own_or_the_services() -> None:
    stage = Stage()
    operator.force_breaker(stage["venue"], "POST /reports", "open", START + 60, START)
    own, shared = asked(stage, "/venue/reports", "POST").breaker, asked(stage, "/venue/slow").breaker
    assert own is not None
    assert shared is not None
    assert (own.route, own.would, own.forced) == ("POST /reports", "refuse", "open")
    assert (shared.route, shared.would, shared.forced) == ("", "admit", None)


def test_the_story_of_a_service_that_has_no_room() -> None:
    stage = Stage("services: {venue: {url: http://a:1, limits: {max_concurrent: 2}}}")
    limit = stage["venue"].limit
    assert limit.acquire()
    assert "1 of at most 2 requests are in flight (limits.max_concurrent).\n" in story(stage)
    assert limit.acquire()
    words = "2 of at most 2 requests are in flight (limits.max_concurrent): this request would be refused (503,"
    assert words in story(stage)
    assert limit.refused == 0


def test_the_story_of_a_sidecar_that_drains() -> None:
    stage = Stage()
    assert "is draining" not in story(stage)
    stage.draining = True
    assert "The sidecar is draining: it closes each connection after its next response" in story(stage)


def test_the_story_where_no_endpoint_is_available() -> None:
    stage = Stage()
    venue = stage["venue"]  # its panic_threshold is 0: a panic uses nobody
    for one in venue.endpoints:
        one.passing = False
    venue.changed(START)
    words = asked(stage, "/venue/x").words
    assert "The request would fail (503, x-sidecar-reason: no_endpoint)." in words


def test_the_story_of_a_service_that_is_well() -> None:
    stage = Stage()
    breaker = stage["venue"].default_route.breaker
    for failed in [True] * 3 + [False] * 37:
        permit = breaker.admit(START)
        if failed:
            breaker.failure(permit, START)
            continue
        breaker.success(permit, START)
    assert asked(stage, "/venue/events/42").words == [
        "The first path segment selects 'venue', which gets /events/42.",
        "None of its 2 routes matches, so the service's own policy applies.",
        "0 of at most 1024 requests are in flight (limits.max_concurrent).",
        (
            "The service's breaker is closed: 3 of 40 calls failed in the last 10 s."
            " It opens when 50% of at least 10 calls fail."
        ),
        "2 of 2 endpoints are available; the balancer is round_robin; 10.0.0.0:3002 is next.",
        (
            "It is retried up to 2 times, after attempt_timeout, connect_failure, connect_timeout, reset, 502-504."
            " The budget has 10 retries left."
        ),
        (
            "Until the response begins, it has 15s in total and 2s for each attempt."
            " An app's own deadline can only shorten that."
        ),
        "There is no fallback for GET: the app gets the error.",
    ]


def test_the_story_says_why_requests_failed_lately() -> None:
    stage = Stage()
    venue = stage["venue"]
    stage.history.sample([venue], START, 0.0)
    for reason in ("connect_failure", "status", "connect_failure", "ok"):
        venue.counters.request(503, reason, 0.001)
    failed = "In the last 10 s, 3 of its 4 requests failed: 2 connect_failure, 1 status"
    assert f"{failed}." in asked(stage, "/venue/x").words
    venue.last_failure = last_failure(START, "connect_failure", "10.0.0.0:3002: connection refused", b"id")
    assert f"{failed} (last: 10.0.0.0:3002: connection refused)." in asked(stage, "/venue/x").words


def opened(stage: Stage) -> None:
    breaker = stage["venue"].default_route.breaker
    for _ in range(10):
        breaker.failure(breaker.admit(stage.loop.now), stage.loop.now)


def test_the_story_of_a_breaker_that_opens_and_probes() -> None:
    stage = Stage()
    opened(stage)
    words = story(stage)
    assert "is open since 2025-11-23T01:00:00.000Z. It refuses requests until 2025-11-23T01:00:30.000Z (503," in words
    stage.loop.now += 30
    assert "This request would be its probe" in story(stage)
    breaker = stage["venue"].default_route.breaker
    breaker.admit(stage.loop.now)
    assert "is half_open" in story(stage)
    assert "while its probe is in progress" in story(stage)


def test_the_story_of_a_forced_breaker() -> None:
    stage = Stage()
    operator.force_breaker(stage["venue"], "", "closed", START + 60, START)
    assert "forced closed by an operator until 2025-11-23T01:01:00.000Z and lets every request through" in story(stage)


@pytest.mark.parametrize(
    ("mode", "word"), [("off", "The service's breaker is off."), ("observe", "it lets the request through")]
)
def test_the_story_of_a_breaker_that_refuses_nothing(mode: str, word: str) -> None:
    stage = Stage(f"services: {{venue: {{url: http://a:1, breaker: {{mode: {mode}}}}}}}")
    opened(stage)
    assert word in story(stage)


def test_the_story_of_endpoints_that_are_left_out() -> None:
    stage = Stage(endpoints=5)
    venue = stage["venue"]
    operator.drain(venue, venue.endpoints[0], START + 10, START)
    operator.eject(venue, venue.endpoints[1], START + 20, START)
    venue.endpoints[2].connect_failed(START)
    venue.endpoints[3].passing = False
    venue.changed(START)
    words = story(stage)
    assert "1 of 5 endpoints are available" in words
    for said in (
        "10.0.0.0:3002 is drained by an operator until 2025-11-23T01:00:10.000Z.",
        "10.0.0.1:3002 is ejected by an operator until 2025-11-23T01:00:20.000Z.",
        "10.0.0.2:3002 is skipped after a refused connection until 2025-11-23T01:00:01.000Z.",
        "10.0.0.3:3002 is unhealthy.",
    ):
        assert said in words


def test_the_story_of_a_panic() -> None:
    stage = Stage("services: {venue: {url: http://a:1, outlier: {panic_threshold: 60%}}}")
    venue = stage["venue"]
    venue.endpoints[0].passing = False
    venue.changed(START)
    words = story(stage)
    assert "health and ejections are ignored" in words
    assert "10.0.0.0:3002 is used nevertheless: unhealthy." in words


def test_the_story_of_many_endpoints_is_not_longer_than_one_reads() -> None:
    stage = Stage(endpoints=30)
    for one in stage["venue"].endpoints[:20]:
        one.passing = False
    stage["venue"].changed(START)
    found = asked(stage, "/venue/x")
    assert len(found.words) < 20
    assert "10 more are listed below." in found.words
    assert found.balancer is not None
    assert len(found.balancer.candidates) == 30


def test_the_story_of_a_service_without_endpoints() -> None:
    stage = Stage(endpoints=0)
    stage.sources["venue"] = [Source(problem="no such name")]
    words = "No endpoint is known: no such name. The request would fail (503, x-sidecar-reason: no_endpoint)."
    assert words in story(stage)


def state_of(stage: Stage) -> Any:
    venue = stage["venue"]
    breaker = venue.default_route.breaker
    return (
        repr(breaker), breaker.rejects, repr(venue.budget), repr(venue._picker), repr(venue.limit),
        venue.counters.requests, [repr(one) for one in venue.endpoints],
    )  # fmt: skip


def test_asking_leaves_no_trace() -> None:
    for make in (lambda stage: None, opened):
        stage = Stage()
        make(stage)
        stage.loop.now += 40  # where the breaker is open, its probe is due
        story(stage)
        before = state_of(stage)
        for _ in range(5):
            story(stage)
        assert state_of(stage) == before


SHOP = """
services:
  shop:
    endpoints: ["h2c://10.0.0.7:50051"]
    grpc: [shop.v1.*]
    retry: {on: [connect_failure, 503, UNAVAILABLE, CANCELLED]}
    routes: [{match: {path: /shop.v1.Venue/Get}, idempotent: true}]
  venue: {url: "http://venue:1"}
"""


def test_a_grpc_call_is_retried_only_where_it_may_be_sent_twice() -> None:
    stage = Stage(SHOP)
    careful, idempotent = asked_grpc(stage, "/shop.v1.Venue/Buy"), asked_grpc(stage, "/shop.v1.Venue/Get")
    assert careful.retry is not None
    assert idempotent.retry is not None
    assert (careful.retry.replayable, idempotent.retry.replayable) == (False, True)
    assert idempotent.retry.on == ["CANCELLED", "UNAVAILABLE", "connect_failure"]
    assert "neither the route nor the service says idempotent: true" in " ".join(careful.words)
    assert "up to 2 times, after CANCELLED, UNAVAILABLE, connect_failure." in " ".join(idempotent.words)
    http = asked(stage, "/shop/x", "GET")
    assert http.retry is not None
    assert http.retry.on == [503, "connect_failure"]


def test_a_grpc_call_is_refused_by_a_status_of_grpc() -> None:
    stage = Stage(SHOP)
    stage["shop"].set_endpoints([], START)
    words = " ".join(asked_grpc(stage, "/shop.v1.Venue/Get").words)
    assert "The request would fail (14 UNAVAILABLE, x-sidecar-reason: no_endpoint)." in words
    stage["shop"].limit.limit = 0
    words = " ".join(asked_grpc(stage, "/shop.v1.Venue/Get").words)
    assert "(8 RESOURCE_EXHAUSTED, x-sidecar-reason: overloaded)" in words
