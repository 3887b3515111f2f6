"""Availability: which endpoints get requests. A cluster is written as one letter for each endpoint.

`.` healthy, `u` failing its checks, `e` ejected, `b` both, `d` draining, `s` skipped, `x` skipped and failing.
"""

from __future__ import annotations

import itertools
from math import inf

import pytest

from sidecar.policy.availability import Availability
from sidecar.policy.endpoint_state import EndpointState

NOW = 100.0
SKIPPED_UNTIL = 101.0


def endpoint(letter: str) -> EndpointState:
    one = EndpointState()
    one.passing = letter not in "ubx"
    one.ejected = letter in "eb"
    one.draining = letter == "d"
    one.skip_until = SKIPPED_UNTIL if letter in "sx" else 0.0
    return one


def availability(cluster: str, panic_threshold: float = 50.0) -> tuple[Availability, list[EndpointState]]:
    members = [endpoint(letter) for letter in cluster]
    made = Availability(panic_threshold)
    made.update(members, NOW)
    return made, members


def available(members: list[EndpointState]) -> str:
    return "".join("1" if one.available else "0" for one in members)


@pytest.mark.parametrize(
    ("cluster", "threshold", "expected", "panic"),
    [
        ("", 50, "", False),
        (".", 50, "1", False),
        ("....", 50, "1111", False),
        (".u", 50, "10", False),  # exactly at the threshold is not below it
        (".e", 50, "10", False),
        (".uu", 50, "111", True),
        (".eu", 50, "111", True),
        (".bb", 50, "111", True),
        ("..uu", 50, "1100", False),
        (".uuu", 50, "1111", True),
        (".uuu", 25, "1000", False),
        (".uuu", 25.1, "1111", True),
        ("u", 50, "1", True),
        ("uuu", 100, "111", True),
        ("..u", 100, "111", True),
        # Draining ones are neither used nor counted.
        (".d", 50, "10", False),
        (".udd", 50, "1000", False),
        ("uudd", 50, "1100", True),
        ("dd", 50, "00", False),
        # No panic at all: what is unhealthy stays out, but ejection alone does not empty the set.
        ("uu", 0, "00", False),
        (".uu", 0, "100", False),
        ("eu", 0, "10", False),
        ("eee", 0, "111", False),
        ("bu", 0, "00", False),
        # Skipped ones are left out as long as anybody else is left.
        (".s", 50, "10", False),
        ("s", 50, "1", False),
        ("sss", 50, "111", False),
        ("ssss.", 50, "00001", False),
        ("su", 50, "01", False),  # the healthy one refuses connections: the other may still answer
        ("se", 50, "01", False),
        ("su", 0, "10", False),
        ("suu", 50, "011", True),
        ("sxx", 50, "111", True),
        ("sd", 50, "10", False),
    ],
)
def test_who_is_available(cluster: str, threshold: float, expected: str, panic: bool) -> None:
    made, members = availability(cluster, threshold)
    assert (available(members), made.panic) == (expected, panic)
    assert made.available == expected.count("1")


def test_up_to_five_endpoints_have_one_available_unless_all_drain() -> None:
    for size in range(1, 6):
        for letters in itertools.combinations_with_replacement(".uebdsx", size):
            made, members = availability("".join(letters))
            assert made.available == sum(one.available for one in members)
            assert (made.available > 0) is (set(letters) != {"d"}), letters
            assert not any(one.available for one in members if one.draining)


@pytest.mark.parametrize("letter", ".uebdsx")
def test_healthy_is_what_percentages_count(letter: str) -> None:
    made, (one, _) = availability(letter + "d")
    assert one.healthy is (letter in ".s")
    assert made.healthy == one.healthy


def test_nothing_changes_before_recompute() -> None:
    made, members = availability("..")
    members[0].passing = False
    assert available(members) == "11"
    made.recompute(NOW)
    assert available(members) == "01"


def test_a_skip_ends_when_due() -> None:
    made, members = availability("...")
    assert made.due == inf
    members[0].skip_until = NOW + 4
    members[1].skip_until = NOW + 2
    made.recompute(NOW)
    assert (made.due, available(members)) == (NOW + 2, "001")
    made.recompute(NOW + 2)
    assert (made.due, available(members)) == (NOW + 4, "011")
    made.recompute(NOW + 4)
    assert (made.due, available(members)) == (inf, "111")


def test_the_begin_and_end_of_a_panic_are_counted_and_reported() -> None:
    told: list[tuple[bool, int, int, float]] = []
    members = [endpoint(letter) for letter in "...d"]
    made = Availability(50.0, lambda *what: told.append(what))
    made.update(members, 1.0)
    members[0].passing = False
    made.recompute(2.0)
    assert told == []
    members[1].passing = False
    made.recompute(3.0)
    members[2].passing = False
    made.recompute(4.0)
    assert told == [(True, 1, 3, 3.0)]
    members[0].passing = members[1].passing = True
    made.recompute(5.0)
    assert told == [(True, 1, 3, 3.0), (False, 2, 3, 5.0)]
    assert made.panics == 1


def test_an_endpoint_that_left_the_set_is_not_available() -> None:
    made, members = availability("...")
    made.update(members[1:], NOW)
    assert available(members) == "011"
    assert made.total == 2
    made.update([], NOW)
    assert (available(members), made.panic, made.available) == ("000", False, 0)


def test_the_threshold_may_change() -> None:
    made, members = availability(".uu")
    made.panic_threshold = 20.0
    made.recompute(NOW)
    assert (available(members), made.panic, made.panics) == ("100", False, 1)


def test_repr_counts() -> None:
    assert repr(availability(".uud")[0]) == "<Availability panic 3 available, 1 of 3 healthy>"
    assert repr(availability(".s")[0]) == "<Availability 1 available, 2 of 2 healthy>"
