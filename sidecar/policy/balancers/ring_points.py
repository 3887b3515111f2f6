"""Hash ring: the points of each endpoint on the circle, and how they change when endpoints change.

Owns the points. The points of an endpoint depend only on its label. The order of the endpoints, earlier sets and the
process make no difference, so several pods agree. (One exception: two points of different endpoints with the same 32
bits. With 100,000 points this concerns 1 point in 40,000.)

Why update a ring instead of building a new one? Hashing and sorting take 0.3 us a point, which is 30 ms for 1,000
endpoints, and nothing else runs in that time. When one endpoint changes, only its points are hashed and the points
between them are copied, in under 1 ms. A point holds a slot number and not an index of the caller's list, so an
endpoint keeps its points when its index changes. When most endpoints change, building a new ring is cheaper.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final

POINTS: Final = 400
"""Points of an endpoint of average weight (libketama uses 160). Ten endpoints take under 1 ms."""

MOST_POINTS: Final = 100_000
"""The most points of all endpoints together. With more than 250 endpoints each has fewer; the remaining points do not
move.
"""

SLOT_BITS: Final = 20
PLACE_BITS: Final = 52

SPLICED: Final = 4
"""Up to 1/SPLICED of the points are inserted or removed one by one; above that the whole ring is sorted."""

_SIXTEEN: Final = Struct("<16I")

Name = tuple[str, int]
"""A label, and how many equal labels precede it in the list (http and https on one port give equal labels)."""


class Ring:
    """`points` are sorted; `owners` gives the endpoint index of a slot.

    A change replaces both objects, so a caller that holds the old ones still has the old ring. A point is a float,
    place * 2^SLOT_BITS + slot: exact up to 2^PLACE_BITS, and floats sort fastest.
    """

    __slots__ = ("_counts", "_slots", "owners", "points")

    def __init__(self) -> None:
        self.points: array[float] = array("d")
        self.owners: list[int] = []
        self._slots: dict[Name, int] = {}
        self._counts: list[int] = []
        """The number of points of each slot; 0 means that the slot is free."""

    def update(self, labels: Sequence[str], weights: Sequence[int]) -> None:
        """Replace the whole set of endpoints, given by index.

        Raises ValueError for a weight below 1, or for more endpoints than a point can distinguish; then nothing
        changes.
        """
        number = len(labels)
        if any(weight < 1 for weight in weights):
            raise ValueError("a weight is less than 1")
        if number >= 1 << SLOT_BITS:
            raise ValueError("too many endpoints")
        gone: list[float] = []
        came: list[float] = []
        names = _names(labels)
        present = set(names)
        leaving = [name for name in self._slots if name not in present]
        if 2 * len(leaving) > len(self._slots):
            self.points, self._slots, self._counts = array("d"), {}, []
            leaving = []
        for name in leaving:
            slot = self._slots.pop(name)
            gone += points_of(name[0], slot, 0, self._counts[slot])
            self._counts[slot] = 0
        free = [slot for slot, count in enumerate(self._counts) if not count]
        free.reverse()
        each = min(POINTS, MOST_POINTS / number) * number / sum(weights) if number else 0.0
        owners = [-1] * max(len(self._counts), number)
        for index, name in enumerate(names):
            wanted = max(1, round(each * weights[index]))
            known = self._slots.get(name)
            if known is not None:
                slot = known
            elif free:
                slot = free.pop()
            else:
                slot = len(self._counts)
                self._counts.append(0)
            self._slots[name] = slot
            has = self._counts[slot]
            if has < wanted:
                came += points_of(name[0], slot, has, wanted)
            elif has > wanted:
                gone += points_of(name[0], slot, wanted, has)
            self._counts[slot] = wanted
            owners[slot] = index
        self.owners = owners
        if gone or came:
            self.points = _changed(self.points, gone, came)

    def __repr__(self) -> str:
        return f"<Ring of {len(self._slots)} with {len(self.points)} points>"


def points_of(label: str, slot: int, begin: int, end: int) -> list[float]:
    """The points of a label from number `begin` up to `end`. Point number n is the same for any range that contains
    it.
    """
    name = label.encode()
    first = begin - begin % 16
    found: list[float] = []
    for batch in range(first, end, 16):
        digest = blake2b(name, digest_size=64, salt=batch.to_bytes(8, "little")).digest()
        places = _SIXTEEN.unpack(digest)[max(begin - batch, 0) : end - batch]
        found += [float((place << SLOT_BITS) + slot) for place in places]
    return found


def _names(labels: Sequence[str]) -> list[Name]:
    if len(set(labels)) == len(labels):
        return [(label, 0) for label in labels]
    seen: dict[str, int] = {}
    names: list[Name] = []
    for label in labels:
        before = seen.get(label, 0)
        names.append((label, before))
        seen[label] = before + 1
    return names


def _changed(points: array[float], gone: list[float], came: list[float]) -> array[float]:
    """`points` without those in `gone` (which are all in it) and with those in `came`."""
    if (len(gone) + len(came)) * SPLICED > len(points):
        leaving: dict[float, int] = {}
        for point in gone:  # counted, because two points of one label may be equal
            leaving[point] = leaving.get(point, 0) + 1
        kept: list[float] = []
        for point in points:
            times = leaving.get(point, 0)
            if times:
                leaving[point] = times - 1
            else:
                kept.append(point)
        kept += came
        kept.sort()
        return array("d", kept)
    gone.sort()
    came.sort()
    for changes, taken_out in ((gone, True), (came, False)):
        fresh: array[float] = array("d")
        begin = 0
        for point in changes:
            at = bisect_left(points, point, begin)
            fresh += points[begin:at]
            if taken_out:
                at += 1
            else:
                fresh.append(point)
            begin = at
        fresh += points[begin:]
        points = fresh
    return points
