"""A service as it lives: its routes with their breakers, its budget, its limit, its endpoints in their turn.

Owns which endpoint an attempt goes to. It sends nothing and opens nothing: `proxy` does that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final

from sidecar.config.schema import EndpointSpec, Match, Service
from sidecar.policy.breaker import Breaker, make_breaker
from sidecar.policy.budget import RetryBudget
from sidecar.policy.concurrency import ConcurrencyLimit
from sidecar.policy.round_robin import RoundRobin
from sidecar.policy.settings import Policy
from sidecar.runtime.endpoint import Endpoint, Key
from sidecar.telemetry.counters import ServiceCounters

DEPARTED_SERIES_S: Final = 300.0
"""How long an endpoint that left is still reported, so that a last scrape sees its end."""

log = logging.getLogger("sidecar.runtime")


class LiveRoute:
    """A policy in force for some requests of a service: the options that a request needs, and the breaker it asks."""

    __slots__ = (
        "attempt_s",
        "breaker",
        "connect_s",
        "failure_status",
        "half_close",
        "idle_s",
        "methods",
        "name",
        "path",
        "path_and_below",
        "policy",
        "preserve_host",
        "request_s",
        "retry",
        "retry_statuses",
    )

    def __init__(self, name: str, match: Match | None, policy: Policy, breaker: Breaker) -> None:
        self.name = name
        self.policy = policy
        self.breaker = breaker
        path = match.path.encode() if match else b"/"
        self.path = path
        self.path_and_below = path if path.endswith(b"/") else path + b"/"
        self.methods = match.methods if match else frozenset()
        timeout = policy.timeout
        self.connect_s = timeout.connect
        self.attempt_s = timeout.attempt
        self.request_s = timeout.request
        self.idle_s = timeout.idle
        self.retry = policy.retry
        self.retry_statuses = frozenset(one for one in policy.retry.on if isinstance(one, int))
        self.failure_status = policy.breaker.failure_status
        self.preserve_host = policy.preserve_host
        self.half_close = policy.half_close

    def matches(self, method: str, path: bytes) -> bool:
        """`path` has no query. A route's path is a prefix of whole segments, compared as raw bytes."""
        if self.methods and method not in self.methods:
            return False
        return path == self.path or path.startswith(self.path_and_below)


class LiveService:
    """A service and all its state. `random` gives floats in [0, 1)."""

    def __init__(self, config: Service, now: float, random: Callable[[], float]) -> None:
        self.name = config.name
        self.config = config
        self.prefix = b"/" + config.name.encode()
        self.counters = ServiceCounters()
        self.budget = RetryBudget(config.policy.retry.budget, now)
        self.limit = ConcurrencyLimit(config.policy.limits.max_concurrent)
        self.pool_idle_s = config.policy.timeout.pool_idle
        self.max_connections = config.policy.limits.max_connections
        self.connections = 0
        """Open or being opened, idle ones included."""
        self.waiting: deque[Any] = deque()
        """Who waits for a connection to be given back, first come first served; theirs is the proxy's business."""
        self.default_route = LiveRoute("", None, config.policy, self._breaker("", config.policy, now))
        self.routes: tuple[LiveRoute, ...] = tuple(self._route(config, index, now) for index in range(len(config.routes)))
        self.endpoints: tuple[Endpoint, ...] = ()
        self.departed: list[Endpoint] = []
        self._random = random
        self._turn = RoundRobin(())
        self.authorities = frozenset(self._authorities(config))

    def _route(self, config: Service, index: int, now: float) -> LiveRoute:
        route = config.routes[index]
        name = " ".join([",".join(sorted(route.match.methods)), route.match.path]).strip()
        breaker = self._breaker(name, route.policy, now) if route.own_breaker else self.default_route.breaker
        return LiveRoute(name, route.match, route.policy, breaker)

    def _breaker(self, route: str, policy: Policy, now: float) -> Breaker:
        def on_change(old: str, new: str, now: float) -> None:
            level = logging.WARNING if new == "open" else logging.INFO
            fields = {"service": self.name, "route": route or None, "from": old, "to": new, "mode": policy.breaker.mode}
            log.log(level, "breaker %s", new, extra={"fields": fields})

        return make_breaker(policy.breaker, now, on_change)

    @staticmethod
    def _authorities(config: Service) -> list[bytes]:
        """What a Location may name this service by, lower case."""
        found = []
        ports = {spec.url.port for spec in config.endpoints}
        for spec in config.endpoints:
            found += [spec.url.authority.lower(), f"{spec.url.host}:{spec.url.port}"]
        for host in (config.name.lower(), *config.hosts):
            found += [host, *(f"{host}:{port}" for port in ports)]
        return [authority.encode() for authority in found]

    @property
    def breakers(self) -> list[Breaker]:
        """Those in use: the service's own, then those of routes that set their own."""
        found = [self.default_route.breaker]
        found += [route.breaker for route in self.routes if route.breaker is not self.default_route.breaker]
        return found

    @property
    def in_flight(self) -> int:
        return self.limit.in_flight

    @property
    def present(self) -> list[tuple[Endpoint, bool]]:
        """Each endpoint, and whether it is in its turn now (or skipped after a refused connection)."""
        now = monotonic()
        return [(endpoint, endpoint.skip_until <= now) for endpoint in self.endpoints]

    def route_for(self, method: str, target: bytes) -> LiveRoute:
        """The first route that matches, else the service's own policy."""
        if self.routes:
            path = target.partition(b"?")[0]
            for route in self.routes:
                if route.matches(method, path):
                    return route
        return self.default_route

    def set_endpoints(self, found: Sequence[tuple[EndpointSpec, str]], now: float) -> None:
        """Make this the complete set. An endpoint that stays keeps its state, one that leaves closes as it falls idle."""
        known: dict[Key, Endpoint] = {endpoint.key: endpoint for endpoint in self.endpoints}
        wanted: dict[Key, Endpoint] = {}
        for spec, address in found:
            fresh = Endpoint(spec, address)
            endpoint = known.get(fresh.key, fresh)
            endpoint.weight = spec.weight
            wanted.setdefault(endpoint.key, endpoint)
        for key, endpoint in known.items():
            if key not in wanted:
                endpoint.departed_at = now
                self.departed.append(endpoint)
                for connection in list(endpoint.idle):
                    connection.close()
        self.departed = [one for one in self.departed if one.departed_at and one.departed_at + DEPARTED_SERIES_S > now]
        self.endpoints = tuple(wanted.values())
        weights = [endpoint.weight for endpoint in self.endpoints]
        start = int(self._random() * len(weights)) if weights else 0
        self._turn = RoundRobin(weights, start)

    def pick(self, now: float, tried: Sequence[Endpoint]) -> Endpoint | None:
        """The endpoint of the next attempt: its turn, not tried yet, not skipped; None where there is none at all.

        Where every endpoint has been tried, or is skipped, that no longer counts: the last one is never left out.
        """
        if not tried:
            index = self._turn.next()
            if index < 0:
                return None
            endpoint = self.endpoints[index]
            if endpoint.skip_until <= now:
                return endpoint
        endpoints = self.endpoints
        for usable in (
            lambda index: endpoints[index].skip_until <= now and endpoints[index] not in tried,
            lambda index: endpoints[index].skip_until <= now,
            lambda index: endpoints[index] not in tried,
            lambda index: True,
        ):
            index = self._turn.pick(usable)
            if index >= 0:
                return endpoints[index]
        return None

    def pick_untried(self, now: float, tried: Sequence[Endpoint]) -> Endpoint | None:
        """Where to go after a connection failed: one not tried yet, sooner one that is not skipped; else None."""
        endpoints = self.endpoints
        index = self._turn.pick(lambda index: endpoints[index].skip_until <= now and endpoints[index] not in tried)
        if index < 0:
            index = self._turn.pick(lambda index: endpoints[index] not in tried)
        return endpoints[index] if index >= 0 else None

    def __repr__(self) -> str:
        return f"<LiveService {self.name} in_flight={self.limit.in_flight} connections={self.connections} {self.endpoints}>"
