"""Passive ejection: an endpoint that fails requests gets none for a while (Envoy: outlier_detection).

Owns who is ejected and for how long. It is told of every attempt and knows nothing of requests; that an ejected
endpoint is not picked is `sidecar.policy.availability`'s business, which reads `ejected`.

    eject    after `consecutive_failures` in a row (Envoy: consecutive_5xx and consecutive_gateway_failure in one; the
             exchange judges what a failure is), at once; and at the end of each `interval` in which at least
             `minimum_requests` attempts ended and `error_rate` percent of them failed, the worst first (Envoy:
             failure_percentage_threshold, failure_percentage_request_volume).
    how long `base_ejection_time` times the number of ejections, at most `max_ejection_time` (or `base_ejection_time`
             where that is longer). Each whole `interval` after its return takes one off that number.
    at most  `max_ejection_percent` of the endpoints that are not draining, rounded down, but always one where there are
             two or more (Envoy: always_eject_one_host): 1 of 2, 1 of 3, 2 of 5 with 50%. What is too many is counted in
             `overflows`, and its failures are counted from 0 again. A set that shrinks takes back those whose time is
             up soonest.
    never    the last available endpoint: another one must be healthy, not ejected, not draining and not skipped.
    operator ejects until a time, with settings or without, beyond `max_ejection_percent` too; neither a good check nor
             a set that shrinks ends that (`force`, `restore`).
    return   when the time is up; or by a good active check that began after the ejection (Envoy:
             successful_active_health_check_uneject_host). But a check that stays good while requests fail sees less
             than they do: of an endpoint ejected again before its number of ejections was back at 0, it is believed
             only where another has failed since.

What an attempt at an ejected endpoint brings (in a panic, or begun before) changes nothing. Nor does a failure of one
that began before the endpoint was last well again (`since`): what hung would else be ejected as it comes back, by the
attempts that ran into their timeout meanwhile. Nothing here runs by itself: whoever picks endpoints calls `tick` once
`due` has come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, inf
from typing import Final

from sidecar.policy.availability import Standing
from sidecar.policy.settings import OutlierSettings

EJECTED: Final = "ejected"
RETURNED: Final = "returned"

# Why ejected.
CONSECUTIVE_FAILURES: Final = "consecutive_failures"
ERROR_RATE: Final = "error_rate"
# Why returned.
TIME_UP: Final = "time_up"
CHECK_PASSED: Final = "check_passed"
FEW_LEFT: Final = "few_left"
TURNED_OFF: Final = "turned_off"
# Both ways.
OPERATOR: Final = "operator"


class Tracked(Standing):
    """An endpoint as the detector sees it. It keeps its record wherever it goes: into another set, out and back in."""

    __slots__ = (
        "checks_believed",
        "consecutive_failures",
        "ejected_at",
        "ejected_by_operator",
        "ejected_until",
        "ejections",
        "interval_failures",
        "interval_successes",
        "returned_at",
        "since",
    )

    def __init__(self) -> None:
        super().__init__()
        self.consecutive_failures = 0
        self.interval_successes = 0
        self.interval_failures = 0
        self.ejections = 0
        """What the ejection time is multiplied by."""
        self.ejected_at = 0.0
        self.ejected_until = 0.0
        self.ejected_by_operator = False
        self.returned_at = 0.0
        self.since = 0.0
        """When it joined, became healthy or returned, whichever was last; slow start begins there too."""
        self.checks_believed = False
        """Whether a good active check ends its ejection."""


OnEvent = Callable[[str, Tracked, str, float], None]
"""Called with (EJECTED or RETURNED, endpoint, why, now) after each; an ejection ends at `endpoint.ejected_until`."""


class OutlierDetector:
    """The ejections of one service's endpoints; without settings there are none. Times are monotonic seconds."""

    __slots__ = (
        "_interval_ends",
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
        self._members: tuple[Tracked, ...] = ()
        self._interval_ends = now + settings.interval
        self.ejected = 0
        """Endpoints of the set that are ejected now."""
        self.ejections = 0
        """Since the start, as `returns` and `overflows`."""
        self.returns = 0
        self.overflows = 0
        """Ejections that `max_ejection_percent`, or being the last one, forbade (Envoy: ejections_overflow)."""
        self.due = inf
        """When `tick` has something to do."""
        self._find_due()

    def record(self, endpoint: Tracked, failed: bool, now: float, began: float = inf) -> None:
        """An attempt at this endpoint, begun at `began`, ended. Those that say nothing about it are not to be told."""
        if failed:
            if began >= endpoint.since:
                self._failed(endpoint, now)
        else:
            endpoint.consecutive_failures = 0
            endpoint.interval_successes += 1

    def checked(self, endpoint: Tracked, ok: bool, began: float, now: float) -> None:
        """An active check of this endpoint, begun at `began`, ended."""
        if not endpoint.ejected or began < endpoint.ejected_at or endpoint not in self._members:
            return
        if endpoint.ejected_by_operator:
            return
        if not ok:
            endpoint.checks_believed = True
        elif endpoint.checks_believed:
            self._take_back(endpoint, CHECK_PASSED, now)
            self._find_due()

    def force(self, endpoint: Tracked, until: float, now: float) -> None:
        """An operator ejects it, or (where it is ejected already) says until when."""
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

    def restore(self, endpoint: Tracked, now: float) -> None:
        """An operator ends its ejection, whoever began it."""
        if endpoint.ejected and endpoint in self._members:
            self._take_back(endpoint, OPERATOR, now)
            self._find_due()

    def tick(self, now: float) -> None:
        """Take back whose time is up, and look at the interval that has ended. Nothing before `due`."""
        if now < self.due:
            return
        for one in self._members:
            if one.ejected and one.ejected_until <= now:
                self._take_back(one, TIME_UP, now)
        if now >= self._interval_ends:
            self._interval_ends = now + self._settings.interval
            self._judge_interval(now)
        self._find_due()

    def update(self, members: Sequence[Tracked], now: float) -> None:
        """Make this the complete set; to be called again where an endpoint of it begins or ceases to drain.

        One that is ejected already stays so for the rest of its time, if it may.
        """
        before = set(self._members)
        self._members = tuple(members)
        for one in self._members:
            if one not in before:
                one.interval_successes = one.interval_failures = 0  # of an interval that may be long over
        self.ejected = sum([one.ejected for one in self._members])
        self._find_due()
        self.tick(now)
        self._take_back_what_is_too_much(now)

    def reconfigure(self, settings: OutlierSettings | None, now: float) -> None:
        """Go on under other settings: who is ejected stays so until the time it was given, if it may."""
        self._on = settings is not None
        settings = settings or OutlierSettings()
        if settings.interval != self._settings.interval:
            self._interval_ends = now + settings.interval
        self._settings = settings
        self._take_back_what_is_too_much(now)

    def _take_back_what_is_too_much(self, now: float) -> None:
        if self.ejected:
            total, ejected = self._count()
            surplus = ejected - self._most(total)
            order = [(one.ejected_until, at) for at, one in enumerate(self._members) if one.ejected]
            for _, at in sorted(order):
                one = self._members[at]
                if one.ejected_by_operator:
                    continue
                if not self._on:
                    self._take_back(one, TURNED_OFF, now)
                elif surplus > 0 and not one.draining:
                    surplus -= 1
                    self._take_back(one, FEW_LEFT, now)
        self._find_due()

    def _failed(self, endpoint: Tracked, now: float) -> None:
        if endpoint.ejected or not self._on:
            return
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
                # Multiplied out, because 29 / 100 * 100 is less than 29.
                over = failures * 100 >= error_rate * attempts
                if over and attempts >= settings.minimum_requests and not one.ejected:
                    outliers.append((-failures / attempts, at))
            for _, at in sorted(outliers):
                self._eject(self._members[at], ERROR_RATE, now)
        for one in self._members:
            one.interval_successes = one.interval_failures = 0

    def _eject(self, endpoint: Tracked, why: str, now: float) -> None:
        if endpoint.draining or endpoint not in self._members:
            return  # it gets no new requests as it is
        if not self._may_eject(endpoint, now):
            self.overflows += 1
            return
        settings = self._settings
        base_s = settings.base_ejection_time
        longest_s = max(base_s, settings.max_ejection_time)
        healthy_intervals = int((now - endpoint.returned_at) / settings.interval)
        # No further than the longest time needs: what grows unseen would have to shrink unseen (Envoy bounds it too).
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

    def _may_eject(self, endpoint: Tracked, now: float) -> bool:
        total, ejected = self._count()
        if ejected >= self._most(total):
            return False
        for one in self._members:
            if one is not endpoint and one.healthy and not (one.ejected or one.draining) and one.skip_until <= now:
                return True
        return False

    def _count(self) -> tuple[int, int]:
        """(endpoints that are not draining, those of them that are ejected)."""
        total = ejected = 0
        for one in self._members:
            if not one.draining:
                total += 1
                if one.ejected:
                    ejected += 1
        return total, ejected

    def _most(self, total: int) -> int:
        """How many of so many may be ejected at once."""
        if total < 2:
            return 0
        return min(total - 1, max(1, int(total * self._settings.max_ejection_percent / 100)))

    def _take_back(self, endpoint: Tracked, why: str, now: float) -> None:
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
