"""Builds the load balancer that is configured for a service, for its current endpoints.

Owns the order of the layers: priorities, then slow start, then the algorithm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.policy.balancers.balancer import BalancedEndpoint, Balancer, BalancerName
from sidecar.policy.balancers.least_request import LeastRequest
from sidecar.policy.balancers.peak_ewma import LeastLatency
from sidecar.policy.balancers.priority import Priority
from sidecar.policy.balancers.random_choice import RandomChoice
from sidecar.policy.balancers.ring import HashRing
from sidecar.policy.balancers.ring_points import Ring
from sidecar.policy.balancers.round_robin import WeightedRoundRobin
from sidecar.policy.balancers.slow_start import SlowStart


def make_balancer(
    name: BalancerName,
    endpoints: Sequence[BalancedEndpoint],
    random: Callable[[], float],
    healthy: Callable[[int, float], bool],
    slow_start_s: float = 0.0,
    rings: dict[int, Ring] | None = None,
) -> Balancer:
    """Build a balancer. `healthy(index, now)` says whether an endpoint is healthy; only priorities use it.

    `healthy` does not depend on which endpoints a request has tried. `rings` keeps, by priority, the hash ring from
    one set of endpoints to the next; the caller stores it and passes it again.
    """
    rings = rings if rings is not None else {}
    levels = {endpoint.priority for endpoint in endpoints}
    for level in [level for level in rings if level not in levels]:
        del rings[level]

    def make(members: Sequence[BalancedEndpoint]) -> Balancer:
        balancer = _choice(name, members, random, rings)
        if slow_start_s > 0.0 and len(members) > 1:
            return SlowStart(balancer, members, slow_start_s)
        return balancer

    if len(levels) > 1:
        return Priority(endpoints, make, healthy, random)
    return make(endpoints)


def _choice(
    name: BalancerName,
    endpoints: Sequence[BalancedEndpoint],
    random: Callable[[], float],
    rings: dict[int, Ring],
) -> Balancer:
    if name == "round_robin":
        return WeightedRoundRobin(endpoints, random)
    if name == "least_request":
        return LeastRequest(endpoints, random)
    if name == "peak_ewma":
        return LeastLatency(endpoints, random)
    if name == "random":
        return RandomChoice(endpoints, random)
    return HashRing(endpoints, random, rings.setdefault(endpoints[0].priority, Ring()) if endpoints else None)
