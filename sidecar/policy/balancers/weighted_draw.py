"""Weighted random draws of endpoints: one, or two different ones.

Owns the drawing. A draw costs the same for any number of endpoints: Vose's alias method (M. D. Vose, "A linear
algorithm for generating random numbers with a given distribution", 1991). When only some endpoints are available, a
draw is repeated until it hits one of them, which keeps their proportions. After TRIES misses all endpoints are
examined, with the same proportions. So a pick is O(1) unless nearly all endpoints are unavailable, then O(n).
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from typing import Final

TRIES: Final = 8


class WeightedDraw:
    """Draws indices of `weights` (each at least 1). `random` gives floats in [0, 1)."""

    __slots__ = ("_alias", "_equal", "_keep", "_pairs", "_random", "_size", "_weights")

    def __init__(self, weights: Sequence[int], random: Callable[[], float]) -> None:
        if any(weight < 1 for weight in weights):
            raise ValueError("a weight is less than 1")
        self._weights = list(weights)
        self._random = random
        self._size = len(self._weights)
        self._pairs = self._size * (self._size - 1)
        self._equal = len(set(self._weights)) <= 1
        self._keep: list[float] = []
        self._alias: list[int] = []
        if not self._equal:
            self._build()

    def _build(self) -> None:
        """Vose: cells of equal size. Each is shared by its own index (up to `_keep`) and at most one other."""
        mean = sum(self._weights) / self._size
        share = [weight / mean for weight in self._weights]
        small = [index for index, part in enumerate(share) if part < 1.0]
        large = [index for index, part in enumerate(share) if part >= 1.0]
        self._keep = [1.0] * self._size
        self._alias = list(range(self._size))
        while small and large:
            index, giver = small.pop(), large.pop()
            self._keep[index] = share[index]
            self._alias[index] = giver
            share[giver] -= 1.0 - share[index]
            (small if share[giver] < 1.0 else large).append(giver)

    def one(self) -> int:
        """One index; -1 when there are none."""
        size = self._size
        if not size:
            return -1
        place = self._random() * size
        index = int(place)
        if self._equal or place - index < self._keep[index]:
            return index
        return self._alias[index]

    def two(self) -> tuple[int, int]:
        """Two different indices, the first in proportion to the weights. Raises IndexError when there are fewer than
        two.
        """
        size = self._size
        if size < 2:
            raise IndexError("drawing two endpoints needs at least two")
        if self._equal:
            place = int(self._random() * self._pairs)
            first = place // (size - 1)
            second = place - first * (size - 1)
            return first, second if second < first else second + 1
        first = self.one()
        second = self.one()
        if second == first:  # drawing until it differs could take long beside a heavy endpoint, so take any other one
            second = int(self._random() * (size - 1))
            if second >= first:
                second += 1
        return first, second

    def one_of(self, available: Callable[[int], float], but: int = -1) -> int:
        """One available index that is not `but`, or -1. `available` may give the available fraction of the weight."""
        if self._size > (1 if but >= 0 else 0):
            for _ in range(TRIES):
                index = self.one()
                if index != but:
                    part = available(index)
                    if part >= 1.0 or (part > 0.0 and self._random() < part):
                        return index
        return self._of_all(available, but)

    def _of_all(self, available: Callable[[int], float], but: int) -> int:
        found: list[int] = []
        bounds: list[float] = []
        total = 0.0
        for index, weight in enumerate(self._weights):
            part = available(index) if index != but else 0.0
            if part > 0.0:
                total += weight * part
                found.append(index)
                bounds.append(total)
        if len(found) < 2:
            return found[0] if found else -1
        return found[min(bisect(bounds, self._random() * total), len(found) - 1)]

    def __len__(self) -> int:
        return self._size
