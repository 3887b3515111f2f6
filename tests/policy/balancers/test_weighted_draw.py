"""Weighted draws: shares, pairs, and draws of available endpoints."""

from __future__ import annotations

from collections import Counter
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.balancers.weighted_draw import WeightedDraw
from tests.policy.balancers.support import assert_shares, seeded

WEIGHTS = [[1, 1], [1] * 10, [2, 1], [5, 1, 1, 3], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [100, 1]]


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("seed", range(5))
def test_one_is_drawn_in_proportion(weights: list[int], seed: int) -> None:
    draw = WeightedDraw(weights, seeded(seed))
    assert_shares((draw.one() for _ in range(20_000)), weights)
    assert_shares((draw.one_of(lambda index: True) for _ in range(20_000)), weights)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_two_draws_differ_and_the_first_follows_the_weights(weights: list[int]) -> None:
    draw = WeightedDraw(weights, seeded())
    pairs = [draw.two() for _ in range(20_000)]
    assert all(first != second for first, second in pairs)
    assert_shares((first for first, _ in pairs), weights)


def test_with_equal_weights_every_pair_is_equally_likely() -> None:
    draw = WeightedDraw([1, 1, 1, 1], seeded())
    pairs = Counter(draw.two() for _ in range(20_000))
    assert_shares(Counter(dict(enumerate(pairs.values()))).elements(), [1] * 12)


@pytest.mark.parametrize(
    ("weights", "available"),
    [([1] * 10, {0, 1, 5}), ([5, 1, 1, 3], {1, 3}), ([1000, 1, 2, 3], {1, 2, 3}), ([1, 1, 8], {0, 1, 2})],
)
def test_available_ones_stay_in_proportion(weights: list[int], available: set[int]) -> None:
    """[1000, 1, 2, 3] without its first hardly ever hits one by chance: there it is the look at all that draws."""
    draw = WeightedDraw(weights, seeded())
    expected = [weight if index in available else 0 for index, weight in enumerate(weights)]
    assert_shares((draw.one_of(available.__contains__) for _ in range(20_000)), expected)
    expected[3 % len(weights)] = 0
    assert_shares((draw.one_of(available.__contains__, but=3 % len(weights)) for _ in range(20_000)), expected)


def test_draws_from_too_few_endpoints() -> None:
    none, single = WeightedDraw([], seeded()), WeightedDraw([3], seeded())
    assert (none.one(), none.one_of(lambda index: True), len(none)) == (-1, -1, 0)
    assert (single.one(), single.one_of(lambda index: True), single.one_of(lambda index: True, but=0)) == (0, 0, -1)
    for draw in (none, single):
        with pytest.raises(IndexError):
            draw.two()


def test_a_weight_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        WeightedDraw([1, 0], seeded())


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=30))
def test_the_alias_table_holds_exactly_the_weights(weights: list[int]) -> None:
    draw = WeightedDraw(weights, seeded())
    size, total = len(weights), sum(weights)
    if draw._equal:
        return
    share = [kept / size for kept in draw._keep]
    for index, other in enumerate(draw._alias):
        share[other] += (1 - draw._keep[index]) / size
    assert all(isclose(part, weight / total, abs_tol=1e-9) for part, weight in zip(share, weights, strict=True))


@given(st.lists(st.integers(1, 9), min_size=2, max_size=9), st.floats(0, 1, exclude_max=True), st.data())
def test_the_ends_of_the_random_range_are_in_range(weights: list[int], number: float, data: st.DataObject) -> None:
    draw = WeightedDraw(weights, lambda: number)
    first, second = draw.two()
    assert 0 <= first < len(weights)
    assert 0 <= second < len(weights)
    assert first != second
    available = data.draw(st.sets(st.integers(0, len(weights) - 1), min_size=1))
    assert draw.one_of(available.__contains__) in available


def test_a_random_number_just_below_one_gives_the_last_index() -> None:
    draw = WeightedDraw([1, 1, 1], lambda: 1 - 2**-53)
    assert (draw.one(), draw.two()) == (2, (2, 1))
