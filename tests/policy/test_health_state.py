"""Endpoint health: the thresholds, as tables of check results and the health after each."""

from __future__ import annotations

import itertools

import pytest

from sidecar.policy.health_state import HealthState
from sidecar.policy.settings import HealthSettings

GOOD, BAD = "+", "-"


def state(healthy: int = 1, unhealthy: int = 2) -> HealthState:
    return HealthState(HealthSettings(path="/health", healthy_threshold=healthy, unhealthy_threshold=unhealthy))


def believed(of: HealthState, results: str) -> str:
    """What is believed after each result, which began a second apart."""
    found = ""
    for at, one in enumerate(results):
        before = of.passing
        changed = of.result(one == GOOD, float(at))
        assert changed is (of.passing is not before)
        found += GOOD if of.passing else BAD
    return found


@pytest.mark.parametrize(
    ("healthy", "unhealthy", "results", "expected"),
    [
        (1, 2, "+-+-+--", "++++++-"),
        (1, 2, "--+", "--+"),
        (3, 2, "-", "-"),
        (3, 2, "-++-+++", "------+"),
        (3, 2, "+--++", "++---"),
        (3, 2, "+--+++--", "++---++-"),
        (2, 3, "+--+---", "++++++-"),
        (1, 1, "+-+-", "+-+-"),
    ],
)
def test_the_first_result_decides_and_then_the_thresholds(
    healthy: int, unhealthy: int, results: str, expected: str
) -> None:
    assert believed(state(healthy, unhealthy), results) == expected


@pytest.mark.parametrize("threshold", [1, 2, 5])
def test_one_less_than_a_threshold_is_not_enough(threshold: int) -> None:
    one = state(healthy=threshold, unhealthy=threshold)
    assert believed(one, "+" + "-" * threshold) == "+" * threshold + "-"
    assert believed(one, "+" * threshold) == "-" * (threshold - 1) + "+"


def test_before_the_first_result_it_is_passing() -> None:
    one = state()
    assert (one.passing, one.known) == (True, False)
    assert not one.result(True, 0.0), "what was guessed is confirmed: no change"
    assert one.known


def test_failing_at_once_needs_no_threshold_in_either_direction() -> None:
    one = state(healthy=3, unhealthy=3)
    assert believed(one, "+") == "+"
    assert one.fail_at_once(10.0)
    assert not one.fail_at_once(11.0), "said again is no change"
    assert not one.passing
    assert not one.result(False, 12.0)
    assert one.result(True, 13.0)
    assert one.passing
    assert believed(one, "--") == "++", "and then the thresholds again"


def test_a_check_that_began_before_failing_at_once_does_not_count() -> None:
    one = state()
    one.fail_at_once(10.0)
    assert not one.result(True, 9.9)
    assert not one.passing
    assert one.result(True, 10.0)


def test_failing_at_once_counts_before_any_check() -> None:
    one = state()
    assert one.fail_at_once(1.0)
    assert (one.passing, one.known) == (False, True)


def test_settings_may_change_in_the_middle_of_a_streak() -> None:
    one = state(unhealthy=5)
    assert believed(one, "+---") == "++++"
    one.settings = HealthSettings(path="/", unhealthy_threshold=4)
    assert believed(one, "-") == "-"


def test_all_short_histories_agree_with_the_plain_rule() -> None:
    """A result is believed where it is the first, or ends a run of its like as long as the threshold."""
    for healthy, unhealthy in itertools.product((1, 2, 3), repeat=2):
        for history in itertools.product("+-", repeat=7):
            results = "".join(history)
            expected = results[0]
            for end in range(2, 8):
                last = results[end - 1]
                if results[:end].endswith(last * (healthy if last == GOOD else unhealthy)):
                    expected += last
                else:
                    expected += expected[-1]
            assert believed(state(healthy, unhealthy), results) == expected


@pytest.mark.parametrize(
    ("results", "said", "text"),
    [
        ("", False, "<HealthState passing, not checked yet, 0 against>"),
        ("+-", False, "<HealthState passing, 1 against>"),
        ("+", True, "<HealthState failing, failed at once, 0 against>"),
    ],
)
def test_repr_shows_the_health_and_why(results: str, said: bool, text: str) -> None:
    one = state()
    believed(one, results)
    if said:
        one.fail_at_once(99.0)
    assert repr(one) == text
