"""Whether a request is traced, and what its trace context becomes (W3C Trace Context)."""

from __future__ import annotations

from sidecar.proxy.exchange.request import Request
from sidecar.proxy.http1.request_head import has_foreign_context
from sidecar.telemetry.trace import Tracer, parse_traceparent, traceparent


def begin_trace(tracer: Tracer, request: Request, service: str, route: str, target: bytes) -> None:
    """Decide whether this request is traced. If so, each attempt's span is the upstream's parent.

    Without a traceparent, or with one that is none, a trace begins anew, and no tracestate goes on (W3C Trace
    Context, sections 3.2 and 3.3).
    """
    head = request.head
    given = head.traceparent
    parent = parse_traceparent(given) if given is not None else None
    if parent is not None and not parent.sampled:
        return
    if given is None and has_foreign_context(head):
        return
    if parent is None:
        root = tracer.root()
        head.traceparent = traceparent(root)
        head.drop({b"traceparent", b"tracestate"})
        if not root.sampled:
            head.add(b"traceparent", head.traceparent)
            return
        trace = tracer.trace_root(root)
    else:
        head.drop({b"traceparent"})
        trace = tracer.trace_below(parent)
    trace.describe(service=service, route=route, method=head.method, target=target, started=request.started)
    request.trace = trace
    request.notes_all = True
