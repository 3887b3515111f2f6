"""Which layers go around a balancer, and in which order."""

from __future__ import annotations

import pytest

from sidecar.policy.balancers.balancer import BalancerName
from sidecar.policy.balancers.make import make_balancer
from sidecar.policy.balancers.ring_points import Ring
from tests.policy.balancers.support import NAMES, assert_proportion, assert_shares, endpoints, healthy, seeded


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("round_robin", "<WeightedRoundRobin <RoundRobin of 2, at 0 of 2>>"),
        ("least_request", "<LeastRequest of 2>"),
        ("peak_ewma", "<LeastLatency of 2>"),
        ("random", "<RandomChoice of 2>"),
        ("hash", "<HashRing of 2 with 800 points>"),
    ],
)
def test_a_name_gives_its_balancer_inside_the_layers(name: BalancerName, shown: str) -> None:
    found = endpoints([1, 1])
    assert repr(make_balancer(name, found, lambda: 0.0, healthy)) == shown
    assert repr(make_balancer(name, found, lambda: 0.0, healthy, 30.0)) == f"<SlowStart 30 s, {shown}>"
    found = endpoints([1, 1, 1], [0, 0, 1])
    assert repr(make_balancer(name, found, lambda: 0.0, healthy)) == f"<Priority of 2, 1, {shown}>"
    assert (
        repr(make_balancer(name, found, lambda: 0.0, healthy, 30.0)) == f"<Priority of 2, 1, <SlowStart 30 s, {shown}>>"
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_priority_shared_by_all_adds_no_layer(name: BalancerName) -> None:
    assert "Priority" not in repr(make_balancer(name, endpoints([1, 1], [3, 3]), seeded(), healthy))
    assert "Priority" not in repr(make_balancer(name, [], seeded(), healthy))


def test_a_ring_is_kept_for_each_priority() -> None:
    rings: dict[int, Ring] = {}

    def made(priorities: list[int]) -> set[int]:
        make_balancer("hash", endpoints([1] * len(priorities), priorities), seeded(), healthy, rings=rings)
        return set(rings)

    assert made([0, 0, 3]) == {0, 3}
    kept = rings[0]
    assert made([0, 0, 1]) == {0, 1}
    assert rings[0] is kept
    assert made([5]) == {5}
    assert made([]) == set()
    make_balancer("random", endpoints([1, 1]), seeded(), healthy, rings=rings)
    assert not rings


@pytest.mark.parametrize("name", NAMES)
def test_priorities_slow_start_and_weights_go_together(name: BalancerName) -> None:
    """Half of priority 0 is down, so 30% goes to priority 1, where one of two equals has had a third of its window."""
    found = endpoints([2, 1, 1, 1, 3, 3], [0, 0, 0, 0, 1, 1])
    found[5].since = 90.0

    def up(index: int, now: float) -> bool:
        return index not in (2, 3)

    balancer = make_balancer(name, found, seeded(), up, 30.0)
    keys = [b"%d" % number if name == "hash" else None for number in range(20_000)]
    picks = [balancer.pick(lambda index: index not in (2, 3), key, 100.0) for key in keys]
    if name != "hash":
        assert_shares(picks, [0.7 * 2 / 3, 0.7 / 3, 0, 0, 0.3 * 3 / 4, 0.3 * 1 / 4])
        return
    # Which keys are whose is the ring's choice, told by the level's own ring; a third of the young one's come home.
    young = make_balancer(name, found[4:], seeded(), healthy)
    own = sum(young.next(key, 100.0) == 1 for key in keys) / len(keys)
    assert_proportion(sum(pick >= 4 for pick in picks), len(picks), 0.3)
    assert_proportion(picks.count(5), len(picks), 0.3 * own / 3)
    assert set(picks) == {0, 1, 4, 5}
