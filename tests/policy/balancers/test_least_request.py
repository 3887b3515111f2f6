"""Least request: the choice of two, the shares at rest, and the shares under load."""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from random import Random

import pytest

from sidecar.policy.balancers.least_request import LeastRequest, less_loaded
from sidecar.policy.balancers.random_choice import RandomChoice
from tests.policy.balancers.support import FakeEndpoint, assert_shares, endpoints, seeded


@pytest.mark.parametrize(
    ("first", "second", "taken"),  # (active, weight)
    [
        ((0, 1), (0, 1), False),
        ((1, 1), (0, 1), True),
        ((1, 1), (1, 1), False),
        ((2, 1), (1, 1), True),
        ((0, 1), (0, 100), False),  # at rest the draw alone decides
        ((9, 10), (0, 1), False),
        ((10, 10), (0, 1), True),
        ((11, 10), (0, 1), True),
        ((1, 1), (8, 10), True),
        ((1, 1), (9, 10), True),
        ((1, 1), (10, 10), False),
    ],
)
def test_the_second_is_taken_where_it_is_less_loaded_for_its_weight(
    first: tuple[int, int], second: tuple[int, int], taken: bool
) -> None:
    one, two = FakeEndpoint("a", active=first[0], weight=first[1]), FakeEndpoint("b", second[1], second[0])
    assert less_loaded(two, one) is taken


@pytest.mark.parametrize("weights", [[1, 1], [1] * 7, [2, 1], [100, 99], [5, 1, 1, 3]])
@pytest.mark.parametrize("seed", range(3))
def test_at_rest_the_shares_are_the_weights(weights: list[int], seed: int) -> None:
    balancer = LeastRequest(endpoints(weights), seeded(seed))
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), weights)
    assert_shares((balancer.pick(lambda index: True, None, 0.0) for _ in range(20_000)), weights)


@pytest.mark.parametrize("active", [1, 5])
def test_ties_are_fair(active: int) -> None:
    found = endpoints([1] * 4)
    for endpoint in found:
        endpoint.active = active
    balancer = LeastRequest(found, seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), [1] * 4)
    assert_shares((balancer.pick(lambda index: index < 3, None, 0.0) for _ in range(20_000)), [1] * 3)


@pytest.mark.parametrize("number", [2, 3, 5, 10])
def test_the_k_th_busiest_wins_the_pairs_that_two_choices_give_it(number: int) -> None:
    """Loads 0, 1, ... n-1: number i wins against each busier one, which is n-1-i of the n(n-1)/2 pairs."""
    found = endpoints([1] * number)
    for load, endpoint in enumerate(found):
        endpoint.active = load
    shares = [number - 1 - load for load in range(number)]
    if number == 2:
        assert {LeastRequest(found, seeded(seed)).next(None, 0.0) for seed in range(50)} == {0}
        return
    balancer = LeastRequest(found, seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), shares)
    assert_shares((balancer.pick(lambda index: True, None, 0.0) for _ in range(20_000)), shares)


def law(weights: list[int], at_once: int, steps: int) -> list[list[float]]:
    """For two endpoints: the exact shares of each of the first `steps` picks, where `at_once` requests are in flight
    and before each pick one of them, whichever, ends. Worked out from the rule as the module's docstring states it.
    """
    total = sum(weights)

    def goes_to_0(active: int, other: int) -> float:
        def second(active1: int, weight1: int, active2: int, weight2: int) -> bool:
            left = Fraction(active1, weight1) + Fraction(1, max(weights))
            return left > Fraction(active2 + 1, weight2)

        stays = not second(active, weights[0], other, weights[1])
        comes = second(other, weights[1], active, weights[0])
        return (weights[0] * stays + weights[1] * comes) / total

    chances, found = {0: 1.0}, []  # of so many in flight at endpoint 0; all are at endpoint 1
    for _ in range(steps):
        before: dict[int, float] = defaultdict(float)
        for active, chance in chances.items():
            if active:
                before[active - 1] += chance * active / at_once
            if active < at_once:
                before[active] += chance * (at_once - active) / at_once
        chances, share = defaultdict(float), 0.0
        for active, chance in before.items():
            to_0 = goes_to_0(active, at_once - 1 - active)
            chances[active + 1] += chance * to_0
            chances[active] += chance * (1 - to_0)
            share += chance * to_0
        found.append([share, 1 - share])
    return found


@pytest.mark.parametrize("weights", [[1, 1], [2, 1], [10, 1], [100, 99]])
@pytest.mark.parametrize("at_once", [2, 5, 30])
def test_under_load_the_shares_follow_the_computed_ones(weights: list[int], at_once: int) -> None:
    """Picks of one run depend on each other; the last picks of many runs do not."""
    steps, runs = 3 * at_once, 4000
    last, random = [], Random(1)
    found = endpoints(weights)
    balancer = LeastRequest(found, random.random)
    for _ in range(runs if at_once < 30 else 1000):
        found[0].active, found[1].active = 0, at_once
        for _ in range(steps):
            found[random.random() * at_once >= found[0].active].active -= 1
            index = balancer.next(None, 0.0)
            found[index].active += 1
        last.append(index)
    assert_shares(last, law(weights, at_once, steps)[-1])


@pytest.mark.parametrize(("weights", "at_once"), [([2, 1], 40), ([10, 1], 100), ([100, 99], 100)])
def test_under_heavy_load_the_shares_are_the_weights(weights: list[int], at_once: int) -> None:
    """To half a request of those in flight: nothing finer can be told apart."""
    share = law(weights, at_once, 5 * at_once)[-1][0]
    assert abs(share - weights[0] / sum(weights)) * at_once <= 0.5


def test_the_longest_queue_is_as_short_as_two_choices_promise() -> None:
    """100 requests to 100 idle endpoints: for two choices the longest queue is ln ln n / ln 2 + O(1) (Azar et al.,
    1994), for one about ln n / ln ln n. So that of two choices is the shorter in nearly every run; were both alike, it
    would be in at most half of them, and 90 of 100 such runs have a chance of under 1e-16 (binomial).
    """
    shorter = 0
    for seed in range(100):
        longest = []
        for kind in (LeastRequest, RandomChoice):
            found = endpoints([1] * 100)
            balancer = kind(found, seeded(seed))
            for _ in range(100):
                found[balancer.next(None, 0.0)].active += 1
            longest.append(max(endpoint.active for endpoint in found))
        shorter += longest[0] < longest[1]
    assert shorter >= 90


def test_an_endpoint_that_hangs_gets_almost_no_requests() -> None:
    found = endpoints([1, 1, 1])
    found[0].active = 50
    balancer = LeastRequest(found, seeded())
    assert all(balancer.next(None, 0.0) != 0 for _ in range(200))
    assert balancer.pick(lambda index: index == 0, None, 0.0) == 0


def test_a_heavy_endpoint_that_hangs_gets_almost_no_requests() -> None:
    found = endpoints([100, 1])
    found[0].active = 500
    balancer = LeastRequest(found, seeded())
    assert {balancer.next(None, 0.0) for _ in range(200)} == {1}
    assert {balancer.pick(lambda index: True, None, 0.0) for _ in range(200)} == {1}


@pytest.mark.parametrize(("number", "expected"), [(0, -1), (1, 0)])
def test_few_endpoints(number: int, expected: int) -> None:
    balancer = LeastRequest(endpoints([1] * number), seeded())
    assert balancer.next(None, 0.0) == balancer.pick(lambda index: True, None, 0.0) == expected
