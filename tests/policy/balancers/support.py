"""An endpoint as balancers see it, and what statistics allow shares to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import NormalDist
from typing import get_args

from sidecar.policy.balancers.balancer import BalancerName
from sidecar.policy.balancers.ewma import PeakEwma

SIGNIFICANCE = 1e-4
"""A right balancer fails one seed in ten thousand; the seeds are fixed, so a test that passes goes on passing."""

NAMES: tuple[BalancerName, ...] = get_args(BalancerName)


@dataclass
class FakeEndpoint:
    label: str
    weight: int = 1
    active: int = 0
    priority: int = 0
    since: float = -1000.0
    latency: PeakEwma | None = None


def endpoints(
    weights: Sequence[int], priorities: Sequence[int] = (), latencies: Sequence[float] = ()
) -> list[FakeEndpoint]:
    """Latencies (s) are as measured at 0; 0 is not measured yet."""
    found = [FakeEndpoint(f"10.0.0.{number}:3002", weight) for number, weight in enumerate(weights)]
    for endpoint, priority in zip(found, priorities, strict=False):
        endpoint.priority = priority
    for endpoint in found:
        endpoint.latency = PeakEwma()
    for endpoint, latency in zip(found, latencies, strict=False):
        if endpoint.latency is not None and latency:
            endpoint.latency.observe(latency, 0.0)
    return found


def seeded(seed: int = 1) -> Callable[[], float]:
    return Random(seed).random


def healthy(index: int, now: float) -> bool:
    """Available: all of them, always."""
    return True


def chi_square(found: Counter[int], weights: Sequence[float]) -> tuple[float, float]:
    """Pearson's statistic of the counts against the weights (0: never), and the bound at SIGNIFICANCE.

    The bound is Wilson and Hilferty's approximation of the chi-square quantile (1931).
    """
    number, total = sum(found.values()), sum(weights)
    assert set(found) <= {index for index, weight in enumerate(weights) if weight > 0}, found
    expected = {index: number * weight / total for index, weight in enumerate(weights) if weight > 0}
    assert min(expected.values()) >= 5, "too few picks for the test to mean anything"
    statistic = sum((found[index] - mean) ** 2 / mean for index, mean in expected.items())
    freedom = len(expected) - 1
    if not freedom:
        return 0.0, 0.0
    z = NormalDist().inv_cdf(1 - SIGNIFICANCE)
    return statistic, freedom * (1 - 2 / (9 * freedom) + z * (2 / (9 * freedom)) ** 0.5) ** 3


def assert_shares(picks: Iterable[int], weights: Sequence[float]) -> None:
    statistic, bound = chi_square(found := Counter(picks), weights)
    assert statistic <= bound, f"{found} against {weights}: chi-square {statistic:.1f} > {bound:.1f}"


def assert_proportion(hits: int, number: int, probability: float) -> None:
    """A binomial count, by the normal approximation, two-sided."""
    assert number * min(probability, 1 - probability) >= 5
    z = NormalDist().inv_cdf(1 - SIGNIFICANCE / 2)
    slack = z * (number * probability * (1 - probability)) ** 0.5
    assert abs(hits - number * probability) <= slack, f"{hits} of {number}, expected {probability:.3f}"
