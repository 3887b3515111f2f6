"""The points of the ring: an updated ring equals a new one, and what an update costs."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.policy.balancers import ring_points
from sidecar.policy.balancers.ring_points import MOST_POINTS, POINTS, SLOT_BITS, Ring, points_of

Members = list[tuple[str, int]]


def made(members: Members, ring: Ring | None = None) -> Ring:
    ring = ring or Ring()
    ring.update([label for label, _ in members], [weight for _, weight in members])
    return ring


def circle(ring: Ring) -> list[tuple[int, int]]:
    """(place, index) of each point, in order; of one place the order is the slots' and means nothing."""
    points = [int(point) for point in ring.points]
    return sorted((point >> SLOT_BITS, ring.owners[point & ((1 << SLOT_BITS) - 1)]) for point in points)


labels = st.sampled_from([f"10.0.0.{number}:80" for number in range(12)])
members_strategy = st.lists(st.tuples(labels, st.integers(1, 4)), max_size=10)


@given(st.lists(members_strategy, min_size=1, max_size=5))
@example([[("a", 1), ("a", 2)], [("a", 2)], [("a", 1), ("b", 1), ("a", 1)]])
@example([[("a", 1), ("b", 1)], [], [("b", 1), ("a", 3)]])
def test_an_updated_ring_equals_a_new_one(sets: list[Members]) -> None:
    ring = Ring()
    for members in sets:
        made(members, ring)
        assert circle(ring) == circle(made(members))
        assert list(ring.points) == sorted(ring.points)


@pytest.mark.parametrize("number", [10, 100, 251, 1000])
def test_when_one_endpoint_changes_only_its_points_are_hashed(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = made(members := [(f"10.0.{at}:80", 1) for at in range(number)])
    before, each = ring.points, len(ring.points) // number
    hashed: list[int] = []

    def counted(label: str, slot: int, begin: int, end: int) -> list[float]:
        hashed.append(end - begin)
        return points_of(label, slot, begin, end)

    monkeypatch.setattr(ring_points, "points_of", counted)
    members = [*members[: number // 2], *members[number // 2 + 1 :], ("10.1.0:80", 1)]
    made(members, ring)
    assert hashed == [each, each]
    assert circle(ring) == circle(made(members))
    assert len(ring.points) == len(before)
    hashed.clear()
    points = ring.points
    made(members[::-1], ring)
    assert not hashed
    assert ring.points is points
    assert circle(ring) == circle(made(members[::-1]))


@pytest.mark.parametrize(("before", "after"), [(249, 251), (251, 249), (400, 300), (300, 400)])
def test_with_fewer_points_each_endpoint_keeps_its_first_ones(before: int, after: int) -> None:
    ring = made([(f"10.0.{at}:80", 1) for at in range(before)])
    members = [(f"10.0.{at}:80", 1) for at in range(after)]
    made(members, ring)
    assert circle(ring) == circle(made(members))
    assert len(ring.points) == after * round(min(POINTS, MOST_POINTS / after))


def test_slots_that_are_free_are_used_again() -> None:
    ring = Ring()
    for number in range(50):
        made([(f"10.0.{number}:80", 1), (f"10.0.{number + 1}:80", 1)], ring)
    assert len(ring.owners) <= 3


@pytest.mark.parametrize("spliced", [0, 10**9])
def test_equal_points_of_one_label_are_kept_in_number(spliced: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """0: always in place, else always sorted anew."""
    monkeypatch.setattr(ring_points, "SPLICED", spliced)
    points = array("d", [1.0, 2.0, 2.0, 2.0, 3.0])
    assert list(ring_points._changed(points, [2.0], [])) == [1.0, 2.0, 2.0, 3.0]
    assert list(ring_points._changed(points, [2.0, 2.0, 1.0], [2.0, 0.5])) == [0.5, 2.0, 2.0, 3.0]
    assert list(points) == [1.0, 2.0, 2.0, 2.0, 3.0]


@pytest.mark.parametrize(("begin", "end"), [(0, 16), (0, 5), (5, 16), (15, 17), (16, 40), (3, 3)])
def test_the_points_of_a_label_do_not_depend_on_their_number(begin: int, end: int) -> None:
    assert points_of("a", 7, begin, end) == points_of("a", 7, 0, 64)[begin:end]


def test_a_refused_update_changes_nothing() -> None:
    ring = made([("a", 1)])
    points, owners = ring.points, ring.owners
    with pytest.raises(ValueError, match="less than 1"):
        ring.update(["b"], [0])
    with pytest.raises(ValueError, match="too many"):
        ring.update([""] * (1 << SLOT_BITS), [1] * (1 << SLOT_BITS))
    assert (ring.points, ring.owners) == (points, owners)


def test_repr_shows_the_state() -> None:
    assert repr(made([("a", 1), ("b", 1)])) == f"<Ring of 2 with {2 * POINTS} points>"
