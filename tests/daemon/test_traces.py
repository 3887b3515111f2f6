"""Tracing turned on, changed and ended. The content of spans is tested in tests/telemetry/test_tracing.py."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sidecar.config.schema import Tracing
from sidecar.daemon import traces
from sidecar.daemon.traces import Traces
from sidecar.net.tasks import Tasks
from sidecar.telemetry.tracing import SpanExport
from tests.support.collector import Collector


@pytest.fixture
def tasks() -> Tasks:
    return Tasks(logging.getLogger("test"))


def core() -> Any:
    return cast(Any, SimpleNamespace(tracer=None))


def settings(collector: Collector, sample: float = 1.0) -> Tracing:
    return Tracing(otlp=collector.url, sample=sample)


def one_request(of: Any) -> None:
    root = of.tracer.root()
    root.flags = 1
    trace = of.tracer.trace_root(root)
    trace.finish(200, "ok", "", 0.0)


async def changed(tasks: Tasks) -> None:
    """What was asked for has been made."""
    await asyncio.wait_for(tasks.ended(), 10)


async def test_without_tracing_there_is_no_tracer(tasks: Tasks) -> None:
    the_core = core()
    made = Traces(the_core, tasks, None)
    made.adopt(None)
    await made.close()
    assert (the_core.tracer, made.exported, made.dropped) == (None, 0, 0)


async def test_tracing_begins_at_the_start_and_the_end_sends_waiting_spans(tasks: Tasks) -> None:
    with Collector() as collector:
        the_core = core()
        made = Traces(the_core, tasks, settings(collector))
        one_request(the_core)
        await made.close()
        assert the_core.tracer is None
        assert len(collector.spans) == 1


async def test_a_change_takes_over_when_ready_and_loses_no_span(tasks: Tasks) -> None:
    with Collector() as collector:
        the_core = core()
        made = Traces(the_core, tasks, settings(collector))
        first = the_core.tracer
        one_request(the_core)
        made.adopt(settings(collector))
        assert the_core.tracer is first  # it is the same
        made.adopt(settings(collector, 0.5))
        assert the_core.tracer is first  # until the other is made
        await changed(tasks)
        assert the_core.tracer not in (None, first)
        one_request(the_core)
        made.adopt(None)
        assert the_core.tracer is None
        collector.wait_for(2)
        made.adopt(settings(collector))
        await changed(tasks)
        await made.close()
        assert (made.exported, made.dropped) == (2, 0)


async def test_the_last_of_two_changes_wins(tasks: Tasks) -> None:
    with Collector() as collector:
        the_core = core()
        made = Traces(the_core, tasks, None)
        made.adopt(settings(collector))
        made.adopt(None)
        await changed(tasks)
        assert the_core.tracer is None
        await made.close()


async def test_the_end_does_not_wait_for_a_slow_collector(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "LAST_SPANS_S", 0.05)
    with Collector() as collector:
        collector.go_on.clear()
        the_core = core()
        made = Traces(the_core, tasks, settings(collector))
        one_request(the_core)
        ending = cast(SpanExport, made._export)
        await asyncio.wait_for(made.close(), 2)
        assert ending.exported == 0
        collector.go_on.set()
        await asyncio.to_thread(collector.wait_for, 1)
