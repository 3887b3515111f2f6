"""The Prometheus text format, compared with prometheus_client's writer and parser, and a few lines in full."""

from __future__ import annotations

from math import inf, isnan, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, core, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from sidecar.telemetry.families import CounterFamily, Family, GaugeFamily, HistogramFamily
from sidecar.telemetry.text_format import render

# A carriage return is no line end in this format, but the parser takes its input apart with `splitlines`.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), max_size=12)
VALUES = st.integers(0, 10**15) | st.floats(allow_nan=False)


def read(text: bytes) -> list[tuple[str, str, str, Any]]:
    return [
        (family.name, family.type, family.documentation, [(one.name, one.labels, one.value) for one in family.samples])
        for family in text_string_to_metric_families(text.decode())
    ]


def of_the_library(families: list[Metric]) -> bytes:
    class Given(Collector):
        def collect(self) -> list[Metric]:
            return families

    made = CollectorRegistry(auto_describe=False)
    made.register(Given())
    return generate_latest(made)


@given(TEXT, st.lists(st.tuples(TEXT, TEXT, VALUES), max_size=5), st.lists(st.integers(0, 99), min_size=2, max_size=2))
def test_the_text_equals_that_of_the_library(
    documentation: str, series: list[tuple[str, str, float]], buckets: list[int]
) -> None:
    gauge = GaugeFamily("a_gauge", documentation, labels=["service", "endpoint"])
    counter = CounterFamily("things", documentation, labels=["service", "endpoint"])
    histogram = HistogramFamily("took_seconds", documentation, labels=["service"])
    their_gauge = core.GaugeMetricFamily("a_gauge", documentation, labels=["service", "endpoint"])
    their_counter = core.CounterMetricFamily("things", documentation, labels=["service", "endpoint"])
    their_histogram = core.HistogramMetricFamily("took_seconds", documentation, labels=["service"])
    for service, endpoint, value in series:
        for one in (gauge, counter, their_gauge, their_counter):
            one.add_metric([service, endpoint], value)
    for each in (histogram, their_histogram):
        each.add_metric(["venue"], [("0.5", buckets[0]), ("+Inf", sum(buckets))], 1.25)
    ours: list[Family] = [gauge, counter, histogram, GaugeFamily("bare", "No labels", 3)]
    theirs: list[Metric] = [their_gauge, their_counter, their_histogram, core.GaugeMetricFamily("bare", "No labels", 3)]
    assert read(render(ours)) == read(of_the_library(theirs))


def test_lines() -> None:
    requests = CounterFamily("sidecar_requests", "Ended\nor \\ not", labels=["service", "code"])
    requests.add_metric(['say "hi"\\\n', "200"], 3)
    assert render([requests, GaugeFamily("sidecar_up", "Up", 1)]).decode().splitlines() == [
        r"# HELP sidecar_requests_total Ended\nor \\ not",
        "# TYPE sidecar_requests_total counter",
        r'sidecar_requests_total{service="say \"hi\"\\\n",code="200"} 3',
        "# HELP sidecar_up Up",
        "# TYPE sidecar_up gauge",
        "sidecar_up 1",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.25, "0.25"), (1e300, "1e+300"), (inf, "+Inf"), (-inf, "-Inf"), (nan, "NaN")]
)
def test_numbers(value: float, text: str) -> None:
    written = render([GaugeFamily("a", "A", value)])
    assert written.endswith(f"\na {text}\n".encode())
    [(*_, [(_, _, back)])] = read(written)
    assert back == value or (isnan(back) and isnan(value))


def test_without_families_the_text_is_empty() -> None:
    assert render([]) == b""
