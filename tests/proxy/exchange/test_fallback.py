"""What answers in place of a failure, when, and what is told of it; and that nothing is sent twice for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.policy.settings import (
    BreakerSettings,
    BudgetSettings,
    FallbackService,
    FallbackStale,
    FallbackStatic,
    FallbackStep,
    Limits,
    Policy,
    RetrySettings,
    Timeouts,
)
from tests.proxy.fakes import Dial, World, field_of, ok, problem, status

NO_RETRIES = RetrySettings(max_retries=0, budget=BudgetSettings(min_per_second=1000))
PLAIN = Policy(timeout=Timeouts(attempt=1.0, request=4.0), retry=NO_RETRIES)
V1 = FallbackService(service="venue-v1")
STALE = FallbackStale(stale=300.0)
STALE = FallbackStale(stale=300.0)
STATIC = FallbackStatic(status=200, headers={"content-type": "application/json"}, body=b'{"venues": []}')
UNAVAILABLE = ok(b"not now", status="503 Service Unavailable")

Make = Callable[..., World]


@pytest.fixture
def falls(make_world: Make) -> Make:
    """`falls(step, ...)`: a world whose venue falls back so."""

    def make(*steps: FallbackStep, retry: RetrySettings = NO_RETRIES, **more: object) -> World:
        policy = Policy(timeout=Timeouts(attempt=1.0, request=4.0), retry=retry, fallback=steps)
        return make_world(policy, others={"venue-v1": PLAIN}, **more)

    return make


def fallbacks(world: World) -> dict[str, int]:
    return world.service.counters.fallbacks


# Static.


def test_static_answers_a_failed_get(falls: Make) -> None:
    world = falls(STATIC, access="errors")
    app = world.asks("GET /venue/all", "X-Request-Id: id-1")
    world.upstream.says(UNAVAILABLE)
    assert status(app.heard) == 200
    assert app.heard.endswith(b'\r\n\r\n{"venues": []}')
    assert field_of(app.heard, "content-type") == ["application/json"]
    assert field_of(app.heard, "content-length") == ["14"]
    assert field_of(app.heard, "x-sidecar-fallback") == ["static"]
    assert field_of(app.heard, "x-request-id") == ["id-1"]
    assert world.reasons() == {(200, "status"): 1}
    assert fallbacks(world) == {"static": 1}
    assert world.breaker() == (0, 1)
    assert world.service.default_route.breaker.counters.fallbacks == 1
    world.access_log.flush()
    assert [(line["fallback"], line["status"], line["reason"]) for line in world.lines] == [("static", 200, "status")]
    assert app.says(b"GET /venue/ HTTP/1.1\r\nHost: localhost\r\n\r\n").open
    world.upstream.says(ok(b"well"))
    assert app.heard.endswith(b"well")


def test_an_answer_that_is_no_failure_is_left_alone(falls: Make) -> None:
    world = falls(STATIC)
    for line in ("200 OK", "404 Not Found", "302 Found"):
        app = world.asks()
        world.upstream.says(ok(b"mine", status=line))
        assert app.heard.endswith(b"mine")
        assert field_of(app.heard, "x-sidecar-fallback") == []
    assert fallbacks(world) == {}


def test_a_4xx_is_the_services_own_even_where_the_breaker_counts_it(make_world: Make) -> None:
    counted = BreakerSettings(failure_status=frozenset({429, 503}))
    world = make_world(Policy(breaker=counted, retry=NO_RETRIES, fallback=(STATIC,)))
    app = world.asks()
    world.upstream.says(ok(b"slower", status="429 Too Many Requests"))
    assert status(app.heard) == 429


def test_head_gets_the_head_alone(falls: Make) -> None:
    world = falls(STATIC)
    app = world.asks("HEAD /venue/")
    world.upstream.breaks()
    assert status(app.heard) == 200
    assert field_of(app.heard, "content-length") == ["14"]
    assert app.heard.endswith(b"\r\n\r\n")


def test_other_methods_only_where_the_step_says_so(falls: Make) -> None:
    world = falls(STATIC)
    app = world.asks("POST /venue/")
    world.upstream.says(UNAVAILABLE)
    assert status(app.heard) == 503
    accepted = falls(FallbackStatic(status=202, methods=frozenset({"POST"})))
    app = accepted.asks("POST /venue/", body=b"order")
    accepted.upstream.says(UNAVAILABLE)
    assert status(app.heard) == 202
    assert field_of(app.heard, "content-length") == ["0"]


def test_a_status_without_a_body_has_no_length(falls: Make) -> None:
    world = falls(FallbackStatic(status=204))
    app = world.asks()
    world.upstream.breaks()
    assert status(app.heard) == 204
    assert field_of(app.heard, "content-length") == []
    assert app.open


@pytest.mark.parametrize("reason", ["connect_failure", "connect_timeout", "reset", "attempt_timeout", "bad_response"])
def test_every_failure_of_an_attempt_falls_back(falls: Make, reason: str) -> None:
    world = falls(STATIC)
    if reason == "connect_failure":
        world.loop.network = Dial.refuse
    elif reason == "connect_timeout":
        world.loop.network = Dial.hang
    app = world.asks()
    if reason == "reset":
        world.upstream.breaks()
    elif reason == "bad_response":
        world.upstream.says(b"SSH-2.0-OpenSSH\r\n\r\n")
    world.pass_time(1.5)
    assert status(app.heard) == 200
    assert world.reasons() == {(200, reason): 1}


def test_what_the_breaker_the_limit_or_discovery_refuses_falls_back(make_world: Make) -> None:
    opens = BreakerSettings(volume_threshold=1)
    world = make_world(Policy(breaker=opens, limits=Limits(max_concurrent=1), retry=NO_RETRIES, fallback=(STATIC,)))
    held, refused = world.asks(), world.asks()
    assert status(refused.heard) == 200
    world.upstream.breaks()
    assert status(held.heard) == 200
    assert status(world.asks().heard) == 200
    assert world.reasons() == {(200, "overloaded"): 1, (200, "reset"): 1, (200, "circuit_open"): 1}
    world.service.set_endpoints([], world.loop.now)
    world.pass_time(31.0)
    assert status(world.asks().heard) == 200
    assert world.reasons()[(200, "no_endpoint")] == 1


def test_a_loop_and_a_bad_request_never_do(falls: Make) -> None:
    world = falls(STATIC)
    app = world.asks("GET /venue/", "x-sidecar-loop: " + ", ".join([world.core.outgoing.loop_name.decode()] * 3))
    assert problem(app.heard)["reason"] == "loop"
    app = world.asks(b"GET /venue/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    app.says(b"zz\r\n")
    assert problem(app.heard)["reason"] == "bad_request"
    assert fallbacks(world) == {}


def test_a_response_cut_after_its_head_stays_cut(falls: Make) -> None:
    world = falls(STATIC)
    app = world.asks()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-")
    world.upstream.breaks()
    assert app.heard.endswith(b"half-")
    assert not app.open
    assert world.reasons() == {(200, "truncated"): 1}


def test_retries_come_first(falls: Make) -> None:
    world = falls(STATIC, retry=RetrySettings(max_retries=1), endpoints=2)
    app = world.asks()
    world.upstream.says(UNAVAILABLE)
    world.pass_time(0.3)
    assert app.heard == b""
    world.upstream.says(UNAVAILABLE)
    assert status(app.heard) == 200
    assert world.retries() == {"sent": 1}


# Another service.


def test_another_service_answers(falls: Make) -> None:
    world = falls(V1, access="errors")
    app = world.asks("GET /venue/events/42?x=1", "X-Mine: 1")
    world.upstream.says(UNAVAILABLE)
    other = world.upstream
    assert other.heard.startswith(b"GET /events/42?x=1 HTTP/1.1\r\nHost: venue-v1:3002\r\n")
    assert field_of(other.heard, "x-mine") == ["1"]
    assert field_of(other.heard, "x-forwarded-prefix") == ["/venue"], "what the app called"
    assert field_of(world.upstreams[0].heard, "x-request-id") == field_of(other.heard, "x-request-id")
    other.says(ok(b"from v1"))
    assert status(app.heard) == 200
    assert app.heard.endswith(b"from v1")
    assert field_of(app.heard, "x-sidecar-fallback") == ["service:venue-v1"]
    v1 = world.live.services["venue-v1"]
    assert world.reasons() == {(200, "status"): 1}
    assert fallbacks(world) == {"service:venue-v1": 1}
    assert v1.counters.requests == {(200, "ok"): 1}
    assert v1.default_route.breaker.counters.successes == 1
    assert world.breaker() == (0, 1)
    world.access_log.flush()
    line = world.lines[0]
    assert (line["service"], line["fallback"], len(line["attempts"])) == ("venue", "service:venue-v1", 2)


def test_a_step_may_have_a_path_of_its_own(falls: Make) -> None:
    world = falls(FallbackService(service="venue-v1", path="/archive?all"))
    app = world.asks("GET /venue/events/42?x=1")
    world.upstream.breaks()
    assert world.upstream.heard.startswith(b"GET /archive?all HTTP/1.1\r\n")
    world.upstream.says(ok())
    assert status(app.heard) == 200


def test_the_next_step_where_the_other_service_fails_too(falls: Make) -> None:
    world = falls(V1, STATIC)
    app = world.asks()
    world.upstream.breaks()
    world.upstream.says(UNAVAILABLE)
    assert app.heard.endswith(b'{"venues": []}')
    assert fallbacks(world) == {"static": 1}
    assert world.live.services["venue-v1"].counters.requests == {(503, "status"): 1}
    assert world.live.services["venue-v1"].default_route.breaker.counters.failures == 1


def test_where_no_step_answers_the_app_gets_what_the_service_said(falls: Make) -> None:
    world = falls(V1, access="errors")
    app = world.asks()
    world.upstream.says(ok(b"my words", "X-Own: 1", status="503 Service Unavailable"))
    world.upstream.breaks()
    assert status(app.heard) == 503
    assert app.heard.endswith(b"my words")
    assert field_of(app.heard, "x-own") == ["1"]
    assert field_of(app.heard, "x-sidecar-fallback") == []
    assert world.reasons() == {(503, "status"): 1}
    assert fallbacks(world) == {"none": 1}
    assert world.breaker() == (0, 1)
    assert app.open
    world.access_log.flush()
    assert "fallback" not in world.lines[0]


def test_or_the_sidecars_own_words(falls: Make) -> None:
    world = falls(V1)
    world.loop.network = Dial.refuse
    app = world.asks()
    found = problem(app.heard)
    assert (found["reason"], found["service"]) == ("connect_failure", "venue")
    assert [attempt["reason"] for attempt in found["attempts"]] == ["connect_failure"] * 2
    assert world.breaker() == (0, 1)


def test_a_fallback_of_the_other_service_is_not_asked(make_world: Make) -> None:
    other = Policy(retry=NO_RETRIES, fallback=(STATIC,))
    world = make_world(Policy(retry=NO_RETRIES, fallback=(V1,)), others={"venue-v1": other})
    app = world.asks()
    world.upstream.breaks()
    world.upstream.breaks()
    assert problem(app.heard)["reason"] == "reset"


def test_a_post_that_was_sent_goes_to_no_other_service(falls: Make) -> None:
    step = FallbackService(service="venue-v1", methods=frozenset({"POST"}))
    world = falls(step)
    app = world.asks("POST /venue/orders", body=b"order")
    world.upstream.says(UNAVAILABLE)
    assert status(app.heard) == 503
    assert len(world.upstreams) == 1
    app = world.asks("POST /venue/orders", "Idempotency-Key: k", body=b"order")
    world.upstream.says(UNAVAILABLE)
    world.upstream.says(ok(b"taken"))
    assert app.heard.endswith(b"taken")


def test_a_post_that_was_not_sent_does(falls: Make) -> None:
    step = FallbackService(service="venue-v1", methods=frozenset({"POST"}))
    world = falls(step)
    first = world.service.endpoints[0].address

    def network(dial: Dial) -> None:
        dial.refuse() if dial.host == first else dial.accept()

    world.loop.network = network
    app = world.asks("POST /venue/orders", body=b"order")
    assert world.upstream.heard.endswith(b"\r\n\r\norder")
    world.upstream.says(ok(b"taken"))
    assert app.heard.endswith(b"taken")


def test_whether_a_step_may_repeat_is_for_the_called_route_to_say(make_world: Make) -> None:
    """However the services that stand in treat their own retries."""
    posts = frozenset({"POST"})
    steps = (FallbackService(service="v1", methods=posts), FallbackService(service="v2", methods=posts))
    opted = Policy(retry=RetrySettings(max_retries=0, methods=posts))
    for called, standing_in, asked in ((NO_RETRIES, opted, 1), (opted.retry, Policy(retry=NO_RETRIES), 2)):
        policy = Policy(retry=called, fallback=steps)
        world = make_world(policy, others={"v1": standing_in, "v2": PLAIN})
        away = world.service.endpoints[0].address

        def network(dial: Dial, away: str = away) -> None:
            dial.refuse() if dial.host == away else dial.accept()

        world.loop.network = network
        app = world.asks("POST /venue/orders", body=b"order")
        world.upstream.says(UNAVAILABLE)
        if asked == 2:
            world.upstream.says(ok(b"taken"))
        assert len(world.upstreams) == asked
        assert status(app.heard) == (503 if asked == 1 else 200)


def test_a_loop_further_on_passes(falls: Make) -> None:
    world = falls(STATIC)
    app = world.asks()
    world.upstream.says(ok(b"{}", "x-sidecar-reason: loop", status="508 Loop Detected"))
    assert status(app.heard) == 508


def test_the_limit_holds_for_a_failed_answer_that_is_still_going_to_the_app(make_world: Make) -> None:
    world = make_world(Policy(limits=Limits(max_concurrent=1), retry=NO_RETRIES, fallback=(STALE,)))
    first = world.asks()
    world.upstream.says(b"HTTP/1.1 503 X\r\nContent-Length: 10\r\n\r\nhalf-")
    assert first.heard.endswith(b"half-")
    assert world.service.in_flight == 1
    assert problem(world.asks().heard)["reason"] == "overloaded"
    world.upstream.says(b"other")
    assert world.service.in_flight == 0


def test_a_late_body_does_not_lengthen_the_time_of_all_steps(make_world: Make) -> None:
    puts = frozenset({"PUT"})
    names = ("v1", "v2", "v3")
    steps = tuple(FallbackService(service=name, methods=puts) for name in names)
    policy = Policy(timeout=Timeouts(attempt=10.0, request=1.0), retry=NO_RETRIES, fallback=steps)
    world = make_world(policy, others=dict.fromkeys(names, Policy(timeout=policy.timeout, retry=NO_RETRIES)))
    app = world.asks(b"PUT /venue/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
    world.upstream.says(UNAVAILABLE)
    world.pass_time(0.5)
    app.says(b"def")
    world.pass_time(1.3)
    assert status(app.heard) == 503
    assert world.reasons() == {(503, "status"): 1}


def test_redirects_of_who_stands_in_lead_to_what_the_app_called(falls: Make) -> None:
    world = falls(V1)
    app = world.asks("GET /venue/a")
    world.upstream.breaks()
    world.upstream.says(ok(b"", "Location: /next", status="302 Found"))
    assert field_of(app.heard, "location") == ["/venue/next"]


def test_who_says_that_he_stood_in_is_this_sidecar_alone(falls: Make) -> None:
    world = falls(V1)
    forged = "x-sidecar-fallback: static"
    app = world.asks()
    world.upstream.says(ok(b"", forged))
    assert field_of(app.heard, "x-sidecar-fallback") == []
    app = world.asks()
    world.upstream.says(UNAVAILABLE)
    world.upstream.says(ok(b"", forged))
    assert field_of(app.heard, "x-sidecar-fallback") == ["service:venue-v1"]


def test_a_body_that_is_still_coming_goes_to_the_other_service(make_world: Make) -> None:
    step = FallbackService(service="venue-v1", methods=frozenset({"POST"}))
    policy = Policy(breaker=BreakerSettings(volume_threshold=1), retry=NO_RETRIES, fallback=(step,))
    world = make_world(policy, others={"venue-v1": PLAIN})
    world.asks("PUT /venue/")
    world.upstream.breaks()
    app = world.asks(b"POST /venue/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
    app.says(b"def")
    assert world.upstream.heard.endswith(b"abcdef")
    world.upstream.says(ok(b"taken"))
    assert app.heard.endswith(b"taken")
    assert world.reasons()[(200, "circuit_open")] == 1


def test_the_first_service_leaves_a_fifth_of_the_time(make_world: Make) -> None:
    policy = Policy(timeout=Timeouts(attempt=10.0, request=5.0), retry=NO_RETRIES, fallback=(V1,))
    world = make_world(policy, others={"venue-v1": policy})
    app = world.asks()
    assert field_of(world.upstream.heard, "x-envoy-expected-rq-timeout-ms") == ["4000"]
    world.pass_time(4.3)
    assert len(world.upstreams) == 2
    assert 700 <= int(field_of(world.upstream.heard, "x-envoy-expected-rq-timeout-ms")[0]) <= 1000
    world.pass_time(1.0)
    found = problem(app.heard)
    assert (found["reason"], found["service"]) == ("request_timeout", "venue")
    assert "kept for the fallbacks" in found["detail"]
    assert world.breaker() == (0, 1), "the service had all of the time that it is allowed"


def test_the_apps_shorter_deadline_is_shared_too(falls: Make) -> None:
    world = falls(V1)
    app = world.asks("GET /venue/", "x-envoy-upstream-rq-timeout-ms: 500")
    assert field_of(world.upstream.heard, "x-envoy-expected-rq-timeout-ms") == ["399"], "400 ms, less what passed"
    world.pass_time(0.45)
    world.upstream.says(ok(b"in time"))
    assert app.heard.endswith(b"in time")
    assert world.breaker() == (0, 1), "a failure: the app waited for longer than 250 ms"


def test_the_app_leaves_while_the_other_service_is_asked(falls: Make) -> None:
    world = falls(V1, access="errors")
    app = world.asks()
    world.upstream.says(UNAVAILABLE)
    app.leaves()
    world.access_log.flush()
    assert "fallback" not in world.lines[0]
    assert "failed with status" in world.lines[0]["detail"]
    assert not world.upstream.open
    assert world.reasons() == {(499, "client_disconnect"): 1}
    assert world.live.services["venue-v1"].counters.requests == {(499, "client_disconnect"): 1}
    assert world.live.services["venue-v1"].in_flight == 0


def test_the_other_services_answer_breaks_off(falls: Make) -> None:
    world = falls(V1)
    app = world.asks()
    world.upstream.breaks()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf-")
    world.upstream.breaks()
    assert app.heard.endswith(b"half-")
    assert not app.open
    assert world.reasons() == {(200, "truncated"): 1}
    assert fallbacks(world) == {"service:venue-v1": 1}, "its head had gone to the app"
    assert world.live.services["venue-v1"].counters.requests == {(200, "truncated"): 1}


def test_permits_of_both_services_come_back(falls: Make) -> None:
    world = falls(V1)
    world.asks()
    assert world.service.in_flight == 1
    world.upstream.says(UNAVAILABLE)
    assert (world.service.in_flight, world.live.services["venue-v1"].in_flight) == (1, 1)
    world.upstream.says(ok())
    world.check_at_rest()
