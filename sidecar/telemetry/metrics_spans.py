"""Spans for the collector of traces, as Prometheus metrics.

Owns the name and labels of `sidecar_trace_spans_total`.
"""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily


def spans_family(exported: int, dropped: int) -> CounterMetricFamily:
    spans = CounterMetricFamily(
        "sidecar_trace_spans", "Spans of traced requests, by whether the collector took them", labels=["result"]
    )
    spans.add_metric(["exported"], exported)
    spans.add_metric(["dropped"], dropped)
    return spans
