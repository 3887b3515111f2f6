"""The ring: the owner of a key, how many keys move on a change, and where the keys of a lost endpoint go."""

from __future__ import annotations

from array import array
from collections import Counter
from math import sqrt
from statistics import NormalDist

import pytest

from sidecar.policy.balancers.ring import HashRing
from sidecar.policy.balancers.ring_points import MOST_POINTS, POINTS, SLOT_BITS, Ring
from tests.policy.balancers.support import (
    SIGNIFICANCE,
    FakeEndpoint,
    assert_proportion,
    assert_shares,
    endpoints,
    seeded,
)

KEYS = [b"user-%d" % number for number in range(10_000)]


def owners(found: list[FakeEndpoint]) -> list[str]:
    balancer = HashRing(found, seeded())
    return [found[balancer.next(key, 0.0)].label for key in KEYS]


def points_of(found: list[FakeEndpoint]) -> array[float]:
    ring = Ring()
    ring.update([endpoint.label for endpoint in found], [endpoint.weight for endpoint in found])
    return ring.points


def arcs(found: list[FakeEndpoint]) -> list[float]:
    """The part of the circle that is each endpoint's: that before each of its points. New slots are indices."""
    points = points_of(found)
    shares, before = [0.0] * len(found), points[-1] - 2.0**52
    for point in points:
        shares[int(point) & ((1 << SLOT_BITS) - 1)] += (point - before) / 2.0**52
        before = point
    return shares


@pytest.mark.parametrize("weights", [[1, 1], [1] * 10, [5, 1, 1, 3], [100, 1], [1, 2] * 100])
def test_the_arcs_follow_the_weights(weights: list[int]) -> None:
    """k of n random points own a Beta(k, n - k) part of the circle; Bonferroni over the endpoints."""
    total = sum(weights)
    points = POINTS * len(weights)
    z = NormalDist().inv_cdf(1 - SIGNIFICANCE / 2 / len(weights))
    for weight, arc in zip(weights, arcs(endpoints(weights)), strict=True):
        mean = weight / total
        if mean * points >= 30:  # else far from normal
            assert abs(arc - mean) <= z * sqrt(mean * (1 - mean) / (points + 1)) + 0.5 / points


@pytest.mark.parametrize("weights", [[1, 1], [1] * 10, [5, 1, 1, 3]])
def test_keys_fall_on_the_arcs_evenly(weights: list[int]) -> None:
    found = endpoints(weights)
    balancer = HashRing(found, seeded())
    assert_shares((balancer.next(key, 0.0) for key in KEYS), arcs(found))


def test_without_a_key_the_place_is_random() -> None:
    found = endpoints([3, 1, 1])
    balancer = HashRing(found, seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), arcs(found))


@pytest.mark.parametrize("number", [2, 3, 10, 100])
def test_when_an_endpoint_leaves_only_its_keys_move(number: int) -> None:
    found = endpoints([1] * number)
    before = owners(found)
    left = number // 2
    after = owners(found[:left] + found[left + 1 :])
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert len(moved) == before.count(found[left].label)
    assert_proportion(len(moved), len(KEYS), arcs(found)[left])
    if number > 2:
        assert len(set(moved)) > 1


def test_a_changed_weight_moves_the_difference() -> None:
    """From 1 in 10 to 2 in 11: gains 1/11 - 1/110; all others shrink together by what their points are rounded to."""
    found = endpoints([1] * 10)
    before = owners(found)
    found[3].weight = 2
    moved = [new for old, new in zip(before, owners(found), strict=True) if old != new]
    to_it = moved.count(found[3].label)
    points, gained = POINTS * 10, 2 / 11 - 1 / 10
    # Points that vanish move keys too, a part of them to others: at most the tenth that the others' points shrink by.
    spread = 4 * sqrt(gained / points + gained / len(KEYS))
    assert abs(to_it / len(KEYS) - gained) <= spread
    assert len(moved) / len(KEYS) <= gained + 0.1 + spread


@pytest.mark.parametrize("number", [250, 251, 400])
def test_above_the_most_points_a_new_endpoint_still_moves_few_keys(number: int) -> None:
    """1/N go to it; as all give up 1/N of their points, another 1/N may move. Four standard errors of slack."""
    found = endpoints([1] * (number + 1))
    before, after = owners(found[:-1]), owners(found)
    moved = sum(old != new for old, new in zip(before, after, strict=True))
    assert len(HashRing(found, seeded())._points) <= MOST_POINTS + number
    assert moved <= 2 * len(KEYS) / number + 4 * sqrt(2 * len(KEYS) / number)


@pytest.mark.parametrize("number", [3, 5, 10])
def test_keys_of_an_unavailable_endpoint_go_where_they_would_go_if_it_left(number: int) -> None:
    found = endpoints([1] * number)
    whole, rest = HashRing(found, seeded()), HashRing(found[1:], seeded())
    picks = [whole.pick(lambda index: index != 0, key, 0.0) for key in KEYS]
    assert picks == [rest.next(key, 0.0) + 1 for key in KEYS]


@pytest.mark.parametrize("number", [4, 11])
def test_keys_of_an_unavailable_endpoint_spread_over_all_others(number: int) -> None:
    """Each of its arcs goes to any of the others alike. Their lengths are exponential, so the variance is twice that of
    POINTS draws; keys add theirs.
    """
    found = endpoints([1] * number)
    balancer = HashRing(found, seeded())
    orphans = [key for key in KEYS if balancer.next(key, 0.0) == 0]
    heirs = Counter(balancer.pick(lambda index: index != 0, key, 0.0) for key in orphans)
    share = 1 / (number - 1)
    z = NormalDist().inv_cdf(1 - SIGNIFICANCE / 2 / number)
    slack = z * sqrt(share * (1 - share) * (2 / POINTS + 1 / len(orphans)))
    assert set(heirs) == set(range(1, number))
    assert all(abs(heirs[index] / len(orphans) - share) <= slack for index in heirs), heirs


def test_order_makes_no_difference() -> None:
    found = endpoints([1, 2, 3, 1])
    assert owners(found) == owners(found[::-1])


def test_the_owner_of_a_key_never_changes() -> None:
    """Pods of different versions of the sidecar have to agree too."""
    balancer = HashRing(endpoints([1] * 10), seeded())
    assert [balancer.next(b"user-%d" % number, 0.0) for number in range(12)] == [4, 6, 0, 2, 5, 2, 3, 7, 1, 7, 7, 4]


def test_the_circle_closes() -> None:
    """A key after the last point belongs to the first, and the search for an available one goes on there."""
    found = endpoints([1, 1, 1])
    points = points_of(found)
    first, last = (int(points[at]) & ((1 << SLOT_BITS) - 1) for at in (0, -1))
    balancer = HashRing(found, lambda: 1 - 2**-53)
    assert balancer.next(None, 0.0) == balancer.pick(lambda index: True, None, 0.0) == first
    balancer = HashRing(found, lambda: (points[-1] - 2**SLOT_BITS) / 2**52)
    assert balancer.next(None, 0.0) == last
    for available in range(3):
        assert balancer.pick(available.__eq__, None, 0.0) == available


def test_an_endpoint_of_tiny_weight_has_a_point() -> None:
    balancer = HashRing(endpoints([100_000, 1]), seeded())
    assert balancer.pick(lambda index: index == 1, b"key", 0.0) == 1


def test_few_endpoints_and_bad_weights() -> None:
    none, single = HashRing([], seeded()), HashRing(endpoints([7]), seeded())
    assert none.next(b"key", 0.0) == none.pick(lambda index: True, b"key", 0.0) == -1
    assert single.next(b"key", 0.0) == single.pick(lambda index: True, b"key", 0.0) == 0
    assert single.pick(lambda index: False, b"key", 0.0) == -1


def test_an_updated_ring_leaves_the_old_balancer_unchanged() -> None:
    found, ring = endpoints([1] * 6), Ring()
    before = HashRing(found, seeded(), ring)
    owned = [before.next(key, 0.0) for key in KEYS]
    after = HashRing(found[1:], seeded(), ring)
    anew = HashRing(found[1:], seeded())
    assert [after.next(key, 0.0) for key in KEYS] == [anew.next(key, 0.0) for key in KEYS]
    assert [after.pick(lambda index: index != 2, key, 0.0) for key in KEYS] == [
        anew.pick(lambda index: index != 2, key, 0.0) for key in KEYS
    ]
    assert [before.next(key, 0.0) for key in KEYS] == owned
