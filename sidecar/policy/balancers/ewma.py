"""An endpoint's latency as the Peak EWMA balancer estimates it.

Owns the estimate; who is compared with whom is `peak_ewma`'s business. The rule is Finagle's (`PeakEwma.scala`;
Linkerd's and tower's `load::PeakEwma` follow it): a latency above the estimate is taken over at once, a lower one
pulls it down in proportion to the time since the last; with no answers it decays. So trouble is seen at the first slow
answer, and forgiven in 10 s.
"""

from __future__ import annotations

from math import exp
from typing import Final

DECAY_S: Final = 10.0
"""After so long an old latency weighs 1/e (Finagle's and Linkerd's default)."""

LEAST_S: Final = 1e-6
LONGEST_S: Final = 86400.0
"""A Retry-After may say anything; a day is for ever here, and stays finite."""


class PeakEwma:
    """`value` (s) is the estimate as of `stamp`; 0 means that nothing has been measured yet.

    Feed it the time to the response head of attempts that were answered. Not those that failed fast: an endpoint that
    refuses everything within a millisecond would be the most attractive of all.
    """

    __slots__ = ("stamp", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self.stamp = 0.0

    def observe(self, rtt_s: float, now: float) -> None:
        rtt_s = min(max(rtt_s, LEAST_S), LONGEST_S)
        if rtt_s < self.value:
            kept = exp(min(self.stamp - now, 0.0) / DECAY_S)
            rtt_s = self.value * kept + rtt_s * (1.0 - kept)
        self.value = rtt_s
        self.stamp = max(now, self.stamp)

    def penalize(self, seconds: float, now: float) -> None:
        """Count a 429 or 503 with Retry-After as an answer that took so long; never makes it look faster."""
        if seconds > self.estimate(now):
            self.value = min(seconds, LONGEST_S)
            self.stamp = max(now, self.stamp)

    def estimate(self, now: float) -> float:
        """Seconds, decayed until now; 0 where nothing has been measured."""
        return self.value * exp(min(self.stamp - now, 0.0) / DECAY_S)

    def __repr__(self) -> str:
        return f"<PeakEwma {self.value * 1000:.3f} ms at {self.stamp:.3f}>"
