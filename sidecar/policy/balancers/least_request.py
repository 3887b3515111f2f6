"""Least request balancer: draws two endpoints at random and takes the one with fewer requests in flight per weight.

Owns the comparison. Why two and not the least of all? Each sidecar knows only its own requests, so many sidecars would
all choose the same idle endpoint. The better of two random endpoints gives nearly as even a load, without that herd (M.
Mitzenmacher, "The power of two choices in randomized load balancing", 2001; Envoy's `least_request` with `choice_count:
2`).

Envoy's score of an endpoint is `weight / (active + 1)`. With a choice of two, the heavier of two idle endpoints would
then always win: with weights 100 and 99, one would get everything. So here the draw goes by weight. The new request
costs the endpoint drawn first no more than it would cost the heavier of the two. The second is taken if

    active1 / weight1 + 1 / max(weight1, weight2)  >  (active2 + 1) / weight2

With equal weights that means "fewer requests, and in a tie the first". This is fair, because either may be drawn first.
Without load the shares are exactly the weights; under Poisson load they were within five points of them in simulation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.policy.balancers.balancer import BalancedEndpoint
from sidecar.policy.balancers.weighted_draw import WeightedDraw


def less_loaded(second: BalancedEndpoint, first: BalancedEndpoint) -> bool:
    """Whether to take the second endpoint instead of the first."""
    active = first.active
    if not active:
        return False  # follows from the rule; a shortcut
    weight1, weight2 = first.weight, second.weight
    if weight1 == weight2:
        return active > second.active
    return active * weight2 + min(weight1, weight2) > (second.active + 1) * weight1


class LeastRequest:
    __slots__ = ("_draw", "_endpoints")

    def __init__(self, endpoints: Sequence[BalancedEndpoint], random: Callable[[], float]) -> None:
        self._endpoints = list(endpoints)
        self._draw = WeightedDraw([endpoint.weight for endpoint in endpoints], random)

    def next(self, key: bytes | None, now: float) -> int:
        endpoints = self._endpoints
        if len(endpoints) < 2:
            return len(endpoints) - 1
        first, second = self._draw.two()
        return second if less_loaded(endpoints[second], endpoints[first]) else first

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        endpoints = self._endpoints
        first = self._draw.one_of(available)
        if first < 0 or not endpoints[first].active:
            return first
        second = self._draw.one_of(available, first)
        return second if second >= 0 and less_loaded(endpoints[second], endpoints[first]) else first

    def __repr__(self) -> str:
        return f"<LeastRequest of {len(self._endpoints)}>"
