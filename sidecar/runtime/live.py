"""All that is live, behind one reference that a reload will swap.

Owns the services and the routing table made of one configuration.
"""

from __future__ import annotations

from collections.abc import Callable

from sidecar.config.schema import Config
from sidecar.runtime.routing import RoutingTable
from sidecar.runtime.service import LiveService
from sidecar.telemetry.counters import ServiceCounters


class Live:
    """The running configuration: `services` by name, and `table` to find one for a request."""

    def __init__(self, config: Config, now: float, random: Callable[[], float]) -> None:
        self.config = config
        self.generation = 1
        self.services = {name: LiveService(service, now, random) for name, service in config.services.items()}
        self.table = RoutingTable(self.services.values(), config.listen.proxy)
        self.unrouted = ServiceCounters()
        """Requests that reached no service."""
