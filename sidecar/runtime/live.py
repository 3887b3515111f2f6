"""The live configuration: all services in force and the routing table; applies a reload.

Owns the services and the routing table. A service keeps its state from one configuration to the next. Each reload
builds a new table beside the one in force, in steps between which requests are served, and swaps it in.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import NamedTuple

from msgspec.structs import replace

from sidecar.config.schema import Config
from sidecar.runtime.routing import RoutingTable
from sidecar.runtime.service import LiveService
from sidecar.runtime.slices import at_once
from sidecar.telemetry.counters import ServiceCounters


class Prepared(NamedTuple):
    """A configuration that can be put in force in one step."""

    config: Config
    services: dict[str, LiveService]
    table: RoutingTable


class Live:
    """The running configuration: `services` by name, and `table` to find the service of a request."""

    def __init__(self, config: Config, now: float, random: Callable[[], float]) -> None:
        self.config = config
        self.generation = 1
        self._random = random
        self.services = {name: LiveService(service, now, random) for name, service in config.services.items()}
        self.table = RoutingTable(self.services.values(), config.listen.proxy)
        self._ports: list[int] | None = None
        self._leaving: list[LiveService] = []
        """Removed services that still have endpoints."""
        self._retired: list[LiveService] = []
        self.unrouted = ServiceCounters()
        """Counters of requests that reached no service."""
        self.aggregates = {name: ServiceCounters() for name in config.aggregates}
        self._replaced: Config | None = None
        """The configuration that was in force before, until `retiring`."""

    def configured(self) -> Iterable[LiveService]:
        """The services of the configuration in force. Call it each time, because a reload replaces the mapping."""
        return self.services.values()

    def listens_on(self, ports: list[int]) -> None:
        """Set the ports that the proxy actually listens on, for this configuration and all later ones."""
        self._ports = ports
        self.table.listens_on(ports)

    @property
    def in_flight(self) -> int:
        """Requests in flight, without tunnels, including those of services that are no longer configured."""
        self._forget_retired()
        services = [*self.services.values(), *self._leaving, *self._retired]
        return sum(service.limit.in_flight - service.counters.tunnels for service in services)

    def adopt(self, config: Config, now: float) -> None:
        """Apply another configuration; `generation` grows by one.

        A service with the same name keeps its state. When a service is gone, its requests in flight finish under the
        policy that they began with, and its idle connections close. The proxy's listen addresses do not change.
        """
        self.put_in_force(at_once(self.preparing(config, now)))
        at_once(self.retiring(now))

    def preparing(self, config: Config, now: float) -> Generator[None, None, Prepared]:
        """The first part of `adopt`, in steps of one service: makes new services and a new table, which are in force
        later. Services that are in force already adopt their part, each of them in one step.
        """
        services = {}
        for name, wanted in config.services.items():
            known = self.services.get(name)
            if known is None:
                services[name] = LiveService(wanted, now, self._random)
            else:
                known.adopt(wanted, now)
                services[name] = known
            yield
        table = yield from RoutingTable.building(tuple(services.values()), self.config.listen.proxy, self._ports)
        return Prepared(config, services, table)

    def put_in_force(self, prepared: Prepared) -> None:
        """The second part of `adopt`, in one step."""
        config, services = prepared.config, prepared.services
        self._forget_retired()
        self._leaving += [service for name, service in self.services.items() if name not in services]
        self.aggregates = {name: self.aggregates.get(name) or ServiceCounters() for name in config.aggregates}
        self._replaced = self.config
        # Equal parts are shared with the old configuration. So a change of one service does not hold the rest twice.
        self.config = replace(
            config,
            listen=self.config.listen,
            services={name: service.config for name, service in services.items()},
        )
        self.services = services
        self.table = prepared.table
        self.generation += 1

    def retiring(self, now: float) -> Generator[None, None, None]:
        """The last part of `adopt`, in steps of one service, once no request is routed to the services that are gone:
        closes their idle connections.
        """
        self._replaced = None  # it takes milliseconds to free, with a thousand services
        yield
        while self._leaving:
            service = self._leaving.pop()
            service.set_endpoints([], now)
            self._retired.append(service)
            yield

    def _forget_retired(self) -> None:
        """Drop removed services that have no request in flight any more."""
        self._retired = [service for service in self._retired if service.limit.in_flight]
