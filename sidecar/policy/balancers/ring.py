"""Consistent hashing balancer: requests with the same key go to one endpoint, and few keys move when endpoints change.

Owns which endpoint a key belongs to; `ring_points` owns the circle. The ring (D. Karger et al., "Consistent hashing and
random trees", 1997; libketama; Envoy's `ring_hash`): each endpoint has POINTS points on a circle, more or fewer by its
weight. A key belongs to the first point after it.

Why not Maglev, whose shares are more even? (Here the share of an endpoint varies by 1/sqrt(POINTS), which is 5%.) The
table of Maglev must have a fixed size, because with another size every key moves. 65537 slots take 25 ms to fill on
each change, even for three endpoints. With a table of 1021 slots and ten endpoints, an endpoint that leaves moves 14%
of the keys instead of 10%. On the ring, only its own keys move.

A key whose endpoint is unavailable goes to the next point of an available endpoint. It would go there too if the
endpoint had left, so pods that see the endpoint as unavailable agree with pods that no longer know it. All endpoints
have points behind the many points of one, so its keys spread over all the others. A request without a key goes to a
random place.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from typing import Final

from sidecar.policy.balancers.balancer import BalancedEndpoint
from sidecar.policy.balancers.hashing import key_hash, key_share
from sidecar.policy.balancers.ring_points import PLACE_BITS, SLOT_BITS, Ring

TRIES: Final = 8


class HashRing:
    """`ring`, if given, is the ring of the previous set and is updated to `endpoints`: cheaper than a new one."""

    __slots__ = ("_count", "_owners", "_points", "_random")

    def __init__(
        self, endpoints: Sequence[BalancedEndpoint], random: Callable[[], float], ring: Ring | None = None
    ) -> None:
        ring = ring if ring is not None else Ring()
        ring.update([endpoint.label for endpoint in endpoints], [endpoint.weight for endpoint in endpoints])
        self._count = len(endpoints)
        self._random = random
        self._points = ring.points
        self._owners = ring.owners

    def next(self, key: bytes | None, now: float) -> int:
        points = self._points
        if not points:
            return -1
        at = bisect(points, self._place(key))
        return self._owners[int(points[at if at < len(points) else 0]) & ((1 << SLOT_BITS) - 1)]

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        points, owners = self._points, self._owners
        length = len(points)
        if not length:
            return -1
        place = self._place(key)
        drawn = -1.0
        at, asked = bisect(points, place), -1
        for _ in range(TRIES):
            index = owners[int(points[at if at < length else 0]) & ((1 << SLOT_BITS) - 1)]
            if index != asked:
                part = available(index)
                if part >= 1.0:
                    return index
                if part > 0.0:
                    if drawn < 0.0:
                        drawn = self._drawn(key)
                    if drawn < part:
                        return index
                asked = index
            at = at + 1 if at < length else 1
        return self._pick_of_all([available(index) for index in range(self._count)], place, self._drawn(key))

    def _pick_of_all(self, parts: list[float], place: float, drawn: float) -> int:
        """The same choice when all endpoints have been asked already, so that a long walk asks no more questions."""
        most = max(parts)
        if most <= 0.0:
            return -1
        if most <= drawn:
            drawn = 0.0
        points, owners = self._points, self._owners
        at = bisect(points, place)
        while True:
            index = owners[int(points[at if at < len(points) else 0]) & ((1 << SLOT_BITS) - 1)]
            if parts[index] > drawn:
                return index
            at = at + 1 if at < len(points) else 1

    def _drawn(self, key: bytes | None) -> float:
        """A number that decides about endpoints available with a fraction. As the fraction grows, more keys stay, and
        none leaves again.
        """
        return key_share(key, b"part") if key is not None else self._random()

    def _place(self, key: bytes | None) -> float:
        return float(key_hash(key) >> (64 - PLACE_BITS)) if key is not None else self._random() * 2.0**PLACE_BITS

    def __repr__(self) -> str:
        return f"<HashRing of {self._count} with {len(self._points)} points>"
