"""Health state of one endpoint: whether it is passing, from its active checks and from its own responses.

Owns the thresholds. It runs no checks (`sidecar.health.active` does) and does not decide which endpoints get requests
(`sidecar.policy.availability` does).

    unknown  Before the first result an endpoint is passing. Whoever named it considers it ready, and a sidecar that
             starts must not begin with no endpoint (as in HAProxy; Envoy keeps a new host out until its first check).
    first    The first result decides at once, good or bad (Envoy: healthy_threshold, "during startup, only a single
             successful health check is required").
    then     `unhealthy_threshold` failed checks in a row end that; `healthy_threshold` passed checks in a row begin it
             again.
    at once  A response to a check or to a request with the header `x-envoy-immediate-health-check-fail` ends it at
             once, without a threshold. The next passed check makes the endpoint pass again, also without a threshold:
             the endpoint speaks for itself, so nothing needs confirming. A check that began before that
             response does not count.

Only an endpoint with active checks may be failed at once. Any other could never pass again (Envoy obeys the
header only where active health checks are configured).
"""

from __future__ import annotations

from typing import Final

from sidecar.policy.settings import HealthSettings

IMMEDIATE_FAIL_HEADER: Final = "x-envoy-immediate-health-check-fail"
"""Any value counts. Envoy's health check filter sends this header after `/healthcheck/fail`."""


class HealthState:
    """The health of one endpoint. `settings` may be set at any time; the current streak is then judged by the new
    ones.
    """

    __slots__ = ("_decided", "_failed_at", "_failed_at_once", "_streak", "passing", "settings")

    def __init__(self, settings: HealthSettings) -> None:
        self.settings = settings
        self.passing = True
        self._decided = False
        self._failed_at_once = False
        self._failed_at = 0.0
        self._streak = 0
        """Results in a row that contradict `passing`."""

    @property
    def known(self) -> bool:
        """Whether `passing` rests on a result, and not on the assumption for a new endpoint."""
        return self._decided

    def result(self, ok: bool, began: float) -> bool:
        """Record the result of a check that began at `began`. Returns whether `passing` changed."""
        if self._failed_at_once:
            if not ok or began < self._failed_at:
                return False
            self._failed_at_once = False
            return self._decide(True)
        if not self._decided:
            return self._decide(ok)
        if ok is self.passing:
            self._streak = 0
            return False
        self._streak += 1
        threshold = self.settings.healthy_threshold if ok else self.settings.unhealthy_threshold
        return self._decide(ok) if self._streak >= threshold else False

    def fail_at_once(self, now: float) -> bool:
        """The endpoint declared itself failed. Returns whether `passing` changed."""
        self._failed_at_once = True
        self._failed_at = now
        return self._decide(False)

    def forgive(self) -> bool:
        """Forget that the endpoint declared itself failed; checks continue. Returns whether `passing` changed."""
        if not self._failed_at_once:
            return False
        self._failed_at_once = False
        return self._decide(True)

    def _decide(self, passing: bool) -> bool:
        changed = self.passing is not passing
        self._decided = True
        self._streak = 0
        self.passing = passing
        return changed

    def __repr__(self) -> str:
        words = "passing" if self.passing else "failing"
        if not self._decided:
            words += ", not checked yet"
        if self._failed_at_once:
            words += ", failed at once"
        return f"<HealthState {words}, {self._streak} against>"
