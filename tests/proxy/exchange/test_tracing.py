"""Which requests are traced, and what becomes of their trace context."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.config.path_template import parse_path_template
from sidecar.config.schema import Aggregate, AggregatePart
from sidecar.telemetry.trace import Trace, Tracer
from tests.proxy.fakes import Dial, World, field_of, ok
from tests.proxy.scenes import policy

PARENT = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def traced(world: World, sample: float = 1.0) -> list[Trace]:
    """Turn tracing on; what is traced from now on."""
    finished: list[Trace] = []
    world.core.tracer = Tracer(sample, finished.append)
    return finished


def test_without_tracing_trace_context_passes_on_as_it_came(world: World) -> None:
    world.asks("GET /venue/", PARENT, "TraceState: a=b")
    assert field_of(world.upstream.heard, "traceparent") == [PARENT.partition(": ")[2]]
    assert field_of(world.upstream.heard, "tracestate") == ["a=b"]


def test_each_way_that_a_request_ends_is_one_trace(make_world: Callable[..., World]) -> None:
    world = make_world(policy(max_retries=0))
    traces = traced(world)
    world.asks("GET /venue/").says()
    world.upstream.says(ok())
    world.asks("GET /venue/")
    world.pass_time(1.1)
    world.asks("GET /venue/").leaves()
    world.loop.network = Dial.refuse
    world.asks("GET /venue/")
    assert [(one.status, one.reason, len(one.attempts)) for one in traces] == [
        (200, "ok", 1),
        (504, "attempt_timeout", 1),
        (499, "client_disconnect", 1),
        (503, "connect_failure", 1),
    ]


def test_the_attempts_span_is_the_upstreams_parent_whatever_case_the_field_was_written_in(world: World) -> None:
    traces = traced(world, 0.0)
    world.asks("GET /venue/", "X-A: 1", PARENT.replace("traceparent", "TraceParent"), "tracestate: a=b", "X-B: 2")
    heard = world.upstream.heard
    world.upstream.says(ok())
    (trace,) = traces
    sent = f"00-4bf92f3577b34da6a3ce929d0e0e4736-{trace.attempts[0].span_id:016x}-01"
    assert field_of(heard, "traceparent") == [sent]
    assert [field_of(heard, name) for name in ("x-a", "tracestate", "x-b")] == [["1"], ["a=b"], ["2"]]
    assert trace.parent_id == 0x00F067AA0BA902B7


def test_a_request_sent_anew_on_a_fresh_connection_is_an_attempt_of_its_own(world: World) -> None:
    traces = traced(world)
    world.asks("GET /venue/")
    world.upstream.says(ok())
    world.asks("GET /venue/")
    stale = world.upstream
    first = field_of(stale.take().rpartition(b"GET ")[2], "traceparent")
    stale.breaks()
    (second,) = field_of(world.upstream.heard, "traceparent")
    assert (second != first[0], second[:35]) == (True, first[0][:35])
    world.upstream.says(ok())
    assert [[attempt.reason for attempt in one.attempts] for one in traces] == [["ok"], ["stale_connection", "ok"]]


@pytest.mark.parametrize("fields", [[], [PARENT, PARENT], ["traceparent: 00-1-2-01"]])
@pytest.mark.parametrize("sample", [0.0, 1.0])
def test_a_trace_that_begins_anew_takes_no_tracestate_along(world: World, fields: list[str], sample: float) -> None:
    traces = traced(world, sample)
    world.asks("GET /venue/", "X-A: 1", *fields, "TraceState: a=b", "X-B: 2")
    heard = world.upstream.heard
    world.upstream.says(ok())
    (sent,) = field_of(heard, "traceparent")
    assert (len(sent), sent[-2:]) == (55, f"0{sample:.0f}")
    assert "4bf92f3577b34da6a3ce929d0e0e4736" not in sent
    assert [field_of(heard, name) for name in ("x-a", "tracestate", "x-b")] == [["1"], [], ["2"]]
    assert [trace.parent_id for trace in traces] == [0] * int(sample)


def test_what_is_not_sampled_is_not_traced(world: World) -> None:
    traces = traced(world, 0.0)
    world.asks("GET /venue/", PARENT.removesuffix("1") + "0")
    assert field_of(world.upstream.heard, "traceparent")[0].endswith("-00f067aa0ba902b7-00")
    world.upstream.says(ok())
    world.upstream.take()
    world.asks("GET /venue/")
    (begun,) = field_of(world.upstream.heard, "traceparent")
    assert begun.endswith("-00")
    world.upstream.says(ok())
    assert traces == []


@pytest.mark.parametrize(("sample", "flags"), [(0.0, "00"), (1.0, "01")])
def test_who_traces_decides_for_the_parts_of_an_aggregate_too(
    make_world: Callable[..., World], sample: float, flags: str
) -> None:
    part = AggregatePart(service="venue", path=parse_path_template("/"))
    world = make_world(aggregates={"page": Aggregate(parts={"venue": part})})
    traced(world, sample)
    world.asks("GET /_aggregate/page")
    (sent,) = field_of(world.upstream.heard, "traceparent")
    assert sent.endswith("-" + flags)
