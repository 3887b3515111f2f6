"""The circle that keys are hashed onto: which points are whose, and how that changes with the endpoints.

Owns the points. Those of an endpoint depend on its label alone, so neither the order in which endpoints are given, nor
what was there before, nor the process makes a difference, and several pods agree. (But where two points of different
endpoints have the same 32 bits: that is 1 in 40,000 of the points where there are 100,000.)

Why a ring is changed and not made anew: hashing and sorting take 0.3 us a point, which is 30 ms for 1,000 endpoints,
and nothing else runs meanwhile. Where one of them is another now, only its points are hashed, and what lies between
them is copied as it stands, in under 1 ms. Points speak of slots and not of places in the caller's list, so that who
stays in a list that shifts keeps its points. Where most are others now, beginning anew is the cheaper way.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b
from struct import Struct
from typing import Final

POINTS: Final = 400
"""Of an endpoint of average weight; libketama has 160. Ten endpoints take under 1 ms."""

MOST_POINTS: Final = 100_000
"""Of all together. Of more than 250 endpoints each has fewer; those that remain of its points stay where they are."""

SLOT_BITS: Final = 20
PLACE_BITS: Final = 52

SPLICED: Final = 4
"""Up to one in so many points is taken out or put in where it is; beyond that everything is sorted."""

_SIXTEEN: Final = Struct("<16I")

Name = tuple[str, int]
"""A label, and how many before it in the list are the same: http and https at one port."""


class Ring:
    """`points` are in order; `owners` says whose index a slot stands for. Both are replaced with a change, so whoever
    holds them still has the ring as it was.

    A point is a float, place * 2^SLOT_BITS + slot: exact up to 2^PLACE_BITS, and nothing is sorted faster.
    """

    __slots__ = ("_counts", "_slots", "owners", "points")

    def __init__(self) -> None:
        self.points: array[float] = array("d")
        self.owners: list[int] = []
        self._slots: dict[Name, int] = {}
        self._counts: list[int] = []
        """Points of each slot; 0 is free."""

    def update(self, labels: Sequence[str], weights: Sequence[int]) -> None:
        """Make these the complete set, by their index. Raises ValueError for a weight below 1, or more endpoints than
        a point can tell apart; nothing is changed then.
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
    """The points of that label from number `begin` up to `end`; a point stays what it is, however many there are."""
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
    """`points`, all of `gone` among them, without those and with `came`."""
    if (len(gone) + len(came)) * SPLICED > len(points):
        leaving: dict[float, int] = {}
        for point in gone:  # counted, for a label's own points may coincide
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
