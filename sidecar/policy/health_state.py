"""Whether one endpoint is healthy, by the results of its active checks and by what it says of itself.

Owns the thresholds. It makes no checks (`sidecar.health.active`) and does not decide who gets requests
(`sidecar.policy.availability`).

    unknown     healthy until the first result: whoever named the endpoint holds it for ready, and a sidecar that starts
                must not begin with nothing (HAProxy's way; Envoy keeps a new host out until its first check).
    first       the first result decides at once, whichever it is (Envoy: healthy_threshold, "during startup, only a
                single successful health check is required").
    then        `unhealthy_threshold` failed checks in a row make it unhealthy, `healthy_threshold` good ones healthy.
    fail at once
                a response, to a check or to a request, that bears `x-envoy-immediate-health-check-fail` makes it
                unhealthy without any threshold. The next good check ends that, again without one: the endpoint speaks
                for itself, there is nothing to be made sure of. A check that began before it was said does not count.

Only an endpoint that is checked may be failed at once: for any other there would be no way back (Envoy obeys the header
only where active health checks are configured).
"""

from __future__ import annotations

from typing import Final

from sidecar.policy.settings import HealthSettings

IMMEDIATE_FAIL_HEADER: Final = "x-envoy-immediate-health-check-fail"
"""Set to any value (Envoy's health check filter sends it after `/healthcheck/fail`)."""


class HealthState:
    """One endpoint's health. `settings` may be set at any time; the streak so far counts under the new ones."""

    __slots__ = ("_decided", "_failed_at", "_failed_at_once", "_streak", "healthy", "settings")

    def __init__(self, settings: HealthSettings) -> None:
        self.settings = settings
        self.healthy = True
        self._decided = False
        self._failed_at_once = False
        self._failed_at = 0.0
        self._streak = 0
        """Results in a row that speak against `healthy` as it is."""

    @property
    def known(self) -> bool:
        """Whether anything but a guess is behind `healthy`."""
        return self._decided

    def result(self, ok: bool, began: float) -> bool:
        """Take a check's result in; `began` is when that check did. Returns whether `healthy` changed."""
        if self._failed_at_once:
            if not ok or began < self._failed_at:
                return False
            self._failed_at_once = False
            return self._decide(True)
        if not self._decided:
            return self._decide(ok)
        if ok is self.healthy:
            self._streak = 0
            return False
        self._streak += 1
        threshold = self.settings.healthy_threshold if ok else self.settings.unhealthy_threshold
        return self._decide(ok) if self._streak >= threshold else False

    def fail_at_once(self, now: float) -> bool:
        """The endpoint said that it is to be held for failed. Returns whether `healthy` changed."""
        self._failed_at_once = True
        self._failed_at = now
        return self._decide(False)

    def forgive(self) -> bool:
        """Forget that the endpoint called itself failed; checks go on judging. Returns whether `healthy` changed."""
        if not self._failed_at_once:
            return False
        self._failed_at_once = False
        return self._decide(True)

    def _decide(self, healthy: bool) -> bool:
        changed = self.healthy is not healthy
        self._decided = True
        self._streak = 0
        self.healthy = healthy
        return changed

    def __repr__(self) -> str:
        words = "healthy" if self.healthy else "unhealthy"
        if not self._decided:
            words += ", not checked yet"
        if self._failed_at_once:
            words += ", by its own word"
        return f"<HealthState {words}, {self._streak} against>"
