"""Span export: sends ended traces as OpenTelemetry spans to a collector over OTLP/HTTP.

Owns the content of a span, and the rule that a slow or missing collector costs the data path nothing. Spans wait in a
bounded queue for a thread of the SDK. Spans that do not fit are dropped and counted, and the log says so once a minute.

Imported only if the file has `tracing`, because the SDK takes 0.1 s and 10 MiB to load.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from io import BytesIO
from threading import Thread
from time import monotonic
from typing import Any, Final
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from requests import PreparedRequest, Response, Session
from requests.adapters import HTTPAdapter

from sidecar.telemetry.trace import Trace, TracedAttempt, Tracer

MAX_WAITING: Final = 2048
"""The most spans that wait to be sent."""

BATCH: Final = 128
"""Spans in one request. Encoding them holds the interpreter lock for about 4 ms, in which requests wait."""

EVERY_S: Final = 1.0
EXPORT_TIMEOUT_S: Final = 5.0
"""The time limit for one batch, including repetitions."""

MAX_ANSWER: Final = 64 * 1024
"""The most bytes read of a collector's answer, which should have only a few."""

COMPLAIN_EVERY_S: Final = 60.0

_METHODS: Final = frozenset({"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE"})
"""Methods in the semantic conventions. Any other is sent as `_OTHER`, with its name in a second attribute."""

_FLAGS: Final = tuple(TraceFlags(flags) for flags in range(4))
_FAILED: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)

log = logging.getLogger("sidecar.tracing")

Attributes = dict[str, str | int]


class SpanExport:
    """Receives traces from `tracer` on the event loop and sends their spans in its own thread.

    `exported` and `dropped` count spans.
    """

    def __init__(
        self,
        otlp: str,
        *,
        sample: float,
        headers: Mapping[str, str],
        service_name: str,
        version: str,
        exporter: SpanExporter | None = None,
    ) -> None:
        """`otlp` is the URL of the collector; `/v1/traces` is appended."""
        self.tracer = Tracer(sample, self._finished)
        words = _Words()
        if exporter is None:
            exporter = _exporter(f"{otlp}/v1/traces", headers, words)
        self._exporter = _Counted(exporter, otlp, words)
        self._resource = Resource.create({"service.name": service_name})
        self._scope = InstrumentationScope("sidecar", version)
        self._processor = BatchSpanProcessor(
            self._exporter,
            max_queue_size=MAX_WAITING,
            schedule_delay_millis=EVERY_S * 1000,
            max_export_batch_size=BATCH,
        )
        self._handed = 0
        self._refused = 0

    @property
    def exported(self) -> int:
        return self._exporter.exported

    @property
    def dropped(self) -> int:
        return self._refused + self._exporter.failed

    def close(self) -> Thread:
        """Send the waiting spans. Returns the thread that does so; it ends when they are sent, and need not be
        awaited.
        """
        closing = Thread(target=self._processor.shutdown, name="last spans", daemon=True)
        closing.start()
        return closing

    def _finished(self, trace: Trace) -> None:
        exporter = self._exporter
        spans = 1 + len(trace.attempts)
        if self._handed - exporter.exported - exporter.failed + spans > MAX_WAITING:
            self._refused += spans
            exporter.overflowed()
            return
        self._handed += spans
        context = _context(trace, trace.span_id, remote=False)
        for attempt in trace.attempts:
            self._processor.on_end(self._attempt_span(trace, attempt, context))
        parent = _context(trace, trace.parent_id, remote=True) if trace.parent_id else None
        self._processor.on_end(self._request_span(trace, context, parent))

    def _request_span(self, trace: Trace, context: SpanContext, parent: SpanContext | None) -> ReadableSpan:
        attributes = _attributes(trace, trace.service, trace.status if trace.status != 499 else 0, trace.reason)
        attributes["server.address"] = trace.service
        attributes["sidecar.attempts"] = len(trace.attempts)
        if trace.route:
            attributes["sidecar.route"] = trace.route
        if trace.fallback:
            attributes["sidecar.fallback"] = trace.fallback
        end_ns = trace.started_ns + int(trace.seconds * 1e9)
        return self._span(trace, context, parent, attributes, trace.started_ns, end_ns)

    def _attempt_span(self, trace: Trace, attempt: TracedAttempt, parent: SpanContext) -> ReadableSpan:
        attributes = _attributes(trace, attempt.service, attempt.status, attempt.reason)
        attributes["server.address"] = attempt.address
        attributes["server.port"] = attempt.port
        if attempt.number > 1:
            attributes["http.request.resend_count"] = attempt.number - 1
        context = _context(trace, attempt.span_id, remote=False)
        start_ns = trace.started_ns + int((attempt.started - trace.started) * 1e9)
        end_ns = trace.started_ns + int((attempt.ended - trace.started) * 1e9)
        return self._span(trace, context, parent, attributes, start_ns, end_ns)

    def _span(
        self,
        trace: Trace,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        start_ns: int,
        end_ns: int,
    ) -> ReadableSpan:
        """Created complete, at the end: creating, filling and ending a span of the SDK costs several times as much."""
        return ReadableSpan(
            trace.method if trace.method in _METHODS else "HTTP",
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            kind=SpanKind.CLIENT,
            status=_FAILED if "error.type" in attributes else _UNSET,
            start_time=start_ns,
            end_time=end_ns,
            instrumentation_scope=self._scope,
        )


def _context(trace: Trace, span_id: int, *, remote: bool) -> SpanContext:
    return SpanContext(trace.trace_id, span_id, is_remote=remote, trace_flags=_FLAGS[trace.flags])


def _attributes(trace: Trace, service: str, status: int, reason: str) -> Attributes:
    """Attributes by the semantic conventions for HTTP clients.

    `error.type` is the sidecar's reason if that is a failure, and the status if a response of 400 or more came back.
    For a call of gRPC that failed by its grpc-status it is `status`: its HTTP status is 200.
    """
    attributes: Attributes = {
        "http.request.method": trace.method,
        "url.path": trace.path,
        "peer.service": service,
        "sidecar.reason": reason,
    }
    if trace.method not in _METHODS:
        attributes["http.request.method"] = "_OTHER"
        attributes["http.request.method_original"] = trace.method
    if status:
        attributes["http.response.status_code"] = status
    if reason not in ("ok", "status"):
        attributes["error.type"] = reason
    elif status >= 400:
        attributes["error.type"] = str(status)
    elif reason == "status":
        attributes["error.type"] = reason
    return attributes


class _Words(logging.Handler):
    """Collects messages of the SDK. They are not logged directly, because they come once a batch from several
    loggers.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.first = ""
        """The first message since this was cleared."""

    def emit(self, record: logging.LogRecord) -> None:
        if not self.first:
            self.first = record.getMessage()[:300]


class _Counted(SpanExporter):
    """An exporter that counts its spans and logs failures once a minute."""

    def __init__(self, exporter: SpanExporter, otlp: str, words: _Words) -> None:
        self.exported = 0
        self.failed = 0
        self._exporter = exporter
        parts = urlsplit(otlp)
        self._otlp = f"{parts.scheme}://{parts.netloc}"
        self._path = parts.path
        """The path of the URL, which may be a secret."""
        self._words = words
        self._complained_at: float | None = None
        self._failing = False
        self._failure = ""
        """Why the last batch was refused; empty if it was accepted."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._words.first = ""
        try:
            result = self._exporter.export(spans)
        except Exception as error:
            result = SpanExportResult.FAILURE
            self._words.first = str(error)[:300]
        if result is SpanExportResult.SUCCESS:
            self._failure = ""
            if self._failing:
                self._failing = False
                log.info("the collector accepts spans again", extra={"fields": {"otlp": self._otlp}})
            self.exported += len(spans)
        else:
            self._failing = True
            self._failure = self._words.first
            self._complain(self._failure, self.failed + len(spans))
            self.failed += len(spans)  # after the log line, so that a counted failure has been logged
        return result

    def overflowed(self) -> None:
        """There was no room for spans. The reason is the collector's failure if there is one, else the number of
        spans.
        """
        self._complain(
            self._words.first or self._failure or "spans are created faster than they are accepted", self.failed
        )

    def _complain(self, detail: str, failed: int) -> None:
        now = monotonic()
        if self._complained_at is None or now - self._complained_at >= COMPLAIN_EVERY_S:
            self._complained_at = now
            if self._path:
                detail = detail.replace(self._path, "/***")
            fields = {"otlp": self._otlp, "failed": failed, "detail": detail}
            log.warning("spans are dropped", extra={"fields": fields})

    def shutdown(self) -> None:
        self._exporter.shutdown()


class _Bounded(HTTPAdapter):
    """Reads at most MAX_ANSWER bytes of an answer, for at most EXPORT_TIMEOUT_S, and then closes the connection."""

    def send(self, request: PreparedRequest, *arguments: Any, **options: Any) -> Response:
        answer = super().send(request, *arguments, **options)
        read, until = bytearray(), monotonic() + EXPORT_TIMEOUT_S
        try:
            while len(read) < MAX_ANSWER and monotonic() < until:
                chunk = answer.raw.read1(MAX_ANSWER - len(read), decode_content=False)
                if not chunk:
                    break
                read += chunk
        finally:
            answer.close()
        answer.raw = BytesIO(read)
        return answer


def _exporter(url: str, headers: Mapping[str, str], words: _Words) -> SpanExporter:
    for name, level in (("opentelemetry", logging.WARNING), ("urllib3", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.handlers[:] = [words]
        logger.propagate = False
        logger.setLevel(level)
    session = Session()
    session.mount("http://", _Bounded())
    session.mount("https://", _Bounded())
    session.headers["Accept-Encoding"] = "identity"
    session.trust_env = False  # HTTP_PROXY may be this sidecar
    session.max_redirects = 0
    return OTLPSpanExporter(endpoint=url, headers=dict(headers) or None, timeout=EXPORT_TIMEOUT_S, session=session)
