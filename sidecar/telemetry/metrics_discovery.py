"""What is known of the sources of endpoints, as Prometheus metrics: how old it is, how often it was asked for.

Owns the names and labels of `sidecar_discovery_*`. Every kind of source is read through one view, so that an alert need
not know the kinds. IP addresses in the configuration have no source: there is nothing that could grow old.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_LABELS = ("service", "source", "name")


class SourceView(Protocol):
    """What a scrape reads of the source of some endpoints of one service."""

    @property
    def kind(self) -> str:
        """`name` (of `url` and `endpoints`), `dns` or `kubernetes`."""

    @property
    def name(self) -> str:
        """What is followed, as the configuration has it: a host name, a record's name, `namespace/service`."""

    @property
    def updates(self) -> Mapping[str, int]:
        """By result, a word of a closed set: what became of the attempts to learn the endpoints."""

    @property
    def last_success(self) -> float | None:
        """Monotonic seconds at which what is known was last confirmed; None where nothing ever was."""

    @property
    def problem(self) -> str | None:
        """What is wrong with it now, for the admin API: no metric bears such words."""

    @property
    def endpoints(self) -> int:
        """How many are known of it: those of the last good set."""


def discovery_families(
    sources: Iterable[tuple[str, SourceView]], monotonic_s: float, unix_s: float
) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
    """Of pairs of (service, source). The same moment on both clocks tells when on the wall clock a success was.

    A time and not an age, because Prometheus knows by then how late it is, between two scrapes too.
    """
    last_success = GaugeMetricFamily(
        "sidecar_discovery_last_success_timestamp_seconds",
        "Unix time at which a source last confirmed its endpoints, 0 where it never did",
        labels=_LABELS,
    )
    updates = CounterMetricFamily(
        "sidecar_discovery_updates", "Attempts to learn endpoints, by what became of them", labels=(*_LABELS, "result")
    )
    endpoints = GaugeMetricFamily(
        "sidecar_discovery_endpoints", "Endpoints in the last good set of a source", labels=_LABELS
    )
    for service, source in sources:
        labels = [service, source.kind, source.name]
        at = source.last_success
        # Rounded, because two clocks do not agree to the last digit from one scrape to the next.
        last_success.add_metric(labels, 0 if at is None else round(unix_s - (monotonic_s - at), 2))
        endpoints.add_metric(labels, source.endpoints)
        for result, count in source.updates.items():
            updates.add_metric([*labels, result], count)
    yield from (last_success, updates, endpoints)
