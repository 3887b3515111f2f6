"""Priorities: Envoy's rule, its documentation's table of two levels included, and that the levels' picks follow it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.balancers.balancer import BalancedEndpoint, Balancer
from sidecar.policy.balancers.priority import RECOUNT_S, Priority, loads
from sidecar.policy.balancers.random_choice import RandomChoice
from sidecar.policy.balancers.ring import HashRing
from tests.policy.balancers.support import FakeEndpoint, assert_shares, endpoints, healthy, seeded


@pytest.mark.parametrize(
    ("available", "expected"),  # percent of each level
    [
        ([100], [100]),
        ([1], [100]),
        ([0], [100]),
        ([100, 100], [100, 0]),
        ([72, 100], [100, 0]),
        ([71, 100], [99, 1]),
        ([50, 100], [70, 30]),
        ([25, 100], [35, 65]),
        ([0, 100], [0, 100]),
        ([50, 50], [70, 30]),
        ([25, 25], [50, 50]),
        ([0, 1], [0, 100]),
        ([0, 0], [100, 0]),
        ([100, 100, 100], [100, 0, 0]),
        ([72, 72, 100], [100, 0, 0]),
        ([71, 71, 100], [99, 1, 0]),
        ([50, 50, 100], [70, 30, 0]),
        ([25, 100, 100], [35, 65, 0]),
        ([25, 25, 100], [35, 35, 30]),
        ([25, 25, 20], [36, 36, 29]),
    ],
)
def test_the_loads_are_those_of_envoy_s_rule(available: list[int], expected: list[int]) -> None:
    assert [round(100 * load) for load in loads(available, [100] * len(available))] == expected


@given(st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1)), min_size=1, max_size=6))
def test_the_loads_sum_to_one_and_a_level_without_any_gets_none(levels: list[tuple[int, float]]) -> None:
    sizes = [size for size, _ in levels]
    available = [round(size * part) for size, part in levels]
    found = loads(available, sizes)
    assert sum(found) == pytest.approx(1.0)
    assert all(load >= 0 for load in found)
    if any(available):
        assert all(load == 0 for load, one in zip(found, available, strict=True) if not one)


def draw(members: Sequence[BalancedEndpoint]) -> Balancer:
    return RandomChoice(members, seeded(7))


def two_levels() -> list[FakeEndpoint]:
    """Out of order, so that indices of levels and of the whole differ."""
    return endpoints([1, 1, 1, 3, 1, 1], [20, 10, 10, 20, 10, 10])


def test_the_first_level_gets_all_while_enough_are_well() -> None:
    balancer = Priority(two_levels(), draw, lambda index, now: index != 1, seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(5000)), [0, 1, 1, 0, 1, 1])
    assert_shares((balancer.pick(lambda index: index != 1, None, 0.0) for _ in range(5000)), [0, 0, 1, 0, 1, 1])


def test_when_too_few_are_well_the_rest_goes_to_the_next_level() -> None:
    down = {1, 2}
    balancer = Priority(two_levels(), draw, lambda index, now: index not in down, seeded())
    shares = [0.3 / 4, 0, 0, 0.3 * 3 / 4, 0.35, 0.35]
    assert_shares((balancer.pick(lambda index: index not in down, None, 0.0) for _ in range(20_000)), shares)


def test_a_key_keeps_its_level_and_its_endpoint() -> None:
    def make(members: Sequence[BalancedEndpoint]) -> Balancer:
        return HashRing(members, seeded())

    down = {1, 2}
    balancer = Priority(two_levels(), make, lambda index, now: index not in down, seeded())
    keys = [b"user-%d" % number for number in range(10_000)]
    picks = [balancer.pick(lambda index: index not in down, key, 0.0) for key in keys]
    assert picks == [balancer.pick(lambda index: index not in down, key, 0.0) for key in keys]
    assert_shares((index in (0, 3) for index in picks), [0.7, 0.3])


def test_when_a_level_has_no_available_endpoint_another_level_is_used() -> None:
    """An attempt may find less available than is healthy: it has tried the others."""
    balancer = Priority(two_levels(), draw, healthy, seeded())
    assert_shares((balancer.pick(lambda index: index in (0, 3), None, 0.0) for _ in range(5000)), [1, 0, 0, 3])
    assert balancer.pick(lambda index: False, None, 0.0) == -1


def test_in_a_panic_the_levels_are_still_judged_by_what_is_well() -> None:
    """All count as available; but of the first level none is healthy, and of the second one of two."""
    balancer = Priority(two_levels(), draw, lambda index, now: index == 3, seeded())
    assert_shares((balancer.pick(lambda index: True, None, 0.0) for _ in range(5000)), [1, 0, 0, 3])


def test_when_none_is_well_the_first_level_is_used() -> None:
    balancer = Priority(two_levels(), draw, lambda index, now: False, seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(5000)), [0, 1, 1, 0, 1, 1])


@pytest.mark.parametrize(("after", "noticed"), [(RECOUNT_S * 0.99, False), (RECOUNT_S, True), (-1.0, True)])
def test_availability_is_counted_ten_times_a_second(after: float, noticed: bool) -> None:
    down: set[int] = set()
    balancer = Priority(two_levels(), draw, lambda index, now: index not in down, seeded())
    assert balancer.next(None, 0.0) in (1, 2, 4, 5)
    down |= {1, 2, 4, 5}
    assert (balancer.next(None, 0.0 + after) in (0, 3)) is noticed


def test_no_endpoints_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one endpoint"):
        Priority([], draw, healthy, seeded())
