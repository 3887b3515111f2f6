"""Waits, for a bounded time, for something that another thread or process will do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def eventually(check: Callable[[], T], timeout: float = 20.0, every: float = 0.01) -> T:
    """Calls `check` until it succeeds, and returns its result.

    It has not succeeded while it returns False or raises AssertionError. After `timeout` seconds, the last
    AssertionError is raised, so the failure says what was seen last and not only that time ran out.
    """
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        try:
            result = check()
        except AssertionError:
            if late:
                raise
        else:
            if result is not False:
                return result
            if late:
                raise AssertionError(f"did not come true within {timeout} s")
        time.sleep(every)


def settled(measure: Callable[[], T], still_for: float = 0.3, timeout: float = 20.0) -> T:
    """Waits until `measure` has returned the same value for `still_for` seconds, and returns that value."""
    deadline = time.monotonic() + timeout
    value, since = measure(), time.monotonic()
    while time.monotonic() - since < still_for:
        if time.monotonic() >= deadline:
            raise AssertionError(f"still moving after {timeout} s: {value!r}")
        time.sleep(0.02)
        new = measure()
        if new != value:
            value, since = new, time.monotonic()
    return value
