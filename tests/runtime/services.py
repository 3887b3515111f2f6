"""Live services for tests, with endpoints at given addresses."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from sidecar.config.schema import EndpointSpec, Service, Url
from sidecar.policy.settings import Policy
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService

START = 1000.0


class Clock:
    """The time that a scrape sees."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


def spec(host: str = "venue-service", port: int = 3002, *, scheme: str = "http", weight: int = 1) -> EndpointSpec:
    return EndpointSpec(url=Url(scheme, host, port), weight=weight)


def live(
    *addresses: str,
    weights: Sequence[int] = (),
    random: float = 0.0,
    clock: Clock | None = None,
    **config: Any,
) -> LiveService:
    """A service whose endpoints are at these addresses."""
    settings: dict[str, Any] = {"name": "venue", "endpoints": (spec(),), "policy": Policy()} | config
    made = LiveService(Service(**settings), START, lambda: random, clock or Clock())
    weights = weights or [1] * len(addresses)
    found = [(spec(weight=weight), address) for address, weight in zip(addresses, weights, strict=True)]
    made.set_endpoints(found, START)
    return made


def addresses(endpoints: Sequence[Endpoint | None]) -> str:
    return " ".join(one.address if one else "none" for one in endpoints)


def firsts(service: LiveService, number: int, now: float = START) -> str:
    """Where so many requests go first."""
    return addresses([service.pick(now, ()) for _ in range(number)])


def at(service: LiveService, *wanted: str) -> tuple[Endpoint, ...]:
    return tuple(one for address in wanted for one in service.endpoints if one.address == address)


def refuse(service: LiveService, *wanted: str, now: float = START) -> None:
    for endpoint in at(service, *wanted):
        endpoint.connect_failed(now)
    service.changed(now)


def service_with(policy: Policy, *priorities: int, now: float = 0.0) -> LiveService:
    specs = tuple(
        EndpointSpec(url=Url("http", f"10.0.0.{number}", 80), priority=priority)
        for number, priority in enumerate(priorities, 1)
    )
    live = LiveService(Service(name="venue", endpoints=specs, policy=policy), now, Random(7).random, clock=lambda: now)
    live.set_endpoints([(spec, spec.url.host) for spec in specs], now)
    return live


def picks(live: LiveService, now: float, times: int = 60, key: bytes | None = None) -> set[str]:
    found = [live.pick(now, (), key) for _ in range(times)]
    return {endpoint.address for endpoint in found if endpoint is not None}
