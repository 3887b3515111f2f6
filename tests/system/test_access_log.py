"""The real daemon's access log: what a line says of a real request, and that no line ever holds a secret."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.support import steps
from tests.support.client import request_bytes
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer, answer_chunked
from tests.support.upstream import RefusedPort

CONFIG = """
log: {level: debug, access: all}
defaults:
  timeout: {attempt: 300ms, request: 1s, idle: 300ms}
  retry: {max_retries: 1, backoff: {base: 50ms, max: 50ms}}
  breaker: {mode: off}
services:
  venue: {url: $venue, routes: [{match: {path: /reports, methods: [POST]}}]}
  gone: {url: $gone}
  shut: {url: $gone, breaker: {mode: enforce, volume_threshold: 1}}
"""

SECRET = "s3cr3t"
SECRETS = [
    ("Authorization", f"Bearer {SECRET}"),
    ("Proxy-Authorization", f"Basic {SECRET}"),
    ("Cookie", f"session={SECRET}"),
    ("X-Api-Key", SECRET),
    ("Referer", f"http://shop/?token={SECRET}"),
    ("traceparent", f"Bearer {SECRET}"),
    ("tracestate", f"a={SECRET}"),
]
QUERY = f"?token={SECRET}"


def rig(config: str = CONFIG) -> Rig:
    return Rig(config, "venue", dead={"gone": RefusedPort()})


def requests(of: Rig) -> list[dict[str, Any]]:
    return [line for line in of.daemon.log_lines() if line["event"] == "request"]


def line(of: Rig, count: int = 1) -> dict[str, Any]:
    """The last of so many lines, once they are written."""

    def check() -> dict[str, Any]:
        lines = requests(of)
        assert len(lines) == count
        return lines[-1]

    return eventually(check)


def ended(of: Rig, reason: str) -> None:
    """Waits until a request has ended so."""
    eventually(lambda: reason in [one["reason"] for one in requests(of)])


def test_what_a_line_says_of_a_request() -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with rig() as run:
        run["venue"].play(answer(201, b"x" * 1000))
        headers = [("X-Request-Id", "request-1"), ("traceparent", f"00-{trace}-00f067aa0ba902b7-01")]
        run.ask("POST", "/venue/reports/7?a=b", headers, b"y" * 100)
        found = line(run)
        port = run["venue"].port
    assert found.pop("time").endswith("Z")
    assert 0 <= found.pop("upstream_ms") <= found.pop("duration_ms") + 0.1
    found.pop("waiting_ms")  # for a new connection: on loopback it may be less than the figure tells
    (attempt,) = found.pop("attempts")
    assert attempt.pop("duration_ms") > 0
    assert attempt == {"endpoint": f"127.0.0.1:{port}", "reason": "ok", "status": 201}
    assert found == {
        "level": "info",
        "event": "request",
        "request_id": "request-1",
        "trace_id": trace,
        "service": "venue",
        "route": "POST /reports",
        "method": "POST",
        "target": "/venue/reports/7",
        "status": 201,
        "reason": "ok",
        "bytes_received": 100,
        "bytes_sent": 1000,
        "endpoint": f"127.0.0.1:{port}",
    }


def test_the_wait_for_a_connection_of_another_request() -> None:
    config = """
log: {access: all}
defaults: {timeout: {connect: 20s, attempt: 20s, request: 20s}}
services: {venue: {endpoints: ["$venue"], limits: {max_connections: 1}}}
"""
    with rig(config) as run:
        run["venue"].play(steps.held(answer()))
        with run.client() as holder, run.client() as waiter:
            holder.send(request_bytes("GET", "/venue/", [("X-Request-Id", "holder")]))
            eventually(lambda: run["venue"].hits == 1)
            before = time.monotonic()
            waiter.send(request_bytes("GET", "/venue/", [("X-Request-Id", "waiter")]))
            eventually(lambda: run.daemon.metric("sidecar_upstream_waiting_requests", service="venue") == 1)
            waits = time.monotonic()
            time.sleep(0.1)
            let_go = time.monotonic()
            run["venue"].gate.set()
            assert holder.read_response().status == waiter.read_response().status == 200
            after = time.monotonic()
        line(run, 2)
        found = {one["request_id"]: one for one in requests(run)}
    assert (let_go - waits) * 1000 - 1 <= found["waiter"]["waiting_ms"] <= (after - before) * 1000 + 1
    assert found["waiter"]["upstream_ms"] <= found["waiter"]["duration_ms"] - found["waiter"]["waiting_ms"] + 0.1


def test_bytes_and_waits() -> None:
    with rig() as run:
        run["venue"].play(answer(503), answer(200, b"x" * 100_000))
        run.ask("GET", "/venue/")
        found = line(run)
        assert found["bytes_sent"] == 100_000
        assert [attempt["status"] for attempt in found["attempts"]] == [503, 200]
        assert found["waiting_ms"] + found["upstream_ms"] <= found["duration_ms"] + 1
        run["venue"].play(answer_chunked(b"x" * 300, b"y" * 300))
        run.ask("GET", "/venue/")
        assert line(run, 2)["bytes_sent"] == len(b"12c\r\n" + b"x" * 300 + b"\r\n") * 2 + len(b"0\r\n\r\n")
        refused = run.ask("GET", "/gone/")
        assert line(run, 3)["bytes_sent"] == len(refused.body)
        run["venue"].play(steps.stalled_body)
        broken = run.ask("GET", "/venue/")
        found = line(run, 4)
        assert (found["reason"], found["bytes_sent"]) == ("truncated", len(broken.body))
        run["venue"].play(answer(200, b"z" * 50))
        with run.client() as client:
            client.ask("GET", "/venue/")
            client.ask("HEAD", "/venue/")
        line(run, 6)
        assert [one["bytes_sent"] for one in requests(run)[-2:]] == [50, 0]


@pytest.mark.parametrize(("access", "events"), [("off", 0), ("errors", 1), ("all", 2)])
def test_which_requests_have_a_line(access: str, events: int) -> None:
    with rig(CONFIG.replace("access: all", f"access: {access}")) as run:
        run["venue"].play(answer())
        run.ask("GET", "/venue/")
        run.ask("GET", "/unknown/")
        assert run.daemon.terminate() == 0
        assert len(requests(run)) == events


def test_the_query_is_there_for_who_asks_for_it() -> None:
    with rig(CONFIG.replace("access: all", "access: all, query: true")) as run:
        run["venue"].play(answer())
        run.ask("GET", "/venue/?a=b")
        assert line(run)["target"] == "/venue/?a=b"


def test_no_secret_is_ever_logged_however_a_request_ends() -> None:
    scenes = {
        "ok": answer(headers=[("Set-Cookie", f"session={SECRET}"), ("X-Token", SECRET)]),
        "status": answer(500, SECRET.encode()),
        "attempt_timeout": steps.silence,
        "reset": steps.then_reset(steps.read_request),
        "bad_response": steps.raw(f"HTTP/1.1 999 {SECRET}\r\nX: {SECRET}\r\n\r\n".encode()),
        "truncated": steps.stalled_body,
    }
    with rig() as run:
        for reason, step in scenes.items():
            run["venue"].play(step)
            run.ask("GET", f"/venue/{QUERY}", SECRETS)
            ended(run, reason)
        for target in (
            f"/gone/{QUERY}",
            f"/shut/{QUERY}",
            f"/shut/{QUERY}",
            f"/unknown/{QUERY}",
            f"/_aggregate/x{QUERY}",
        ):
            run.ask("GET", target, SECRETS)
        hostile = [
            f"GET http://user:{SECRET}@venue/{QUERY} HTTP/1.1\r\nHost: venue\r\n\r\n",
            f"GET http://unknown/{QUERY} HTTP/1.1\r\nHost: venue\r\n\r\n",
            f"GET /venue/{QUERY}#{SECRET} HTTP/1.1\r\nHost: venue\r\n\r\n",
            f"GET /venue/{QUERY} HTTP/1.1\r\nHost: a\r\nHost: {SECRET}\r\n\r\n",
            f"GET /venue/{QUERY} HTTP/1.1\r\nHost: {SECRET}@x\r\n\r\n",
            f"GET /venue/{QUERY} HTTP/1.1\r\nHost: a\r\n{SECRET} : b\r\n\r\n",
            f"GET /venue/{QUERY} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {SECRET}\r\n\r\n",
            f"GET /venue/{QUERY} HTTP/1.1\r\nHost: a\r\nConnection: {SECRET} {SECRET}\r\n\r\n",
            f"GET /venue/{QUERY} HTTP/1.1\r\nHost: a\r\nX: {SECRET * 8000}\r\n\r\n",
            f"{SECRET} /venue/ HTTP/1.1\r\nHost: a\r\n\r\n",
            f"CONNECT {SECRET}:443 HTTP/1.1\r\nHost: a\r\n\r\n",
            f"POST /venue/{QUERY} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n",
            f"nonsense {SECRET}\r\n\r\n",
        ]
        for raw in hostile:
            with run.client() as client:
                client.send(raw.encode())
                assert 400 <= client.read_response().status <= 502
        run["venue"].play(steps.silence)
        with run.client() as client:
            client.send(request_bytes("GET", f"/venue/{QUERY}", SECRETS))
            eventually(lambda: len(run["venue"].requests) == 1)
        ended(run, "client_disconnect")
        assert run.daemon.terminate() == 0
        seen = requests(run)
        assert len(seen) == len(scenes) + 5 + len(hostile) + 1
        assert {one["reason"] for one in seen} >= {*scenes, "connect_failure", "circuit_open", "unknown_service"}
        assert SECRET not in run.log
