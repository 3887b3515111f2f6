"""Slow start: a new endpoint gets its share of the requests gradually, while its caches fill and its code warms up.

Owns the ramp, around any balancer. The rule is Envoy's `slow_start_config` with `aggression: 1`: for `window_s` after
an endpoint joined or became healthy again, its weight is multiplied by max(10%, time since / window). Weights are
relative, so an endpoint is compared with the oldest one; when all began together, none is held back.

With hashing, that fraction of its keys comes to the new endpoint. The fraction grows, and each key moves only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from sidecar.policy.balancers.balancer import BalancedEndpoint, Balancer

LEAST_SHARE: Final = 0.1
"""Envoy's `min_weight_percent`: with less, an endpoint might never get the requests that warm it up."""


class SlowStart:
    __slots__ = ("_balancer", "_endpoints", "_oldest", "_until", "window_s")

    def __init__(self, balancer: Balancer, endpoints: Sequence[BalancedEndpoint], window_s: float) -> None:
        if window_s <= 0:
            raise ValueError("the window of a slow start must be longer than 0")
        self._balancer = balancer
        self._endpoints = list(endpoints)
        self.window_s = window_s
        self._oldest = 0.0
        self._until = 0.0
        self._look()

    def _look(self) -> None:
        joined = [endpoint.since for endpoint in self._endpoints] or [0.0]
        self._oldest = min(joined)
        self._until = max(joined) + self.window_s

    def next(self, key: bytes | None, now: float) -> int:
        if now >= self._until:
            index = self._balancer.next(key, now)
            if index < 0 or now - self._endpoints[index].since >= self.window_s:
                return index
            self._look()  # an endpoint joined or became healthy again in the meantime
        return self._ramped(_everyone, key, now)

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        if now >= self._until:
            index = self._balancer.pick(available, key, now)
            if index < 0 or now - self._endpoints[index].since >= self.window_s:
                return index
            self._look()
        return self._ramped(available, key, now)

    def _ramped(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        longest = self._share(self._oldest, now)

        def part(index: int) -> float:
            found = available(index)
            return found and found * self._share(self._endpoints[index].since, now) / longest

        return self._balancer.pick(part, key, now)

    def _share(self, since: float, now: float) -> float:
        """The available fraction of an endpoint's weight: from LEAST_SHARE to 1."""
        return min(max((now - since) / self.window_s, LEAST_SHARE), 1.0)

    def __repr__(self) -> str:
        return f"<SlowStart {self.window_s:g} s, {self._balancer}>"


def _everyone(index: int) -> float:
    return 1.0
