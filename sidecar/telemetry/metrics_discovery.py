"""Prometheus metrics of discovery: the age of each source's endpoints, and its updates.

Owns the names and labels of `sidecar_discovery_*`. All kinds of sources are read through one interface, so that an
alert does not depend on the kind. An IP address in the configuration has no source, because it cannot become outdated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

from sidecar.telemetry.families import CounterFamily, Family, GaugeFamily

_LABELS = ("service", "source", "name")


class SourceView(Protocol):
    """What a scrape reads of a discovery source of one service."""

    @property
    def kind(self) -> str:
        """`name` (of `url` and `endpoints`), `dns` or `kubernetes`."""

    @property
    def name(self) -> str:
        """The configured name: a host name, the name of a DNS record, or `namespace/service`."""

    @property
    def updates(self) -> Mapping[str, int]:
        """Updates by result, a word from a closed list."""

    @property
    def last_success(self) -> float | None:
        """When the endpoints were last confirmed, in monotonic seconds; None if never."""

    @property
    def problem(self) -> str | None:
        """What is wrong now, for the admin API. No metric contains this text."""

    @property
    def endpoints(self) -> int:
        """The number of endpoints in the last good set."""


def discovery_families(
    sources: Iterable[tuple[str, SourceView]], monotonic_s: float, unix_s: float
) -> Iterable[Family]:
    """Metrics for pairs of (service, source). Both clock values are of the same moment; they convert times to Unix
    time.

    The metric is a time and not an age, because Prometheus can then compute the age at any moment, also between
    scrapes.
    """
    last_success = GaugeFamily(
        "sidecar_discovery_last_success_timestamp_seconds",
        "Unix time at which a source last confirmed its endpoints, 0 if it never did",
        labels=_LABELS,
    )
    updates = CounterFamily(
        "sidecar_discovery_updates", "Updates of a source's endpoints, by result", labels=(*_LABELS, "result")
    )
    endpoints = GaugeFamily("sidecar_discovery_endpoints", "Endpoints in the last good set of a source", labels=_LABELS)
    for service, source in sources:
        labels = [service, source.kind, source.name]
        at = source.last_success
        # Rounded, because the difference of the two clocks varies in its last digits from scrape to scrape.
        last_success.add_metric(labels, 0 if at is None else round(unix_s - (monotonic_s - at), 2))
        endpoints.add_metric(labels, source.endpoints)
        for result, count in source.updates.items():
            updates.add_metric([*labels, result], count)
    yield from (last_success, updates, endpoints)
