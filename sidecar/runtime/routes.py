"""Builds the routes of a service, and keeps their breakers from one configuration to the next.

Owns which breaker a route gets, and how long it lives: as long as the route exists, at any place in the list.
"""

from __future__ import annotations

import logging

from sidecar.config.schema import Match, Service
from sidecar.policy.breaker import Breaker, make_breaker
from sidecar.policy.breaker_counters import BreakerCounters
from sidecar.policy.settings import Policy
from sidecar.runtime.route import LiveRoute

log = logging.getLogger("sidecar.runtime")


class Routes:
    """The routes of one service. `counters` are those of all its breakers."""

    __slots__ = ("_mode", "_service", "counters", "default", "in_order")

    def __init__(self, config: Service, now: float) -> None:
        self._service = config.name
        self._mode = config.policy.breaker.mode
        self.counters = BreakerCounters()
        self.default = LiveRoute("", None, config.policy, self._breaker("", config.policy, now), config.own_timeouts)
        """The service's own policy, for requests that no other route matches."""
        self.in_order: tuple[LiveRoute, ...] = ()
        """The others; the first that matches takes a request."""
        self.adopt(config, now)

    def adopt(self, config: Service, now: float) -> None:
        """Build the routes of a configuration. An unchanged route stays the same object."""
        self._mode = config.policy.breaker.mode
        before = {route.match: route for route in self.in_order if route.breaker is not self.default.breaker}
        shared = {route.match: route for route in self.in_order if route.breaker is self.default.breaker}
        breaker = self._kept("", self.default, config.policy, now)
        default = _as_before(self.default, "", None, config.policy, breaker, config.own_timeouts)
        routes: list[LiveRoute] = []
        for route in config.routes:
            match = route.match
            own = before.get(match)
            name = " ".join([",".join(sorted(match.methods)), match.path]).strip()
            breaker = self._kept(name, own, route.policy, now) if route.own_breaker else default.breaker
            before_it = own or shared.get(match)
            routes.append(_as_before(before_it, name, match, route.policy, breaker, route.own_timeouts))
        self.default = default
        self.in_order = tuple(routes)

    @property
    def breakers(self) -> list[Breaker]:
        """The breakers in use: the service's own, then those of routes that have their own."""
        own = self.default.breaker
        return [own, *(route.breaker for route in self.in_order if route.breaker is not own)]

    def expire(self, now: float) -> None:
        """Apply what time alone changes in breakers."""
        for breaker in self.breakers:
            if (forced := breaker.lapsed(now)) is not None:
                fields = {"service": self._service, "state": forced}
                log.info("breaker is no longer forced", extra={"kind": "breaker", "fields": fields})
            breaker.tick(now)

    def _kept(self, name: str, before: LiveRoute | None, policy: Policy, now: float) -> Breaker:
        """The breaker of a route with its state, or a new one. Only a change of the breaker's own settings affects
        it.
        """
        if before is None:
            return self._breaker(name, policy, now)
        if before.policy.breaker == policy.breaker:
            return before.breaker
        return before.breaker.reconfigure(policy.breaker, now)

    def _breaker(self, name: str, policy: Policy, now: float) -> Breaker:
        def on_change(old: str, new: str, now: float) -> None:
            level = logging.WARNING if new == "open" else logging.INFO
            mode = next((one.policy.breaker.mode for one in self.in_order if one.name == name), self._mode)
            fields = {"service": self._service, "route": name or None, "from": old, "to": new, "mode": mode}
            log.log(level, "breaker %s", new, extra={"kind": "breaker", "fields": fields})

        return make_breaker(policy.breaker, now, on_change, self.counters)


def _as_before(
    before: LiveRoute | None,
    name: str,
    match: Match | None,
    policy: Policy,
    breaker: Breaker,
    own_timeouts: frozenset[str],
) -> LiveRoute:
    same = before is not None and before.policy == policy and before.own_timeouts == own_timeouts
    if before is not None and same and before.breaker is breaker:
        return before
    return LiveRoute(name, match, policy, breaker, own_timeouts)
