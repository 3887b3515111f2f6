"""What the end of an attempt says about its service: a success, a failure, or nothing; and how long is long enough.

Owns the three verdicts, and the rule of impatience: when a caller gives up before the policy does, its waiting is
evidence only if it waited for clearly longer than the service usually takes. Which attempts end how is the exchange's
business; what follows from a verdict is decided in `sidecar.policy.breaker` and `sidecar.policy.outlier`.
"""

from __future__ import annotations

from array import array
from typing import Final

IGNORED: Final = 0
SUCCESS: Final = 1
FAILURE: Final = 2

KNOWN_MOST: Final = 200
"""How many of the last successes are remembered, however old they are."""
KNOWN_LEAST: Final = 20
"""With fewer known, `UNKNOWN_S` stands in for what the service usually takes."""
LEAST_S: Final = 0.025
UNKNOWN_S: Final = 0.25
FACTOR: Final = 2.0


class Patience:
    """How long the successes of one breaker took, from the end of the request's body to the head of the answer."""

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = array("f")
        self._at = 0

    def answered(self, seconds: float) -> None:
        """A success took so long."""
        known = self._seconds
        if len(known) < KNOWN_MOST:
            known.append(seconds)
            return
        at = self._at
        known[at] = seconds
        self._at = at + 1 if at + 1 < KNOWN_MOST else 0

    @property
    def enough_s(self) -> float:
        """Who gave up after so many seconds without an answer has waited long enough to blame the service.

        Twice the 90th percentile of the last successes, and never under 25 ms; 250 ms while few are known.
        """
        known = self._seconds
        count = len(known)
        if count < KNOWN_LEAST:
            return UNKNOWN_S
        return max(FACTOR * sorted(known)[(count * 9 + 9) // 10 - 1], LEAST_S)

    def __repr__(self) -> str:
        return f"<Patience {len(self._seconds)} known, enough after {self.enough_s * 1000:.0f} ms>"
