"""Random balancer: picks an endpoint at random, in proportion to the weights.

It needs no knowledge of load, and independent sidecars do not fall into step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.policy.balancers.balancer import BalancedEndpoint
from sidecar.policy.balancers.weighted_draw import WeightedDraw


class RandomChoice:
    __slots__ = ("_draw",)

    def __init__(self, endpoints: Sequence[BalancedEndpoint], random: Callable[[], float]) -> None:
        self._draw = WeightedDraw([endpoint.weight for endpoint in endpoints], random)

    def next(self, key: bytes | None, now: float) -> int:
        return self._draw.one()

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        return self._draw.one_of(available)

    def __repr__(self) -> str:
        return f"<RandomChoice of {len(self._draw)}>"
