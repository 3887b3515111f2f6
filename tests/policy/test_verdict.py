"""How long is long enough to blame a service."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.verdict import KNOWN_LEAST, KNOWN_MOST, LEAST_S, UNKNOWN_S, Patience


def after(*seconds: float) -> float:
    patience = Patience()
    for one in seconds:
        patience.answered(one)
    return patience.enough_s


@pytest.mark.parametrize("count", [0, 1, KNOWN_LEAST - 1])
def test_while_few_are_known_it_is_a_quarter_of_a_second(count: int) -> None:
    assert after(*[3.0] * count) == UNKNOWN_S == 0.25


def test_it_is_twice_the_ninetieth_percentile() -> None:
    assert after(*[0.1] * 18, 5.0, 5.0) == pytest.approx(0.2)
    assert after(*[0.1] * 17, 5.0, 5.0, 5.0) == pytest.approx(10.0)


def test_it_is_never_under_25_ms() -> None:
    assert after(*[0.001] * 50) == LEAST_S == 0.025


def test_only_the_last_200_count() -> None:
    assert after(*[9.0] * 500, *[0.1] * KNOWN_MOST) == pytest.approx(0.2)
    assert after(*[9.0] * 500, *[0.1] * 179) == pytest.approx(18.0)


@given(st.lists(st.floats(0.0, 100.0), min_size=KNOWN_LEAST, max_size=450))
def test_nine_of_ten_of_the_last_were_at_least_twice_as_quick(seconds: list[float]) -> None:
    enough_s = after(*seconds)
    last = seconds[-KNOWN_MOST:]
    assert sum(one * 2 <= enough_s * 1.000001 for one in last) >= len(last) * 0.9
