"""Round robin balancer: `sidecar.policy.round_robin` behind the common interface, so that priorities and slow start
fit.

The order is decided there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sidecar.policy.balancers.balancer import BalancedEndpoint
from sidecar.policy.round_robin import RoundRobin


class WeightedRoundRobin:
    """Starts at a random endpoint, so that sidecars that start together do not all begin with the same one."""

    __slots__ = ("_random", "_turn")

    def __init__(self, endpoints: Sequence[BalancedEndpoint], random: Callable[[], float]) -> None:
        weights = [endpoint.weight for endpoint in endpoints]
        self._random = random
        self._turn = RoundRobin(weights, int(random() * len(weights)) if weights else 0)

    def next(self, key: bytes | None, now: float) -> int:
        return self._turn.next()

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        """Pick the next available endpoint. An endpoint that is available in part skips some of its turns at random."""

        def takes_its_turn(index: int) -> bool:
            part = available(index)
            return part >= 1.0 or (part > 0.0 and self._random() < part)

        index = self._turn.pick(takes_its_turn)
        return index if index >= 0 else self._turn.pick(lambda index: available(index) > 0.0)

    def __repr__(self) -> str:
        return f"<WeightedRoundRobin {self._turn}>"
