"""The concurrency limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.concurrency import ConcurrencyLimit


def test_requests_up_to_the_limit_are_let_in() -> None:
    limit = ConcurrencyLimit(3)
    assert [limit.acquire() for _ in range(4)] == [True, True, True, False]
    assert (limit.in_flight, limit.refused) == (3, 1)
    limit.release()
    assert [limit.acquire(), limit.acquire()] == [True, False]
    assert repr(limit) == "<ConcurrencyLimit 3 of 3 in flight, 2 refused>"


def test_a_permit_released_twice_is_a_bug_and_says_so() -> None:
    limit = ConcurrencyLimit(3)
    limit.acquire()
    limit.release()
    with pytest.raises(RuntimeError, match="released twice"):
        limit.release()
    assert limit.in_flight == 0


def test_a_lower_limit_waits_for_what_is_in_flight() -> None:
    limit = ConcurrencyLimit(3)
    for _ in range(3):
        limit.acquire()
    limit.limit = 1
    limit.release()
    limit.release()
    assert not limit.acquire()
    limit.release()
    assert limit.acquire()


@given(st.integers(1, 5), st.lists(st.booleans(), max_size=50))
def test_the_count_equals_the_permits_held_over_any_sequence(size: int, events: list[bool]) -> None:
    limit, held = ConcurrencyLimit(size), 0
    for acquiring in events:
        if acquiring:
            got = limit.acquire()
            assert got == (held < size)
            held += got
        elif held:
            limit.release()
            held -= 1
        assert limit.in_flight == held
