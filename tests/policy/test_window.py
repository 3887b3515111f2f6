"""The rolling window of breaker and budget."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.window import RollingWindow


def count(window: RollingWindow, now: float, *, part: bool = False) -> None:
    if now >= window.bucket_ends:
        window.roll(now)
    window.whole += 1
    window.part += part


def sums(window: RollingWindow, now: float) -> tuple[int, int]:
    if now >= window.bucket_ends:
        window.roll(now)
    return window.whole, window.part


@pytest.mark.parametrize(
    ("now", "left"),
    [
        (100.0, (3, 1)),
        (108.999, (3, 1)),
        (109.999, (3, 1)),
        (110.0, (1, 0)),  # what came at 100.0 and at 100.9 is gone, what came at 101.0 is not
        (110.999, (1, 0)),
        (111.0, (0, 0)),
        (1e9, (0, 0)),
    ],
)
def test_counts_are_forgotten_a_bucket_at_a_time(now: float, left: tuple[int, int]) -> None:
    window = RollingWindow(10.0, 10, 100.0)
    count(window, 100.0)
    count(window, 100.9, part=True)
    count(window, 101.0)
    assert sums(window, now) == left


def test_a_time_before_the_last_one_counts_in_the_current_bucket() -> None:
    window = RollingWindow(10.0, 10, 0.0)
    count(window, 5.5)
    count(window, 4.0)
    window.roll(3.0)
    assert sums(window, 14.999) == (2, 0)
    assert sums(window, 15.0) == (0, 0)


def test_a_single_bucket_forgets_everything_at_its_end() -> None:
    window = RollingWindow(1.0, 1, 0.0)
    count(window, 0.999)
    assert sums(window, 0.999) == (1, 0)
    assert sums(window, 1.0) == (0, 0)


def test_a_window_of_no_width_still_advances() -> None:
    window = RollingWindow(0.0, 10, 0.0)
    count(window, 0.0)
    assert sums(window, 1.0) == (0, 0)


def test_clearing_forgets_and_begins_a_bucket() -> None:
    window = RollingWindow(10.0, 10, 0.0)
    count(window, 3.7, part=True)
    window.clear(4.5)
    assert sums(window, 4.5) == (0, 0)
    assert window.bucket_ends == 5.5


@given(
    st.lists(st.tuples(st.integers(0, 400), st.booleans()), max_size=80),
    st.integers(1, 12),
    st.integers(0, 300),
)
def test_the_sums_are_those_of_the_last_buckets(
    events: list[tuple[int, bool]], buckets: int, finally_after: int
) -> None:
    # Ticks of a quarter of a bucket's second, so that floats are exact and the model is one line.
    window = RollingWindow(float(buckets), buckets, 0.0)
    at, seen = 0, []
    for wait, part in events:
        at += wait
        count(window, at / 4, part=part)
        seen.append((at // 4, part))
    at += finally_after
    kept = [part for second, part in seen if second > at // 4 - buckets]
    assert sums(window, at / 4) == (len(kept), sum(kept))
