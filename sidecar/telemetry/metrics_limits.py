"""Prometheus metrics of limits: connections to a service, requests that wait for one, and the retry budget.

Owns the names and labels of `sidecar_upstream_*` and `sidecar_retry_budget_balance`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from sidecar.telemetry.families import GaugeFamily


class BudgetView(Protocol):
    def balance(self, now: float, /) -> float:
        """How many retries the budget can pay for now."""


class IdleView(Protocol):
    @property
    def idle(self) -> int: ...


class LimitsView(Protocol):
    """What a scrape reads of the limits of a live service."""

    @property
    def name(self) -> str: ...
    @property
    def budget(self) -> BudgetView: ...
    @property
    def connections(self) -> int:
        """Connections that are open or being opened, including idle ones."""

    @property
    def waiting(self) -> int:
        """Requests that wait for a connection."""

    @property
    def present(self) -> Sequence[tuple[IdleView, bool]]: ...
    @property
    def departed(self) -> Sequence[IdleView]: ...


def limit_families(services: Sequence[LimitsView], monotonic_s: float) -> Iterable[GaugeFamily]:
    connections = GaugeFamily(
        "sidecar_upstream_connections",
        "Connections to the endpoints of a service that are open or being opened, including idle ones",
        labels=["service"],
    )
    idle = GaugeFamily(
        "sidecar_upstream_idle_connections", "Connections to a service that no request uses", labels=["service"]
    )
    waiting = GaugeFamily(
        "sidecar_upstream_waiting_requests", "Requests that wait for a free connection", labels=["service"]
    )
    balance = GaugeFamily("sidecar_retry_budget_balance", "Retries that the budget can pay for now", labels=["service"])
    for service in services:
        endpoints = (*(one for one, _ in service.present), *service.departed)
        connections.add_metric([service.name], service.connections)
        idle.add_metric([service.name], sum(endpoint.idle for endpoint in endpoints))
        waiting.add_metric([service.name], service.waiting)
        balance.add_metric([service.name], round(service.budget.balance(monotonic_s), 3))
    yield from (connections, idle, waiting, balance)
