"""Prometheus metric of tracing: spans that the collector accepted, and dropped ones.

Owns the name and labels of `sidecar_trace_spans_total`.
"""

from __future__ import annotations

from sidecar.telemetry.families import CounterFamily


def spans_family(exported: int, dropped: int) -> CounterFamily:
    spans = CounterFamily(
        "sidecar_trace_spans", "Spans of traced requests, exported to the collector or dropped", labels=["result"]
    )
    spans.add_metric(["exported"], exported)
    spans.add_metric(["dropped"], dropped)
    return spans
