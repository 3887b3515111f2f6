"""Which policy a request would get, told without sending it and without a trace."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.admin.explain import BadQuestion, explain
from sidecar.runtime.live import Live
from tests.admin.explained import asked, asked_grpc, story
from tests.admin.stage import Stage


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
        ("CONNECT", "venue:80", "venue:80", 405, "a CONNECT opens a connection to a service"),
        ("get", "/venue", "", 501, "the method is unknown"),
        ("GET", "/venue#x", "", 400, "fragment"),
        ("GET", "/venue/caf\u00e9", "", 400, "not printable ASCII: percent-encode it"),
    ],
)
def test_what_the_parser_refuses_is_a_problem(method: str, target: str, host: str, status: int, word: str) -> None:
    found = asked(Stage(), target, method, host)
    assert found.problem is not None
    assert (found.service, found.problem.status, found.problem.reason) == (None, status, "bad_request")
    assert word in " ".join(found.words)


@pytest.mark.parametrize(("target", "meant"), [("/vanue/events?x", True), ("/zzz", False), ("/" + "v" * 8000, False)])
def test_a_name_that_is_nearly_one(target: str, meant: bool) -> None:
    assert ("Did you mean 'venue'?" in asked(Stage(), target).words) is meant


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


# From the configuration alone.

TEXT = """\
services:
  venue:
    url: "http://venue-service:3002"
    hosts: [venue.example]
    timeout: {request: 10s}
    fallback: [{status: 200}]
    routes:
      - match: {path: /reports, methods: [POST]}
        timeout: {request: 60s}
aggregates: {page: {parts: {venue: {service: venue, path: "/venues/{query.id}"}}}}
"""

TARGETS = [
    *("/venue/events/42?x=1", "/venue/reports/7", "/_aggregate/page?id=1", "/_aggregate/no", "/nobody", "/", "*"),
    *("http://venue-service:3002/x", "http://u@venue-service/x", "venue:80", "/venue#x", "/venue/a b", "/venue/\xe9"),
    *("/venue/\udcff", "/venue/\x00", "/venue\r\nX: y", "/venue/" + "x" * 16000, "/venue/" + "x" * 40000),
]
STATE = ("breaker", "balancer", "retry", "words")


@pytest.mark.parametrize("host", ["", "venue.example", "x" * 300, "a@b", "a b", "a\r\nb"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "CONNECT", "PURGE", "NONSENSE", "get", ""])
def test_the_configuration_alone_says_all_but_the_state(method: str, host: str) -> None:
    stage = Stage(TEXT)
    live = Live(stage.live.config, 0.0, float)
    for target in TARGETS:
        alone = msgspec.to_builtins(explain(live, stage.origins, method, target, host))
        running = msgspec.to_builtins(asked(stage, target, method, host))
        for key in running.keys() - set(STATE):
            assert alone[key] == running[key], (key, target)
        assert (alone["breaker"], alone["balancer"], alone["retry"]) == (None, None, None)
        assert set(alone["words"]) - set(running["words"]) == (
            {"This comes from the file alone. Only a running sidecar knows what its breaker and balancer would do."}
            if alone["service"]
            else set()
        )


def test_the_policy_says_who_set_each_value() -> None:
    stage = Stage(TEXT)
    for method, target, value, origin, line in (
        ("POST", "/venue/reports/7", "1m", "route", 9),
        ("GET", "/venue/reports/7", "10s", "service", 5),
    ):
        found = explain(stage.live, stage.origins, method, target, "")
        assert found.policy is not None
        setting = found.policy["timeout"]["request"]
        assert (setting.value, setting.origin, setting.line) == (value, origin, line)


# Calls of gRPC.

SHOP = """
defaults: {timeout: {attempt: 3s}}
services:
  shop:
    endpoints: ["h2c://10.0.0.7:50051", "h2c://10.0.0.8:50051"]
    grpc: [shop.v1.*]
    routes:
      - {match: {path: /shop.v1.Venue/Get}, idempotent: true, unary: true, timeout: {attempt: 500ms}}
      - {match: {path: /shop.v1.Venue/Watch}, timeout: {idle: 5m}}
  menu: {url: "grpc://10.0.1.1:50051"}
  venue: {url: "http://venue:1"}
"""


@pytest.mark.parametrize(
    ("target", "host", "service", "found", "by"),
    [
        ("/shop.v1.Venue/Get", "", "", "shop", "claim"),
        ("/shop.v1.Venue/Get", "localhost:15001", "", "shop", "claim"),
        ("/shop.v1.Venue/Get", "menu", "", "menu", "host"),
        ("/shop.v1.Venue/Get", "", "menu", "menu", "metadata"),
    ],
)
def test_how_the_service_of_a_grpc_call_is_found(target: str, host: str, service: str, found: str, by: str) -> None:
    answer = asked_grpc(Stage(SHOP), target, host, service)
    assert (answer.service, answer.by, answer.upstream_target) == (found, by, target)


@pytest.mark.parametrize(
    ("target", "host", "service", "words"),
    [
        ("/a.B/Get", "", "", ["no service claims a.B", "gets 12 UNIMPLEMENTED (x-sidecar-reason: unknown_service)"]),
        ("/a.B/Get", "venue", "", ["venue is called by HTTP/1.1", "12 UNIMPLEMENTED (x-sidecar-reason: bad_request)"]),
        ("/a.B/Get", "shop", "menu", ["send one of the two", "The app gets 3 INVALID_ARGUMENT"]),
        ("a.B/Get", "", "", ["does not begin with /", "3 INVALID_ARGUMENT"]),
        ("/a.B/Get", "a b", "", ["not host[:port]"]),
        ("/" + "a" * 40_000, "", "", ["which is listen.max_head"]),
    ],
)
def test_a_grpc_call_that_no_service_takes(target: str, host: str, service: str, words: list[str]) -> None:
    answer = asked_grpc(Stage(SHOP), target, host, service)
    assert answer.service is None
    assert all(one in " ".join(answer.words) for one in words), answer.words


@pytest.mark.parametrize(
    ("method", "deadline_s", "words"),
    [
        ("Get", 15.0, "It has 15s in total, 500ms for each attempt, 1m without a byte in either direction."),
        ("Watch", None, "It has 5m without a byte in either direction. An app's own deadline (grpc-timeout)"),
        ("List", None, "Only the app's own deadline (grpc-timeout) limits it"),
    ],
)
def test_only_times_that_count_for_grpc_are_told(method: str, deadline_s: float | None, words: str) -> None:
    answer = asked_grpc(Stage(SHOP), f"/shop.v1.Venue/{method}")
    assert answer.deadline_s == deadline_s
    assert words in " ".join(answer.words)


def test_no_fallback_is_told_of_that_a_grpc_call_would_not_get() -> None:
    steps = "fallback: [{service: venue, methods: [POST]}]"
    stage = Stage(f"services: {{shop: {{url: 'h2c://a:1', {steps}}}, venue: {{url: 'http://venue:1'}}}}")
    grpc = asked_grpc(stage, "/shop.v1.Venue/Get", "shop")
    assert grpc.fallback == []
    assert "There is no fallback for gRPC: the app gets the error." in grpc.words
    assert asked(stage, "/shop/x", "POST").fallback == ["the service 'venue' is called"]


def test_a_question_about_grpc_without_a_target_is_a_bad_one() -> None:
    with pytest.raises(BadQuestion, match=r"/shop.v1.Venue/Get"):
        asked_grpc(Stage(SHOP), "")


# TLS.

HOST = "the host in the endpoint's URL"
SHOWN = "cert_file: /tls.crt, key_file: /tls.key"


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        ("", f"1.2 or newer. The certificate must be for {HOST}, by a CA that the system trusts."),
        ("ca_file: /ca.pem", f"1.2 or newer. The certificate must be for {HOST}, by a CA in /ca.pem."),
        (
            f"ca_file: /ca.pem, server_name: a.b, min_version: 1.3, {SHOWN}",
            "1.3 or newer. The certificate must be for a.b, by a CA in /ca.pem. The sidecar shows the one in /tls.crt.",
        ),
        ("verify: off", "1.2 or newer, and any certificate is taken (tls.verify is off)."),
    ],
)
def test_what_is_verified_and_shown(tls: str, words: str) -> None:
    stage = Stage(f"services: {{venue: {{url: 'https://a:1', tls: {{{tls}}}}}, auth: {{url: 'http://a:1'}}}}")
    assert f"Connections use TLS {words}" in asked(stage, "/venue/x").words
    assert "TLS" not in " ".join(asked(stage, "/auth/x").words)
