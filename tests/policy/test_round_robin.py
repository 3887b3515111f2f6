"""Round robin: the order, the proportions, and what is skipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import gcd

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.round_robin import LONGEST_CYCLE, MOST_AHEAD, RoundRobin, smooth_cycle


def picks(balancer: RoundRobin, number: int, down: frozenset[int] = frozenset()) -> list[int]:
    return [balancer.pick(lambda index: index not in down) for _ in range(number)]


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ([1], [0, 0, 0]),
        ([1, 1], [0, 1, 0, 1]),
        ([7, 7, 7], [0, 1, 2, 0]),
        ([5, 1, 1], [0, 0, 1, 0, 2, 0, 0, 0]),  # nginx's own example: a a b a c a a
        ([3, 1], [0, 0, 1, 0, 0, 0, 1, 0]),
        ([300, 100], [0, 0, 1, 0]),
        ([1, 2], [1, 0, 1, 1]),
        ([5001, 1], [0] * 20),
    ],
)
def test_the_order_is_smooth(weights: list[int], order: list[int]) -> None:
    assert [RoundRobin(weights).next()] == order[:1]
    balancer = RoundRobin(weights)
    assert [balancer.next() for _ in order] == order
    assert picks(RoundRobin(weights), len(order)) == order


def test_without_endpoints_there_is_nothing_to_pick() -> None:
    balancer = RoundRobin([])
    assert len(balancer) == 0
    assert balancer.next() == balancer.next() == -1
    assert balancer.pick(lambda index: True) == -1


@pytest.mark.parametrize("weights", [[1], [1, 1, 1], [3, 1], [5000, 1], [2000, 2000, 1]])
def test_without_a_available_endpoint_there_is_nothing_to_pick(weights: list[int]) -> None:
    balancer = RoundRobin(weights)
    assert len(balancer) == len(weights)
    assert balancer.pick(lambda index: False) == -1
    assert balancer.pick(lambda index: True) == 0


@pytest.mark.parametrize("weights", [[0], [1, 0], [3, -1]])
def test_a_weight_below_one_is_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="less than 1"):
        RoundRobin(weights)


def test_the_slots_of_a_skipped_endpoint_do_not_all_go_to_its_neighbour() -> None:
    assert picks(RoundRobin([1, 1, 1]), 6, frozenset({1})) == [0, 2, 0, 2, 0, 2]
    assert Counter(picks(RoundRobin([2, 1, 1]), 300, frozenset({1}))) == {0: 200, 2: 100}


def test_a_start_shifts_the_turn() -> None:
    assert [RoundRobin([1, 1, 1], start).next() for start in range(5)] == [0, 1, 2, 0, 1]
    assert [RoundRobin([3, 1], start).next() for start in range(5)] == [0, 0, 1, 0, 0]
    late = RoundRobin([5001, 5000, 5000], 2)
    early = RoundRobin([5001, 5000, 5000])
    early.next()
    early.next()
    assert [late.next() for _ in range(30)] == [early.next() for _ in range(30)]


def test_a_start_in_a_long_cycle_costs_a_bounded_number_of_picks() -> None:
    weights = list(range(1000, 1200))
    late, early = RoundRobin(weights, 199), RoundRobin(weights)
    for _ in range(MOST_AHEAD):
        early.next()
    assert [late.next() for _ in range(30)] == [early.next() for _ in range(30)]


@pytest.mark.parametrize("weights", [[], [1], [1, 1, 1], [3, 1], [5001, 5000, 5000]])
def test_a_fork_starts_at_the_same_position_and_advances_alone(weights: list[int]) -> None:
    reference, balancer = RoundRobin(weights), RoundRobin(weights)
    expected = [reference.next() for _ in range(20)]
    assert [balancer.next() for _ in range(4)] == expected[:4]
    fork = balancer.fork()
    assert [fork.next() for _ in range(16)] == expected[4:]
    assert [balancer.pick(lambda index: True) for _ in range(16)] == expected[4:]
    assert len(fork) == len(weights)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_proportions_hold_at_the_longest_cycle(extra: int) -> None:
    weights = [LONGEST_CYCLE - 3 + extra, 2, 1]
    assert gcd(*weights) == 1
    assert Counter(picks(RoundRobin(weights), sum(weights))) == dict(enumerate(weights))


def test_a_rare_endpoint_is_found_with_few_questions() -> None:
    balancer = RoundRobin([2000, 2000, 1])
    asked: list[int] = []

    def available(index: int) -> bool:
        asked.append(index)
        return index == 2

    assert [balancer.pick(available) for _ in range(10)] == [2] * 10
    assert len(asked) <= 10 * 2 * 3


def test_more_endpoints_than_the_longest_cycle_take_turns_when_equal() -> None:
    balancer = RoundRobin([4] * (LONGEST_CYCLE + 5))
    assert [balancer.next() for _ in range(LONGEST_CYCLE + 6)] == [*range(LONGEST_CYCLE + 5), 0]


def test_repr_shows_the_state() -> None:
    assert repr(RoundRobin([3, 1], 2)) == "<RoundRobin of 2, at 2 of 4>"


weights_strategy = st.one_of(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.lists(st.sampled_from([1, 2, 700, 900]), min_size=1, max_size=4),
)


@given(weights_strategy, st.data())
def test_available_endpoints_get_exactly_their_weights_in_a_cycle(weights: list[int], data: st.DataObject) -> None:
    available = data.draw(st.sets(st.integers(0, len(weights) - 1), min_size=1))
    divisor = gcd(*weights)
    expected = {index: weights[index] // divisor for index in available}
    balancer = RoundRobin(weights, data.draw(st.integers(0, 10_000)))
    for _ in range(2):
        cycle = Counter(balancer.pick(available.__contains__) for _ in range(sum(expected.values())))
        assert cycle == expected


@given(st.lists(st.integers(1000, 5000), min_size=2, max_size=4), st.data())
def test_a_long_cycle_keeps_the_proportions(weights: list[int], data: st.DataObject) -> None:
    available = data.draw(st.sets(st.integers(0, len(weights) - 1), min_size=1))
    balancer = RoundRobin(weights)
    number, total = 500, sum(weights[index] for index in available)
    got = Counter(balancer.pick(available.__contains__) for _ in range(number))
    assert all(abs(got[index] - number * weights[index] / total) <= len(available) for index in available)
    assert set(got) <= available


def plain_nginx(weights: list[int], number: int) -> list[int]:
    """ngx_http_upstream_get_peer, word for word."""
    currents = [0] * len(weights)
    found = []
    for _ in range(number):
        currents = [current + weight for current, weight in zip(currents, weights, strict=True)]
        best = currents.index(max(currents))
        currents[best] -= sum(weights)
        found.append(best)
    return found


@given(
    st.one_of(
        st.lists(st.integers(1, 9), min_size=1, max_size=12),
        st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=60),
        st.lists(st.integers(1, 120), min_size=1, max_size=6),
    )
)
def test_the_cycle_is_what_the_plain_algorithm_gives(weights: list[int]) -> None:
    cycle = smooth_cycle(weights)
    assert list(cycle) == plain_nginx(weights, sum(weights))
    assert Counter(cycle) == dict(enumerate(weights))


def test_a_long_cycle_is_what_the_plain_algorithm_gives() -> None:
    weights = [1 + number % 3 for number in range(3000)]
    assert sum(weights) > LONGEST_CYCLE
    balancer = RoundRobin(weights)
    assert [balancer.next() for _ in range(400)] == plain_nginx(weights, 400)


def test_a_pick_of_a_long_cycle_asks_few_endpoints_unless_nearly_all_are_unavailable() -> None:
    weights = [1 + number % 3 for number in range(10_000)]
    balancer = RoundRobin(weights)
    asked: list[int] = []

    def available(index: int) -> bool:
        asked.append(index)
        return index % 2 == 0

    assert all(index % 2 == 0 for index in picks_of(balancer, available, 1000))
    assert len(asked) < 3000
    found = picks_of(balancer, lambda index: index in (4, 5), 300)
    assert Counter(found) == {4: 120, 5: 180}  # of weights 2 and 3


def picks_of(balancer: RoundRobin, available: Callable[[int], bool], number: int) -> list[int]:
    return [balancer.pick(available) for _ in range(number)]


def check_against_a_walk(weights: list[int], masks: list[int]) -> None:
    """Bit i of a mask: endpoint i is available. The model walks the cycle slot by slot."""
    reference = RoundRobin(weights)
    cycle = [reference.next() for _ in range(sum(weights) // gcd(*weights))]
    balancer, at = RoundRobin(weights), 0
    for mask in masks:
        steps = (step for step in range(len(cycle)) if mask >> cycle[(at + step) % len(cycle)] & 1)
        step = next(steps, None)
        expected = -1
        if step is not None:
            expected = cycle[(at + step) % len(cycle)]
            at = (at + step + 1) % len(cycle)
        assert balancer.pick(lambda index, mask=mask: bool(mask >> index & 1)) == expected


@given(
    weights_strategy.filter(lambda weights: sum(weights) <= LONGEST_CYCLE), st.lists(st.integers(0, 255), max_size=40)
)
def test_far_and_near_search_find_what_a_walk_finds(weights: list[int], masks: list[int]) -> None:
    check_against_a_walk(weights, masks)


def test_far_search_continues_at_the_beginning_of_the_cycle() -> None:
    check_against_a_walk([700, 900, 3, 2, 1], [0b11100, 0b11100, 0b11000, 0b11100, 0b01100, 0b10000, 0b00100] * 6)
