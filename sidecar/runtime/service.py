"""Live service: what is in force of one service: its routes, retry budget, concurrency limit and endpoints.

Owns the set of endpoints, and what changes their health, ejection, drain and skip. Its routes are built by
`sidecar.runtime.routes`, and `sidecar.runtime.endpoint_picker` picks. It sends nothing and opens no connection; `proxy`
does that.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Final

from sidecar.config.schema import EndpointSpec, Service
from sidecar.health.active import ActiveChecker
from sidecar.health.http_check import IMMEDIATE_FAIL
from sidecar.policy.availability import Availability
from sidecar.policy.balancers.ewma import PeakEwma
from sidecar.policy.breaker import Breaker
from sidecar.policy.budget import RetryBudget
from sidecar.policy.concurrency import ConcurrencyLimit
from sidecar.policy.endpoint_state import EndpointState
from sidecar.policy.health_state import HealthState
from sidecar.policy.outlier import EJECTED, OPERATOR, OutlierDetector
from sidecar.policy.settings import HashSettings, OutlierSettings
from sidecar.runtime.drains import Drains
from sidecar.runtime.endpoint import Endpoint, Key
from sidecar.runtime.endpoint_picker import EndpointPicker
from sidecar.runtime.last_failure import LastFailure
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.routes import Routes
from sidecar.telemetry.counters import ServiceCounters

DEPARTED_SERIES_S: Final = 300.0
"""How long the metrics of an endpoint that left are still reported, so that a last scrape gets the final counts."""

RECONNECT_MARGIN_S: Final = 1.0
"""A connection in the background ends within `timeout.connect`. The skip lasts this much longer, for a busy loop."""

log = logging.getLogger("sidecar.runtime")

_WITHOUT_LIMIT: Final = 1 << 61
"""A number of requests that no connection reaches; sys.maxsize is no machine number for mypyc, and slow to compare."""


class LiveService:
    """A service and all its state. `random` gives floats in [0, 1). `clock` is used by scrapes only."""

    def __init__(
        self, config: Service, now: float, random: Callable[[], float], clock: Callable[[], float] = monotonic
    ) -> None:
        self.name = config.name
        self.config = config
        self.prefix = b"/" + config.name.encode()
        self.h2 = config.h2
        """Whether it is called by HTTP/2."""
        self.grpc = config.is_grpc
        """Whether the file says that it is a service of gRPC."""
        self.counters = ServiceCounters()
        self.budget = RetryBudget(config.policy.retry.budget, now)
        self.limit = ConcurrencyLimit(config.policy.limits.max_concurrent)
        self.pool_idle_s = config.policy.timeout.pool_idle
        self._set_connection_limits(config)
        self.connections = 0
        """Connections that are open or being opened, including idle ones. The proxy counts them."""
        self.waiting = 0
        """Attempts that wait for a connection to be given back. The proxy counts them."""
        self._routes = Routes(config, now)
        self.breaker_counters = self._routes.counters
        self._show_routes()
        self.endpoints: tuple[Endpoint, ...] = ()
        self._departed: list[Endpoint] = []
        self._clock = clock
        self._picker = EndpointPicker(random)
        policy = config.policy
        self.hash = policy.balancer if isinstance(policy.balancer, HashSettings) else None
        self.outlier = OutlierDetector(policy.outlier, now, self._ejection)
        self.availability = Availability((policy.outlier or OutlierSettings()).panic_threshold, self._panic)
        self.drains = Drains()
        self.due = inf
        """When the next ejection, skip or drain ends, and `refresh` is needed."""
        self.outdated = False
        """Whether the endpoints are those of an earlier configuration, because discovery has found none yet for this
        one.
        """
        self.checker: ActiveChecker[Endpoint] | None = None
        self.reconnect: Callable[[Endpoint], None] | None = None
        """Opens a connection to an endpoint whose skip is over, with no request behind it. The proxy sets it."""
        self.close_idle: Callable[[Endpoint], None] | None = None
        """Closes the idle connections of an endpoint that leaves. The proxy sets it."""
        self.last_request = now
        self.last_failure: LastFailure | None = None
        """The last failure that was not a refusal by the breaker. Refusals would hide why the breaker opened."""
        self.authorities = frozenset(self._authorities(config))

    def adopt(self, config: Service, now: float) -> None:
        """Apply another configuration of the same service, and keep the state.

        Requests in flight keep the route that they began with. Discovery sets the endpoints separately.
        """
        if config == self.config:
            return
        old, self.config = self.config, config
        self.h2 = config.h2
        self.grpc = config.is_grpc
        policy = config.policy
        self.budget.reconfigure(policy.retry.budget, now)
        self.limit.limit = policy.limits.max_concurrent
        self.pool_idle_s = policy.timeout.pool_idle
        self._set_connection_limits(config)
        self._routes.adopt(config, now)
        self._show_routes()
        self.authorities = frozenset(self._authorities(config))
        self.hash = policy.balancer if isinstance(policy.balancer, HashSettings) else None
        self.outlier.reconfigure(policy.outlier, now)
        self.availability.panic_threshold = (policy.outlier or OutlierSettings()).panic_threshold
        for endpoint in self.endpoints:
            self._equip(endpoint)
        self.changed(now)
        if (policy.balancer, policy.slow_start) != (old.policy.balancer, old.policy.slow_start):
            self._picker.update(self.endpoints, policy)

    def _set_connection_limits(self, config: Service) -> None:
        limits = config.policy.limits
        self.max_connections = limits.max_connections
        self.max_head = limits.max_head
        self.max_header_fields = limits.max_header_fields
        age_s, requests = limits.max_connection_age, limits.max_connection_requests
        self.connection_age_s = inf if age_s is None else age_s
        """A connection that is older closes as it falls idle."""
        self.connection_requests = _WITHOUT_LIMIT if requests is None else requests
        self.keepalive_s = inf if limits.keepalive is None else limits.keepalive
        """Over HTTP/2: a connection with calls on which so long nothing was heard is asked whether it is there."""

    def _show_routes(self) -> None:
        self.default_route = self._routes.default
        self.routes = self._routes.in_order
        self.keeps_stale = any(route.keeps_stale for route in (self.default_route, *self.routes))
        """Whether some route falls back to the last good response."""

    @staticmethod
    def _authorities(config: Service) -> list[bytes]:
        """The authorities in a Location header that mean this service, in lower case."""
        found = []
        addressed = config.addressed
        ports = {port for _, port in addressed if port is not None}
        for name, port in addressed:
            host = f"[{name}]" if ":" in name else name
            found += [host] if port is None else [host, f"{host}:{port}"]
        for host in (config.name.lower(), *config.hosts):
            found += [host] if ":" in host else [host, *(f"{host}:{port}" for port in ports)]
        return [authority.encode() for authority in found]

    @property
    def breakers(self) -> list[Breaker]:
        """The breakers in use, in their present state: the service's own, then those of routes that have their own."""
        self.expire(self._clock())
        return self._routes.breakers

    @property
    def in_flight(self) -> int:
        return self.limit.in_flight

    @property
    def present(self) -> list[tuple[Endpoint, bool]]:
        """Each endpoint, and whether it is healthy and not skipped."""
        now = self._clock()
        if now >= self.due:
            self.refresh(now)
        return [(endpoint, endpoint.healthy and endpoint.skip_until <= now) for endpoint in self.endpoints]

    @property
    def departed(self) -> list[Endpoint]:
        """Endpoints that left and are still reported."""
        return self._still_reported(self._clock())

    def _still_reported(self, now: float) -> list[Endpoint]:
        ended = now - DEPARTED_SERIES_S
        return [one for one in self._departed if one.departed_at is not None and one.departed_at > ended]

    def is_idle(self, interval_s: float, now: float) -> bool:
        """Whether it has had no request for `interval_s`."""
        return now - self.last_request > interval_s

    def route_for(self, method: str, target: bytes) -> LiveRoute:
        """The first route that matches, else the service's own policy."""
        if self.routes:
            path = target.partition(b"?")[0]
            for route in self.routes:
                if route.matches(method, path):
                    return route
        return self.default_route

    def set_endpoints(self, found: Sequence[tuple[EndpointSpec, str]], now: float) -> None:
        """Replace the whole set of endpoints.

        An endpoint that stays keeps its state. An endpoint that leaves closes its idle connections.

        An endpoint that comes back while it is still reported continues with its counters and its skip. If two specs
        have the same address, the first one is used.
        """
        self.outdated = False
        reported = self._still_reported(now)
        known: dict[Key, Endpoint] = {endpoint.key: endpoint for endpoint in (*reported, *self.endpoints)}
        wanted: dict[Key, Endpoint] = {}
        for spec, address in found:
            fresh = Endpoint(spec, address, self.config.h2)
            if fresh.key in wanted:
                continue
            endpoint = known.get(fresh.key, fresh)
            wanted[fresh.key] = endpoint if endpoint.adopt(spec) else fresh
        self._departed = [endpoint for endpoint in reported if wanted.get(endpoint.key) is not endpoint]
        for endpoint in self.endpoints:
            if wanted.get(endpoint.key) is not endpoint:
                endpoint.departed_at = now
                self._departed.append(endpoint)
                if self.close_idle is not None:
                    self.close_idle(endpoint)
        self.endpoints = tuple(wanted.values())
        for endpoint in self.endpoints:
            if known.get(endpoint.key) is not endpoint:
                endpoint.since = now
            self._equip(endpoint)
        self.drains.update(self.endpoints)
        if self.drains.due != inf:
            self._keep_one(now)
        self.outlier.update(self.endpoints, now)
        self.availability.update(self.endpoints, now)
        self.due = min(self.outlier.due, self.availability.due, self.drains.due)
        if self.checker is not None:
            self.checker.update(self.endpoints)
        self._picker.update(self.endpoints, self.config.policy)

    def _equip(self, endpoint: Endpoint) -> None:
        """Create or remove the health state and the latency estimate of an endpoint, as the policy needs them."""
        policy = self.config.policy
        if policy.health is None:
            endpoint.health = None
            endpoint.passing = True
        elif endpoint.health is None:
            endpoint.health = HealthState(policy.health)
        else:
            endpoint.health.settings = policy.health
        if policy.balancer != "peak_ewma":
            endpoint.latency = None
        elif endpoint.latency is None:
            endpoint.latency = PeakEwma()

    def pick(self, now: float, tried: Sequence[Endpoint], key: bytes | None = None) -> Endpoint | None:
        """The endpoint of the next attempt: in turn, available and not tried. When all have been tried, one of them;
        None when none is available.

        `key` is the key of a hash balancer.
        """
        if now >= self.due:
            self.refresh(now)
        picker = self._picker
        if not tried:
            return picker.first(now, key)
        untried = picker.another(now, tried, key)
        return untried if untried is not None else picker.another(now, (), key)

    def pick_untried(self, now: float, tried: Sequence[Endpoint], key: bytes | None = None) -> Endpoint | None:
        """The endpoint to use after a failed connection: one that is available and not tried yet; else None."""
        return self._picker.another(now, tried, key)

    def peek(self) -> Endpoint | None:
        """The endpoint of the next request's first attempt, if it can be known; changes nothing."""
        return self._picker.peek()

    # Health, ejection and availability.

    def changed(self, now: float) -> None:
        """Call after any change of an endpoint's health, ejection, drain or skip."""
        self.availability.recompute(now)
        self.due = min(self.outlier.due, self.availability.due, self.drains.due)

    def refresh(self, now: float) -> None:
        """Call once `due` has come, and from time to time: ends ejections, skips and drains whose time is over."""
        for endpoint in self.drains.tick(now):
            self._drain_ended(endpoint, "time_up")
        self.outlier.tick(now)
        self.changed(now)
        if self._reconnect_skipped(now):
            self.changed(now)

    def _reconnect_skipped(self, now: float) -> bool:
        """Have endpoints whose skip is over tried by a connection of their own; returns whether there are any.

        Otherwise a request would have to find out, and an address that swallows packets costs it `timeout.connect`.
        Where no other endpoint is known to take connections, requests try: waiting would serve nobody.
        """
        if self.reconnect is None:
            return False
        over = [one for one in self.endpoints if 0.0 < one.skip_until <= now and one.healthy and not one.reconnecting]
        if not over or not any(one.available and not one.skip_until for one in self.endpoints):
            return False
        for endpoint in over:
            endpoint.begin_reconnect(now, self.config.policy.timeout.connect + RECONNECT_MARGIN_S)
            self.reconnect(endpoint)
        return True

    def expire(self, now: float) -> None:
        """Call from time to time, and before a breaker's state is shown: applies what time alone changes."""
        self._routes.expire(now)

    # Operator actions (`sidecar.runtime.operator` has the rules).

    def drain(self, endpoint: Endpoint, until: float, now: float) -> None:
        self.drains.begin(endpoint, until)
        self.outlier.update(self.endpoints, now)
        self.changed(now)

    def eject(self, endpoint: Endpoint, until: float, now: float) -> None:
        self.outlier.force(endpoint, until, now)
        self.changed(now)

    def restore(self, endpoint: Endpoint, now: float) -> None:
        self.outlier.restore(endpoint, now)
        endpoint.connected()
        if endpoint.draining:
            self.drains.end(endpoint, now)
            self.outlier.update(self.endpoints, now)
            self._drain_ended(endpoint, "operator")
        if endpoint.health is not None and endpoint.health.forgive():
            self._health_changed(endpoint, True, "operator", now)
        self.changed(now)

    def _keep_one(self, now: float) -> None:
        """When the set has changed and every endpoint drains, end all drains: nobody meant to leave the service with
        none.
        """
        if all(one.draining for one in self.endpoints):
            for endpoint in self.endpoints:
                self.drains.end(endpoint, now)
                self._drain_ended(endpoint, "last_endpoint", logging.WARNING)

    def _drain_ended(self, endpoint: Endpoint, why: str, level: int = logging.INFO) -> None:
        fields = {"service": self.name, "endpoint": endpoint.label, "reason": why}
        log.log(level, "endpoint is no longer drained", extra={"kind": "endpoint", "fields": fields})

    def checked(self, endpoint: Endpoint, ok: bool, reason: str, latency_s: float) -> None:
        """An active check has ended."""
        self.counters.checks["success" if ok else "failure"] += 1
        state = endpoint.health
        if state is None:
            return
        now = self._clock()
        began = now - latency_s
        changed = state.fail_at_once(now) if reason == IMMEDIATE_FAIL else state.result(ok, began)
        self.outlier.checked(endpoint, ok, began, now)
        if ok and endpoint.skip_until:
            endpoint.checked_well(began)
            self.changed(now)
        if changed:
            self._health_changed(endpoint, state.passing, reason, now)

    def fail_at_once(self, endpoint: Endpoint, now: float) -> None:
        """The endpoint declared itself failed in a response. Ignored without active checks, which alone could end
        it.
        """
        if endpoint.health is not None and endpoint.health.fail_at_once(now):
            self._health_changed(endpoint, False, "immediate_fail", now)

    def _health_changed(self, endpoint: Endpoint, passing: bool, reason: str, now: float) -> None:
        endpoint.passing = passing
        if passing:
            endpoint.since = now
        self.changed(now)
        fields = {"service": self.name, "endpoint": endpoint.label, "reason": reason}
        level = logging.INFO if passing else logging.WARNING
        extra = {"kind": "health", "fields": fields}
        log.log(level, "endpoint is %s", "healthy" if passing else "unhealthy", extra=extra)

    def _ejection(self, event: str, endpoint: EndpointState, why: str, now: float) -> None:
        assert isinstance(endpoint, Endpoint)
        self.changed(now)
        if event == EJECTED and why != OPERATOR:
            for breaker in self._routes.breakers:
                breaker.forgive(now)
        fields = {"service": self.name, "endpoint": endpoint.label, "reason": why}
        extra = {"kind": "ejection", "fields": fields}
        log.log(logging.WARNING if event == EJECTED else logging.INFO, "endpoint %s", event, extra=extra)

    def _panic(self, panic: bool, healthy: int, total: int, now: float) -> None:
        fields = {"service": self.name, "well": healthy, "of": total}
        words = "too few endpoints are healthy, so all are used" if panic else "enough endpoints are healthy again"
        log.log(logging.WARNING if panic else logging.INFO, words, extra={"kind": "panic", "fields": fields})

    def __repr__(self) -> str:
        counts = f"in_flight={self.limit.in_flight} connections={self.connections}"
        return f"<LiveService {self.name} {counts} {self.endpoints}>"
