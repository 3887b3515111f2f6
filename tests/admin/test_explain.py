"""Which policy a request would get, told without sending it and without a trace."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from sidecar.admin import answers
from sidecar.admin.explain import BadQuestion, explain
from sidecar.runtime import operator
from sidecar.runtime.last_failure import last_failure
from tests.admin.stage import START, Source, Stage


def asked(stage: Stage, target: str, method: str = "GET", host: str = "") -> answers.Explanation:
    found = explain(stage, stage.view, stage.clock, method, target, host)
    msgspec.json.decode(msgspec.json.encode(found), type=answers.Explanation)
    return found


def story(stage: Stage, target: str = "/venue/events/42", method: str = "GET") -> str:
    return "\n".join(asked(stage, target, method).words)


@pytest.mark.parametrize(
    ("target", "host", "by", "upstream_target"),
    [
        ("/venue/events/42", "", "path", "/events/42"),
        ("/venue?x=1", "", "path", "/?x=1"),
        ("/venue/events", "localhost:15001", "path", "/events"),
        ("/events/42", "venue-service:3002", "host", "/events/42"),
        ("http://venue-service:3002/events/42", "", "absolute", "/events/42"),
        ("http://localhost:15001/venue/events/42", "", "path", "/events/42"),
        ("/venue/caf%C3%A9", "", "path", "/caf%C3%A9"),
        ("/venue/x", "x" * 300, "path", "/x"),
        ("/venue/" + "x" * 16000, "", "path", "/" + "x" * 16000),
    ],
)
def test_how_a_service_is_found(target: str, host: str, by: str, upstream_target: str) -> None:
    found = asked(Stage(), target, host=host)
    assert (found.service, found.by, found.upstream_target, found.problem) == ("venue", by, upstream_target, None)


@pytest.mark.parametrize(
    ("method", "target", "route", "attempt", "origin"),
    [
        ("GET", "/venue/events", "", "2s", "service"),
        ("POST", "/venue/reports/7", "POST /reports", "2s", "service"),
        ("GET", "/venue/reports/7", "", "2s", "service"),
        ("GET", "/venue/slow", "/slow", "9s", "route"),
        ("GET", "/auth/x", "", "5s", "default"),
    ],
)
def test_the_policy_is_that_of_the_route(method: str, target: str, route: str, attempt: str, origin: str) -> None:
    found = asked(Stage(), target, method)
    assert found.route == route
    assert found.policy is not None
    setting = found.policy["timeout"]["attempt"]
    assert (setting.value, setting.origin) == (attempt, origin)


def test_the_breaker_is_the_routes_own_or_the_services() -> None:
    stage = Stage()
    operator.force_breaker(stage["venue"], "POST /reports", "open", START + 60, START)
    own, shared = asked(stage, "/venue/reports", "POST").breaker, asked(stage, "/venue/slow").breaker
    assert own is not None
    assert shared is not None
    assert (own.route, own.would, own.forced) == ("POST /reports", "refuse", "open")
    assert (shared.route, shared.would, shared.forced) == ("", "admit", None)


@pytest.mark.parametrize(
    ("target", "method", "status", "reason", "word"),
    [
        ("/nowhere/x", "GET", 404, "unknown_service", "Known services: venue, auth."),
        ("/", "GET", 404, "unknown_service", "names no service"),
        ("http://elsewhere.example/", "GET", 404, "unknown_service", "not an open proxy"),
        ("*", "GET", 400, "bad_request", "OPTIONS"),
        ("venue", "GET", 400, "bad_request", "Invalid characters in url"),
    ],
)
def test_what_reaches_no_service(target: str, method: str, status: int, reason: str, word: str) -> None:
    found = asked(Stage(), target, method)
    assert found.problem is not None
    assert (found.service, found.policy, found.breaker, found.by) == (None, None, None, None)
    assert (found.problem.status, found.problem.reason) == (status, reason)
    assert word in " ".join(found.words)


def test_an_aggregate() -> None:
    stage = Stage("services: {venue: {url: http://a:1}}\naggregates: {page: {parts: {v: {service: venue, path: /x}}}}")
    found = asked(stage, "/_aggregate/page?id=1")
    assert (found.by, found.service, found.problem, found.deadline_s) == ("aggregate", None, None, 2.0)
    assert "v (GET /venue...)" in found.words[0]
    assert asked(stage, "/_aggregate/other").problem is not None


@pytest.mark.parametrize(
    ("target", "method", "status", "word"),
    [
        ("/_aggregate/page?id=1", "POST", 405, "an aggregate is for GET and HEAD"),
        ("/_aggregate/page", "GET", 400, "the query parameter id is missing"),
        ("/_aggregate/page?id=1&id=2", "GET", 400, "id came more than once"),
    ],
)
def test_what_an_aggregate_refuses_is_a_problem(target: str, method: str, status: int, word: str) -> None:
    parts = "{v: {service: venue, path: '/x/{query.id}'}}"
    stage = Stage(f"services: {{venue: {{url: http://a:1}}}}\naggregates: {{page: {{parts: {parts}}}}}")
    found = asked(stage, target, method)
    assert found.problem is not None
    assert (found.by, found.problem.status, found.problem.reason) == (None, status, "bad_request")
    assert word in found.problem.detail
    assert f"The app gets {status}" in found.words[1]
    assert asked(stage, "/_aggregate/page?id=1", "HEAD").problem is None


def test_without_a_target_nothing_is_asked() -> None:
    with pytest.raises(BadQuestion):
        asked(Stage(), "")


@pytest.mark.parametrize(
    ("method", "target", "host", "status", "word"),
    [
        ("GET", "/venue", "a@b", 400, "the Host is not host[:port]"),
        ("CONNECT", "venue:80", "venue:80", 405, "CONNECT is not offered"),
        ("get", "/venue", "", 501, "the method is not known"),
        ("GET", "/venue#x", "", 400, "fragment"),
        ("GET", "/venue/caf\u00e9", "", 400, "not printable ASCII: percent-encode it"),
    ],
)
def test_what_the_parser_refuses_is_a_problem(method: str, target: str, host: str, status: int, word: str) -> None:
    found = asked(Stage(), target, method, host)
    assert found.problem is not None
    assert (found.service, found.problem.status, found.problem.reason) == (None, status, "bad_request")
    assert word in " ".join(found.words)


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


@pytest.mark.parametrize(("target", "meant"), [("/vanue/events?x", True), ("/zzz", False), ("/" + "v" * 8000, False)])
def test_a_name_that_is_nearly_one(target: str, meant: bool) -> None:
    assert ("Did you mean 'venue'?" in asked(Stage(), target).words) is meant


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


@pytest.mark.parametrize(
    ("policy", "method", "word"),
    [
        ("retry: {max_retries: 0}", "GET", "It is not retried: retry.max_retries is 0."),
        ("retry: {max_retries: 1}", "POST", "POST is not in retry.methods, so it is never sent twice"),
        ("fallback: [{stale: 5m}]", "GET", "If all attempts fail: the last good response, at most 5m old."),
        ("fallback: [{stale: 5m}]", "GET", "the service itself gets 80% of it."),
        ("fallback: [{stale: 5m}]", "PUT", "can only shorten that.\nThere is no fallback for PUT"),
        ("fallback: [{status: 200}]", "GET", "the file's own response with status 200"),
        ("preserve_host: true", "GET", "It has no routes, so the service's own policy applies."),
    ],
)
def test_the_story_of_what_happens_after_a_failure(policy: str, method: str, word: str) -> None:
    assert word in story(Stage(f"services: {{venue: {{url: http://a:1, {policy}}}}}"), method=method)


def test_the_story_of_a_fallback_to_another_service() -> None:
    stage = Stage("services: {venue: {url: http://a:1, fallback: [{service: old, path: /v1}]}, old: {url: http://b:1}}")
    assert asked(stage, "/venue/x").fallback == ["the service 'old' is called with /v1"]


def test_the_query_of_a_fallback_is_not_told() -> None:
    step = "{service: old, path: '/v1?key=s3cret'}"
    stage = Stage(f"services: {{venue: {{url: http://a:1, fallback: [{step}]}}, old: {{url: http://b:1}}}}")
    answer = asked(stage, "/venue/x")
    assert answer.fallback == ["the service 'old' is called with /v1?***"]
    assert "s3cret" not in repr(answer)


def state_of(stage: Stage) -> Any:
    venue = stage["venue"]
    breaker = venue.default_route.breaker
    return (
        repr(breaker), breaker.rejects, repr(venue.budget), repr(venue._turn), repr(venue.limit),
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
