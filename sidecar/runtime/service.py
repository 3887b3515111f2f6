"""A service as it lives: its routes with their breakers, its budget, its limit, its endpoints in their turn.

Owns which endpoint an attempt goes to. It sends nothing and opens nothing: `proxy` does that.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any, Final

from sidecar.config.schema import EndpointSpec, Match, Service
from sidecar.health.active import IMMEDIATE_FAIL, ActiveChecker
from sidecar.policy.availability import Availability
from sidecar.policy.balancers.balancer import Balancer
from sidecar.policy.balancers.ewma import PeakEwma
from sidecar.policy.balancers.make import make_balancer
from sidecar.policy.breaker import Breaker, make_breaker
from sidecar.policy.budget import RetryBudget
from sidecar.policy.concurrency import ConcurrencyLimit
from sidecar.policy.health_state import HealthState
from sidecar.policy.outlier import EJECTED, OutlierDetector, Tracked
from sidecar.policy.round_robin import RoundRobin
from sidecar.policy.settings import HashSettings, OutlierSettings, Policy
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
        "client_idle_s",
        "connect_s",
        "failure_status",
        "first_lines",
        "half_close",
        "idle_s",
        "methods",
        "name",
        "path",
        "path_and_below",
        "policy",
        "preserve_host",
        "repeatable_methods",
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
        self.client_idle_s = timeout.client_idle
        self.connect_s = timeout.connect
        self.attempt_s = timeout.attempt
        self.request_s = timeout.request
        self.idle_s = timeout.idle
        self.retry = policy.retry
        self.repeatable_methods = policy.retry.methods
        self.retry_statuses = frozenset(one for one in policy.retry.on if isinstance(one, int))
        self.failure_status = policy.breaker.failure_status
        self.preserve_host = policy.preserve_host
        self.half_close = policy.half_close
        self.first_lines: dict[bool, bytes] = {}
        """Field lines that the proxy adds to a first attempt, by whether the request was routed by path."""

    def matches(self, method: str, path: bytes) -> bool:
        """`path` has no query. A route's path is a prefix of whole segments, compared as raw bytes."""
        if self.methods and method not in self.methods:
            return False
        return path == self.path or path.startswith(self.path_and_below)


def _usable(endpoint: Endpoint, now: float) -> bool:
    return endpoint.available and endpoint.skip_until <= now


class LiveService:
    """A service and all its state. `random` gives floats in [0, 1); `clock` is for what a scrape reads."""

    def __init__(
        self, config: Service, now: float, random: Callable[[], float], clock: Callable[[], float] = monotonic
    ) -> None:
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
        self.routes: tuple[LiveRoute, ...] = tuple(
            self._route(config, index, now) for index in range(len(config.routes))
        )
        self.endpoints: tuple[Endpoint, ...] = ()
        self._departed: list[Endpoint] = []
        self._random = random
        self._clock = clock
        self._turn = RoundRobin(())
        self._second_turn = RoundRobin(())
        """Of further attempts: were they to move the first turn on, requests and retries could fall into step, so that
        every request began with the one endpoint that fails."""
        self._balancer: Balancer | None = None
        """Any but plain round robin."""
        self._second_balancer: Balancer
        policy = config.policy
        self.hash = policy.balancer if isinstance(policy.balancer, HashSettings) else None
        self.ejects = policy.outlier is not None
        self.outlier = OutlierDetector(policy.outlier, now, self._ejection)
        self.availability = Availability((policy.outlier or OutlierSettings()).panic_threshold, self._panic)
        self.due = inf
        """When something known of an endpoint ends by itself."""
        self.checker: ActiveChecker[Endpoint] | None = None
        self.last_request = now
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
        addressed = config.addressed
        ports = {port for _, port in addressed if port is not None}
        for name, port in addressed:
            host = f"[{name}]" if ":" in name else name
            found += [host] if port is None else [host, f"{host}:{port}"]
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
        now = self._clock()
        if now >= self.due:
            self.refresh(now)
        return [(endpoint, endpoint.well and endpoint.skip_until <= now) for endpoint in self.endpoints]

    @property
    def departed(self) -> list[Endpoint]:
        """Those that left and are still reported."""
        return self._still_reported(self._clock())

    def _still_reported(self, now: float) -> list[Endpoint]:
        ended = now - DEPARTED_SERIES_S
        return [one for one in self._departed if one.departed_at is not None and one.departed_at > ended]

    def route_for(self, method: str, target: bytes) -> LiveRoute:
        """The first route that matches, else the service's own policy."""
        if self.routes:
            path = target.partition(b"?")[0]
            for route in self.routes:
                if route.matches(method, path):
                    return route
        return self.default_route

    def set_endpoints(self, found: Sequence[tuple[EndpointSpec, str]], now: float) -> None:
        """Make this the complete set. An endpoint that stays keeps its state, one that leaves closes as it falls idle.

        One that comes back while it is still reported is the one that left: its counters go on, a skip goes on too.
        Where two specs have the same address, the first is meant.
        """
        reported = self._still_reported(now)
        known: dict[Key, Endpoint] = {endpoint.key: endpoint for endpoint in (*reported, *self.endpoints)}
        wanted: dict[Key, Endpoint] = {}
        for spec, address in found:
            fresh = Endpoint(spec, address)
            if fresh.key in wanted:
                continue
            endpoint = known.get(fresh.key, fresh)
            wanted[fresh.key] = endpoint if endpoint.adopt(spec) else fresh
        self._departed = [endpoint for endpoint in reported if wanted.get(endpoint.key) is not endpoint]
        for endpoint in self.endpoints:
            if wanted.get(endpoint.key) is not endpoint:
                endpoint.departed_at = now
                self._departed.append(endpoint)
                for connection in list(endpoint.idle):
                    connection.close()
        self.endpoints = tuple(wanted.values())
        health = self.config.policy.health
        for endpoint in self.endpoints:
            if known.get(endpoint.key) is not endpoint:
                endpoint.since = now
            if endpoint.health is None and health is not None:
                endpoint.health = HealthState(health)
            if endpoint.latency is None and self.config.policy.balancer == "peak_ewma":
                endpoint.latency = PeakEwma()
        self.outlier.update(self.endpoints, now)
        self.availability.update(self.endpoints, now)
        self.due = min(self.outlier.due, self.availability.due)
        if self.checker is not None:
            self.checker.update(self.endpoints)
        self._balance()

    def _balance(self) -> None:
        """A changed set needs new balancers. Plain round robin has a way of its own, which costs least."""
        endpoints = self.endpoints
        policy = self.config.policy
        name = "hash" if isinstance(policy.balancer, HashSettings) else policy.balancer
        plain = name == "round_robin" and not policy.slow_start and len({one.priority for one in endpoints}) <= 1
        if plain:
            self._balancer = None
            weights = [endpoint.weight for endpoint in endpoints]
            start = int(self._random() * len(weights)) if weights else 0
            self._turn = RoundRobin(weights, start)
            self._second_turn = RoundRobin(weights, start)
            return

        def available(index: int, now: float) -> bool:
            return endpoints[index].well and endpoints[index].skip_until <= now

        def make() -> Balancer:
            return make_balancer(name, endpoints, self._random, available, policy.slow_start or 0.0)

        self._balancer = make()
        self._second_balancer = make() if name == "round_robin" else self._balancer

    def _usable_ones(
        self, now: float, tried: Sequence[Endpoint]
    ) -> tuple[Callable[[int], bool], Callable[[int], bool], Callable[[int], bool], Callable[[int], bool]]:
        """What to look for, in this order. The last one is never left out while anything may be used at all."""
        endpoints = self.endpoints
        return (
            lambda index: _usable(endpoints[index], now) and endpoints[index] not in tried,
            lambda index: _usable(endpoints[index], now),
            lambda index: endpoints[index].available and endpoints[index] not in tried,
            lambda index: endpoints[index].available,
        )

    def pick(self, now: float, tried: Sequence[Endpoint], key: bytes | None = None) -> Endpoint | None:
        """The endpoint of the next attempt: its turn, well, not skipped, not tried; None where there is none at all.

        Where every endpoint is skipped, or has been tried, that no longer counts: the last one is never left out.
        `key` is what a hash balancer goes by.
        """
        if now >= self.due:
            self.refresh(now)
        endpoints = self.endpoints
        balancer = self._balancer
        if not tried:
            index = self._turn.next() if balancer is None else balancer.next(key, now)
            if index < 0:
                return None
            endpoint = endpoints[index]
            if _usable(endpoint, now):
                return endpoint
            if balancer is None:
                index = self._turn.pick(lambda index: _usable(endpoints[index], now))
            else:
                index = balancer.pick(lambda index: _usable(endpoints[index], now), key, now)
            if index >= 0:
                return endpoints[index]
            if endpoint.available:
                # All skipped: whose turn it is. Were the turn to move on once more, one of two would get every request.
                return endpoint
        for usable in self._usable_ones(now, tried):
            index = self._pick_again(usable, key, now)
            if index >= 0:
                return endpoints[index]
        return None

    def _pick_again(self, usable: Callable[[int], bool], key: bytes | None, now: float) -> int:
        if self._balancer is None:
            return self._second_turn.pick(usable)
        return self._second_balancer.pick(usable, key, now)

    def pick_untried(self, now: float, tried: Sequence[Endpoint], key: bytes | None = None) -> Endpoint | None:
        """Where to go after a connection failed: one not tried yet, sooner one that is not skipped; else None."""
        untried_and_usable, _, untried, _ = self._usable_ones(now, tried)
        for usable in (untried_and_usable, untried):
            index = self._pick_again(usable, key, now)
            if index >= 0:
                return self.endpoints[index]
        return None

    # Who is well.

    def changed(self, now: float) -> None:
        """After any change of what is known of an endpoint."""
        self.availability.recompute(now)
        self.due = min(self.outlier.due, self.availability.due)

    def refresh(self, now: float) -> None:
        """Once `due`, and now and then: ejections and skips end by themselves."""
        self.outlier.tick(now)
        self.changed(now)

    def checked(self, endpoint: Endpoint, ok: bool, reason: str, latency_s: float) -> None:
        """An active check has ended."""
        state = endpoint.health
        if state is None:
            return
        now = self._clock()
        began = now - latency_s
        changed = state.fail_at_once(now) if reason == IMMEDIATE_FAIL else state.result(ok, began)
        self.outlier.checked(endpoint, ok, began, now)
        if changed:
            self._health_changed(endpoint, state.healthy, reason, now)

    def failed_by_its_own_word(self, endpoint: Endpoint, now: float) -> None:
        """It said so in an answer; without active checks there would be no way back, so then it is not believed."""
        if endpoint.health is not None and endpoint.health.fail_at_once(now):
            self._health_changed(endpoint, False, "immediate_fail", now)

    def _health_changed(self, endpoint: Endpoint, healthy: bool, reason: str, now: float) -> None:
        endpoint.healthy = healthy
        if healthy:
            endpoint.since = now
        self.changed(now)
        fields = {"service": self.name, "endpoint": endpoint.label, "reason": reason}
        level = logging.INFO if healthy else logging.WARNING
        log.log(level, "endpoint is %s", "healthy" if healthy else "unhealthy", extra={"fields": fields})

    def _ejection(self, event: str, endpoint: Tracked, why: str, now: float) -> None:
        assert isinstance(endpoint, Endpoint)
        if event != EJECTED:
            endpoint.since = now
        self.changed(now)
        fields = {"service": self.name, "endpoint": endpoint.label, "reason": why}
        log.log(logging.WARNING if event == EJECTED else logging.INFO, "endpoint %s", event, extra={"fields": fields})

    def _panic(self, panic: bool, well: int, total: int, now: float) -> None:
        fields = {"service": self.name, "well": well, "of": total}
        words = "so few endpoints are well that all are used" if panic else "enough endpoints are well again"
        log.log(logging.WARNING if panic else logging.INFO, words, extra={"fields": fields})

    def __repr__(self) -> str:
        counts = f"in_flight={self.limit.in_flight} connections={self.connections}"
        return f"<LiveService {self.name} {counts} {self.endpoints}>"
