"""Round robin behind the common interface: the order is the turn's own, begun anywhere."""

from __future__ import annotations

import pytest

from sidecar.policy.balancers.round_robin import WeightedRoundRobin
from tests.policy.balancers.support import assert_shares, endpoints, seeded


def test_the_order_is_round_robin_s() -> None:
    balancer = WeightedRoundRobin(endpoints([5, 1, 1]), lambda: 0.0)
    assert [balancer.next(b"key", 1.0) for _ in range(8)] == [0, 0, 1, 0, 2, 0, 0, 0]
    assert [balancer.pick(lambda index: index != 0, None, 1.0) for _ in range(4)] == [1, 2, 1, 2]


def test_without_endpoints_there_is_nothing() -> None:
    balancer = WeightedRoundRobin([], seeded())
    assert balancer.next(None, 0.0) == balancer.pick(lambda index: True, None, 0.0) == -1


@pytest.mark.parametrize("number", [2, 3, 7])
def test_many_that_start_together_begin_at_different_places(number: int) -> None:
    found, random = endpoints([1] * number), seeded()
    assert_shares((WeightedRoundRobin(found, random).next(None, 0.0) for _ in range(5000)), [1] * number)
