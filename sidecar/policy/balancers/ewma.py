"""Latency estimate of an endpoint for the Peak EWMA balancer.

Owns the estimate; `peak_ewma` compares endpoints. The rule is Finagle's (`PeakEwma.scala`; Linkerd's and tower's
`load::PeakEwma` follow it). A latency above the estimate replaces it at once. A lower latency pulls it down, in
proportion to the time since the last one. Without answers the estimate decays. So the first slow answer shows trouble,
and it is forgotten in about 10 s.
"""

from __future__ import annotations

from math import exp
from typing import Final

DECAY_S: Final = 10.0
"""After this time the weight of an old latency is 1/e (Finagle's and Linkerd's default)."""

FAILURE_FACTOR: Final = 4.0
LEAST_PENALTY_S: Final = 0.02
LONGEST_PENALTY_S: Final = 10.0

LEAST_S: Final = 1e-6
LONGEST_S: Final = 86400.0
"""The upper limit of a latency: a Retry-After may be arbitrarily long, and the estimate must stay finite."""


class PeakEwma:
    """`value` (seconds) is the estimate at time `stamp`. 0 means that nothing has been measured yet.

    Feed it the time from the end of the request's body to the response head: `observe` for good answers, `failed` for
    failures. An endpoint that refuses every request within a millisecond would otherwise look best.
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

    def failed(self, took_s: float, now: float) -> None:
        """Count a failure as an answer that took this long, and at least four times the present estimate.

        So one failure among many successes costs little; each further one in a row costs more, up to LONGEST_PENALTY_S.
        """
        penalty_s = min(max(FAILURE_FACTOR * self.estimate(now), LEAST_PENALTY_S), LONGEST_PENALTY_S)
        self.penalize(max(took_s, penalty_s), now)

    def penalize(self, seconds: float, now: float) -> None:
        """Count an attempt without a good answer (given up, or a Retry-After) as one that took this long. It never
        lowers the estimate.
        """
        if seconds > self.estimate(now):
            self.value = min(seconds, LONGEST_S)
            self.stamp = max(now, self.stamp)

    def estimate(self, now: float) -> float:
        """The estimate in seconds, decayed until now; 0 when nothing has been measured."""
        return self.value * exp(min(self.stamp - now, 0.0) / DECAY_S)

    def __repr__(self) -> str:
        return f"<PeakEwma {self.value * 1000:.3f} ms at {self.stamp:.3f}>"
