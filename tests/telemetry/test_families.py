"""Metric families: which samples each type has."""

from __future__ import annotations

import pytest

from sidecar.telemetry.families import CounterFamily, GaugeFamily, HistogramFamily


def test_a_counter_has_its_suffix_and_its_labels() -> None:
    family = CounterFamily("sidecar_requests", "Requests", labels=["service"])
    family.add_metric(["venue"], 3)
    assert (family.type, family.name, family.full_name) == ("counter", "sidecar_requests", "sidecar_requests_total")
    assert family.samples == [("sidecar_requests_total", {"service": "venue"}, 3)]


def test_one_value_without_labels() -> None:
    assert GaugeFamily("up", "Up", 0).samples == [("up", {}, 0)]
    assert CounterFamily("things", "Things", 2).samples == [("things_total", {}, 2)]
    assert GaugeFamily("none", "None yet", labels=["service"]).samples == []


def test_a_histogram_counts_up_to_its_last_bucket() -> None:
    family = HistogramFamily("took_seconds", "Took", labels=["service"])
    family.add_metric(["venue"], [("0.5", 2), ("+Inf", 3)], 4.5)
    assert family.samples == [
        ("took_seconds_bucket", {"service": "venue", "le": "0.5"}, 2),
        ("took_seconds_bucket", {"service": "venue", "le": "+Inf"}, 3),
        ("took_seconds_count", {"service": "venue"}, 3),
        ("took_seconds_sum", {"service": "venue"}, 4.5),
    ]


@pytest.mark.parametrize("values", [[], ["a", "b"]])
def test_each_label_has_a_value(values: list[str]) -> None:
    with pytest.raises(ValueError, match="argument"):
        GaugeFamily("up", "Up", labels=["service"]).add_metric(values, 1)
