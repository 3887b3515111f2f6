"""Moments as answers write them."""

from __future__ import annotations

from math import inf

import pytest

from sidecar.admin.clock import WallClock, iso


def test_iso() -> None:
    assert iso(1763859723.4567) == "2025-11-23T01:02:03.456Z"
    assert iso(1763859723.0) == "2025-11-23T01:02:03.000Z"


class Clocks:
    def __init__(self) -> None:
        self.monotonic, self.unix = 50.0, 1763859723.0

    def made(self) -> WallClock:
        return WallClock(lambda: self.monotonic, lambda: self.unix)


def test_the_same_moment_is_the_same_words_though_clocks_drift_a_little() -> None:
    clocks = Clocks()
    clock = clocks.made()
    assert clock.words(40.0) == "2025-11-23T01:01:53.000Z"
    clocks.monotonic, clocks.unix = 60.0, 1763859733.02
    assert clock.words(40.0) == "2025-11-23T01:01:53.000Z"


def test_a_wall_clock_that_is_put_right_is_followed() -> None:
    clocks = Clocks()
    clock = clocks.made()
    clocks.unix += 3600
    assert clock.words(40.0) == "2025-11-23T02:01:53.000Z"


@pytest.mark.parametrize("never", [None, inf, -inf])
def test_what_is_never_is_none(never: float | None) -> None:
    assert Clocks().made().words_or_none(never) is None


def test_what_is_to_come() -> None:
    assert Clocks().made().words_or_none(51.5) == "2025-11-23T01:02:04.500Z"
