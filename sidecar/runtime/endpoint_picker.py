"""Picks the endpoint of an attempt: in the order of the service's balancer, among those that are available.

Owns the balancers and their turns. Who is available is decided elsewhere (`sidecar.policy.availability`); a pick only
reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.policy.balancers.balancer import Balancer
from sidecar.policy.balancers.make import make_balancer
from sidecar.policy.balancers.ring_points import Ring
from sidecar.policy.round_robin import RoundRobin
from sidecar.policy.settings import HashSettings, Policy
from sidecar.runtime.endpoint import Endpoint


class EndpointPicker:
    """The balancers of one service. `key` is the key of a hash balancer."""

    __slots__ = ("_balancer", "_endpoints", "_random", "_rings", "_second_balancer", "_second_turn", "_turn")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._endpoints: tuple[Endpoint, ...] = ()
        self._turn = RoundRobin(())
        self._second_turn = RoundRobin(())
        """The turn of retries. If retries advanced the first turn, they could fall into step with the requests, and
        every request would begin with the one endpoint that fails.
        """
        self._balancer: Balancer | None = None
        """None for plain round robin."""
        self._second_balancer: Balancer | None = None
        self._rings: dict[int, Ring] = {}
        """Hash rings by priority, kept from one set of endpoints to the next."""

    def update(self, endpoints: tuple[Endpoint, ...], policy: Policy) -> None:
        """Build the balancers for a changed set. Plain round robin takes a shorter path, because it is the most
        common.
        """
        self._endpoints = endpoints
        name = "hash" if isinstance(policy.balancer, HashSettings) else policy.balancer
        plain = name == "round_robin" and not policy.slow_start and len({one.priority for one in endpoints}) <= 1
        if plain:
            self._balancer = None
            weights = [endpoint.weight for endpoint in endpoints]
            start = int(self._random() * len(weights)) if weights else 0
            self._turn = RoundRobin(weights, start)
            self._second_turn = self._turn.fork()
            return

        def healthy(index: int, now: float) -> bool:
            return endpoints[index].healthy and endpoints[index].skip_until <= now

        def make() -> Balancer:
            return make_balancer(name, endpoints, self._random, healthy, policy.slow_start or 0.0, self._rings)

        self._balancer = make()
        self._second_balancer = make() if name == "round_robin" else self._balancer

    def first(self, now: float, key: bytes | None) -> Endpoint | None:
        """The endpoint of a first attempt: in turn and available; None when none is available."""
        endpoints = self._endpoints
        balancer = self._balancer
        index = self._turn.next() if balancer is None else balancer.next(key, now)
        if index >= 0 and not endpoints[index].available:
            if balancer is None:
                index = self._turn.pick(lambda index: endpoints[index].available)
            else:
                index = balancer.pick(lambda index: endpoints[index].available, key, now)
        return endpoints[index] if index >= 0 else None

    def another(self, now: float, tried: Sequence[Endpoint], key: bytes | None) -> Endpoint | None:
        """The endpoint of a further attempt: available and not tried; None when there is none."""
        endpoints = self._endpoints

        def untried(index: int) -> bool:
            return endpoints[index].available and endpoints[index] not in tried

        if self._balancer is None or self._second_balancer is None:
            index = self._second_turn.pick(untried)
        else:
            index = self._second_balancer.pick(untried, key, now)
        return endpoints[index] if index >= 0 else None

    def peek(self) -> Endpoint | None:
        """What `first` would return, if it can be known; changes nothing.

        It can be known when only one endpoint is available, and with plain round robin.
        """
        available = [endpoint for endpoint in self._endpoints if endpoint.available]
        if len(available) <= 1:
            return available[0] if available else None
        if self._balancer is not None:
            return None
        return self._endpoints[self._turn.fork().pick(lambda index: self._endpoints[index].available)]

    def __repr__(self) -> str:
        return f"<EndpointPicker {self._turn if self._balancer is None else self._balancer}>"
