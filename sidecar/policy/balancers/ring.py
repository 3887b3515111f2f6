"""Hashing: requests of one key go to one endpoint, and move as little as possible when endpoints come and go.

Owns the ring (D. Karger et al., "Consistent hashing and random trees", 1997; libketama; Envoy's `ring_hash`): each
endpoint has POINTS points on a circle, more or fewer by its weight, and a key belongs to the first point after it. An
endpoint's points depend on its label alone, so neither the order in which endpoints are given nor the process makes a
difference, and several pods agree.

Why not Maglev, whose shares are more even (here one endpoint's share strays by 1/sqrt(POINTS), 5% of itself): its table
has to be of one size whatever the number of endpoints, for with another size every key moves. 65537 slots take 25 ms
to fill on each change, for three endpoints too; and of ten endpoints in a table of 1021 slots, one that leaves moves
14% of the keys and not 10%. On the ring exactly its own keys move.

A key whose endpoint is unusable goes on to the next point of a usable one: to where it would go if that endpoint had
left, so pods that see it unusable agree with those that do not know it any more. The points that follow an endpoint's
many points are everyone's, so its keys spread over all the others. Without a key the place is drawn by chance.
"""

from __future__ import annotations

from array import array
from bisect import bisect
from collections.abc import Callable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final

from sidecar.policy.balancers.balancer import BalancedEndpoint
from sidecar.policy.balancers.hashing import key_hash, key_share

POINTS: Final = 400
"""Of an endpoint of average weight; libketama has 160. Ten endpoints take under 1 ms."""

MOST_POINTS: Final = 100_000
"""Of all together. Of more than 250 endpoints each has fewer; those that remain of its points stay where they are."""

INDEX_BITS: Final = 20
PLACE_BITS: Final = 52
TRIES: Final = 8

_SIXTEEN: Final = Struct("<16I")


class HashRing:
    """A point is a float, place * 2^INDEX_BITS + index: exact up to 2^PLACE_BITS, and nothing is sorted faster."""

    __slots__ = ("_count", "_points", "_random")

    def __init__(self, endpoints: Sequence[BalancedEndpoint], random: Callable[[], float]) -> None:
        self._count = len(endpoints)
        self._random = random
        self._points = ring([endpoint.label for endpoint in endpoints], [endpoint.weight for endpoint in endpoints])

    def next(self, key: bytes | None, now: float) -> int:
        points = self._points
        if not points:
            return -1
        at = bisect(points, self._place(key))
        return int(points[at if at < len(points) else 0]) & ((1 << INDEX_BITS) - 1)

    def pick(self, usable: Callable[[int], float], key: bytes | None, now: float) -> int:
        points = self._points
        length = len(points)
        if not length:
            return -1
        place = self._place(key)
        drawn = -1.0
        at, asked = bisect(points, place), -1
        for _ in range(TRIES):
            index = int(points[at if at < length else 0]) & ((1 << INDEX_BITS) - 1)
            if index != asked:
                part = usable(index)
                if part >= 1.0:
                    return index
                if part > 0.0:
                    if drawn < 0.0:
                        drawn = self._drawn(key)
                    if drawn < part:
                        return index
                asked = index
            at = at + 1 if at < length else 1
        return self._pick_of_all([usable(index) for index in range(self._count)], place, self._drawn(key))

    def _pick_of_all(self, parts: list[float], place: float, drawn: float) -> int:
        """The same, of endpoints that have all been asked: a long way round costs no more questions."""
        most = max(parts)
        if most <= 0.0:
            return -1
        if most <= drawn:
            drawn = 0.0
        points = self._points
        at = bisect(points, place)
        while True:
            index = int(points[at if at < len(points) else 0]) & ((1 << INDEX_BITS) - 1)
            if parts[index] > drawn:
                return index
            at = at + 1 if at < len(points) else 1

    def _drawn(self, key: bytes | None) -> float:
        """Decides about endpoints that are usable in part: as that grows, ever more keys stay, each from then on."""
        return key_share(key, b"part") if key is not None else self._random()

    def _place(self, key: bytes | None) -> float:
        return float(key_hash(key) >> (64 - PLACE_BITS)) if key is not None else self._random() * 2.0**PLACE_BITS

    def __repr__(self) -> str:
        return f"<HashRing of {self._count} with {len(self._points)} points>"


def ring(labels: Sequence[str], weights: Sequence[int]) -> array[float]:
    """All points in order. Raises ValueError for a weight below 1, or more endpoints than a point can tell apart."""
    number = len(labels)
    if any(weight < 1 for weight in weights):
        raise ValueError("a weight is less than 1")
    if number >= 1 << INDEX_BITS:
        raise ValueError("too many endpoints")
    if not number:
        return array("d")
    each = min(POINTS, MOST_POINTS / number) * number / sum(weights)
    points: list[float] = []
    for index, label in enumerate(labels):
        wanted = max(1, round(each * weights[index]))
        name = label.encode()
        for batch in range(0, wanted, 16):
            digest = blake2b(name, digest_size=64, salt=batch.to_bytes(8, "little")).digest()
            places = _SIXTEEN.unpack(digest)[: wanted - batch]
            points += [float((place << INDEX_BITS) + index) for place in places]
    points.sort()
    return array("d", points)
