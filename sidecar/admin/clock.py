"""Converts monotonic seconds, which the sidecar keeps internally, to the times in responses (wall clock, ISO 8601)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from math import isfinite
from time import time
from typing import Final

_STEP_S: Final = 0.1
"""Two clocks differ in their last digits. Below this difference in seconds, the same moment keeps the same text."""


class WallClock:
    """`monotonic` is the clock of the moments to convert; `unix` is the wall clock."""

    def __init__(self, monotonic: Callable[[], float], unix: Callable[[], float] = time) -> None:
        self.monotonic = monotonic
        self._unix = unix
        self._offset = unix() - monotonic()

    def words(self, moment: float) -> str:
        """The text of a moment in monotonic seconds: `2026-11-23T01:02:03.456Z`."""
        offset = self._unix() - self.monotonic()
        if abs(offset - self._offset) > _STEP_S:  # the wall clock was adjusted
            self._offset = offset
        return iso(moment + self._offset)

    def words_or_none(self, moment: float | None) -> str | None:
        """Like `words`, but None for a moment that is missing or infinite."""
        return self.words(moment) if moment is not None and isfinite(moment) else None


def iso(unix_s: float) -> str:
    """The text of a time in Unix seconds."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
