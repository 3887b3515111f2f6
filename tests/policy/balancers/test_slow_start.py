"""Slow start: the ramp, its ends, and what it leaves alone."""

from __future__ import annotations

import pytest

from sidecar.policy.balancers.least_request import LeastRequest
from sidecar.policy.balancers.random_choice import RandomChoice
from sidecar.policy.balancers.ring import HashRing
from sidecar.policy.balancers.round_robin import WeightedRoundRobin
from sidecar.policy.balancers.slow_start import LEAST_SHARE, SlowStart
from tests.policy.balancers.support import FakeEndpoint, assert_proportion, assert_shares, endpoints, seeded

WINDOW_S = 30.0


def everyone(index: int) -> bool:
    return True


def joined(*since: float, weights: tuple[int, ...] = ()) -> list[FakeEndpoint]:
    found = endpoints(weights or [1] * len(since))
    for endpoint, when in zip(found, since, strict=True):
        endpoint.since = when
    return found


@pytest.mark.parametrize(
    ("age", "share"),
    [(0.0, 0.1), (1.0, 0.1), (3.0, 0.1), (6.0, 0.2), (15.0, 0.5), (29.0, 29 / 30), (30.0, 1.0), (31.0, 1.0)],
)
@pytest.mark.parametrize("kind", [RandomChoice, LeastRequest])
def test_the_weight_grows_in_a_straight_line_from_a_tenth(
    kind: type[RandomChoice | LeastRequest], age: float, share: float
) -> None:
    """Its age, and what Envoy's formula makes of its weight."""
    found = joined(-100.0, -100.0, 0.0, weights=(1, 2, 3))
    balancer = SlowStart(kind(found, seeded(7)), found, WINDOW_S)
    assert_shares((balancer.next(None, age) for _ in range(20_000)), [1, 2, 3 * share])
    assert_shares((balancer.pick(lambda index: index != 1, None, age) for _ in range(20_000)), [1, 0, 3 * share])


def test_round_robin_skips_turns_of_a_new_endpoint_at_random() -> None:
    """Turns missed are followed by the old one's, so of n picks a pair (new, old) needs more than a lone (old): the new
    one's number is a renewal process, less scattered than the binomial whose bound is used here.
    """
    found = joined(-100.0, 0.0)
    balancer = SlowStart(WeightedRoundRobin(found, seeded()), found, WINDOW_S)
    picks = [balancer.next(None, 6.0) for _ in range(20_000)]
    assert_proportion(picks.count(1), len(picks), 0.2 / 1.2)


def test_when_all_are_new_none_is_held_back() -> None:
    found = joined(0.0, 0.0, 0.0)
    inner = WeightedRoundRobin(found, lambda: 0.0)
    balancer = SlowStart(inner, found, WINDOW_S)
    assert [balancer.next(None, 1.0) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_a_new_endpoint_is_compared_with_the_oldest() -> None:
    """6 s and 15 s of 30 s: as 0.2 to 0.5."""
    found = joined(9.0, 0.0)
    balancer = SlowStart(RandomChoice(found, seeded(7)), found, WINDOW_S)
    assert_shares((balancer.next(None, 15.0) for _ in range(20_000)), [0.2, 0.5])


def test_an_endpoint_that_becomes_well_again_starts_slowly_again() -> None:
    found = joined(-100.0, -100.0)
    balancer = SlowStart(RandomChoice(found, seeded(7)), found, WINDOW_S)
    assert_shares((balancer.next(None, 0.0) for _ in range(5000)), [1, 1])
    found[1].since = 50.0
    assert_shares((balancer.pick(everyone, None, 53.0) for _ in range(20_000)), [1, LEAST_SHARE])
    assert_shares((balancer.next(None, 80.0) for _ in range(5000)), [1, 1])


def test_a_new_endpoint_gets_everything_when_it_is_the_only_one() -> None:
    found = joined(-100.0, 0.0)
    balancer = SlowStart(RandomChoice(found, seeded(7)), found, WINDOW_S)
    assert {balancer.pick(lambda index: index == 1, None, 1.0) for _ in range(100)} == {1}
    assert balancer.pick(lambda index: False, None, 1.0) == -1


def test_more_and_more_keys_come_back_and_each_moves_once() -> None:
    found = joined(-100.0, -100.0, -100.0, 0.0)
    ring = HashRing(found, seeded())
    balancer = SlowStart(ring, found, WINDOW_S)
    keys = [b"user-%d" % number for number in range(8000)]
    own = [key for key in keys if ring.next(key, 0.0) == 3]
    came: set[bytes] = set()
    for age, share in [(0.0, 0.1), (6.0, 0.2), (15.0, 0.5), (24.0, 0.8), (30.0, 1.0)]:
        picks = {key: balancer.next(key, age) for key in keys}
        home = {key for key, index in picks.items() if index == 3}
        assert came <= home <= set(own)
        assert all(picks[key] == ring.next(key, age) for key in keys if key not in own)
        if share < 1:
            assert_proportion(len(home), len(own), share)
        came = home
    assert came == set(own)


def test_a_window_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 0"):
        SlowStart(WeightedRoundRobin([], seeded()), [], 0.0)


def test_without_endpoints_there_is_nothing() -> None:
    balancer = SlowStart(WeightedRoundRobin([], seeded()), [], 1.0)
    for now in (0.5, 5.0):
        assert balancer.next(None, now) == balancer.pick(everyone, None, now) == -1
