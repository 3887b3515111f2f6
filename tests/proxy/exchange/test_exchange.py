"""The life of a request: how policies are asked, what is retried, and that whatever ends it leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.settings import (
    BudgetSettings,
    HashSettings,
    Limits,
    Policy,
)
from tests.proxy.fakes import Dial, Wire, World, field_of, ok, problem, status
from tests.proxy.scenes import (
    SWITCH,
    UNAVAILABLE,
    ask_tunnel,
    fail_calls,
    hits,
    policy,
    warm,
)

# What goes upstream.


def test_request_by_path(world: World) -> None:
    world.asks("GET /venue/events/42?x=%2F//", "X-A: 1", "Accept: */*")
    head = world.upstream.heard
    assert head.startswith(b"GET /events/42?x=%2F// HTTP/1.1\r\nHost: venue-service:3002\r\nX-A: 1\r\nAccept: */*\r\n")
    assert field_of(head, "x-forwarded-prefix") == ["/venue"]
    assert field_of(head, "x-envoy-attempt-count") == ["1"]
    assert field_of(head, "x-envoy-expected-rq-timeout-ms") == ["1000"]
    assert field_of(head, "x-sidecar-loop") == [world.core.outgoing.loop_name.decode()]
    assert len(field_of(head, "x-request-id")) == 1
    assert [field_of(head, name) for name in ("via", "traceparent")] == [[], []]


def test_request_by_host(world: World) -> None:
    world.app().says(b"GET /venue/a HTTP/1.1\r\nHost: venue\r\nX-Forwarded-Prefix: /mine\r\nX-Request-Id: id\r\n\r\n")
    head = world.upstream.heard
    assert head.startswith(b"GET /venue/a HTTP/1.1\r\nHost: venue-service:3002\r\n")
    assert field_of(head, "x-forwarded-prefix") == ["/mine"]
    assert field_of(head, "x-request-id") == ["id"]


def test_forwarded_prefix_of_the_app_is_replaced_by_path(world: World) -> None:
    world.asks("GET /venue/a", "X-Forwarded-Prefix: /mine", "x-forwarded-prefix: /too")
    assert field_of(world.upstream.heard, "x-forwarded-prefix") == ["/venue"]


def test_host_may_be_preserved(make_world: Callable[..., World]) -> None:
    world = make_world(policy(preserve_host=True))
    world.asks("GET http://venue:3002/a")
    assert field_of(world.upstream.heard, "host") == ["venue:3002"]


def test_ids_are_the_same_for_every_attempt(make_world: Callable[..., World]) -> None:
    world = make_world(policy(backoff_s=0.0))
    world.asks("GET /venue/a", "traceparent: a", "X-Request-Id: b")
    for count in ("1", "2", "3"):
        world.pass_time(0.01)
        assert field_of(world.upstream.heard, "x-envoy-attempt-count") == [count]
        world.upstream.breaks()
    heads = [wire.heard for wire in world.upstreams]
    assert {(*field_of(head, "x-request-id"), *field_of(head, "traceparent")) for head in heads} == {("b", "a")}


@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        ("/a", "/venue/a"),
        ("//elsewhere/a", "//elsewhere/a"),
        ("http://venue-service:3002/a?b", "/venue/a?b"),
        ("HTTP://VENUE-SERVICE:3002", "/venue/"),
        ("http://venue?b", "/venue/?b"),
        ("http://elsewhere/a", "http://elsewhere/a"),
        ("a", "a"),
    ],
)
def test_location_is_put_right_by_path(world: World, sent: str, arrived: str) -> None:
    app = world.asks()
    world.upstream.says(ok(b"", f"Location: {sent}", status="302 Found"))
    assert field_of(app.heard, "location") == [arrived]


# Admission.


@pytest.mark.parametrize("field", ["X-Sidecar-Loop: other, {0}, {0}", "x-sidecar-loop: {0}", "Via: 1.1 other, 1.1 {0}"])
def test_our_own_name_three_times_is_a_loop(world: World, field: str) -> None:
    own = field.format(world.core.outgoing.loop_name.decode())
    world.asks("GET /venue/", own)
    world.upstream.says(ok())
    assert field_of(world.upstream.heard, "x-sidecar-loop")[-1] == world.core.outgoing.loop_name.decode()
    app = world.asks("GET /venue/", own, own, own)
    assert (status(app.heard), problem(app.heard)["reason"]) == (508, "loop")
    assert len(world.upstreams) == 1


@pytest.mark.parametrize(("in_flight", "refused"), [(1, False), (2, True)])
def test_bound_on_requests_in_flight(make_world: Callable[..., World], in_flight: int, refused: bool) -> None:
    world = make_world(policy(limits=Limits(max_concurrent=2)))
    for _ in range(in_flight):
        world.asks()
    app = world.asks()
    assert len(world.upstreams) == 2
    assert bool(app.heard) is refused
    if refused:
        assert (status(app.heard), problem(app.heard)["reason"]) == (503, "overloaded")
        assert field_of(app.heard, "retry-after") == ["2"]  # a second, and half of the spread
    assert world.breaker() == (0, 0)


@pytest.mark.parametrize(("failures", "state"), [(9, "closed"), (10, "open")])
def test_breaker_opens_at_its_threshold(world: World, failures: int, state: str) -> None:
    fail_calls(world, failures)
    assert world.service.default_route.breaker.state == state
    before = hits(world)
    app = world.asks()
    assert (hits(world) == before) is (state == "open")
    if state == "open":
        found = problem(app.heard)
        assert (found["status"], found["reason"], found["attempts"]) == (503, "circuit_open", [])
        assert field_of(app.heard, "retry-after") == ["33"]  # `reset_timeout`, and half of the spread
        assert found["retry_after"] == 33.0


def test_a_breaker_that_an_operator_holds_open_does_not_blame_the_service(world: World) -> None:
    now = world.loop.time()
    world.service.default_route.breaker.force("open", now + 60.0, now)
    found = problem(world.asks().heard)
    assert (found["status"], found["reason"]) == (503, "circuit_open")
    assert found["detail"] == "an operator holds the breaker of venue open, for 60 s more"
    assert not world.upstreams


def test_one_probe_at_a_time_and_a_good_one_closes(world: World) -> None:
    fail_calls(world, 10)
    world.pass_time(30.1)
    probe = world.asks()
    assert problem(world.asks().heard)["reason"] == "circuit_open"
    world.upstream.says(ok())
    assert status(probe.heard) == 200
    assert world.service.default_route.breaker.state == "closed"


def test_probe_is_a_single_attempt(make_world: Callable[..., World]) -> None:
    world = make_world(policy(backoff_s=0.0))
    fail_calls(world, 10)
    world.pass_time(30.1)
    before = hits(world)
    probe = world.asks()
    world.upstream.says(UNAVAILABLE)
    world.pass_time(1)
    assert status(probe.heard) == 503
    assert hits(world) == before + 1
    assert world.service.default_route.breaker.state == "open"


def test_ignored_probe_gives_its_place_back(world: World) -> None:
    fail_calls(world, 10)
    world.pass_time(30.1)
    world.asks().breaks()
    assert world.service.default_route.breaker.state == "half_open"
    world.pass_time(1.1)  # the app gave up too soon for a verdict
    probe = world.asks()
    world.upstream.says(ok())
    assert status(probe.heard) == 200


def test_no_endpoint(make_world: Callable[..., World]) -> None:
    world = make_world(policy(), endpoints=0)
    app = world.asks()
    assert (status(app.heard), problem(app.heard)["reason"]) == (503, "no_endpoint")
    assert world.breaker() == (0, 0)


# Outcomes.


@pytest.mark.parametrize(
    ("code", "reason", "told"),
    [
        ("200 OK", "ok", (1, 0)),
        ("404 Not Found", "ok", (1, 0)),
        ("429 Too Many Requests", "ok", (1, 0)),
        ("500 Internal Server Error", "status", (0, 1)),
    ],
)
def test_breaker_is_told_by_the_status(world: World, code: str, reason: str, told: tuple[int, int]) -> None:
    app = world.asks()
    world.upstream.says(ok(b"as upstream", status=code))
    assert app.heard.endswith(b"as upstream")
    assert world.reasons() == {(int(code[:3]), reason): 1}
    assert world.attempts() == [{reason: 1}]
    assert world.breaker() == told


def test_success_is_told_at_the_end_of_the_body(world: World) -> None:
    world.asks()
    world.upstream.says(ok(b"hello")[:-1])
    assert world.breaker() == (0, 0)
    world.upstream.says(b"o")
    assert world.breaker() == (1, 0)


@pytest.mark.parametrize(
    ("act", "code", "reason"),
    [
        (Wire.leaves, 502, "reset"),
        (Wire.breaks, 502, "reset"),
        (lambda wire: wire.says(b"garbage"), 502, "bad_response"),
        (lambda wire: wire.says(SWITCH), 502, "bad_response"),
        (
            lambda wire: wire.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"),
            502,
            "bad_response",
        ),
        (lambda wire: wire.loop.advance(1.1), 504, "attempt_timeout"),
    ],
)
def test_failed_attempt_of_what_may_not_be_repeated(
    world: World, act: Callable[[Wire], object], code: int, reason: str
) -> None:
    app = world.asks("POST /venue/", body=b"body")
    act(world.upstream)
    found = problem(app.heard)
    assert (found["status"], found["reason"], found["service"]) == (code, reason, "venue")
    assert [(one["endpoint"], one["reason"], one["status"]) for one in found["attempts"]] == [
        ("10.0.0.1:3002", reason, None)
    ]
    assert world.reasons() == {(code, reason): 1}
    assert world.breaker() == (0, 1)
    assert hits(world) == 1
    assert app.open
    world.check_at_rest()


def test_truncated_answer(world: World) -> None:
    world.asks()
    world.upstream.says(ok(b"hello")[:-1])
    world.upstream.breaks()
    assert world.reasons() == {(200, "truncated"): 1}
    assert world.breaker() == (0, 1)
    assert hits(world) == 1


def test_answer_that_stalls_is_truncated(world: World) -> None:
    app = world.asks()
    world.upstream.says(ok(b"hello")[:-1])
    world.pass_time(59.9)
    assert app.open
    world.pass_time(0.2)
    assert world.reasons() == {(200, "truncated"): 1}
    assert app.how == "close"


def test_app_that_reads_nothing_is_a_disconnect(world: World) -> None:
    app = world.asks()
    app.stall()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a" * 400_000)
    world.pass_time(200)
    assert world.reasons() == {(499, "client_disconnect"): 1}
    assert not world.upstream.open
    assert world.breaker() == (1, 0), "the service has answered"


def test_refused_connection_is_told(make_world: Callable[..., World]) -> None:
    world = make_world(policy(max_retries=0))
    world.loop.network = Dial.refuse
    app = world.asks()
    found = problem(app.heard)
    assert (found["status"], found["reason"]) == (503, "connect_failure")
    assert found["detail"] == "10.0.0.1:3002: connection refused"
    assert world.breaker() == (0, 1)


def test_connecting_that_takes_too_long(make_world: Callable[..., World]) -> None:
    world = make_world(policy(max_retries=0))
    world.loop.network = Dial.hang
    app = world.asks()
    world.pass_time(1.1)
    assert (status(app.heard), problem(app.heard)["reason"]) == (504, "connect_timeout")


# Retries.


@pytest.mark.parametrize(
    "act", [Wire.breaks, lambda wire: wire.says(UNAVAILABLE), lambda wire: wire.loop.advance(1.05)]
)
def test_retry_goes_elsewhere_and_makes_it_good(
    make_world: Callable[..., World], act: Callable[[Wire], object]
) -> None:
    world = make_world(policy(), endpoints=2)
    app = world.asks()
    act(world.upstream)
    assert len(world.loop.dials) == 1
    world.pass_time(0.11)  # half of the backoff
    assert {dial.host for dial in world.loop.dials} == {"10.0.0.1", "10.0.0.2"}
    world.upstream.says(ok(b"good"))
    assert app.heard.endswith(b"good")
    assert world.breaker() == (1, 0)  # one outcome a request, that of its last attempt
    assert world.retries() == {"sent": 1}
    assert [sum(counted.values()) for counted in world.attempts()] == [1, 1]


@pytest.mark.parametrize("max_retries", [0, 1, 2, 5])
def test_bound_on_retries(make_world: Callable[..., World], max_retries: int) -> None:
    world = make_world(policy(max_retries=max_retries, backoff_s=0.0))
    app = world.asks()
    for attempt in range(max_retries + 1):
        assert app.heard == b""
        assert hits(world) == attempt + 1
        world.upstream.says(UNAVAILABLE)
        world.pass_time(0.01)
    assert hits(world) == max_retries + 1
    assert app.heard.endswith(b"not now")  # the last real answer
    assert world.reasons() == {(503, "status"): 1}
    assert world.breaker() == (0, 1)


@pytest.mark.parametrize(
    ("method", "fields", "repeated"),
    [
        ("GET", [], True),
        ("HEAD", [], True),
        ("PUT", [], True),
        ("DELETE", [], True),
        ("POST", [], False),
        ("PATCH", [], False),
        ("POST", ["Idempotency-Key: k"], True),
    ],
)
def test_only_what_is_safe_is_repeated(world: World, method: str, fields: list[str], repeated: bool) -> None:
    world.asks(f"{method} /venue/", *fields)
    world.upstream.breaks()
    world.pass_time(0.5)
    assert hits(world) == (2 if repeated else 1)


def test_body_is_sent_again_whole(make_world: Callable[..., World]) -> None:
    world = make_world(policy(backoff_s=0.0))
    app = world.asks("PUT /venue/", "Content-Length: 10").says(b"01234")
    world.upstream.breaks()
    world.pass_time(0.01)
    app.says(b"56789")
    assert world.upstream.heard.endswith(b"\r\n\r\n0123456789")
    world.upstream.breaks()
    world.pass_time(0.01)
    assert world.upstream.heard.endswith(b"\r\n\r\n0123456789")
    world.upstream.says(ok())
    assert status(app.heard) == 200


@pytest.mark.parametrize(("size", "repeated"), [(64 * 1024, True), (64 * 1024 + 1, False)])
def test_bound_on_the_body_that_can_be_sent_again(world: World, size: int, repeated: bool) -> None:
    app = world.asks("PUT /venue/", body=b"a" * size)
    world.upstream.breaks()
    world.pass_time(0.5)
    assert hits(world) == (2 if repeated else 1)
    if not repeated:
        assert problem(app.heard)["reason"] == "reset"


def test_nothing_is_repeated_after_an_interim_answer(world: World) -> None:
    app = world.asks()
    world.upstream.says(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    app.take()
    world.upstream.breaks()
    world.pass_time(1)
    assert problem(app.heard)["reason"] == "reset"
    assert hits(world) == 1


@pytest.mark.parametrize(
    ("counts", "repeated"),
    [(["1"], True), (["01"], True), (["0"], True), (["2"], False), (["1", " 3 "], False), (["x"], True)],
)
def test_call_for_a_request_that_is_itself_repeated_is_not(world: World, counts: list[str], repeated: bool) -> None:
    app = world.asks("GET /venue/", *[f"X-Envoy-Attempt-Count: {count}" for count in counts])
    world.upstream.says(UNAVAILABLE)
    world.pass_time(0.5)
    assert hits(world) == (2 if repeated else 1)
    if not repeated:
        assert app.heard.endswith(b"not now")
        assert world.retries() == {"denied_repeated": 1}


def test_one_that_was_not_sent_moves_on_whoever_is_repeated(make_world: Callable[..., World]) -> None:
    world = make_world(policy(), endpoints=2)
    world.loop.network = lambda dial: dial.accept() if dial.host == "10.0.0.2" else dial.refuse()
    app = world.asks("GET /venue/", "x-envoy-attempt-count: 2")
    world.upstream.says(ok(b""))
    assert app.heard.startswith(b"HTTP/1.1 200 ")
    assert world.retries() == {"failover": 1}


def test_app_is_told_how_many_attempts_an_answer_took(world: World) -> None:
    app = world.asks()
    world.upstream.says(UNAVAILABLE)
    world.pass_time(0.5)
    world.upstream.says(ok(b"").replace(b"\r\n\r\n", b"\r\nx-envoy-attempt-count: 9\r\n\r\n"))
    assert field_of(app.heard, "x-envoy-attempt-count") == ["2"]
    again = world.asks()
    world.upstream.says(ok(b"").replace(b"\r\n\r\n", b"\r\nx-envoy-attempt-count: 9\r\n\r\n"))
    assert field_of(again.heard, "x-envoy-attempt-count") == []


def test_budget_bounds_the_sum(make_world: Callable[..., World]) -> None:
    world = make_world(policy(backoff_s=0.0, budget=BudgetSettings(ratio=0.0, min_per_second=0.0)))
    app = world.asks()
    world.upstream.says(UNAVAILABLE)
    assert app.heard.endswith(b"not now")
    assert world.retries() == {"denied_budget": 1}


def test_open_breaker_ends_the_retrying_with_the_last_real_answer(world: World) -> None:
    fail_calls(world, 9)
    waiting = world.asks()
    first = world.upstream
    first.says(UNAVAILABLE)
    fail_calls(world, 1)
    assert world.service.default_route.breaker.state == "open"
    world.pass_time(1)
    assert waiting.heard.endswith(b"not now")
    assert world.retries() == {"denied_breaker": 1}, "what is not made is not counted"


def test_last_real_answer_is_not_lost_to_bytes_behind_it(world: World) -> None:
    """A whole answer waits for its retry, more bytes come on its connection, and then there is no retry after all."""
    fail_calls(world, 9)
    waiting = world.asks()
    first = world.upstream
    first.says(UNAVAILABLE)
    first.says(b"nobody asked for this")
    fail_calls(world, 1)
    world.pass_time(1)
    assert waiting.heard.endswith(b"not now")
    assert world.reasons()[503, "status"] == 1


def test_answer_that_breaks_while_its_retry_waits(world: World) -> None:
    fail_calls(world, 9)
    waiting = world.asks()
    first = world.upstream
    first.says(UNAVAILABLE[:-1])
    first.breaks()
    fail_calls(world, 1)
    world.pass_time(1)
    assert waiting.heard.endswith(b"not no")
    assert waiting.how == "close"
    assert world.reasons()[503, "truncated"] == 1


def test_connection_of_an_answer_that_a_retry_replaced_is_used_again(make_world: Callable[..., World]) -> None:
    world = make_world(policy(backoff_s=0.0))
    world.asks()
    world.upstream.says(UNAVAILABLE)
    world.pass_time(0.01)
    assert hits(world) == 2
    assert len(world.upstreams) == 1


def test_retry_after_is_waited_for(world: World) -> None:
    world.asks()
    world.upstream.says(ok(b"", "Retry-After: 2", status="503 Service Unavailable"))
    world.pass_time(1.9)
    assert hits(world) == 1
    world.pass_time(0.2)
    assert hits(world) == 2


def test_retry_after_beyond_the_deadline_is_an_answer(world: World) -> None:
    app = world.asks()
    world.upstream.says(ok(b"later", "Retry-After: 5", status="503 Service Unavailable"))
    assert app.heard.endswith(b"later")
    assert field_of(app.heard, "retry-after") == ["5"]
    assert world.retries() == {"denied_deadline": 1}


@pytest.mark.parametrize("head", ["GET /venue/", "POST /venue/"])
def test_refused_connection_moves_on_at_no_cost(make_world: Callable[..., World], head: str) -> None:
    world = make_world(policy(max_retries=0), endpoints=3)
    world.loop.network = lambda dial: dial.accept() if dial.host == "10.0.0.3" else dial.refuse()
    app = world.asks(head)
    world.upstream.says(ok())
    assert status(app.heard) == 200
    assert world.retries() == {"failover": 2}
    assert world.breaker() == (1, 0)
    assert len(world.loop.dials) == 3


def test_no_endpoint_is_tried_twice_for_nothing(make_world: Callable[..., World]) -> None:
    world = make_world(policy(max_retries=0), endpoints=3)
    world.loop.network = Dial.refuse
    app = world.asks("POST /venue/")
    found = problem(app.heard)
    assert sorted(one["endpoint"] for one in found["attempts"]) == [f"10.0.0.{number}:3002" for number in (1, 2, 3)]
    assert world.breaker() == (0, 1)


# Connections that were idle.


def test_stale_connection_costs_no_retry(make_world: Callable[..., World]) -> None:
    world = make_world(policy(max_retries=0))
    stale = warm(world)
    app = world.asks("GET /venue/again")
    assert stale.heard.startswith(b"GET /again ")
    stale.breaks()
    assert world.upstream is not stale
    world.upstream.says(ok(b"fresh"))
    assert app.heard.endswith(b"fresh")
    assert world.retries() == {"stale_connection": 1}
    assert world.breaker() == (2, 0)


def test_stale_connection_that_had_answered_something_was_not_stale(make_world: Callable[..., World]) -> None:
    world = make_world(policy(max_retries=0))
    stale = warm(world)
    app = world.asks()
    stale.says(b"HTTP/1.1 2")
    stale.breaks()
    assert problem(app.heard)["reason"] == "reset"
    assert world.upstream is stale


def test_fresh_connection_that_breaks_is_not_stale(make_world: Callable[..., World]) -> None:
    world = make_world(policy(max_retries=0))
    stale = warm(world)
    app = world.asks()
    stale.breaks()
    world.upstream.breaks()
    assert problem(app.heard)["reason"] == "reset"
    assert len(world.upstreams) == 2


def test_what_may_not_be_repeated_is_not_sent_on_what_was_idle_for_long(world: World) -> None:
    old = warm(world)
    world.pass_time(1.0)
    world.asks("POST /venue/")
    assert world.upstream is not old
    assert old.heard == b""


def test_what_may_not_be_repeated_is_not_repeated_on_a_stale_connection(world: World) -> None:
    stale = warm(world)
    app = world.asks("POST /venue/")
    assert stale.heard.startswith(b"POST ")
    stale.breaks()
    assert problem(app.heard)["reason"] == "reset"
    assert len(world.upstreams) == 1


def test_what_was_never_sent_fails_over_whatever_its_method(make_world: Callable[..., World]) -> None:
    """The connection is gone between coming up and being used."""
    world = make_world(policy(backoff_s=0.0))

    def gone_at_once(dial: Dial) -> None:
        world.loop.network = Dial.accept
        dial.accept()
        assert dial.wire is not None
        dial.wire._end(ConnectionResetError())

    world.loop.network = gone_at_once
    app = world.asks("POST /venue/", body=b"body")
    world.pass_time(0.1)
    assert hits(world) == 1
    world.upstream.says(ok())
    assert status(app.heard) == 200


# Early answers.


def test_early_answer_while_the_upload_goes_on(world: World) -> None:
    app = world.asks("POST /venue/", "Content-Length: 10").says(b"01234")
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
    app.says(b"56789")
    assert world.upstream.heard.endswith(b"0123456789")
    world.upstream.says(b"cd")
    assert app.heard.endswith(b"abcd")
    assert not world.upstream.open  # it answered early, and is not used again
    assert app.open


# Tunnels.


def test_tunnel_holds_its_permit_and_its_connection(world: World) -> None:
    app = ask_tunnel(world)
    assert field_of(world.upstream.heard, "upgrade") == ["websocket"]
    world.upstream.says(SWITCH + b"hello")
    assert app.heard.startswith(b"HTTP/1.1 101 X\r\n")
    assert app.take().endswith(b"\r\n\r\nhello")
    app.says(b"frames")
    assert world.upstream.heard.endswith(b"frames")
    service = world.service
    assert (service.limit.in_flight, service.counters.tunnels, service.endpoints[0].active) == (1, 1, 1)
    assert world.breaker() == (1, 0)
    assert world.reasons() == {(101, "ok"): 1}
    app.leaves()
    world.upstream.leaves()
    world.check_at_rest()
    assert service.connections == 0
    assert world.reasons() == {(101, "ok"): 1}


def test_bytes_behind_the_head_wait_for_the_101(world: World) -> None:
    app = ask_tunnel(world).says(b"early")
    assert not world.upstream.heard.endswith(b"early")
    world.upstream.says(SWITCH)
    assert world.upstream.heard.endswith(b"early")
    assert app.open


def test_refused_tunnel_is_an_answer(world: World) -> None:
    app = ask_tunnel(world)
    world.upstream.says(ok(b"no", status="403 Forbidden"))
    assert app.heard.endswith(b"no")
    assert app.open


# Never twice.

outcomes = st.lists(
    st.sampled_from(
        ["refuse", "hang", "gone", "reset", "leave", "garbage", "503", "half 503", "silence", "200", "later"]
    ),
    max_size=14,
)


def play(world: World, head: str, script: list[str]) -> Wire:
    """One request; each attempt at it ends as the script says, and the last as `200`."""
    steps = iter(script)
    begun = 0

    def dial_outcome(dial: Dial) -> None:
        step = next(steps, "200")
        if step == "refuse":
            dial.refuse()
        elif step == "hang":
            dial.hang()
        else:
            dial.accept()
            assert dial.wire is not None
            if step == "gone":
                dial.wire._end(ConnectionResetError())

    world.loop.network = dial_outcome
    app = world.asks(head, body=b"body" if head.startswith("P") else b"")
    for _ in range(60):
        world.pass_time(0.05)
        if app.heard:
            break
        wires = [wire for wire in world.upstreams if wire.open and b"\r\n\r\n" in wire.heard]
        if not wires or hits(world) == begun:
            continue
        begun = hits(world)
        answer(max(wires, key=lambda wire: len(wire.heard)), next(steps, "200"))
    world.pass_time(30)
    return app


def answer(wire: Wire, step: str) -> None:
    if step == "reset":
        wire.breaks()
    elif step == "leave":
        wire.leaves()
    elif step == "garbage":
        wire.says(b"garbage")
    elif step == "503":
        wire.says(UNAVAILABLE)
    elif step == "half 503":
        wire.says(UNAVAILABLE[:-1])
    elif step == "later":
        wire.says(ok(b"", "Retry-After: 1", status="503 Service Unavailable"))
    elif step != "silence":
        wire.says(ok())


@given(outcomes, st.sampled_from([1, 3]), st.booleans(), st.sampled_from(["POST", "PATCH"]))
def test_what_is_not_idempotent_is_never_sent_twice(
    script: list[str], endpoints: int, warmed: bool, method: str
) -> None:
    with World(policy(backoff_s=0.02, max_retries=3), endpoints=endpoints) as world:
        if warmed:
            warm(world)
        before = hits(world)
        app = play(world, f"{method} /venue/", script)
        assert hits(world) - before <= 1
        assert app.heard.count(b"HTTP/1.1 ") == 1
        world.check_at_rest()


@given(outcomes, st.sampled_from([1, 3]), st.booleans(), st.integers(0, 3))
def test_what_is_idempotent_is_sent_no_more_often_than_it_may(
    script: list[str], endpoints: int, warmed: bool, max_retries: int
) -> None:
    with World(policy(backoff_s=0.02, max_retries=max_retries), endpoints=endpoints) as world:
        if warmed:
            warm(world)
        before = hits(world)
        app = play(world, "GET /venue/", script)
        stale = world.retries().get("stale_connection", 0)
        assert stale <= max_retries + 1  # one fresh connection for each attempt on one that had been idle
        assert hits(world) - before <= max_retries + 1 + stale
        assert app.heard.count(b"HTTP/1.1 ") == 1
        assert sum(world.breaker()) <= 1 + warmed
        world.check_at_rest()


@pytest.mark.parametrize("end", ["the upstream breaks", "the app leaves", "the body is wrong"])
def test_what_failed_is_not_kept_in_a_cycle(end: str) -> None:
    """An exception that is kept holds its frames, and they hold the request with its body until a collection comes."""
    with World(endpoints=1) as world:
        gc.collect()
        gc.disable()
        try:
            if end == "the body is wrong":
                app = world.asks("PUT /venue/", "Transfer-Encoding: chunked").says(b"5\r\nhello\r\n")
            else:
                app = world.asks("PUT /venue/", "Content-Length: 5").says(b"hello")
            exchange = weakref.ref(app.protocol._handler)
            assert exchange() is not None
            if end == "the upstream breaks":
                for _ in range(9):
                    if app.heard:
                        break
                    world.upstream.breaks()
                    world.pass_time(1)
                assert status(app.heard) == 502
            elif end == "the app leaves":
                app.breaks()
                world.pass_time(1)
            else:
                app.says(b"nonsense\r\n")
                assert status(app.heard) == 400
            assert exchange() is None
        finally:
            gc.enable()


def test_a_crash_before_the_first_attempt_gives_the_permit_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def boom(*_: object) -> bytes:
        raise ValueError("a defect")

    monkeypatch.setattr("sidecar.proxy.exchange.service_call.hash_key", boom)
    with World(Policy(balancer=HashSettings(source=True))) as world:
        app = world.asks("GET /venue/")
        assert (status(app.heard), problem(app.heard)["reason"]) == (500, "internal")
        assert world.service.limit.in_flight == 0
