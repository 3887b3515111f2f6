"""Every way in which an upstream can fail, against the real daemon: what the app gets, what the upstream saw, what was
counted. The table is the contract's reason table; the scenes below it need more than one request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest

from tests.support import steps
from tests.support.client import Client, Head, Response, request_bytes
from tests.support.eventually import eventually
from tests.support.message import chunked
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, held, interim, raw, response_head, then, then_close, then_held, then_reset
from tests.support.upstream import ConnectBlackHole, RefusedPort, Step, Turn

Counts = tuple[int, int]
"""(attempts, requests that the upstream saw)"""

FAST = "timeout: {attempt: 150ms}"
HALF_BY_LENGTH = raw(response_head(200, [("Content-Length", "10")]) + b"half-")
HALF_CHUNKED = raw(response_head(200, [("Transfer-Encoding", "chunked")]) + b"5\r\nhalf-\r\n")
WITHIN_A_CHUNK = raw(response_head(200, [("Transfer-Encoding", "chunked")]) + b"a\r\nhalf-")
HEAD_ONLY = raw(response_head(200, [("Content-Length", "10")]))
UNTIL_CLOSE = raw(response_head(200) + b"half-")


@dataclass(frozen=True)
class Fault:
    """One row. `kind`: `own` (the sidecar answers), `upstream` (its answer passes), `broken` (it breaks off)."""

    name: str
    script: Step | None
    status: int
    reason: str
    get: Counts
    post: Counts
    kind: str = "own"
    outcome: str = "failure"
    policy: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


def app_deadline(header: str) -> Fault:
    return Fault(
        name=header.removeprefix("x-envoy-").replace("-", "_"),
        script=steps.silence,
        status=504,
        reason="request_timeout",
        get=(1, 1),
        post=(1, 1),
        outcome="ignored",
        headers=((header, "150"),),
    )


def resets(name: str, script: Step) -> Fault:
    return Fault(name, script, 502, "reset", get=(3, 3), post=(1, 1))


def breaks_off(name: str, script: Step, *, body: bytes = b"half-", **more: str) -> Fault:
    return Fault(name, script, 200, "truncated", get=(1, 1), post=(1, 1), kind="broken", body=body, **more)


def not_http(name: str, data: bytes) -> Fault:
    return Fault(name, raw(data), 502, "bad_response", get=(1, 1), post=(1, 1))


def passes(name: str, status: int, reason: str, attempts: int, **headers: str) -> Fault:
    """An upstream's answer that reaches the app as it is; GET makes so many attempts."""

    def step(turn: Turn) -> None:
        count = turn.read().get("x-envoy-attempt-count") or ""
        answer(status, numbered(int(count)), [(key.replace("_", "-"), value) for key, value in headers.items()])(turn)

    return Fault(
        name,
        step,
        status,
        reason,
        get=(attempts, attempts),
        post=(1, 1),
        kind="upstream",
        outcome="success" if reason == "ok" else "failure",
    )


def numbered(attempt: int) -> bytes:
    """A body that says of which attempt it is, and is as long as no other's."""
    return b"attempt " + b"%d" % attempt * attempt


FAULTS = [
    Fault("refused", None, 503, "connect_failure", get=(3, 0), post=(3, 0)),
    Fault("black_hole", None, 504, "connect_timeout", get=(3, 0), post=(3, 0), policy="timeout: {connect: 150ms}"),
    resets("closes_unread", steps.close_unread),
    resets("closes_before_head", then_close(steps.read_request)),
    resets("resets_before_head", then_reset(steps.read_request)),
    resets("closes_within_head", then_close(raw(b"HTTP/1.1 200 OK\r\nContent-Len"))),
    resets("resets_within_head", then_reset(raw(b"HTTP/1.1 200 OK\r\nContent-Len"))),
    resets("closes_within_status_line", then_close(raw(b"HTTP/1.1 20"))),
    Fault("silent", steps.silence, 504, "attempt_timeout", get=(3, 3), post=(1, 1), policy=FAST),
    Fault("drips_its_head", steps.drip_head, 504, "attempt_timeout", get=(3, 3), post=(1, 1), policy=FAST),
    Fault(
        "too_slow_for_request",
        steps.silence,
        504,
        "request_timeout",
        get=(1, 1),
        post=(1, 1),
        policy="timeout: {attempt: 2s, request: 200ms}",
    ),
    app_deadline("x-envoy-upstream-rq-timeout-ms"),
    app_deadline("x-envoy-expected-rq-timeout-ms"),
    not_http("garbage", b"\x00\x01\x02 LEAK this is no answer\r\n\r\n"),
    not_http("another_protocol", b"SSH-2.0-OpenSSH_9.2p1 LEAK\r\n"),
    not_http("unasked_101", response_head(101, [("Upgrade", "websocket"), ("Connection", "Upgrade")]) + b"LEAK"),
    passes("says_500", 500, "status", 1),
    passes("says_501", 501, "status", 1),
    passes("says_502", 502, "status", 3),
    passes("says_503", 503, "status", 3),
    passes("says_503_now", 503, "status", 3, Retry_After="0"),
    passes("says_503_for_long", 503, "status", 1, Retry_After="60"),
    passes("says_404", 404, "ok", 1),
    passes("says_429", 429, "ok", 1, Retry_After="1"),
    passes("says_200", 200, "ok", 1),
    breaks_off("closes_after_head", then_held(HEAD_ONLY, steps.close), body=b""),
    breaks_off("resets_after_head", then_held(HEAD_ONLY, steps.reset), body=b""),
    breaks_off("closes_in_body", then_held(HALF_BY_LENGTH, steps.close)),
    breaks_off("resets_in_body", then_held(HALF_BY_LENGTH, steps.reset)),
    breaks_off("closes_in_body_at_once", then_close(HALF_BY_LENGTH)),
    breaks_off("closes_between_chunks", then_held(HALF_CHUNKED, steps.close)),
    breaks_off("resets_between_chunks", then_held(HALF_CHUNKED, steps.reset)),
    breaks_off("closes_within_a_chunk", then_held(WITHIN_A_CHUNK, steps.close)),
    breaks_off("resets_before_close", then_held(UNTIL_CLOSE, steps.reset)),
    breaks_off("stalls_in_body", steps.stalled_body, policy="timeout: {idle: 200ms}", outcome="ignored"),
    breaks_off("breaks_a_chunk", then_held(HALF_CHUNKED, lambda turn: turn.send(b"LEAK\r\n"))),
]

CONFIG = """
log: {access: all}
defaults:
  timeout: {connect: 2s, attempt: 3s, request: 10s, idle: 5s}
  retry: {backoff: {base: 1ms, max: 2ms}, budget: {ratio: 1, min_per_second: 1000}}
  breaker: {volume_threshold: 1000}
services:
  scene: {endpoints: ["$scene"]}
  brief_pool: {endpoints: ["$brief_pool"], timeout: {pool_idle: 200ms}}
  single: {endpoints: ["$single"], limits: {max_concurrent: 1}}
  narrow: {endpoints: ["$narrow"], limits: {max_connections: 1}}
  nowhere: {url: "http://no-such-name.invalid:8080"}
  no_tls: {endpoints: ["https://127.0.0.1:$port_no_tls"]}
"""


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    lines = [f'  {fault.name}: {{endpoints: ["${fault.name}"], {fault.policy}}}\n' for fault in FAULTS]
    names = [fault.name for fault in FAULTS if fault.script is not None]
    dead: dict[str, RefusedPort | ConnectBlackHole] = {"refused": RefusedPort(), "black_hole": ConnectBlackHole()}
    with Rig(CONFIG + "".join(lines), *names, "scene", "brief_pool", "single", "narrow", "no_tls", dead=dead) as rig:
        yield rig


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(rig: Rig, fault: Fault, method: str) -> None:
    attempts, hits = fault.get if method == "GET" else fault.post
    upstream = rig[fault.name].play(fault.script) if fault.script is not None else None
    changes = rig.changes()

    with rig.client() as client:
        client.send(
            request_bytes(
                method,
                f"/{fault.name}/events/42",
                [("X-Request-Id", "request-1"), *fault.headers],
                b'{"a": 1}' if method == "POST" else None,
            )
        )
        response = client.read_response(method, on_head=lambda _: upstream.gate.set() if upstream else None)

    check_answer(fault, response, attempts)
    if upstream is not None:
        eventually(partial(upstream.reached, hits))  # it may read the last one late
        assert not upstream.malformed
        assert all(request.target == "/events/42" for request in upstream.requests)

    service = fault.name
    gain = changes.when_done(service)
    assert gain("sidecar_requests_total", service=service, code=str(fault.status), reason=fault.reason) == 1
    assert gain("sidecar_attempts_total", service=service) == attempts
    assert gain("sidecar_attempts_total", service=service, reason=fault.reason) == attempts
    assert gain("sidecar_retries_total", service=service, result="sent") == attempts - 1
    successes = gain("sidecar_breaker_events_total", service=service, event="success")
    failures = sum(gain("sidecar_breaker_events_total", service=service, event=event) for event in FAILURE_EVENTS)
    told = {"success": (1, False), "failure": (0, True), "ignored": (0, False)}
    assert (successes, failures > 0) == told[fault.outcome]


FAILURE_EVENTS = ("failure", "timeout")


def check_answer(fault: Fault, response: Response, attempts: int) -> None:
    assert response.status == fault.status
    assert b"LEAK" not in response.head + response.body
    if fault.kind == "own":
        problem = assert_problem(response, fault.status, fault.reason, fault.name)
        assert problem["request_id"] == "request-1"
        assert [attempt["reason"] for attempt in problem["attempts"]] == [fault.reason] * attempts
    else:
        assert response.reason is None
        assert response.body == (numbered(attempts) if fault.kind == "upstream" else fault.body)
        assert response.whole == (fault.kind == "upstream"), response.end


# Connections that end, or talk, when nobody asked.


def test_accepts_and_closes_at_once(rig: Rig) -> None:
    rig["scene"].play(greeting=steps.close)
    problem = assert_problem(rig.ask("GET", "/scene/"), 502, "reset", "scene")
    assert len(problem["attempts"]) == 3
    assert_problem(rig.ask("POST", "/scene/", body=b"x"), 502, "reset", "scene")
    rig.idle("scene")


def test_close_on_reuse_costs_a_safe_request_nothing(rig: Rig) -> None:
    """The upstream closes as the second request of a connection arrives; that request goes to a fresh connection."""
    upstream = rig["scene"].play(steps.close_on_reuse(answer()))
    changes = rig.changes()
    with rig.client() as client:
        assert client.ask("GET", "/scene/1").status == 200
        assert client.ask("GET", "/scene/2").status == 200
    assert [(request.connection, request.target) for request in upstream.requests] == [(0, "/1"), (0, "/2"), (1, "/2")]
    gain = changes.when_done("scene", 2)
    assert gain("sidecar_requests_total", service="scene", code="200", reason="ok") == 2
    assert gain("sidecar_retries_total", service="scene", result="sent") == 0
    assert gain("sidecar_retries_total", service="scene", result="stale_connection") == 1


def test_close_on_reuse_is_a_reset_for_a_post(rig: Rig) -> None:
    upstream = rig["scene"].play(steps.close_on_reuse(answer()))
    with rig.client() as client:
        assert client.ask("POST", "/scene/1", body=b"x").status == 200
        response = client.ask("POST", "/scene/2", body=b"x")
    problem = assert_problem(response, 502, "reset", "scene")
    assert len(problem["attempts"]) == 1
    assert [(request.connection, request.target) for request in upstream.requests] == [(0, "/1"), (0, "/2")]


def test_post_takes_no_connection_that_idled_for_a_second(rig: Rig) -> None:
    upstream = rig["scene"].play(answer())
    with rig.client() as client:
        assert client.ask("GET", "/scene/1").status == 200
        time.sleep(1.1)  # The rule is about the daemon's clock: nothing to poll for.
        assert client.ask("POST", "/scene/2", body=b"x").status == 200
    assert [request.connection for request in upstream.requests] == [0, 1]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_connection_closed_while_idle_is_not_used(rig: Rig, method: str) -> None:
    """Either side may see the end first; the test waits until the daemon has, and has closed its side."""
    upstream = rig["scene"].play(then(answer(), steps.half_close))
    with rig.client() as client:
        for number in range(3):
            assert client.ask(method, "/scene/", body=b"x").status == 200
            eventually(partial(upstream.left, number))
    assert upstream.hits == 3


@pytest.mark.parametrize(
    "unasked",
    [
        pytest.param(response_head(200, [("Content-Length", "4")]) + b"LEAK", id="a second answer"),
        pytest.param(b"LEAK", id="bytes"),
        pytest.param(b"\r\n", id="an empty line"),
    ],
)
@pytest.mark.parametrize("when", ["with the first", "while idle"])
def test_answer_that_nobody_asked_for(rig: Rig, unasked: bytes, when: str) -> None:
    """What follows an answer closes the connection and is matched to no request."""
    first = response_head(200, [("Content-Length", "5")]) + b"first"
    later = then_held(raw(first), lambda turn: turn.send(unasked))
    script = later if when == "while idle" else raw(first + unasked)
    upstream = rig["scene"].play(script, answer(body=b"second"))
    with rig.client() as client:
        assert client.ask("GET", "/scene/1").body == b"first"
        upstream.gate.set()
        eventually(lambda: upstream.connections[0].ended is not None)
        response = client.ask("GET", "/scene/2")
    assert (response.status, response.body) == (200, b"second")
    assert [request.connection for request in upstream.requests] == [0, 1]


def test_idle_connection_is_closed_by_the_pool(rig: Rig) -> None:
    upstream = rig["brief_pool"].play(answer())
    assert rig.ask("GET", "/brief_pool/").status == 200
    assert upstream.open_connections == 1
    eventually(lambda: upstream.open_connections == 0, timeout=3)


# Retrying.


def test_get_is_made_good_by_a_retry(rig: Rig) -> None:
    upstream = rig["scene"].play(then_reset(steps.read_request), answer(503), answer(body=b"third"))
    changes = rig.changes()
    response = rig.ask("GET", "/scene/")
    assert (response.status, response.body, response.reason) == (200, b"third", None)
    assert [request.get("x-envoy-attempt-count") for request in upstream.requests] == ["1", "2", "3"]
    assert len({request.get("x-request-id") for request in upstream.requests}) == 1
    gain = changes.when_done("scene")
    for reason in ("reset", "status", "ok"):
        assert gain("sidecar_attempts_total", service="scene", reason=reason) == 1
    assert gain("sidecar_retries_total", service="scene", result="sent") == 2


def test_put_is_resent_with_its_body(rig: Rig) -> None:
    upstream = rig["scene"].play(then_reset(steps.read_request), answer())
    body = bytes(range(256)) * 100
    assert rig.ask("PUT", "/scene/", body=body).status == 200
    assert [request.body == body for request in upstream.requests] == [True, True]


def test_chunked_put_is_resent_with_its_trailers(rig: Rig) -> None:
    upstream = rig["scene"].play(then_reset(steps.read_request), answer())
    with rig.client() as client:
        client.send(request_bytes("PUT", "/scene/", [("Transfer-Encoding", "chunked")]))
        client.send(chunked(b"hello ", b"world", trailers=[("X-Sum", "1")]))
        assert client.read_response().status == 200
    for request in upstream.requests:
        assert (request.body, request.trailers) == (b"hello world", [("X-Sum", "1")])
    assert upstream.hits == 2


def test_post_with_an_idempotency_key_is_resent(rig: Rig) -> None:
    upstream = rig["scene"].play(then_reset(steps.read_request), answer())
    assert rig.ask("POST", "/scene/", [("Idempotency-Key", "k-1")], b"x").status == 200
    assert [request.body for request in upstream.requests] == [b"x", b"x"]


def test_body_beyond_what_is_kept_is_not_resent(rig: Rig) -> None:
    upstream = rig["scene"].play(then_reset(steps.read_request), answer())
    assert_problem(rig.ask("PUT", "/scene/", body=bytes(100_000)), 502, "reset", "scene")
    assert upstream.hits == 1


def test_retry_waits_as_long_as_it_was_told(rig: Rig) -> None:
    upstream = rig["scene"].play(answer(503, headers=[("Retry-After", "1")]), answer())
    assert rig.ask("GET", "/scene/").status == 200
    first, second = upstream.requests
    assert second.at - first.at >= 1


def test_nothing_is_retried_after_an_interim_answer(rig: Rig) -> None:
    hints = response_head(103, [("Link", "</style.css>")])
    upstream = rig["scene"].play(interim(hints, final=then_reset(steps.read_request)), answer())
    response = rig.ask("GET", "/scene/")
    assert [head.status for head in response.interim] == [103]
    assert_problem(response, 502, "reset", "scene")
    assert upstream.hits == 1


# The rest of the table.


def test_head_with_a_length_leaves_the_connection_clean(rig: Rig) -> None:
    upstream = rig["scene"].play(answer(body=b"0123456789"))
    with rig.client() as client:
        for _ in range(2):
            response = client.ask("HEAD", "/scene/")
            assert (response.status, response.get("content-length"), response.body) == (200, "10", b"")
            assert client.ask("GET", "/scene/").body == b"0123456789"
    assert upstream.hits == 4
    assert not upstream.malformed


def test_early_answer_to_an_upload(rig: Rig) -> None:
    """The app reads the answer while most of its body is unsent; the upstream's connection is not used again."""
    upstream = rig["scene"].play(steps.answer_early(413, b"too much"), answer())
    changes = rig.changes()
    with rig.client() as client:
        client.send(request_bytes("POST", "/scene/", [("Content-Length", "10000000")]) + bytes(100_000))
        response = client.read_response()
        assert (response.status, response.body, response.reason) == (413, b"too much", None)
    changes.eventually(1, "sidecar_requests_total", service="scene", code="413", reason="ok")
    assert rig.ask("GET", "/scene/").status == 200
    assert [request.connection for request in upstream.requests] == [0, 1]
    eventually(lambda: upstream.connections[0].ended is not None)
    rig.idle("scene")


def test_name_that_nobody_knows(rig: Rig) -> None:
    changes = rig.changes()
    reasons = ("no_endpoint", "connect_failure")
    problem = assert_problem(rig.ask("GET", "/nowhere/x", timeout=10), 503, reasons, "nowhere")
    changes.eventually(1, "sidecar_requests_total", service="nowhere", code="503", reason=problem["reason"])


def test_upstream_without_tls(rig: Rig) -> None:
    def plain(turn: Turn) -> None:
        turn.connection.stream.more()
        turn.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        turn.close()

    upstream = rig["no_tls"].play(plain)
    assert_problem(rig.ask("GET", "/no_tls/x"), 503, "connect_failure", "no_tls")
    assert upstream.hits == 0


def test_unknown_service(rig: Rig) -> None:
    changes = rig.changes()
    assert_problem(rig.ask("GET", "/never-heard-of/x"), 404, "unknown_service")
    changes.eventually(1, "sidecar_requests_total", service="", code="404", reason="unknown_service")


def test_concurrency_limit(rig: Rig) -> None:
    upstream = rig["single"].play(held(answer()))
    changes = rig.changes()
    with rig.client() as first:
        first.send(request_bytes("GET", "/single/1"))
        eventually(lambda: upstream.hits == 1)
        response = rig.ask("GET", "/single/2")
        assert_problem(response, 503, "overloaded", "single")
        assert int(response.get("retry-after") or "") >= 0
        upstream.gate.set()
        assert first.read_response().status == 200
    rig.idle("single")
    assert rig.ask("GET", "/single/3").status == 200
    assert [request.target for request in upstream.requests] == ["/1", "/3"]
    changes.eventually(1, "sidecar_requests_total", service="single", code="503", reason="overloaded")


def test_connection_limit_makes_requests_wait(rig: Rig) -> None:
    upstream = rig["narrow"].play(held(answer()))
    clients = [rig.client() for _ in range(5)]
    for client in clients:
        client.send(request_bytes("POST", "/narrow/", body=b"x"))
    eventually(lambda: upstream.hits == 1)
    eventually(lambda: rig.daemon.metric("sidecar_in_flight_requests", service="narrow") == 5)
    assert upstream.hits == 1
    upstream.gate.set()
    for client in clients:
        with client:
            assert client.read_response().status == 200
    assert (upstream.hits, len(upstream.connections)) == (5, 1)


def test_http_1_0_app_sees_that_a_body_broke_off(rig: Rig) -> None:
    """Where the end of the connection is the end of the body, only a reset says that it was not whole."""
    upstream = rig["scene"].play(then_held(HALF_CHUNKED, steps.close))
    with Client(rig.ports.proxy) as client:
        client.send(request_bytes("GET", "/scene/", version="HTTP/1.0"))

        def open_gate(_: Head) -> None:
            upstream.gate.set()

        response = client.read_response(on_head=open_gate)
    assert response.end == "reset"


def test_many_requests_that_fail_leave_nothing_behind(rig: Rig) -> None:
    """Permits and pooled connections all go back, whatever happened before."""
    assert rig.daemon.metric("sidecar_in_flight_requests") == 0
    for fault in FAULTS:
        if fault.script is not None:
            upstream = rig[fault.name].play(answer(body=b"well again"))
            assert rig.ask("GET", f"/{fault.name}/").body == b"well again"
            assert upstream.hits == 1
