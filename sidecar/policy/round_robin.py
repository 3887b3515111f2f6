"""Round robin: which endpoint is next, by weight and as evenly spread as weights allow.

Owns the order. Which endpoints are usable is asked of the caller; what an index stands for is the caller's.

The order is nginx's smooth weighted round robin (weights 5, 1, 1 give a a b a c a a and not a a a a a b c). That order
is a cycle of sum(weights) / gcd(weights) picks, so where the cycle is short it is worked out once and a pick is a step
of a cursor. Equal weights are the shortest cycle: each endpoint once. A longer cycle is worked out as it is walked,
at a cost of one pass over the weights a pick.

Slots of an unusable endpoint are skipped, not given to its neighbour: what remains of the cycle holds the others in
proportion to their weights.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import gcd
from operator import add

LONGEST_CYCLE = 4096


class RoundRobin:
    """Picks indices of `weights` (each at least 1) in turn; `start` is the number of picks that the turn is ahead.

    Many sidecars that start together should not all begin with the same endpoint: give each a random `start`.
    """

    __slots__ = ("_at", "_cycle", "_last", "_running", "_size", "_slots")

    def __init__(self, weights: Sequence[int], start: int = 0) -> None:
        if any(weight < 1 for weight in weights):
            raise ValueError("a weight is less than 1")
        self._size = len(weights)
        self._cycle: Sequence[int] = (-1,)  # no endpoints: -1 for ever
        self._running: _Running | None = None
        self._slots: list[list[int]] | None = None
        divisor = gcd(*weights)
        reduced = [weight // divisor for weight in weights]
        if reduced and max(reduced) == 1:
            self._cycle = range(self._size)
        elif sum(reduced) <= LONGEST_CYCLE:
            if reduced:
                running = _Running(reduced)
                self._cycle = tuple([running.next() for _ in range(sum(reduced))])
        else:
            self._running = _Running(reduced)
            for _ in range(start % self._size):
                self._running.next()
        self._last = len(self._cycle) - 1
        self._at = start % len(self._cycle)

    def next(self) -> int:
        """The next index, usable or not; -1 where there are none."""
        if self._running is not None:
            return self._running.next()
        at = self._at
        self._at = at + 1 if at < self._last else 0
        return self._cycle[at]

    def pick(self, usable: Callable[[int], bool]) -> int:
        """The next index for which `usable` is true; -1 where there is none."""
        if self._running is not None:
            return self._running.pick(usable)
        cycle, at, last = self._cycle, self._at, self._last
        for _ in range(self._size):
            index = cycle[at]
            at = at + 1 if at < last else 0
            if usable(index):
                self._at = at
                return index
        return self._pick_far(usable, at) if 0 < self._size <= last else -1

    def _pick_far(self, usable: Callable[[int], bool], at: int) -> int:
        """The same as walking on from `at`, without walking: the usable endpoint whose next slot is nearest."""
        if self._slots is None:
            self._slots = [[] for _ in range(self._size)]
            for slot, index in enumerate(self._cycle):
                self._slots[index].append(slot)
        length = len(self._cycle)
        nearest, nearest_slot = -1, 2 * length
        for index, slots in enumerate(self._slots):
            place = bisect_left(slots, at)
            slot = slots[place] if place < len(slots) else slots[0] + length
            if slot < nearest_slot and usable(index):
                nearest, nearest_slot = index, slot
        if nearest >= 0:
            self._at = (nearest_slot + 1) % length
        return nearest

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<RoundRobin of {self._size}, at {self._at} of {len(self._cycle)}>"


class _Running:
    """nginx's algorithm as it stands (ngx_http_upstream_get_peer): raise all by their weight, take the highest."""

    __slots__ = ("_currents", "_total", "_weights")

    def __init__(self, weights: list[int]) -> None:
        self._weights = weights
        self._total = sum(weights)
        self._currents = [0] * len(weights)

    def next(self) -> int:
        currents = list(map(add, self._currents, self._weights))
        best = currents.index(max(currents))
        currents[best] -= self._total
        self._currents = currents
        return best

    def pick(self, usable: Callable[[int], bool]) -> int:
        currents, best, total = self._currents, -1, 0
        for index, weight in enumerate(self._weights):
            if usable(index):
                currents[index] += weight
                total += weight
                if best < 0 or currents[index] > currents[best]:
                    best = index
        if best >= 0:
            currents[best] -= total
        return best
