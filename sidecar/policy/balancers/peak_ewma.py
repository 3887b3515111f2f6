"""Peak EWMA balancer: draws two endpoints at random and takes the one with the lower expected latency.

Owns the comparison; `ewma` owns the estimates. The rule is Finagle's and Linkerd's: the cost of an endpoint is its
estimated latency times (active + 1). So traffic leaves a slow endpoint before its requests time out.

Weights: the draw goes by weight, and the heavier an endpoint, the less a request costs it. One exception: the new
request costs the endpoint drawn first no more than it would cost the heavier of the two:

    latency1 * (active1 / weight1 + 1 / max(weight1, weight2))  >  latency2 * (active2 + 1) / weight2

With equal weights this is Finagle's comparison. If the first paid its own price (tower's `load / weight`), the heavier
of two idle endpoints would get nearly all requests. With this rule the shares of equally fast endpoints stay within
some five points of the weights at any load.

An endpoint without a measurement is assumed to be as fast as the one it is compared with, so the requests in flight
decide. It begins with its fair share, and gets no more before its first answers. (Finagle's penalty for new endpoints
starves them under light load.) The same holds for an estimate that is older than the decay time and has fallen below
the other one: it has decayed so far that it means nothing. Without this rule the endpoint with the oldest answer would
get the whole first burst after a quiet night.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import exp

from sidecar.policy.balancers.balancer import BalancedEndpoint
from sidecar.policy.balancers.ewma import DECAY_S
from sidecar.policy.balancers.least_request import less_loaded
from sidecar.policy.balancers.weighted_draw import WeightedDraw


def cheaper(second: BalancedEndpoint, first: BalancedEndpoint, now: float) -> bool:
    """Whether to take the second endpoint instead of the first."""
    measured1, measured2 = first.latency, second.latency
    if measured1 is None or measured2 is None:
        return less_loaded(second, first)
    latency1, latency2 = measured1.value, measured2.value
    if not (latency1 and latency2):
        return less_loaded(second, first)
    age1, age2 = now - measured1.stamp, now - measured2.stamp
    if age1 > 0.0:
        latency1 *= exp(-age1 / DECAY_S)
    if age2 > 0.0:
        latency2 *= exp(-age2 / DECAY_S)
    if age1 > DECAY_S and latency1 <= latency2:
        return less_loaded(second, first)
    if age2 > DECAY_S and latency2 <= latency1:
        return less_loaded(second, first)
    weight1, weight2 = first.weight, second.weight
    if weight1 == weight2:
        return latency1 * (first.active + 1) > latency2 * (second.active + 1)
    return latency1 * (first.active * weight2 + min(weight1, weight2)) > latency2 * (second.active + 1) * weight1


class LeastLatency:
    __slots__ = ("_draw", "_endpoints")

    def __init__(self, endpoints: Sequence[BalancedEndpoint], random: Callable[[], float]) -> None:
        self._endpoints = list(endpoints)
        self._draw = WeightedDraw([endpoint.weight for endpoint in endpoints], random)

    def next(self, key: bytes | None, now: float) -> int:
        endpoints = self._endpoints
        if len(endpoints) < 2:
            return len(endpoints) - 1
        first, second = self._draw.two()
        return second if cheaper(endpoints[second], endpoints[first], now) else first

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        endpoints = self._endpoints
        first = self._draw.one_of(available)
        if first < 0:
            return -1
        second = self._draw.one_of(available, first)
        return second if second >= 0 and cheaper(endpoints[second], endpoints[first], now) else first

    def __repr__(self) -> str:
        return f"<LeastLatency of {len(self._endpoints)}>"
