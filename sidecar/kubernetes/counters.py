"""What the injector counts, as Prometheus metrics. No label is taken from a review."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

RESULTS: Final = ("injected", "skipped", "denied", "malformed", "failed")
"""What became of a review: `malformed` was none, or could not be read in time; `failed` is a defect of the injector."""


class InjectorCounters(Collector):
    """`expires` is when the certificate ends, in Unix seconds; 0 where that is not known."""

    def __init__(
        self,
        expires: Callable[[], float] = float,
        connections: Callable[[], int] = int,
        refused: Callable[[], int] = int,
    ) -> None:
        self.injections: dict[str, int] = dict.fromkeys(RESULTS, 0)
        self._expires = expires
        self._connections = connections
        self._refused = refused

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        injections = CounterMetricFamily(
            "sidecar_injections", "Admission reviews that were answered, by what came of them", labels=["result"]
        )
        for result, count in self.injections.items():
            injections.add_metric([result], count)
        yield injections
        yield GaugeMetricFamily("sidecar_injector_connections", "Open connections", self._connections())
        yield CounterMetricFamily(
            "sidecar_injector_refused_connections",
            "Connections that were closed as they came, for as many as there may be had a review under way",
            self._refused(),
        )
        yield GaugeMetricFamily(
            "sidecar_injector_certificate_expiry_timestamp_seconds",
            "When the serving certificate ends; 0: not known",
            self._expires(),
        )
