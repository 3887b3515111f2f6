"""Span export: the content of spans, and what happens to spans that nobody accepts."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from sidecar.telemetry import tracing
from sidecar.telemetry.trace import Trace
from sidecar.telemetry.tracing import MAX_WAITING, SpanExport
from tests.support.collector import Collector
from tests.support.eventually import eventually
from tests.support.upstream import RefusedPort


class Sink(SpanExporter):
    """Keeps what it is given, once it may."""

    def __init__(self, result: SpanExportResult = SpanExportResult.SUCCESS) -> None:
        self.spans: list[ReadableSpan] = []
        self.result = result
        self.error: Exception | None = None
        self.go_on = threading.Event()
        self.go_on.set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.go_on.wait(10)
        if self.error is not None:
            raise self.error
        self.spans += spans
        return self.result

    def shutdown(self) -> None:
        self.go_on.set()


@pytest.fixture
def make() -> Iterator[Callable[..., SpanExport]]:
    made: list[SpanExport] = []

    def one(exporter: SpanExporter | None, otlp: str = "http://collector:4318", **more: Any) -> SpanExport:
        said: dict[str, Any] = {"sample": 1.0, "headers": {}, "service_name": "shop", "version": "1"}
        made.append(SpanExport(otlp, exporter=exporter, **(said | more)))
        return made[-1]

    yield one
    for each in made:
        each.close().join(10)


def trace_of(export: SpanExport, **described: Any) -> Trace:
    trace = export.tracer.trace_root(export.tracer.root())
    trace.started_ns = 1_000_000_000_000
    said: dict[str, Any] = {"service": "venue", "route": "", "method": "GET", "target": b"/events/42", "started": 5.0}
    trace.describe(**(said | described))
    return trace


def spans_of(export: SpanExport, sink: Sink) -> list[ReadableSpan]:
    export.close().join(10)
    return sink.spans


def test_a_request_and_its_attempts(make: Callable[..., SpanExport]) -> None:
    sink = Sink()
    export = make(sink)
    trace = trace_of(export, route="GET /events")
    trace.attempt(1, "venue", "10.0.0.1", 3002, "reset", None, 5.0, 5.25)
    trace.attempt(2, "venue", "10.0.0.2", 3002, "ok", 200, 5.5, 5.75)
    trace.finish(200, "ok", "", 1.0)
    first, second, request = spans_of(export, sink)
    assert request.context is not None
    for attempt in (first, second):
        assert attempt.parent == request.context
    assert request.parent is None
    assert (request.start_time, request.end_time) == (1_000_000_000_000, 1_001_000_000_000)
    assert (second.start_time, second.end_time) == (1_000_500_000_000, 1_000_750_000_000)
    assert [span.status.is_ok for span in (first, second, request)] == [False, True, True]
    assert first.attributes == {
        "http.request.method": "GET",
        "url.path": "/events/42",
        "peer.service": "venue",
        "sidecar.reason": "reset",
        "error.type": "reset",
        "server.address": "10.0.0.1",
        "server.port": 3002,
    }
    assert (second.attributes or {})["http.request.resend_count"] == 1
    assert (request.attributes or {})["sidecar.route"] == "GET /events"
    assert (export.exported, export.dropped) == (3, 0)


@pytest.mark.parametrize(
    ("code", "reason", "error", "status"),
    [
        (200, "ok", None, 200),
        (404, "ok", "404", 404),
        (503, "status", "503", 503),
        (503, "circuit_open", "circuit_open", 503),
        (200, "truncated", "truncated", 200),
        (200, "status", "status", 200),  # of gRPC
        (499, "client_disconnect", "client_disconnect", None),
    ],
)
def test_what_is_an_error(
    make: Callable[..., SpanExport], code: int, reason: str, error: str | None, status: int | None
) -> None:
    sink = Sink()
    export = make(sink)
    trace_of(export).finish(code, reason, "", 1.0)
    (span,) = spans_of(export, sink)
    attributes = span.attributes or {}
    assert attributes.get("error.type") == error
    assert attributes.get("http.response.status_code") == status
    assert span.status.is_ok == (error is None)


def test_a_method_that_the_conventions_do_not_know(make: Callable[..., SpanExport]) -> None:
    sink = Sink()
    export = make(sink)
    trace_of(export, method="PROPFIND").finish(200, "ok", "", 1.0)
    (span,) = spans_of(export, sink)
    attributes = span.attributes or {}
    assert (span.name, attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert attributes["http.request.method_original"] == "PROPFIND"


def test_spans_that_do_not_fit_are_dropped_and_counted(
    make: Callable[..., SpanExport], caplog: pytest.LogCaptureFixture
) -> None:
    sink = Sink()
    sink.go_on.clear()
    export = make(sink)
    with caplog.at_level(logging.WARNING, "sidecar.tracing"):
        for _ in range(MAX_WAITING + 10):
            trace_of(export).finish(200, "ok", "", 1.0)
    assert export.dropped == 10
    assert [record.getMessage() for record in caplog.records] == ["spans are dropped"]
    sink.go_on.set()
    assert len(spans_of(export, sink)) == export.exported == MAX_WAITING


def test_the_log_distinguishes_a_missing_collector_from_a_slow_one(
    make: Callable[..., SpanExport], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "EVERY_S", 0.01)
    monkeypatch.setattr(tracing, "COMPLAIN_EVERY_S", 0.0)
    sink = Sink()
    export = make(sink)

    def why_there_is_no_room() -> str:
        sink.go_on.clear()
        for _ in range(MAX_WAITING + 1):
            trace_of(export).finish(200, "ok", "", 1.0)
        detail: str = vars(caplog.records[-1])["fields"]["detail"]
        sink.go_on.set()
        return detail

    with caplog.at_level(logging.WARNING, "sidecar.tracing"):
        sink.error = ConnectionRefusedError("connection refused")
        trace_of(export).finish(200, "ok", "", 1.0)
        eventually(lambda: export.dropped == 1)
        sink.error = None
        assert why_there_is_no_room() == "connection refused"
        eventually(lambda: export.exported == MAX_WAITING)
        assert why_there_is_no_room() == "spans are created faster than they are accepted"


def test_failures_are_counted_and_logged_once_a_minute(
    make: Callable[..., SpanExport], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "EVERY_S", 0.01)
    sink = Sink(SpanExportResult.FAILURE)
    export = make(sink)
    now = [1000.0]
    monkeypatch.setattr(tracing, "monotonic", lambda: now[0])

    def fail(failures: int) -> None:
        trace_of(export).finish(200, "ok", "", 1.0)
        eventually(lambda: export.dropped == failures)

    with caplog.at_level(logging.INFO, "sidecar.tracing"):
        fail(1)
        fail(2)
        now[0] += 60
        fail(3)
        sink.result = SpanExportResult.SUCCESS
        trace_of(export).finish(200, "ok", "", 1.0)
        eventually(lambda: export.exported == 1)
    said = [record.getMessage() for record in caplog.records]
    assert said == ["spans are dropped", "spans are dropped", "the collector accepts spans again"]


def test_a_collector_gets_the_spans_and_messages_of_the_sdk_are_not_logged(
    make: Callable[..., SpanExport], caplog: pytest.LogCaptureFixture
) -> None:
    with Collector() as collector, caplog.at_level(logging.DEBUG):
        export = make(None, collector.url, headers={"x-key": "secret"})
        trace_of(export).finish(200, "ok", "", 1.0)
        (span,) = collector.wait_for(1)
        assert collector.headers[0]["x-key"] == "secret"
        collector.status = 400
        trace_of(export).finish(200, "ok", "", 1.0)
        export.close().join(10)
        assert (export.exported, export.dropped) == (1, 1)
    assert span.resource["service.name"] == "shop"
    assert {record.name for record in caplog.records} <= {"sidecar.tracing"}
    (fields,) = [vars(record)["fields"] for record in caplog.records]
    assert "400" in fields["detail"]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("head", ["200 OK", "307 Moved\r\nLocation: http://elsewhere/", "503 Busy"])
def test_little_of_a_collectors_answer_is_read(make: Callable[..., SpanExport], head: str) -> None:
    """The collector finds its connection closed, long before it has said all."""
    asked, sent = b"", 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        export = make(None, f"http://127.0.0.1:{server.getsockname()[1]}")
        trace_of(export).finish(200, "ok", "", 1.0)
        closing = export.close()
        server.settimeout(10)
        with server.accept()[0] as connection:
            connection.settimeout(10)
            asked = connection.recv(65536).lower()
            connection.sendall(f"HTTP/1.1 {head}\r\nConnection: close\r\n\r\n".encode())
            with suppress(ConnectionError):
                while sent < 256 * 1024 * 1024:
                    sent += connection.send(bytes(1024 * 1024))
    closing.join(10)
    assert b"accept-encoding: identity\r\n" in asked
    assert sent < 64 * 1024 * 1024


def test_the_path_of_a_collector_is_not_logged(
    make: Callable[..., SpanExport], caplog: pytest.LogCaptureFixture
) -> None:
    with RefusedPort() as port:
        with caplog.at_level(logging.INFO, "sidecar.tracing"):
            export = make(None, f"http://{port.authority}/s3cret")
            trace_of(export).finish(200, "ok", "", 1.0)
            export.close().join(10)
        (fields,) = [vars(record)["fields"] for record in caplog.records]
        assert fields["otlp"] == f"http://{port.authority}"
        assert fields["detail"]
        assert "s3cret" not in repr(fields)
