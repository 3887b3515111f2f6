"""Prometheus metric of aggregates: requests by status code and reason.

Owns the name and labels of `sidecar_aggregates_total`. The calls of the parts are in the metrics of their services.
"""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.telemetry.counters import ServiceCounters
from sidecar.telemetry.families import CounterFamily


def aggregates_family(aggregates: Mapping[str, ServiceCounters]) -> CounterFamily:
    """`aggregates` are by their configured name."""
    family = CounterFamily(
        "sidecar_aggregates",
        "Requests for an aggregate that ended, by status code sent to the app and reason",
        labels=["aggregate", "code", "reason"],
    )
    for name, counters in aggregates.items():
        for (code, reason), count in counters.requests.items():
            family.add_metric([name, str(code), reason], count)
    return family
