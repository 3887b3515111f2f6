"""Peak EWMA: the choice of two, the shares by latency, and no stampede to new endpoints or stale estimates."""

from __future__ import annotations

from collections import Counter

import pytest

from sidecar.policy.balancers.ewma import DECAY_S, PeakEwma
from sidecar.policy.balancers.peak_ewma import LeastLatency, cheaper
from tests.policy.balancers.support import FakeEndpoint, assert_shares, endpoints, seeded


def endpoint(latency_s: float, active: int = 0, weight: int = 1, at: float = 0.0) -> FakeEndpoint:
    """Measured at `at`; 0 s is not measured."""
    found = FakeEndpoint("a", weight, active, latency=PeakEwma())
    if latency_s and found.latency is not None:
        found.latency.observe(latency_s, at)
    return found


@pytest.mark.parametrize(
    ("first", "second", "taken"),
    [
        (endpoint(0.01), endpoint(0.01), False),
        (endpoint(0.02), endpoint(0.01), True),
        (endpoint(0.01), endpoint(0.02), False),
        (endpoint(0.01, active=1), endpoint(0.015), True),  # 2 * 10 > 1 * 15
        (endpoint(0.01, active=1), endpoint(0.020), False),
        (endpoint(0.01, active=3), endpoint(0.015, active=1), True),  # 4 * 10 > 2 * 15
        (endpoint(0.01, active=2), endpoint(0.015, active=1), False),
        (endpoint(0.01, weight=2), endpoint(0.01), False),  # at rest, of equal speed: the draw decides
        (endpoint(0.01), endpoint(0.01, weight=2), False),
        (endpoint(0.011), endpoint(0.01, weight=2), True),
        (endpoint(0.019, weight=2), endpoint(0.01), False),  # to be worth it, it must beat the weights as well
        (endpoint(0.021, weight=2), endpoint(0.01), True),
        (endpoint(0), endpoint(0.01), False),  # not measured: by load
        (endpoint(0), endpoint(0.01, active=9), False),
        (endpoint(0, active=1), endpoint(5.0), True),
        (endpoint(5.0), endpoint(0), False),
        (endpoint(0.001, active=1), endpoint(0), True),
        (endpoint(0, active=1), endpoint(0), True),
        (FakeEndpoint("a", active=1), endpoint(5.0), True),
        (endpoint(5.0), FakeEndpoint("a"), False),
    ],
)
def test_the_second_is_taken_where_it_costs_less(first: FakeEndpoint, second: FakeEndpoint, taken: bool) -> None:
    assert cheaper(second, first, 0.0) is taken


def test_a_slow_endpoint_is_tried_again_after_its_estimate_decays() -> None:
    fast, slow = endpoint(0.01), endpoint(0.05)
    for now, taken in [(0.0, False), (DECAY_S, False), (1.5 * DECAY_S, False), (1.7 * DECAY_S, True)]:
        assert fast.latency is not None
        fast.latency.observe(0.01, now)  # it goes on being measured
        fast.active = 1  # with equal estimates this would decide
        slow.active = 0 if taken else 1
        assert cheaper(slow, fast, now) is taken


def test_a_faster_estimate_counts_within_the_decay_time_then_load_counts() -> None:
    recent, old = endpoint(0.010, at=100.0), endpoint(0.009, active=0, at=100.0 - DECAY_S)
    assert cheaper(old, recent, 100.0)
    assert not cheaper(old, recent, 100.5), "its estimate is lower still, but says nothing any more"
    recent.active = 1
    assert cheaper(old, recent, 100.5)


@pytest.mark.parametrize("number", [3, 5, 10])
def test_the_k_th_slowest_wins_the_pairs_that_two_choices_give_it(number: int) -> None:
    found = endpoints([1] * number, latencies=[0.01 * (1 + rank) for rank in range(number)])
    balancer = LeastLatency(found, seeded())
    shares = [number - 1 - rank for rank in range(number)]
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), shares)
    assert_shares((balancer.pick(lambda index: True, None, 0.0) for _ in range(20_000)), shares)


@pytest.mark.parametrize("weights", [[1, 1], [1] * 7, [5, 1, 1, 3], [100, 99]])
@pytest.mark.parametrize("latency", [0.0, 0.02])
def test_equally_fast_endpoints_at_rest_get_their_weights(weights: list[int], latency: float) -> None:
    balancer = LeastLatency(endpoints(weights, latencies=[latency] * len(weights)), seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), weights)
    assert_shares((balancer.pick(lambda index: True, None, 0.0) for _ in range(20_000)), weights)


def test_a_new_endpoint_begins_with_its_fair_share() -> None:
    """At rest it ties with whomever it meets, and of ten equally fast ones each gets a tenth."""
    balancer = LeastLatency(endpoints([1] * 10, latencies=[0.01] * 9), seeded())
    assert_shares((balancer.next(None, 0.0) for _ in range(20_000)), [1] * 10)


def burst(found: list[FakeEndpoint], number: int, now: float) -> Counter[int]:
    """So many requests before the first answer."""
    balancer = LeastLatency(found, seeded())
    for _ in range(number):
        found[balancer.next(None, now)].active += 1
    return Counter({index: endpoint.active for index, endpoint in enumerate(found)})


@pytest.mark.parametrize("newcomers", [1, 9])
def test_a_burst_does_not_all_go_to_unmeasured_endpoints(newcomers: int) -> None:
    """No less evenly than independent draws would spread it."""
    found = endpoints([1] * 10, latencies=[0.01] * (10 - newcomers))
    assert_shares(burst(found, 1000, 0.0).elements(), [1] * 10)


def test_after_a_quiet_night_the_first_burst_does_not_all_go_to_the_oldest_estimate() -> None:
    found = endpoints([1] * 5)
    for number, endpoint in enumerate(found):
        assert endpoint.latency is not None
        endpoint.latency.observe(0.01, 60.0 * number)
    assert_shares(burst(found, 1000, 8 * 3600.0).elements(), [1] * 5)


def test_a_retry_after_sends_requests_elsewhere_until_it_has_decayed() -> None:
    found = endpoints([1] * 2, latencies=[0.01, 0.01])
    busy, other = found
    assert busy.latency is not None
    assert other.latency is not None
    busy.latency.penalize(5.0, 0.0)
    balancer = LeastLatency(found, seeded())
    back = 0.0
    for second in range(200):
        other.latency.observe(0.01, second)
        picks = {balancer.next(None, second) for _ in range(50)}
        if 0 in picks:
            back = second
            break
    assert back == 63, "10 s * ln(5 s / 10 ms), and the first whole second after"


@pytest.mark.parametrize(("number", "expected"), [(0, -1), (1, 0)])
def test_few_endpoints(number: int, expected: int) -> None:
    balancer = LeastLatency(endpoints([1] * number), seeded())
    assert balancer.next(None, 0.0) == balancer.pick(lambda index: True, None, 0.0) == expected
