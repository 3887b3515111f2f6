"""Metric families: counters, gauges and histograms with their samples, as a scrape collects them.

Owns which samples a family of each type has (Prometheus text format, version 0.0.4). `text_format` writes them.
prometheus_client has such families too. It is not used, because it loads its HTTP servers with them: 1 to 2 MiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol


class Sample(NamedTuple):
    """One value of a family. `labels` maps names to values."""

    name: str
    labels: Mapping[str, str]
    value: float


class Family:
    """`name` is without the suffixes of single samples. A family with labels has no `value` of its own.

    The families of a scrape with the same name have the same help text, type and labels.
    """

    type: str

    def __init__(
        self, name: str, documentation: str, value: float | None = None, *, labels: Sequence[str] = ()
    ) -> None:
        self.name: Final = name
        self.documentation: Final = documentation
        self.label_names: Final = tuple(labels)
        self.samples: list[Sample] = []
        if value is not None:
            self.samples.append(Sample(self.full_name, {}, value))

    @property
    def full_name(self) -> str:
        """The name as the text has it."""
        return self.name

    def _labels(self, values: Iterable[str]) -> dict[str, str]:
        return dict(zip(self.label_names, values, strict=True))


class GaugeFamily(Family):
    type = "gauge"

    def add_metric(self, labels: Sequence[str], value: float) -> None:
        self.samples.append(Sample(self.name, self._labels(labels), value))


class CounterFamily(Family):
    """Its samples have the suffix `_total`."""

    type = "counter"

    @property
    def full_name(self) -> str:
        return f"{self.name}_total"

    def add_metric(self, labels: Sequence[str], value: float) -> None:
        self.samples.append(Sample(self.full_name, self._labels(labels), value))


class HistogramFamily(Family):
    type = "histogram"

    def add_metric(self, labels: Sequence[str], buckets: Sequence[tuple[str, int]], total: float) -> None:
        """`buckets` are pairs of (upper bound, count up to it), in order, the last one `+Inf`; `total` is the sum."""
        of = self._labels(labels)
        for bound, count in buckets:
            self.samples.append(Sample(f"{self.name}_bucket", of | {"le": bound}, count))
        self.samples.append(Sample(f"{self.name}_count", of, buckets[-1][1]))
        self.samples.append(Sample(f"{self.name}_sum", of, total))


class Collector(Protocol):
    """Gives families each time that they are wanted."""

    def collect(self) -> Iterable[Family]: ...
