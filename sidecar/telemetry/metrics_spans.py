"""Prometheus metric of tracing: spans that the collector accepted, and dropped ones.

Owns the name and labels of `sidecar_trace_spans_total`.
"""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily


def spans_family(exported: int, dropped: int) -> CounterMetricFamily:
    spans = CounterMetricFamily(
        "sidecar_trace_spans", "Spans of traced requests, exported to the collector or dropped", labels=["result"]
    )
    spans.add_metric(["exported"], exported)
    spans.add_metric(["dropped"], dropped)
    return spans
