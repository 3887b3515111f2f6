"""Tracing without OpenTelemetry: the sampling decision, the ids, and the header that goes upstream."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.telemetry.trace import Trace, Tracer, parse_traceparent, trace_id_of, traceparent

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def made(sample: float = 1.0) -> tuple[Tracer, list[Trace]]:
    finished: list[Trace] = []
    return Tracer(sample, finished.append, lambda: 1_000), finished


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-03", 3),
        (f"cc-{TRACE}-{SPAN}-01-what-a-later-version-adds", 1),
    ],
)
def test_valid_traceparents(value: str, flags: int) -> None:
    parent = parse_traceparent(value.encode())
    assert parent is not None
    assert (parent.trace_id, parent.span_id, parent.flags) == (int(TRACE, 16), int(SPAN, 16), flags)
    assert parent.sampled == bool(flags & 1)
    assert trace_id_of(value.encode()) == TRACE


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01, 00-{TRACE}-{SPAN}-01",
        f"cc-{TRACE}-{SPAN}-01-x, cc-{TRACE}-{SPAN}-01-x",
    ],
)
def test_malformed_traceparents(value: str) -> None:
    assert parse_traceparent(value.encode()) is None
    assert trace_id_of(value.encode()) == ""


@given(st.binary(max_size=80))
def test_any_bytes_parse_or_give_none(value: bytes) -> None:
    parent = parse_traceparent(value)
    assert parent is None or traceparent(parent)[3:55] == value[3:55]
    assert trace_id_of(value) == ("" if parent is None else f"{parent.trace_id:032x}")


@pytest.mark.parametrize(("sample", "low", "high"), [(0.0, 0, 0), (0.1, 50, 200), (1.0, 1000, 1000)])
def test_the_part_of_new_traces_that_is_sampled(sample: float, low: int, high: int) -> None:
    tracer, _ = made(sample)
    roots = [tracer.root() for _ in range(1000)]
    assert low <= sum(root.sampled for root in roots) <= high
    assert len({root.trace_id for root in roots}) == 1000


def test_samplers_with_the_same_ratio_choose_the_same_traces() -> None:
    """OpenTelemetry's TraceIdRatioBased goes by the lower 64 bits of the trace id."""
    tracer, _ = made(0.5)
    for root in [tracer.root() for _ in range(200)]:
        assert root.sampled == ((root.trace_id & (2**64 - 1)) < 2**63)


def test_each_attempt_is_its_upstreams_parent() -> None:
    tracer, _ = made()
    parent = parse_traceparent(f"00-{TRACE}-{SPAN}-03".encode())
    assert parent is not None
    trace = tracer.trace_below(parent)
    assert (trace.parent_id, trace.flags) == (parent.span_id, 3)
    first, again, second = trace.traceparent(1), trace.traceparent(1), trace.traceparent(2)
    assert first == again != second
    found = re.fullmatch(rb"00-%b-([0-9a-f]{16})-03" % TRACE.encode(), second)
    assert found is not None
    trace.attempt(2, "venue", "10.0.0.1", 3002, "ok", 200, 5.0, 6.0)
    assert trace.attempts[0].span_id == int(found[1], 16) not in (trace.span_id, parent.span_id)


def test_an_attempt_that_was_never_sent_has_an_id_too() -> None:
    tracer, _ = made()
    trace = tracer.trace_root(tracer.root())
    trace.attempt(1, "venue", "10.0.0.1", 3002, "connect_failure", None, 5.0, 6.0)
    trace.traceparent(2)
    trace.attempt(2, "venue", "10.0.0.2", 3002, "ok", 200, 6.0, 7.0)
    first, second = trace.attempts
    assert first.span_id not in (0, second.span_id)
    assert (first.status, trace.parent_id) == (0, 0)


def test_the_end_is_reported_once_with_all_data() -> None:
    tracer, finished = made()
    trace = tracer.trace_root(tracer.root())
    trace.describe(service="venue", route="", method="GET", target=b"/events/\xff?token=secret", started=100.0)
    trace.attempt(1, "venue", "10.0.0.1", 3002, "ok", 200, 100.0, 100.5)
    trace.finish(200, "ok", "", 0.4)
    assert finished == [trace]
    assert (trace.path, trace.started_ns) == ("/events/\xff", 1_000)
    assert trace.seconds == 0.5  # no attempt outlasts its request
