"""Passive ejection: who is ejected, for how long, and who never is."""

from __future__ import annotations

from collections.abc import Collection
from itertools import cycle, product
from math import inf
from typing import Any

import pytest

from sidecar.policy.availability import Availability
from sidecar.policy.endpoint_state import EndpointState
from sidecar.policy.outlier import (
    CHECK_PASSED,
    CONSECUTIVE_FAILURES,
    EJECTED,
    ERROR_RATE,
    FEW_LEFT,
    RETURNED,
    TIME_UP,
    TURNED_OFF,
    OutlierDetector,
)
from sidecar.policy.settings import OutlierSettings


class Cluster:
    """Endpoints with a detector and what follows from it, as a live service would wire them."""

    def __init__(self, size: int, panic_threshold: float = 50.0, **options: Any) -> None:
        self.endpoints = [EndpointState() for _ in range(size)]
        self.events: list[tuple[float, str, int, str]] = []
        self.availability = Availability(panic_threshold)
        self.detector = OutlierDetector(OutlierSettings(**options), 0.0, self._told)
        self.set(self.endpoints, 0.0)

    def _told(self, event: str, endpoint: EndpointState, why: str, now: float) -> None:
        self.events.append((now, event, self.endpoints.index(endpoint), why))
        self.availability.recompute(now)

    def set(self, members: list[EndpointState], now: float) -> None:
        self.detector.update(members, now)
        self.availability.update(members, now)

    def fail(self, index: int, now: float, times: int = 5) -> None:
        for _ in range(times):
            self.detector.record(self.endpoints[index], True, now)

    def serve(self, index: int, now: float, times: int = 1) -> None:
        for _ in range(times):
            self.detector.record(self.endpoints[index], False, now)

    def check(self, index: int, ok: bool, began: float) -> None:
        self.detector.checked(self.endpoints[index], ok, began, began + 0.1)

    def tick(self, now: float) -> None:
        self.detector.tick(now)
        self.availability.recompute(now)

    @property
    def ejected(self) -> list[int]:
        return [at for at, one in enumerate(self.endpoints) if one.ejected]

    @property
    def available(self) -> list[int]:
        return [at for at, one in enumerate(self.endpoints) if one.available]

    def lasting(self, index: int) -> float:
        one = self.endpoints[index]
        return round(one.ejected_until - one.ejected_at, 6)


# Consecutive failures.


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_consecutive_failures_eject_at_the_limit_and_not_before(limit: int) -> None:
    cluster = Cluster(2, consecutive_failures=limit)
    cluster.fail(0, 1.0, limit - 1)
    cluster.serve(0, 1.0)
    cluster.fail(0, 2.0, limit - 1)
    assert cluster.ejected == []
    cluster.fail(0, 3.0, 1)
    assert cluster.events == [(3.0, EJECTED, 0, CONSECUTIVE_FAILURES)]
    assert cluster.available == [1]
    assert (cluster.detector.ejected, cluster.detector.ejections, cluster.detector.returns) == (1, 1, 0)


def test_failures_of_one_do_not_count_for_another() -> None:
    cluster = Cluster(3)
    for index in (0, 1, 2, 0, 1, 2):
        cluster.fail(index, 1.0, 2)
    assert cluster.ejected == [], "four each"


def test_outcomes_of_an_ejected_endpoint_change_nothing() -> None:
    cluster = Cluster(2)
    cluster.fail(0, 1.0)
    cluster.fail(0, 2.0, 50)
    cluster.serve(0, 2.0)
    cluster.tick(31.0)
    assert [event[1] for event in cluster.events] == [EJECTED, RETURNED]
    assert cluster.endpoints[0].consecutive_failures == 0
    cluster.fail(0, 32.0, 4)
    assert cluster.ejected == []


def test_failures_of_attempts_that_began_before_the_return_change_nothing() -> None:
    """An endpoint that hung comes back while attempts at it still run into their timeout."""
    cluster = Cluster(2)
    cluster.fail(0, 1.0)
    cluster.check(0, ok=True, began=5.0)
    assert cluster.events[-1] == (5.1, RETURNED, 0, CHECK_PASSED)
    for _ in range(50):
        cluster.detector.record(cluster.endpoints[0], True, 5.2, began=5.0)
    assert cluster.ejected == []
    for _ in range(5):
        cluster.detector.record(cluster.endpoints[0], True, 5.2, began=5.1)
    assert cluster.ejected == [0]


def test_failures_of_attempts_that_began_before_it_became_healthy_change_nothing() -> None:
    cluster = Cluster(2)
    cluster.endpoints[0].since = 3.0
    for _ in range(50):
        cluster.detector.record(cluster.endpoints[0], True, 3.2, began=2.9)
    assert cluster.ejected == []
    assert cluster.endpoints[0].interval_failures == 0


# How long.


def test_it_returns_when_its_time_is_up_and_not_before() -> None:
    cluster = Cluster(2, base_ejection_time=30.0)
    cluster.fail(0, 1.0)
    assert cluster.detector.due == 31.0
    cluster.tick(30.999)
    assert cluster.ejected == [0]
    cluster.tick(31.0)
    assert cluster.events[-1] == (31.0, RETURNED, 0, TIME_UP)
    assert cluster.available == [0, 1]
    assert cluster.detector.due == inf


def test_each_ejection_lasts_longer_up_to_the_longest() -> None:
    cluster = Cluster(2, base_ejection_time=30.0, max_ejection_time=100.0)
    now = 0.0
    lasted = []
    for _ in range(6):
        cluster.fail(0, now)
        lasted.append(cluster.lasting(0))
        now = cluster.endpoints[0].ejected_until
        cluster.tick(now)
    assert lasted == [30, 60, 90, 100, 100, 100]


def test_a_base_time_above_the_longest_time_is_used_as_written() -> None:
    cluster = Cluster(2, base_ejection_time=60.0, max_ejection_time=10.0)
    cluster.fail(0, 0.0)
    assert cluster.lasting(0) == 60


@pytest.mark.parametrize(
    ("well_for", "lasting"),
    [(0.0, 120.0), (9.9, 120.0), (10.0, 90.0), (19.9, 90.0), (20.0, 60.0), (30.0, 30.0), (10_000.0, 30.0)],
)
def test_each_good_interval_lowers_the_number_of_ejections(well_for: float, lasting: float) -> None:
    cluster = Cluster(2, base_ejection_time=30.0, interval=10.0)
    now = 0.0
    for _ in range(3):
        cluster.fail(0, now)
        now = cluster.endpoints[0].ejected_until
        cluster.tick(now)
    cluster.fail(0, now + well_for)
    assert cluster.lasting(0) == lasting


def test_the_number_of_ejections_is_bounded() -> None:
    cluster = Cluster(2, base_ejection_time=30.0, max_ejection_time=60.0, interval=10.0)
    now = 0.0
    for _ in range(50):
        cluster.fail(0, now)
        now = cluster.endpoints[0].ejected_until
        cluster.tick(now)
    cluster.fail(0, now + 20.0)
    assert cluster.lasting(0) == 30, "two intervals make up for it, not fifty"


# Error rate.


@pytest.mark.parametrize(
    ("failures", "successes", "expected"),
    [(10, 10, [0]), (9, 11, []), (10, 9, []), (19, 0, []), (20, 0, [0]), (50, 50, [0]), (499, 501, [])],
)
def test_an_interval_is_judged_at_its_end(failures: int, successes: int, expected: list[int]) -> None:
    cluster = Cluster(3, error_rate=50.0, minimum_requests=20, consecutive_failures=1000, interval=10.0)
    cluster.fail(0, 1.0, failures)
    cluster.serve(0, 1.0, successes)
    cluster.tick(9.999)
    assert cluster.ejected == []
    cluster.tick(10.0)
    assert cluster.ejected == expected
    assert cluster.events == [(10.0, EJECTED, 0, ERROR_RATE)] * len(expected)


def test_percentages_are_exact() -> None:
    cluster = Cluster(2, error_rate=29.0, minimum_requests=100, consecutive_failures=1000)
    cluster.fail(0, 1.0, 29)
    cluster.serve(0, 1.0, 71)
    cluster.tick(10.0)
    assert cluster.ejected == [0]


def test_an_interval_forgets_the_one_before() -> None:
    cluster = Cluster(2, error_rate=50.0, minimum_requests=20, consecutive_failures=1000)
    for now in (1.0, 11.0, 21.0):
        cluster.fail(0, now, 19)
        cluster.tick(now + 9.0)
    assert cluster.ejected == []


def test_the_worst_goes_first_where_not_all_may_go() -> None:
    cluster = Cluster(4, error_rate=10.0, minimum_requests=10, consecutive_failures=1000, max_ejection_percent=50.0)
    for index, failures in enumerate((5, 9, 6, 8)):
        cluster.fail(index, 1.0, failures)
        cluster.serve(index, 1.0, 10 - failures)
    cluster.tick(10.0)
    assert cluster.ejected == [1, 3]
    assert cluster.detector.overflows == 2


def test_without_an_error_rate_no_interval_is_due() -> None:
    assert Cluster(2).detector.due == inf
    assert Cluster(2, error_rate=50.0, interval=7.0).detector.due == 7.0


# How many.


@pytest.mark.parametrize(
    ("size", "percent", "most"),
    [
        (1, 100.0, 0),
        (2, 1.0, 1),
        (2, 50.0, 1),
        (2, 100.0, 1),
        (3, 10.0, 1),
        (3, 50.0, 1),
        (3, 67.0, 2),
        (3, 100.0, 2),
        (4, 50.0, 2),
        (5, 50.0, 2),
        (10, 10.0, 1),
        (10, 50.0, 5),
        (10, 99.0, 9),
        (10, 100.0, 9),
        (100, 29.0, 29),
    ],
)
def test_how_many_may_be_ejected_at_once(size: int, percent: float, most: int) -> None:
    cluster = Cluster(size, max_ejection_percent=percent)
    for index in range(size):
        cluster.fail(index, 1.0)
    assert cluster.ejected == list(range(most))
    assert cluster.detector.overflows == size - most


def test_failures_are_counted_from_zero_after_a_refused_ejection() -> None:
    cluster = Cluster(2)
    cluster.fail(0, 1.0)
    cluster.fail(1, 1.0, 7)
    cluster.tick(31.0)
    cluster.fail(1, 31.0, 2)
    assert cluster.ejected == [], "seven and two are four short of ten"
    cluster.fail(1, 31.0, 1)
    assert cluster.ejected == [1]


@pytest.mark.parametrize("kept", ["passing", "draining", "skip_until", "ejected"])
def test_the_last_available_one_is_never_ejected(kept: str) -> None:
    """Of two, where the other is not available: whatever the reason, this one stays."""
    cluster = Cluster(2, max_ejection_percent=100.0)
    setattr(cluster.endpoints[1], kept, {"passing": False, "skip_until": 2.0}.get(kept, True))
    cluster.fail(0, 1.999)
    assert (cluster.ejected, cluster.detector.overflows) == ([1] if kept == "ejected" else [], 1)


def test_a_skip_that_is_over_does_not_count() -> None:
    cluster = Cluster(2)
    cluster.endpoints[1].skip_until = 2.0
    cluster.fail(0, 2.0)
    assert cluster.ejected == [0]


def test_draining_ones_are_not_ejected_and_not_in_the_percentage() -> None:
    cluster = Cluster(5, max_ejection_percent=50.0)
    for index in (2, 3, 4):
        cluster.endpoints[index].draining = True
        cluster.fail(index, 1.0)
    cluster.fail(0, 1.0)
    cluster.fail(1, 1.0)
    assert cluster.ejected == [0]
    assert cluster.detector.overflows == 1


# Active checks.


def test_a_good_check_after_the_first_ejection_ends_it() -> None:
    cluster = Cluster(2)
    cluster.fail(0, 1.0)
    cluster.check(0, True, 0.95)
    assert cluster.ejected == [0], "it began before the ejection"
    cluster.check(0, True, 1.0)
    assert cluster.events[-1] == (1.1, RETURNED, 0, CHECK_PASSED)
    assert cluster.detector.due == inf


def test_a_check_that_passes_while_requests_fail_is_believed_once() -> None:
    cluster = Cluster(2)
    cluster.fail(0, 1.0)
    cluster.check(0, True, 2.0)
    cluster.fail(0, 3.0)
    cluster.check(0, True, 4.0)
    cluster.check(0, True, 5.0)
    assert cluster.ejected == [0]
    cluster.check(0, False, 6.0)
    cluster.check(0, True, 7.0)
    assert cluster.ejected == [], "now it has seen the failure, and its end"


def test_a_check_is_believed_again_after_good_intervals() -> None:
    cluster = Cluster(2, interval=10.0)
    cluster.fail(0, 1.0)
    cluster.check(0, True, 1.9)
    cluster.fail(0, 12.0)
    cluster.check(0, True, 13.0)
    assert cluster.ejected == []


def test_checks_of_endpoints_not_ejected_or_gone_change_nothing() -> None:
    cluster = Cluster(3)
    cluster.check(0, False, 1.0)
    cluster.check(0, True, 1.0)
    cluster.fail(0, 2.0)
    cluster.set(cluster.endpoints[1:], 3.0)
    cluster.check(0, True, 4.0)
    assert (cluster.detector.ejected, cluster.detector.returns, cluster.endpoints[0].ejected) == (0, 0, True)


# A set that changes.


def test_an_endpoint_keeps_its_record_when_it_leaves_and_comes_back() -> None:
    cluster = Cluster(4)
    gone = cluster.endpoints[0]
    cluster.fail(0, 1.0)
    cluster.set(cluster.endpoints[1:], 2.0)
    assert cluster.detector.ejected == 0
    cluster.set(cluster.endpoints, 3.0)
    assert (cluster.detector.ejected, cluster.detector.due, gone.available) == (1, 31.0, False)
    cluster.set(cluster.endpoints[1:], 4.0)
    cluster.tick(50.0)
    assert gone.ejected, "nobody looks while it is away"
    cluster.set(cluster.endpoints, 50.0)
    assert cluster.events[-1] == (50.0, RETURNED, 0, TIME_UP)
    assert gone.available
    cluster.fail(0, 51.0)
    assert cluster.lasting(0) == 60


def test_failures_of_an_endpoint_that_left_do_not_eject_it() -> None:
    cluster = Cluster(3)
    cluster.set(cluster.endpoints[1:], 1.0)
    cluster.fail(0, 2.0)
    assert (cluster.ejected, cluster.detector.ejections, cluster.detector.overflows) == ([], 0, 0)


def test_when_the_set_shrinks_those_with_the_least_time_left_return() -> None:
    cluster = Cluster(6)
    for index, now in ((2, 1.0), (0, 2.0), (1, 3.0)):
        cluster.fail(index, now)
    cluster.set(cluster.endpoints[:3], 4.0)
    assert cluster.events[3:] == [(4.0, RETURNED, 2, FEW_LEFT), (4.0, RETURNED, 0, FEW_LEFT)]
    assert cluster.available == [0, 2]
    cluster.set(cluster.endpoints[1:2], 5.0)
    assert cluster.available == [1], "the only one left"


def test_counts_of_an_old_interval_do_not_come_back() -> None:
    cluster = Cluster(2, error_rate=50.0, minimum_requests=20, consecutive_failures=1000)
    cluster.fail(0, 1.0, 30)
    cluster.set(cluster.endpoints[1:], 2.0)
    cluster.set(cluster.endpoints, 12.0)
    cluster.tick(20.0)
    assert cluster.ejected == []


# Settings.


def test_without_settings_nobody_is_ejected() -> None:
    endpoints = [EndpointState(), EndpointState()]
    detector = OutlierDetector(None, 0.0)
    detector.update(endpoints, 0.0)
    for _ in range(100):
        detector.record(endpoints[0], True, 1.0)
        detector.record(endpoints[1], False, 1.0)
    assert (detector.ejected, detector.overflows, detector.due) == (0, 0, inf)


def test_turning_off_returns_everybody_and_later_those_who_were_away() -> None:
    cluster = Cluster(4)
    away = cluster.endpoints[3]
    cluster.fail(0, 1.0)
    cluster.fail(3, 1.0)
    cluster.set(cluster.endpoints[:3], 2.0)
    cluster.detector.reconfigure(None, 3.0)
    assert cluster.events[-1] == (3.0, RETURNED, 0, TURNED_OFF)
    cluster.set(cluster.endpoints, 4.0)
    assert (away.ejected, cluster.detector.due) == (False, inf)
    cluster.detector.reconfigure(OutlierSettings(), 5.0)
    cluster.fail(0, 6.0)
    assert cluster.ejected == [0]


def test_new_settings_do_not_change_the_end_of_an_ejection() -> None:
    cluster = Cluster(2)
    cluster.fail(0, 1.0)
    cluster.detector.reconfigure(OutlierSettings(base_ejection_time=5.0, error_rate=50.0, interval=3.0), 2.0)
    assert cluster.detector.due == 5.0
    cluster.tick(30.0)
    assert cluster.ejected == [0]
    cluster.tick(31.0)
    assert cluster.ejected == []


def test_a_lower_percentage_returns_endpoints_at_once() -> None:
    cluster = Cluster(10)
    for index in range(5):
        cluster.fail(index, 1.0 + index)
    cluster.detector.reconfigure(OutlierSettings(max_ejection_percent=20.0), 9.0)
    assert cluster.ejected == [3, 4]


def test_repr_counts() -> None:
    cluster = Cluster(3)
    cluster.fail(0, 1.0)
    assert repr(cluster.detector) == "<OutlierDetector 1 of 3 ejected>"


# Every combination of failing ones.


def drive(cluster: Cluster, failing: Collection[int], start: float, seconds: int, most: int) -> float:
    """Ten requests a second in turn to whoever is available, and what must hold after each; returns the time after."""
    turn = cycle(range(len(cluster.endpoints)))
    now = start
    for step in range(seconds * 10):
        now = start + step / 10
        cluster.tick(now)
        index = next(one for one in turn if cluster.endpoints[one].available)
        cluster.detector.record(cluster.endpoints[index], index in failing, now)
        assert cluster.available, "nobody is left"
        assert len(cluster.ejected) == cluster.detector.ejected <= most
        assert not cluster.availability.panic, "ejection alone, up to half, is no panic"
    return now


@pytest.mark.parametrize(("size", "most"), [(1, 0), (2, 1), (3, 1), (5, 2), (10, 5)])
def test_every_combination_of_failing_endpoints(size: int, most: int) -> None:
    """2^n of them: somebody is always available, no more than may be are ejected, and who recovers returns."""
    for bits in product((False, True), repeat=size):
        failing = {index for index, fails in enumerate(bits) if fails}
        cluster = Cluster(size, consecutive_failures=2)
        now = drive(cluster, failing, 0.0, 5, most)
        assert set(cluster.ejected) <= failing
        assert len(cluster.ejected) == min(len(failing), most)
        if len(failing) <= most:
            assert not failing & set(cluster.available), "whoever fails gets nothing any more"
        drive(cluster, (), now + 30.0, 1, most)
        assert cluster.ejected == []
        assert cluster.available == list(range(size))


@pytest.mark.parametrize("percent", [10.0, 50.0, 100.0])
@pytest.mark.parametrize("panic_threshold", [0.0, 50.0])
def test_one_endpoint_is_available_with_unhealthy_and_failing_ones(percent: float, panic_threshold: float) -> None:
    """Each of five endpoints well, failing, unhealthy, or unhealthy from the middle on."""
    for kinds in product("wful", repeat=5):
        cluster = Cluster(
            5, panic_threshold, consecutive_failures=2, max_ejection_percent=percent, base_ejection_time=2.0
        )
        most = {10.0: 1, 50.0: 2, 100.0: 4}[percent]
        turn = cycle(range(5))
        for step in range(60):
            now = step / 10
            for one, kind in zip(cluster.endpoints, kinds, strict=True):
                one.passing = not (kind == "u" or (kind == "l" and 20 <= step < 40))
            cluster.tick(now)
            healthy = [at for at, one in enumerate(cluster.endpoints) if one.passing]
            assert len(cluster.ejected) <= most
            if not cluster.available:
                assert not panic_threshold
                assert not healthy
                continue
            index = next(one for one in turn if cluster.endpoints[one].available)
            assert index in healthy or cluster.availability.panic
            cluster.detector.record(cluster.endpoints[index], kinds[index] == "f", now)
        cluster.tick(60.0)
        assert cluster.ejected == []


# Failures that the service answered.


def answer_failed(cluster: Cluster, index: int, now: float, times: int = 5) -> None:
    for _ in range(times):
        cluster.detector.record(cluster.endpoints[index], True, now, by_status=True)


def test_a_request_that_fails_everywhere_ejects_nothing() -> None:
    cluster = Cluster(2)
    for now in range(50):
        answer_failed(cluster, now % 2, float(now), 1)
    assert cluster.ejected == []


@pytest.mark.parametrize(
    ("before", "ejected"),
    [
        ([], []),  # nobody has ever succeeded
        ([0], []),  # this one was the last that did
        ([1, 0], []),
        ([1], [0]),
        ([0, 1], [0]),
    ],
)
def test_an_answer_that_fails_counts_if_a_sibling_has_succeeded_since(before: list[int], ejected: list[int]) -> None:
    cluster = Cluster(2)
    for at, index in enumerate(before):
        cluster.serve(index, float(at))
    answer_failed(cluster, 0, 10.0)
    assert cluster.ejected == ejected


def test_what_is_no_answer_counts_whatever_siblings_do() -> None:
    cluster = Cluster(2)
    cluster.fail(0, 1.0)
    assert cluster.ejected == [0]


def test_a_sibling_that_left_says_nothing_any_more() -> None:
    cluster = Cluster(3)
    cluster.serve(2, 1.0)
    cluster.set(cluster.endpoints[:2], 2.0)
    answer_failed(cluster, 0, 3.0)
    assert cluster.ejected == []


@pytest.mark.parametrize(("pause", "ejected"), [(60.0, [0]), (60.1, [])])
def test_a_row_of_failures_begins_anew_after_a_minute(pause: float, ejected: list[int]) -> None:
    cluster = Cluster(2)
    cluster.fail(0, 1.0, 4)
    cluster.fail(0, 1.0 + pause, 1)
    assert cluster.ejected == ejected
    cluster.fail(0, 1.0 + pause, 4)
    assert cluster.ejected == [0]
