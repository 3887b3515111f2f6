"""Prometheus metrics of the injector. No label value comes from a review."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from sidecar.telemetry.families import CounterFamily, Family, GaugeFamily

RESULTS: Final = ("injected", "skipped", "denied", "malformed", "failed")
"""The results of a review. `malformed`: not a review, or not read in time. `failed`: a bug of the injector."""


class InjectorCounters:
    """`expires` is when the certificate expires, in Unix seconds; 0 if unknown."""

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

    def collect(self) -> Iterable[Family]:
        injections = CounterFamily(
            "sidecar_injections", "Admission reviews that were answered, by result", labels=["result"]
        )
        for result, count in self.injections.items():
            injections.add_metric([result], count)
        yield injections
        yield GaugeFamily("sidecar_injector_connections", "Open connections", self._connections())
        yield CounterFamily(
            "sidecar_injector_refused_connections",
            "Connections closed at once, because all others had a review in progress",
            self._refused(),
        )
        yield GaugeFamily(
            "sidecar_injector_certificate_expiry_timestamp_seconds",
            "When the serving certificate expires; 0: unknown",
            self._expires(),
        )
