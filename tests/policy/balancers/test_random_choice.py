"""Random: the shares are the weights, of all endpoints and of the available ones."""

from __future__ import annotations

import pytest

from sidecar.policy.balancers.random_choice import RandomChoice
from tests.policy.balancers.support import assert_shares, endpoints, seeded


@pytest.mark.parametrize("weights", [[1, 1, 1], [5, 1, 1], [1, 2, 3, 4]])
def test_the_shares_are_the_weights(weights: list[int]) -> None:
    balancer = RandomChoice(endpoints(weights), seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), weights)
    available = [0, *weights[1:]]
    assert_shares((balancer.pick(lambda index: index > 0, None, 0.0) for _ in range(20_000)), available)


def test_load_and_latency_make_no_difference() -> None:
    found = endpoints([1, 1], latencies=[5.0, 0.001])
    found[0].active = 100
    balancer = RandomChoice(found, seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), [1, 1])
