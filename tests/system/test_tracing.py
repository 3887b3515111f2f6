"""Spans of the real daemon at a real OTLP/HTTP receiver, and what the upstream is told of the trace."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.collector import Collector, Span
from tests.support.daemon import run_to_exit
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.upstream import RefusedPort

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
PARENT = ("traceparent", f"00-{TRACE}-{CALLER}-01")
UNSAMPLED = ("traceparent", f"00-{TRACE}-{CALLER}-00")
STATE = ("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE")
CLIENT = 3


def config(collector: Collector, more: str = "sample: 1") -> str:
    return f"""
tracing: {{otlp: "{collector.url}", headers: {{authorization: Bearer collector-secret}}, {more}}}
defaults: {{retry: {{backoff: {{base: 1ms, max: 1ms}}}}}}
services:
  venue: {{url: $venue}}
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as made:
        yield made


def only(spans: list[Span]) -> tuple[Span, list[Span]]:
    """The request's span and those of its attempts."""
    (request,) = [span for span in spans if "sidecar.attempts" in span.attributes]
    return request, [span for span in spans if span is not request]


def test_a_request_and_its_attempt_below_the_callers_span(collector: Collector) -> None:
    with Rig(config(collector, "sample: 0, service_name: shop"), "venue") as rig:
        rig["venue"].play(answer())
        rig.ask("GET", "/venue/events/42?token=query-secret", [PARENT, STATE])
        request, (attempt,) = only(collector.wait_for(2))
        (seen,) = rig["venue"].requests
        port = rig["venue"].port
    assert request.trace_id == attempt.trace_id == TRACE
    assert (request.parent_id, attempt.parent_id) == (CALLER, request.span_id)
    assert seen.all("traceparent") == [f"00-{TRACE}-{attempt.span_id}-01"]
    assert seen.all("tracestate") == [STATE[1]]
    assert (request.name, request.kind, attempt.name, attempt.kind) == ("GET", CLIENT, "GET", CLIENT)
    assert not request.failed
    assert not attempt.failed
    assert request.start_ns <= attempt.start_ns <= attempt.end_ns <= request.end_ns
    assert abs(request.start_ns / 1e9 - time.time()) < 60
    common = {
        "http.request.method": "GET",
        "url.path": "/events/42",
        "peer.service": "venue",
        "http.response.status_code": 200,
        "sidecar.reason": "ok",
    }
    assert request.attributes == common | {"server.address": "venue", "sidecar.attempts": 1}
    assert attempt.attributes == common | {"server.address": "127.0.0.1", "server.port": port}
    assert request.resource["service.name"] == "shop"
    assert collector.headers[0]["authorization"] == "Bearer collector-secret"
    assert "collector-secret" not in rig.log


def test_each_attempt_has_a_span_and_is_its_upstreams_parent(collector: Collector) -> None:
    with Rig(config(collector), "venue") as rig:
        rig["venue"].play(answer(status=503), answer(status=503), answer())
        rig.ask("GET", "/venue/")
        request, attempts = only(collector.wait_for(4))
        sent = [one.get("traceparent") for one in rig["venue"].requests]
    assert sent == [f"00-{request.trace_id}-{attempt.span_id}-01" for attempt in attempts]
    assert request.parent_id == ""
    assert {attempt.parent_id for attempt in attempts} == {request.span_id}
    assert [attempt.attributes.get("http.request.resend_count") for attempt in attempts] == [None, 1, 2]
    assert [attempt.attributes.get("error.type") for attempt in attempts] == ["503", "503", None]
    assert [attempt.failed for attempt in attempts] == [True, True, False]
    assert (request.failed, request.attributes["sidecar.attempts"]) == (False, 3)


def test_a_failure_says_its_reason(collector: Collector) -> None:
    with Rig(config(collector), dead={"venue": RefusedPort()}) as rig:
        rig.ask("POST", "/venue/")
        request, attempts = only(collector.wait_for(2))
    for span in (request, *attempts):
        assert (span.failed, span.attributes["error.type"]) == (True, "connect_failure")
    assert request.attributes["http.response.status_code"] == 503
    assert "http.response.status_code" not in attempts[0].attributes


def test_a_fallback_is_in_the_trace_with_the_service_that_answered(collector: Collector) -> None:
    text = f"""
tracing: {{otlp: "{collector.url}", sample: 1}}
services:
  venue: {{url: $venue, retry: {{max_retries: 0}}, fallback: [{{service: other}}]}}
  other: {{url: $other}}
"""
    with Rig(text, "venue", "other") as rig:
        rig["venue"].play(answer(status=500))
        rig["other"].play(answer())
        assert rig.ask("GET", "/venue/").status == 200
        request, attempts = only(collector.wait_for(3))
    assert [attempt.attributes["peer.service"] for attempt in attempts] == ["venue", "other"]
    assert (request.attributes["peer.service"], request.attributes["sidecar.fallback"]) == ("venue", "service:other")


def test_what_nobody_sampled_is_not_traced_and_says_so_to_the_upstream(collector: Collector) -> None:
    with Rig(config(collector, "sample: 0"), "venue") as rig:
        rig["venue"].play(answer())
        rig.ask("GET", "/venue/", [UNSAMPLED])
        rig.ask("GET", "/venue/")
        rig.ask("GET", "/venue/last", [PARENT])
        request, _ = only(collector.wait_for(2))
        first, second, _ = rig["venue"].requests
        assert rig.daemon.terminate() == 0
    assert request.attributes["url.path"] == "/last"
    assert len(collector.spans) == 2
    assert first.get("traceparent") == UNSAMPLED[1]
    assert (second.get("traceparent") or "").endswith("-00")


@pytest.mark.parametrize("malformed", ["00-0-0-01", "ff-" + PARENT[1][3:], PARENT[1] + "-more", "secret"])
def test_a_traceparent_that_is_none_begins_a_trace_anew(collector: Collector, malformed: str) -> None:
    with Rig(config(collector), "venue") as rig:
        rig["venue"].play(answer())
        rig.ask("GET", "/venue/", [("TraceParent", malformed), STATE])
        request, (attempt,) = only(collector.wait_for(2))
        (seen,) = rig["venue"].requests
    assert request.parent_id == ""
    assert seen.all("traceparent") == [f"00-{request.trace_id}-{attempt.span_id}-01"]
    assert seen.all("tracestate") == []


def test_spans_that_wait_are_sent_at_the_end(collector: Collector) -> None:
    with Rig(config(collector), "venue") as rig:
        rig["venue"].play(answer())
        rig.ask("GET", "/venue/")
        assert rig.daemon.terminate() == 0
        assert len(collector.spans) == 2


def test_a_collector_that_is_down_costs_spans_alone(collector: Collector) -> None:
    dead = RefusedPort()
    text = f"""
tracing: {{otlp: "{dead.url}", sample: 1}}
services: {{venue: {{url: $venue}}}}
"""
    with Rig(text, "venue", dead={"dead": dead}) as rig:
        rig["venue"].play(answer())
        with rig.client() as client:
            assert [client.ask("GET", "/venue/").status for _ in range(20)] == [200] * 20

        def complained() -> None:
            assert [line["otlp"] for line in rig.daemon.log_lines() if line["event"] == "spans are dropped"] == [
                dead.url
            ]

        eventually(complained, timeout=15)
        began = time.monotonic()
        assert rig.daemon.terminate() == 0
        assert time.monotonic() - began < 5  # drain.delay is 1 s of it


def test_a_collector_that_hangs_does_not_hold_the_end_up(collector: Collector) -> None:
    collector.go_on.clear()
    with Rig(config(collector), "venue") as rig:
        rig["venue"].play(answer())
        rig.ask("GET", "/venue/")
        began = time.monotonic()
        assert rig.daemon.terminate() == 0
        assert time.monotonic() - began < 4


def test_a_reload_turns_tracing_on_and_off(collector: Collector) -> None:
    plain = "services: {venue: {url: $venue}}\n"
    with Rig(plain, "venue") as rig:
        rig["venue"].play(answer())
        path = rig.daemon.path
        before = path.read_text()
        path.write_text(f'tracing: {{otlp: "{collector.url}", sample: 1}}\n' + before)

        def traced() -> None:
            rig.ask("GET", "/venue/")
            assert collector.spans

        eventually(traced, timeout=15, every=0.3)
        path.write_text(before)

        def untraced() -> None:
            rig.ask("GET", "/venue/")
            assert any(
                line["event"] == "configuration reloaded" and line["changed"] == ["tracing"] and line["generation"] == 3
                for line in rig.daemon.log_lines()
            )

        eventually(untraced, timeout=15)
        rig.ask("GET", "/venue/last")
        assert rig.daemon.terminate() == 0
    assert "/last" not in {span.attributes["url.path"] for span in collector.spans}


def test_a_mistake_in_it_is_said_at_the_start() -> None:
    done = run_to_exit("tracing: {sample: 1}\nservices: {venue: {url: 'http://venue'}}\n")
    assert (done.returncode, done.stdout) == (2, "")
    assert "tracing needs an otlp: {otlp: http://collector:4318}" in done.stderr
