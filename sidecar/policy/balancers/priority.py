"""Priority levels: the endpoints of priority 0 get all requests while enough are healthy; then the next level helps.

Owns how much load each level gets. The rule is Envoy's ("Priority levels" in its load balancing pages). The health of a
level is 1.4 times the share of its endpoints that are healthy, at most 1. Each level in turn takes as much load as
its health allows and leaves the rest to the next. When the sum of all healths is below 1, each level gets its part of
that sum. So up to 28% of a level may fail before any load moves, and load moves gradually.

    healthy of priority 0       100%   72%   71%   50%   25%    0%
    load of priority 0          100%  100%   99%   70%   35%    0%     the rest goes to priority 1, if that is healthy

When no endpoint of any level is healthy, the first level gets all requests.

"Healthy" (and not skipped) is not the same as "available for this attempt". An endpoint that this request has already
tried is still healthy; and in a panic, when health is ignored, levels are still judged by health. Counting visits every
endpoint, so it is done at most ten times a second. When a level has no available endpoint right now, the request goes
to the first level that has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from sidecar.policy.balancers.balancer import BalancedEndpoint, Balancer
from sidecar.policy.balancers.hashing import key_share

OVERPROVISIONING: Final = 1.4
"""Envoy's `overprovisioning_factor`, 140%."""

RECOUNT_S: Final = 0.1


def loads(healthy: Sequence[int], sizes: Sequence[int]) -> list[float]:
    """The share of the load of each level, first to last; the shares sum to 1."""
    health = [min(1.0, OVERPROVISIONING * count / size) for count, size in zip(healthy, sizes, strict=True)]
    total = min(1.0, sum(health))
    if total <= 0.0:
        return [1.0] + [0.0] * (len(health) - 1)
    found: list[float] = []
    left = 1.0
    for part in health:
        load = min(left, part / total)
        found.append(load)
        left -= load
    return found


class Priority:
    """One balancer for each level, built by `make`. `healthy(index, now)` takes indices of the whole set."""

    __slots__ = ("_balancers", "_bounds", "_counted_at", "_healthy", "_members", "_random")

    def __init__(
        self,
        endpoints: Sequence[BalancedEndpoint],
        make: Callable[[Sequence[BalancedEndpoint]], Balancer],
        healthy: Callable[[int, float], bool],
        random: Callable[[], float],
    ) -> None:
        if not endpoints:
            raise ValueError("priorities need at least one endpoint")
        levels = sorted({endpoint.priority for endpoint in endpoints})
        self._members = [[at for at, one in enumerate(endpoints) if one.priority == level] for level in levels]
        self._balancers = [make([endpoints[index] for index in members]) for members in self._members]
        self._healthy = healthy
        self._random = random
        self._bounds: list[float] = []
        self._counted_at = 0.0

    def next(self, key: bytes | None, now: float) -> int:
        level = self._level(key, now)
        index = self._balancers[level].next(key, now)
        return self._members[level][index] if index >= 0 else -1

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        chosen = self._level(key, now)
        index = self._pick_in(chosen, available, key, now)
        if index >= 0:
            return index
        for level in range(len(self._balancers)):
            if level != chosen:
                index = self._pick_in(level, available, key, now)
                if index >= 0:
                    return index
        return -1

    def _pick_in(self, level: int, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        members = self._members[level]
        index = self._balancers[level].pick(lambda local: available(members[local]), key, now)
        return members[index] if index >= 0 else -1

    def _level(self, key: bytes | None, now: float) -> int:
        if not self._bounds or not 0.0 <= now - self._counted_at < RECOUNT_S:
            self._count(now)
        bounds = self._bounds
        if bounds[0] >= 1.0:
            return 0
        drawn = self._random() if key is None else key_share(key, b"priority")
        level = 0
        while drawn >= bounds[level]:
            level += 1
        return level

    def _count(self, now: float) -> None:
        healthy = [sum([self._healthy(index, now) for index in members]) for members in self._members]
        self._bounds = list(accumulate(loads(healthy, [len(members) for members in self._members])))
        self._bounds[-1] = 1.0
        self._counted_at = now

    def __repr__(self) -> str:
        levels = ", ".join(f"{len(members)}" for members in self._members)
        return f"<Priority of {levels}, {self._balancers[0]}>"
