"""Prometheus metrics of endpoints: attempts, health, checks, ejections and panics.

Owns the names and labels of `sidecar_attempts_total`, `sidecar_endpoint*`, `sidecar_ejected_endpoints`,
`sidecar_health_checks_total` and `sidecar_panic*`. Two endpoints with equal labels (one address by http and by https)
are one series, because a scrape must not contain a series twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from sidecar.telemetry.counters import EndpointCounters, ServiceCounters
from sidecar.telemetry.families import CounterFamily, Family, GaugeFamily


class EndpointView(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def counters(self) -> EndpointCounters: ...
    @property
    def active(self) -> int: ...


class OutlierView(Protocol):
    @property
    def ejected(self) -> int:
        """Endpoints that are ejected now; the other properties count since the start."""

    @property
    def ejections(self) -> int: ...
    @property
    def returns(self) -> int: ...
    @property
    def overflows(self) -> int: ...


class AvailabilityView(Protocol):
    @property
    def panic(self) -> bool: ...
    @property
    def panics(self) -> int: ...


class EndpointsView(Protocol):
    """What a scrape reads of the endpoints of a live service."""

    @property
    def name(self) -> str: ...
    @property
    def present(self) -> Sequence[tuple[EndpointView, bool]]:
        """Each endpoint, and whether it is healthy and not skipped. Reading it ends ejections whose time is over."""

    @property
    def departed(self) -> Sequence[EndpointView]: ...
    @property
    def outlier(self) -> OutlierView: ...
    @property
    def availability(self) -> AvailabilityView: ...
    @property
    def counters(self) -> ServiceCounters: ...
    @property
    def checker(self) -> object | None: ...


def endpoint_families(services: Sequence[EndpointsView]) -> Iterable[Family]:
    yield from _each_endpoint(services)
    yield from _ejections(services)
    yield from _panics(services)
    yield _checks(services)


def _each_endpoint(services: Sequence[EndpointsView]) -> Iterable[Family]:
    known = GaugeFamily("sidecar_endpoints", "Known endpoints, healthy or not", labels=["service"])
    attempts = CounterFamily(
        "sidecar_attempts", "Attempts that ended, by endpoint and reason", labels=["service", "endpoint", "reason"]
    )
    healthy = GaugeFamily(
        "sidecar_endpoint_healthy",
        "1 if the endpoint is healthy; 0 if its checks or its own response say otherwise, or if it is ejected, drained"
        " or skipped after refused connections",
        labels=["service", "endpoint"],
    )
    active = GaugeFamily(
        "sidecar_endpoint_active_connections",
        "Connections to the endpoint that requests use",
        labels=["service", "endpoint"],
    )
    for service in services:
        merged: dict[tuple[str, str], int] = {}
        in_use: dict[str, tuple[bool, int]] = {}
        present = service.present
        known.add_metric([service.name], len(present))
        for endpoint, is_healthy in present:
            all_healthy, connections = in_use.get(endpoint.label, (True, 0))
            in_use[endpoint.label] = (all_healthy and is_healthy, connections + endpoint.active)
        for label, (is_healthy, connections) in in_use.items():
            healthy.add_metric([service.name, label], 1 if is_healthy else 0)
            active.add_metric([service.name, label], connections)
        for endpoint in (*(one for one, _ in present), *service.departed):
            for reason, count in endpoint.counters.attempts.items():
                key = (endpoint.label, reason)
                merged[key] = merged.get(key, 0) + count
        for (label, reason), count in merged.items():
            attempts.add_metric([service.name, label, reason], count)
    yield from (known, attempts, healthy, active)


def _ejections(services: Sequence[EndpointsView]) -> Iterable[Family]:
    ejected = GaugeFamily("sidecar_ejected_endpoints", "Endpoints that are ejected now", labels=["service"])
    ejections = CounterFamily(
        "sidecar_endpoint_ejections", "Endpoints ejected for failing requests", labels=["service"]
    )
    returns = CounterFamily("sidecar_endpoint_returns", "Ejections that ended, for any reason", labels=["service"])
    overflows = CounterFamily(
        "sidecar_endpoint_ejection_overflows",
        "Ejections not made because of max_ejection_percent, or because it was the last available endpoint",
        labels=["service"],
    )
    for service in services:
        outlier = service.outlier
        ejected.add_metric([service.name], outlier.ejected)
        ejections.add_metric([service.name], outlier.ejections)
        returns.add_metric([service.name], outlier.returns)
        overflows.add_metric([service.name], outlier.overflows)
    yield from (ejected, ejections, returns, overflows)


def _panics(services: Sequence[EndpointsView]) -> Iterable[Family]:
    panic = GaugeFamily(
        "sidecar_panic", "1 while too few endpoints are healthy, so health and ejection are ignored", labels=["service"]
    )
    panics = CounterFamily("sidecar_panics", "Panics that have begun", labels=["service"])
    for service in services:
        availability = service.availability
        panic.add_metric([service.name], 1 if availability.panic else 0)
        panics.add_metric([service.name], availability.panics)
    yield from (panic, panics)


def _checks(services: Sequence[EndpointsView]) -> CounterFamily:
    """Health checks of the services that configure them."""
    checks = CounterFamily(
        "sidecar_health_checks", "Active health checks that ended, by result", labels=["service", "result"]
    )
    for service in services:
        if service.checker is not None:
            for result, count in service.counters.checks.items():
                checks.add_metric([service.name, result], count)
    return checks
