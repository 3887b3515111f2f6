"""Rules that every balancer keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.balancers.balancer import Balancer, BalancerName
from sidecar.policy.balancers.make import make_balancer
from sidecar.policy.balancers.weighted_draw import TRIES
from tests.policy.balancers.support import NAMES, FakeEndpoint, endpoints, healthy, seeded

names = st.sampled_from(NAMES)
keys = st.one_of(st.none(), st.binary(max_size=20))
nows = st.floats(0.0, 100.0)


@st.composite
def sets(draw: st.DrawFn) -> list[FakeEndpoint]:
    number = draw(st.integers(0, 12))
    weights = draw(st.lists(st.sampled_from([1, 1, 2, 3, 50, 4000]), min_size=number, max_size=number))
    found = endpoints(weights)
    for endpoint in found:
        endpoint.active = draw(st.integers(0, 5))
        endpoint.priority = draw(st.integers(0, 2))
        endpoint.since = draw(st.sampled_from([-100.0, 0.0, 20.0]))
        if draw(st.booleans()):
            endpoint.latency = None
        elif endpoint.latency is not None and draw(st.booleans()):
            endpoint.latency.observe(draw(st.floats(0.0, 10.0)), draw(nows))
    return found


def make(name: BalancerName, found: list[FakeEndpoint], seed: int, slow_start_s: float) -> Balancer:
    return make_balancer(name, found, seeded(seed), healthy, slow_start_s)


@given(names, sets(), st.integers(0, 2**32), st.sampled_from([0.0, 30.0]), st.data())
def test_a_available_endpoint_is_picked_if_there_is_one(
    name: BalancerName, found: list[FakeEndpoint], seed: int, slow_start_s: float, data: st.DataObject
) -> None:
    balancer = make(name, found, seed, slow_start_s)
    indices = range(len(found))
    for _ in range(5):
        available = data.draw(st.sets(st.sampled_from(indices))) if found else set()
        key, now = data.draw(keys), data.draw(nows)
        index = balancer.pick(available.__contains__, key, now)
        assert index in available if available else index == -1
        assert balancer.next(key, now) in (indices if found else [-1])


@given(names, sets(), st.integers(0, 2**32), st.sampled_from([0.0, 30.0]), st.lists(st.tuples(keys, nows), max_size=20))
def test_the_same_random_numbers_make_the_same_picks(
    name: BalancerName,
    found: list[FakeEndpoint],
    seed: int,
    slow_start_s: float,
    asked: list[tuple[bytes | None, float]],
) -> None:
    one, other = make(name, found, seed, slow_start_s), make(name, found, seed, slow_start_s)
    for key, now in asked:
        assert one.next(key, now) == other.next(key, now)
        assert one.pick(lambda index: index % 2 == 0, key, now) == other.pick(lambda index: index % 2 == 0, key, now)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [1, 2, 3, 10, 1000])
def test_the_only_available_endpoint_is_found_at_any_index(name: BalancerName, number: int) -> None:
    found = endpoints([1 + number % 3 for number in range(number)])
    balancer = make(name, found, 1, 0.0)
    for last in {0, number // 2, number - 1}:
        assert balancer.pick(last.__eq__, b"key", 1.0) == last


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("number", [2, 3, 10, 100])
def test_with_half_available_a_pick_asks_few_questions(name: BalancerName, number: int) -> None:
    """O(1): two draws of at most TRIES questions, of which one in 2^TRIES asks all; equals take turns at most `number`
    long, and the available ones are every other.
    """
    balancer, picks, asked = make(name, endpoints([1] * number), 1, 0.0), 1000, 0

    def available(index: int) -> bool:
        nonlocal asked
        asked += 1
        return index % 2 == 0

    for key in range(picks):
        balancer.pick(available, b"%d" % key, 1.0)
    assert asked <= picks * 2 * (TRIES + number / 2**TRIES)


@pytest.mark.parametrize("name", NAMES)
def test_repr_names_the_balancer(name: BalancerName) -> None:
    assert "2" in repr(make(name, endpoints([1, 1]), 1, 0.0))
