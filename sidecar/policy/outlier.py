"""Outlier detection: an endpoint that fails requests is ejected and gets none for a while (Envoy: outlier_detection).

Owns who is ejected and for how long. Callers record every attempt here; the module knows nothing about requests.
`sidecar.policy.availability` reads `ejected` and keeps requests away from such endpoints.

    eject     At once, after `consecutive_failures` failed attempts in a row (Envoy: consecutive_5xx and
              consecutive_gateway_failure together; the exchange decides what a failure is). Also at the end of each
              `interval` in which at least `minimum_requests` attempts ended and `error_rate` percent of them failed;
              the worst endpoint goes first (Envoy: failure_percentage_threshold, failure_percentage_request_volume).
    how long  `base_ejection_time` times the number of ejections, at most `max_ejection_time` (or `base_ejection_time`
              if that is longer). Each whole `interval` after the return lowers that number by one.
    at most   `max_ejection_percent` of the endpoints that are not draining, rounded down, but always one of two or more
              (Envoy: always_eject_one_host): with 50%, 1 of 2, 1 of 3, 2 of 5. An ejection above the limit is counted
              in `overflows`, and the endpoint's failures are counted from 0 again. When the set shrinks, endpoints
              above the limit return, those with the least time left first.
    never     The last available endpoint is never ejected: another one must be healthy and not skipped.
    operator  An operator can eject an endpoint until a given time (`force`), without settings too, and beyond
              `max_ejection_percent`. No passed check and no smaller set ends that; `restore` does.
    return    When the time is over, or when an active check passes that began after the ejection (Envoy:
              successful_active_health_check_uneject_host). But a check that passes while requests fail sees less than
              they do. So when an endpoint is ejected again before its number of ejections is back at 0, a passed check
              counts only after a failed one.

    status   A failure that the service answered itself counts only if another endpoint has succeeded since this one
             last did. A request that fails everywhere is the request's fault; it would eject the endpoints in turn.
             Other failures always count. A row of failures whose last one is older than ROW_S begins anew.

The outcome of an attempt on an ejected endpoint changes nothing (such attempts happen in a panic, or began earlier). A
failure does not count either if its attempt began before the endpoint last became healthy (`since`). Otherwise an
endpoint that hung would be ejected again as soon as it returns, by attempts that timed out in the meantime. Nothing
here runs by itself: the code that picks endpoints calls `tick` once `due` has come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, inf
from typing import Final

from sidecar.policy.endpoint_state import EndpointState
from sidecar.policy.settings import OutlierSettings

EJECTED: Final = "ejected"
RETURNED: Final = "returned"

# Reasons for an ejection.
CONSECUTIVE_FAILURES: Final = "consecutive_failures"
ERROR_RATE: Final = "error_rate"
# Reasons for a return.
TIME_UP: Final = "time_up"
CHECK_PASSED: Final = "check_passed"
FEW_LEFT: Final = "few_left"
TURNED_OFF: Final = "turned_off"
# A reason for both.
OPERATOR: Final = "operator"


ROW_S: Final = 60.0
"""Failures further apart than this are not in a row (seconds)."""


OnEvent = Callable[[str, EndpointState, str, float], None]
"""Called with (EJECTED or RETURNED, endpoint, reason, now). An ejection ends at `endpoint.ejected_until`."""


class OutlierDetector:
    """The ejections of one service's endpoints. With settings None it ejects nobody. Times are monotonic seconds."""

    __slots__ = (
        "_interval_ends",
        "_last_to_succeed",
        "_members",
        "_on",
        "_on_event",
        "_settings",
        "due",
        "ejected",
        "ejections",
        "overflows",
        "returns",
    )

    def __init__(self, settings: OutlierSettings | None, now: float, on_event: OnEvent | None = None) -> None:
        self._on = settings is not None
        self._settings = settings = settings or OutlierSettings()
        self._on_event = on_event
        self._members: tuple[EndpointState, ...] = ()
        self._last_to_succeed: EndpointState | None = None
        self._interval_ends = now + settings.interval
        self.ejected = 0
        """Endpoints that are ejected now."""
        self.ejections = 0
        """Counted since the start, like `returns` and `overflows`."""
        self.returns = 0
        self.overflows = 0
        """Ejections that were not made: `max_ejection_percent` or the last endpoint forbade them (Envoy:
        ejections_overflow).
        """
        self.due = inf
        """When `tick` has work to do."""
        self._find_due()

    def record(
        self, endpoint: EndpointState, failed: bool, now: float, began: float = inf, *, by_status: bool = False
    ) -> None:
        """An attempt on this endpoint ended; it began at `began`. `by_status`: the failure is an answer of the service.

        Do not record outcomes that say nothing about the endpoint.
        """
        if failed:
            if began >= endpoint.since and not (by_status and self._fails_everywhere(endpoint)):
                self._failed(endpoint, now)
        else:
            endpoint.consecutive_failures = 0
            endpoint.interval_successes += 1
            self._last_to_succeed = endpoint

    def checked(self, endpoint: EndpointState, ok: bool, began: float, now: float) -> None:
        """An active check of this endpoint ended; it began at `began`."""
        if not endpoint.ejected or began < endpoint.ejected_at or endpoint not in self._members:
            return
        if endpoint.ejected_by_operator:
            return
        if not ok:
            endpoint.checks_believed = True
        elif endpoint.checks_believed:
            self._uneject(endpoint, CHECK_PASSED, now)
            self._find_due()

    def force(self, endpoint: EndpointState, until: float, now: float) -> None:
        """An operator ejects the endpoint, or changes the end of an ejection."""
        endpoint.ejected_by_operator = True
        endpoint.ejected_until = until
        if not endpoint.ejected:
            endpoint.ejected = True
            endpoint.ejected_at = now
            self.ejected += 1
            self.ejections += 1
            if self._on_event is not None:
                self._on_event(EJECTED, endpoint, OPERATOR, now)
        self._find_due()

    def restore(self, endpoint: EndpointState, now: float) -> None:
        """An operator ends the ejection, whatever its reason."""
        if endpoint.ejected and endpoint in self._members:
            self._uneject(endpoint, OPERATOR, now)
            self._find_due()

    def tick(self, now: float) -> None:
        """Return the endpoints whose time is over, and judge the interval that has ended. Does nothing before `due`."""
        if now < self.due:
            return
        for one in self._members:
            if one.ejected and one.ejected_until <= now:
                self._uneject(one, TIME_UP, now)
        if now >= self._interval_ends:
            self._interval_ends = now + self._settings.interval
            self._judge_interval(now)
        self._find_due()

    def update(self, members: Sequence[EndpointState], now: float) -> None:
        """Replace the whole set of endpoints. Call it again when one of them starts or stops draining.

        An endpoint that is ejected stays ejected for the rest of its time, if the limits allow it.
        """
        before = set(self._members)
        self._members = tuple(members)
        for one in self._members:
            if one not in before:
                one.interval_successes = one.interval_failures = 0  # these counts may be from an interval long ago
        if self._last_to_succeed not in self._members:
            self._last_to_succeed = None
        self.ejected = sum([one.ejected for one in self._members])
        self._find_due()
        self.tick(now)
        self._uneject_surplus(now)

    def reconfigure(self, settings: OutlierSettings | None, now: float) -> None:
        """Apply new settings. Ejected endpoints stay ejected until their time, if the new limits allow it."""
        self._on = settings is not None
        settings = settings or OutlierSettings()
        if settings.interval != self._settings.interval:
            self._interval_ends = now + settings.interval
        self._settings = settings
        self._uneject_surplus(now)

    def _uneject_surplus(self, now: float) -> None:
        if self.ejected:
            total, ejected = self._count()
            surplus = ejected - self._most(total)
            order = [(one.ejected_until, at) for at, one in enumerate(self._members) if one.ejected]
            for _, at in sorted(order):
                one = self._members[at]
                if one.ejected_by_operator:
                    continue
                if not self._on:
                    self._uneject(one, TURNED_OFF, now)
                elif surplus > 0 and not one.draining:
                    surplus -= 1
                    self._uneject(one, FEW_LEFT, now)
        self._find_due()

    def _fails_everywhere(self, endpoint: EndpointState) -> bool:
        """As far as is known: no other endpoint has succeeded since this one last did."""
        return self._last_to_succeed is None or self._last_to_succeed is endpoint

    def _failed(self, endpoint: EndpointState, now: float) -> None:
        if endpoint.ejected or not self._on:
            return
        if now - endpoint.last_failed_at > ROW_S:
            endpoint.consecutive_failures = 0
        endpoint.last_failed_at = now
        endpoint.interval_failures += 1
        endpoint.consecutive_failures += 1
        if endpoint.consecutive_failures >= self._settings.consecutive_failures:
            endpoint.consecutive_failures = 0
            self._eject(endpoint, CONSECUTIVE_FAILURES, now)

    def _judge_interval(self, now: float) -> None:
        settings = self._settings
        error_rate = settings.error_rate
        if error_rate is not None:
            outliers: list[tuple[float, int]] = []
            for at, one in enumerate(self._members):
                failures = one.interval_failures
                attempts = failures + one.interval_successes
                # Multiplied instead of divided: in floating point, 29 / 100 * 100 is less than 29.
                over = failures * 100 >= error_rate * attempts
                if over and attempts >= settings.minimum_requests and not one.ejected:
                    outliers.append((-failures / attempts, at))
            for _, at in sorted(outliers):
                self._eject(self._members[at], ERROR_RATE, now)
        for one in self._members:
            one.interval_successes = one.interval_failures = 0

    def _eject(self, endpoint: EndpointState, why: str, now: float) -> None:
        if endpoint.draining or endpoint not in self._members:
            return  # it gets no new requests anyway
        if not self._may_eject(endpoint, now):
            self.overflows += 1
            return
        settings = self._settings
        base_s = settings.base_ejection_time
        longest_s = max(base_s, settings.max_ejection_time)
        healthy_intervals = int((now - endpoint.returned_at) / settings.interval)
        # Bounded at the factor that gives the longest time. Beyond it, more would not lengthen the ejection, but would
        # take longer to go down again (Envoy bounds it too).
        most = ceil(longest_s / base_s)
        before = max(0, endpoint.ejections - healthy_intervals)
        endpoint.ejections = min(before + 1, most)
        endpoint.ejected = True
        endpoint.ejected_at = now
        endpoint.ejected_until = now + min(base_s * endpoint.ejections, longest_s)
        endpoint.checks_believed = before == 0
        self.ejected += 1
        self.ejections += 1
        self.due = min(self.due, endpoint.ejected_until)
        if self._on_event is not None:
            self._on_event(EJECTED, endpoint, why, now)

    def _may_eject(self, endpoint: EndpointState, now: float) -> bool:
        total, ejected = self._count()
        if ejected >= self._most(total):
            return False
        others = (one for one in self._members if one is not endpoint)
        return any(one.healthy and one.skip_until <= now for one in others)

    def _count(self) -> tuple[int, int]:
        """(endpoints that are not draining, ejected endpoints among them)."""
        total = ejected = 0
        for one in self._members:
            if not one.draining:
                total += 1
                if one.ejected:
                    ejected += 1
        return total, ejected

    def _most(self, total: int) -> int:
        """How many of `total` endpoints may be ejected at once."""
        if total < 2:
            return 0
        return min(total - 1, max(1, int(total * self._settings.max_ejection_percent / 100)))

    def _uneject(self, endpoint: EndpointState, why: str, now: float) -> None:
        endpoint.ejected = endpoint.ejected_by_operator = False
        endpoint.returned_at = endpoint.since = now
        endpoint.consecutive_failures = 0
        endpoint.interval_successes = endpoint.interval_failures = 0
        self.ejected -= 1
        self.returns += 1
        if self._on_event is not None:
            self._on_event(RETURNED, endpoint, why, now)

    def _find_due(self) -> None:
        due = self._interval_ends if self._on and self._settings.error_rate is not None else inf
        for one in self._members:
            if one.ejected and one.ejected_until < due:
                due = one.ejected_until
        self.due = due

    def __repr__(self) -> str:
        return f"<OutlierDetector {self.ejected} of {len(self._members)} ejected>"
