"""Moments as answers write them.

Owns the way from monotonic seconds, in which everything is kept, to the wall clock.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from time import time
from typing import Final

_STEP_S: Final = 0.1
"""Two clocks never agree to the last digit; from one answer to the next the same moment should be the same words."""


class WallClock:
    """`monotonic` is the clock of what is told; `unix` the wall's."""

    def __init__(self, monotonic: Callable[[], float], unix: Callable[[], float] = time) -> None:
        self.monotonic = monotonic
        self._unix = unix
        self._offset = unix() - monotonic()

    def words(self, moment: float) -> str:
        """Of monotonic seconds: `2026-11-23T01:02:03.456Z`."""
        offset = self._unix() - self.monotonic()
        if abs(offset - self._offset) > _STEP_S:  # the wall clock was put right
            self._offset = offset
        return iso(moment + self._offset)

    def words_or_none(self, moment: float | None) -> str | None:
        """None for what is not, or is never."""
        return self.words(moment) if moment is not None and isfinite(moment) else None


def iso(unix_s: float) -> str:
    """Of Unix seconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
