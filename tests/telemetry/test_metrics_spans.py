"""The metric of spans."""

from __future__ import annotations

from sidecar.telemetry.metrics_spans import spans_family


def test_both_ends_of_a_span_are_counted() -> None:
    samples = {sample.labels["result"]: (sample.name, sample.value) for sample in spans_family(3, 2).samples}
    assert samples == {
        "exported": ("sidecar_trace_spans_total", 3),
        "dropped": ("sidecar_trace_spans_total", 2),
    }
