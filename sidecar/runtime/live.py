"""All that is live: the configuration in force, and what goes on under each one.

Owns the services and the routing table. A service lives on from one configuration to the next, with its state; the
table is made anew and swapped in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from sidecar.config.schema import Config
from sidecar.runtime.routing import RoutingTable
from sidecar.runtime.service import LiveService
from sidecar.telemetry.counters import ServiceCounters


class Live:
    """The running configuration: `services` by name, and `table` to find one for a request."""

    def __init__(self, config: Config, now: float, random: Callable[[], float]) -> None:
        self.config = config
        self.generation = 1
        self._random = random
        self.services = {name: LiveService(service, now, random) for name, service in config.services.items()}
        self.table = RoutingTable(self.services.values(), config.listen.proxy)
        self._ports: list[int] | None = None
        self._retired: list[LiveService] = []
        self.unrouted = ServiceCounters()
        """Requests that reached no service."""
        self.aggregates = {name: ServiceCounters() for name in config.aggregates}

    def configured(self) -> Iterable[LiveService]:
        """The services of the configuration in force, asked for anew each time: a reload makes another mapping."""
        return self.services.values()

    def listens_on(self, ports: list[int]) -> None:
        """The ports that the proxy really listens on, of this configuration and all that follow."""
        self._ports = ports
        self.table.listens_on(ports)

    @property
    def in_flight(self) -> int:
        """Requests that are under way, tunnels left out; those of services that are no longer configured included."""
        self._forget_retired()
        services = [*self.services.values(), *self._retired]
        return sum(service.limit.in_flight - service.counters.tunnels for service in services)

    def adopt(self, config: Config, now: float) -> None:
        """Go on under another configuration; `generation` grows by one.

        A service of the same name keeps its state. What is under way at one that is gone ends there, with the policy
        that it began with; its idle connections close. Where the proxy listens does not change.
        """
        services = {}
        for name, wanted in config.services.items():
            known = self.services.get(name)
            if known is None:
                services[name] = LiveService(wanted, now, self._random)
            else:
                known.adopt(wanted, now)
                services[name] = known
        table = RoutingTable(services.values(), self.config.listen.proxy)
        if self._ports is not None:
            table.listens_on(self._ports)
        self._forget_retired()
        for name, service in self.services.items():
            if name not in services:
                service.set_endpoints([], now)
                self._retired.append(service)
        self.aggregates = {name: self.aggregates.get(name) or ServiceCounters() for name in config.aggregates}
        # What is equal is shared: of a large configuration, one service changes and the rest is held once.
        self.config = replace(
            config,
            listen=self.config.listen,
            services={name: service.config for name, service in services.items()},
        )
        self.services = services
        self.table = table
        self.generation += 1

    def _forget_retired(self) -> None:
        """Those that nothing is under way at any more."""
        self._retired = [service for service in self._retired if service.limit.in_flight]
