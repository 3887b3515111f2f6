"""The latency estimate as a dialogue of answers."""

from __future__ import annotations

from math import e, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.balancers.ewma import DECAY_S, LEAST_S, LONGEST_S, PeakEwma


def test_nothing_measured_is_zero() -> None:
    assert PeakEwma().estimate(5.0) == 0.0
    assert repr(PeakEwma()) == "<PeakEwma 0.000 ms at 0.000>"


def test_a_peak_is_taken_over_at_once_and_forgotten_gradually() -> None:
    latency = PeakEwma()
    table = [  # (time, answer after, estimate)
        (0.0, 0.010, 0.010),
        (1.0, 0.500, 0.500),
        (1.0, 0.010, 0.500),  # no time has passed
        (1.0 + DECAY_S, 0.010, 0.010 + 0.490 / e),
        (1.0 + 2 * DECAY_S, 0.010, 0.010 + 0.490 / e**2),
    ]
    for now, rtt, expected in table:
        latency.observe(rtt, now)
        assert latency.estimate(now) == latency.value == pytest.approx(expected)


def test_without_answers_it_decays_by_e_in_ten_seconds() -> None:
    latency = PeakEwma()
    latency.observe(1.0, 100.0)
    assert [latency.estimate(100.0 + s) for s in (0, 10, 20)] == pytest.approx([1.0, 1 / e, 1 / e**2])
    assert latency.value == 1.0


def test_a_retry_after_counts_as_an_answer_of_that_length() -> None:
    latency = PeakEwma()
    latency.observe(0.02, 0.0)
    latency.penalize(3.0, 1.0)
    assert latency.estimate(1.0) == 3.0
    latency.penalize(1.0, 1.0)
    assert latency.estimate(1.0) == 3.0, "a shorter one makes it look no faster"
    latency.penalize(2.0, 1.0 + DECAY_S)
    assert latency.estimate(1.0 + DECAY_S) == 2.0, "3 s had decayed to 1.1 s"


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_a_retry_after_of_nothing_changes_nothing(seconds: float) -> None:
    latency = PeakEwma()
    latency.penalize(seconds, 1.0)
    assert latency.value == 0.0


def test_extreme_values_stay_finite_and_measured() -> None:
    latency = PeakEwma()
    latency.observe(0.0, 0.0)
    assert latency.value == LEAST_S
    latency.penalize(inf, 0.0)
    assert latency.value == LONGEST_S
    latency = PeakEwma()
    latency.observe(inf, 0.0)
    assert latency.value == LONGEST_S


def test_a_clock_that_goes_back_does_no_harm() -> None:
    latency = PeakEwma()
    latency.observe(1.0, 10.0)
    assert latency.estimate(5.0) == 1.0
    latency.observe(0.5, 5.0)
    assert (latency.value, latency.stamp) == (1.0, 10.0)


@given(st.lists(st.tuples(st.floats(0.001, 100.0), st.floats(0.0, 60.0)), min_size=1))
def test_it_stays_between_the_last_answer_and_the_highest(answers: list[tuple[float, float]]) -> None:
    latency, now = PeakEwma(), 0.0
    for rtt, after in answers:
        now += after
        latency.observe(rtt, now)
        assert rtt * (1 - 1e-9) <= latency.estimate(now) <= max(rtt for rtt, _ in answers) * (1 + 1e-9)


def test_a_failure_counts_the_time_it_took() -> None:
    latency = PeakEwma()
    latency.observe(0.002, 0.0)
    latency.failed(5.0, 1.0)
    assert latency.estimate(1.0) == 5.0


def test_quick_failures_cost_more_each_time_up_to_a_bound() -> None:
    latency = PeakEwma()
    latency.observe(0.002, 0.0)
    seen = []
    for _ in range(7):
        latency.failed(0.001, 0.0)
        seen.append(latency.estimate(0.0))
    assert seen == pytest.approx([0.02, 0.08, 0.32, 1.28, 5.12, 10.0, 10.0])


def test_a_failure_never_makes_it_look_faster() -> None:
    latency = PeakEwma()
    latency.observe(30.0, 0.0)
    latency.failed(0.001, 0.0)
    assert latency.estimate(0.0) == 30.0
