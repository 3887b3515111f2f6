"""The circuit breaker, as tables of (time, event, expected) and as properties over any sequence of events."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.breaker import (
    ADMIT,
    CLOSED,
    HALF_OPEN,
    OPEN,
    PROBE,
    REFUSE,
    REFUSED,
    UNCOUNTED,
    Breaker,
    NullBreaker,
    make_breaker,
)
from sidecar.policy.settings import BreakerSettings

SMALL = BreakerSettings(volume_threshold=4, reset_timeout=30.0, max_reset_timeout=100.0)


def fail(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.failure(breaker.admit(now), now)


def serve(breaker: Breaker, now: float, times: int = 1) -> None:
    for _ in range(times):
        breaker.success(breaker.admit(now), now)


def opened(settings: BreakerSettings = SMALL, now: float = 0.0) -> Breaker:
    breaker = Breaker(settings, now)
    fail(breaker, now, settings.volume_threshold)
    assert breaker.state == OPEN
    return breaker


def play(breaker: Breaker, table: list[tuple[float, str, Any]]) -> None:
    """Each row: the time, what happens then, and the state after it (for `admit` and `refused` what comes of it)."""
    permits: list[int] = []
    for row, (now, event, expected) in enumerate(table):
        if event == "admit":
            permits.append(breaker.admit(now))
            got: Any = bool(permits[-1])
            if not got:
                permits.pop()
        elif event == "retry_after":
            got = breaker.retry_after(now)
        else:
            getattr(breaker, event)(permits.pop(0), now)
            got = breaker.state
        assert got == expected, f"row {row}: {now, event, expected}, got {got!r}; {breaker!r}"


@pytest.mark.parametrize(
    ("percentage", "volume", "successes", "failures", "state"),
    [
        (50, 10, 0, 9, CLOSED),  # volume - 1
        (50, 10, 0, 10, OPEN),
        (50, 10, 0, 11, OPEN),
        (50, 10, 6, 4, CLOSED),  # just below the percentage
        (50, 10, 5, 5, OPEN),
        (50, 10, 4, 6, OPEN),
        (50, 1, 0, 1, OPEN),
        (100, 4, 1, 99, CLOSED),
        (100, 4, 0, 4, OPEN),
        (29, 100, 72, 28, CLOSED),
        (29, 100, 71, 29, OPEN),  # 29 / 100 * 100 < 29 in floats
        (33.3, 1000, 668, 332, CLOSED),
        (33.3, 1000, 667, 333, OPEN),
        (0.1, 1000, 999, 1, OPEN),
    ],
)
def test_it_opens_at_the_thresholds_and_not_before(
    percentage: float, volume: int, successes: int, failures: int, state: str
) -> None:
    breaker = Breaker(BreakerSettings(error_threshold_percentage=percentage, volume_threshold=volume), 0.0)
    serve(breaker, 0.0, successes)
    for _ in range(failures):
        if breaker.state == CLOSED:
            fail(breaker, 0.0)
    assert breaker.state == state


def test_a_success_that_reaches_the_volume_opens_it_too() -> None:
    breaker = Breaker(BreakerSettings(volume_threshold=10), 0.0)
    fail(breaker, 0.0, 9)
    assert breaker.state == CLOSED
    serve(breaker, 0.0)
    assert breaker.state == OPEN


@pytest.mark.parametrize(("last_failure", "state"), [(9.999, OPEN), (10.0, CLOSED), (25.0, CLOSED)])
def test_failures_that_left_the_window_no_longer_count(last_failure: float, state: str) -> None:
    breaker = Breaker(SMALL, 0.0)
    fail(breaker, 0.0, 3)
    fail(breaker, last_failure)
    assert breaker.state == state


def test_the_window_counts_successes_and_failures() -> None:
    breaker = Breaker(SMALL, 0.0)
    serve(breaker, 0.0, 3)
    fail(breaker, 5.0, 2)
    breaker.ignore(breaker.admit(5.0), 5.0)
    assert breaker.window(9.999) == (3, 2)
    assert breaker.window(10.0) == (0, 2)
    assert breaker.window(15.0) == (0, 0)


def test_one_outage_from_start_to_end() -> None:
    breaker = Breaker(SMALL, 0.0)
    play(
        breaker,
        [
            *[(1.0, "admit", True), (1.0, "failure", CLOSED)] * 3,
            (1.0, "retry_after", 0.0),
            (2.0, "admit", True),
            (2.0, "failure", OPEN),
            (2.0, "retry_after", 30.0),
            (2.0, "admit", False),
            (31.999, "admit", False),
            (32.0, "retry_after", 0.0),
            (32.0, "admit", True),  # the probe
            (32.0, "admit", False),
            (32.0, "retry_after", 1.0),
            (33.0, "failure", OPEN),
            (33.0, "retry_after", 60.0),
            (92.999, "admit", False),
            (93.0, "admit", True),
            (93.5, "failure", OPEN),
            (93.5, "retry_after", 100.0),  # 120 would be above max_reset_timeout
            (193.5, "admit", True),
            (193.5, "failure", OPEN),
            (193.5, "retry_after", 100.0),
            (300.0, "admit", True),
            (300.0, "ignore", HALF_OPEN),
            (300.0, "retry_after", 0.0),
            (301.0, "admit", True),
            (301.0, "success", CLOSED),
            *[(301.0, "admit", True), (301.0, "failure", CLOSED)] * 3,  # the window was cleared
            (301.0, "admit", True),
            (301.0, "failure", OPEN),
            (301.0, "retry_after", 30.0),  # and so was the doubling
        ],
    )
    counters = breaker.counters
    assert (breaker.opens, counters.opens, counters.half_opens, counters.closes) == (5, 5, 4, 1)
    assert (counters.successes, counters.failures, breaker.rejects, counters.rejects) == (1, 11, 4, 4)


def test_several_probes_run_at_a_time_and_all_must_succeed() -> None:
    breaker = opened(msgspec.structs.replace(SMALL, half_open_requests=3))
    play(
        breaker,
        [
            *[(30.0, "admit", True)] * 3,
            (30.0, "admit", False),
            (31.0, "success", HALF_OPEN),
            (31.0, "admit", True),
            (31.0, "admit", False),
            (31.0, "success", HALF_OPEN),
            (31.0, "ignore", HALF_OPEN),
            (31.0, "success", CLOSED),
        ],
    )


def test_one_failed_probe_opens_it_despite_the_others() -> None:
    breaker = opened(msgspec.structs.replace(SMALL, half_open_requests=3))
    play(
        breaker,
        [
            *[(30.0, "admit", True)] * 3,
            (31.0, "success", HALF_OPEN),
            (31.0, "failure", OPEN),
            (31.5, "success", OPEN),  # a probe of the round before
            (91.0, "admit", True),
            (91.0, "success", HALF_OPEN),
            (91.0, "admit", True),
            (91.0, "success", HALF_OPEN),  # in a row: the success before the failure is forgotten
            (91.0, "admit", True),
            (91.0, "success", CLOSED),
        ],
    )


def test_closing_clears_a_window_that_still_holds_the_outage() -> None:
    breaker = opened(msgspec.structs.replace(SMALL, reset_timeout=1.0))
    assert breaker.window(1.0) == (0, 4)
    serve(breaker, 1.0)
    assert (breaker.state, breaker.window(1.0)) == (CLOSED, (0, 0)), "nor is the probe in it"


def test_a_call_from_before_the_last_change_does_not_count() -> None:
    breaker = Breaker(SMALL, 0.0)
    early = [breaker.admit(0.0) for _ in range(20)]
    fail(breaker, 0.0, 4)
    breaker.failure(early.pop(), 1.0)
    breaker.success(early.pop(), 1.0)
    assert (breaker.state, breaker.opens, breaker.since) == (OPEN, 1, 0.0)

    probe = breaker.admit(30.0)
    breaker.failure(early.pop(), 30.0)
    breaker.ignore(early.pop(), 30.0)
    assert not breaker.admit(30.0), "an old call gave back a probe that it did not hold"
    breaker.success(probe, 30.0)
    assert breaker.state == CLOSED
    for permit in early:
        breaker.failure(permit, 30.0)
    assert (breaker.state, breaker.window(30.0)) == (CLOSED, (0, 0))


def test_retrying_ends_with_the_state_it_began_in() -> None:
    breaker = Breaker(SMALL, 0.0)
    permit = breaker.admit(0.0)
    assert breaker.may_retry(permit)
    assert not breaker.is_probe(permit)
    fail(breaker, 0.0, 4)
    assert not breaker.may_retry(permit)

    probe = breaker.admit(30.0)
    assert breaker.is_probe(probe)
    assert not breaker.may_retry(probe), "a probe is a single attempt"
    breaker.success(probe, 30.0)
    assert breaker.is_probe(probe), "it was one, whatever the state is now"
    assert not breaker.may_retry(permit), "closed again, but not without a change in between"
    assert breaker.may_retry(breaker.admit(30.0))


def test_changes_are_reported_once_each_with_the_new_state_in_place() -> None:
    seen = []
    breaker = Breaker(SMALL, 0.0, lambda old, new, now: seen.append((old, new, now, breaker.state, breaker.since)))
    fail(breaker, 1.0, 4)
    breaker.failure(breaker.admit(31.0), 32.0)
    breaker.success(breaker.admit(92.0), 93.0)
    assert seen == [
        (CLOSED, OPEN, 1.0, OPEN, 1.0),
        (OPEN, HALF_OPEN, 31.0, HALF_OPEN, 31.0),
        (HALF_OPEN, OPEN, 32.0, OPEN, 32.0),
        (OPEN, HALF_OPEN, 92.0, HALF_OPEN, 92.0),
        (HALF_OPEN, CLOSED, 93.0, CLOSED, 93.0),
    ]


def test_a_timeout_is_counted_as_a_failure_and_as_a_timeout() -> None:
    breaker = Breaker(SMALL, 0.0)
    breaker.failure(breaker.admit(0.0), 0.0, timed_out=True)
    fail(breaker, 0.0)
    assert (breaker.counters.failures, breaker.counters.timeouts) == (2, 1)


def test_a_reset_timeout_above_the_maximum_is_kept_as_written() -> None:
    breaker = opened(msgspec.structs.replace(SMALL, reset_timeout=600.0))
    assert breaker.retry_after(0.0) == 600.0
    breaker.failure(breaker.admit(600.0), 600.0)
    assert breaker.retry_after(600.0) == 600.0


def test_forced_open_refuses_until_its_time_and_then_probes() -> None:
    breaker = Breaker(SMALL, 0.0)
    before = breaker.admit(0.0)
    breaker.force(str(b"open", "ascii"), 60.0, 0.0)  # a string of its own, as out of a request
    assert (breaker.state, breaker.forced, breaker.opens) == (OPEN, OPEN, 1)
    breaker.success(before, 1.0)
    assert breaker.admit(59.9) == REFUSED
    assert breaker.retry_after(50.0) == 10.0
    assert breaker.probe_due == 60.0
    probe = breaker.admit(60.0)
    assert breaker.is_probe(probe)
    assert breaker.forced is None
    breaker.success(probe, 60.1)
    assert breaker.state == CLOSED


def test_forced_open_refuses_while_observing() -> None:
    breaker = Breaker(msgspec.structs.replace(SMALL, mode="observe"), 0.0)
    breaker.force(OPEN, 60.0, 0.0)
    assert breaker.admit(1.0) == REFUSED


def test_forced_closed_lets_everything_flow_and_judges_again_after_it() -> None:
    breaker = opened()
    breaker.force(CLOSED, 5.0, 0.5)
    assert (breaker.state, breaker.forced) == (CLOSED, CLOSED)
    fail(breaker, 1.0, 10)
    assert breaker.state == CLOSED
    assert breaker.window(1.0) == (0, 10)
    fail(breaker, 5.0)
    assert (breaker.state, breaker.forced) == (OPEN, None)


def test_a_forced_state_ends_by_time_and_by_command() -> None:
    breaker = Breaker(SMALL, 0.0)
    breaker.force(OPEN, 60.0, 0.0)
    breaker.tick(59.0)
    assert breaker.forced == OPEN
    breaker.tick(60.0)
    assert (breaker.forced, breaker.state, breaker.retry_after(60.0)) == (None, HALF_OPEN, 0.0)
    breaker.force(CLOSED, 100.0, 61.0)
    breaker.force(None, 0.0, 62.0)
    assert (breaker.forced, breaker.state) == (None, CLOSED)


@pytest.mark.parametrize("ends", [lambda one: one.tick(60.0), lambda one: one.admit(60.0), lambda one: fail(one, 60.0)])
def test_the_end_of_a_forced_state_is_told_once_whatever_ended_it(ends: Callable[[Breaker], object]) -> None:
    for state in (OPEN, CLOSED):
        breaker = Breaker(SMALL, 0.0)
        breaker.force(state, 60.0, 0.0)
        assert breaker.lapsed(59.9) is None
        ends(breaker)
        assert [breaker.lapsed(60.0), breaker.lapsed(61.0)] == [state, None]


def test_a_forced_state_that_an_operator_ended_or_replaced_is_not_told() -> None:
    breaker = Breaker(SMALL, 0.0)
    breaker.force(OPEN, 60.0, 0.0)
    breaker.tick(60.0)
    breaker.force(CLOSED, 100.0, 61.0)
    assert breaker.lapsed(62.0) is None
    breaker.force(None, 0.0, 62.0)
    assert breaker.lapsed(200.0) is None


def test_a_forced_state_survives_new_settings() -> None:
    breaker = Breaker(SMALL, 0.0)
    breaker.force(OPEN, 600.0, 0.0)
    assert breaker.reconfigure(msgspec.structs.replace(SMALL, reset_timeout=1.0), 5.0) is breaker
    assert breaker.admit(100.0) == REFUSED
    assert breaker.forced == OPEN
    off = breaker.reconfigure(msgspec.structs.replace(SMALL, mode="off"), 101.0)
    assert off.admit(101.0)
    assert (off.forced, off.state) == (None, CLOSED)


def test_a_breaker_that_is_off_cannot_be_forced() -> None:
    breaker = make_breaker(msgspec.structs.replace(SMALL, mode="off"), 0.0)
    with pytest.raises(ValueError, match="off"):
        breaker.force(OPEN, 60.0, 0.0)
    breaker.force(None, 0.0, 0.0)


def test_a_look_says_what_admit_would_and_changes_nothing() -> None:
    breaker = Breaker(SMALL, 0.0)
    steps: list[tuple[float, Callable[[float], object]]] = [
        (0, lambda now: None),
        (0, lambda now: fail(breaker, now, SMALL.volume_threshold)),
        (29.9, lambda now: None),
        (30.1, lambda now: None),
        (30.1, lambda now: breaker.admit(now)),  # its only probe is in flight
        (31, lambda now: breaker.force("open", now + 5, now)),
        (36, lambda now: None),
        (37, lambda now: breaker.force("closed", now + 5, now)),
        (42, lambda now: None),
    ]
    seen = []
    for now, change in steps:
        change(now)
        before = repr(breaker), breaker.forced
        seen.append(breaker.peek(now))
        assert (repr(breaker), breaker.forced) == before
        permit = breaker.admit(now)
        assert seen[-1] == (REFUSE if not permit else PROBE if breaker.is_probe(permit) else ADMIT), now
        breaker.ignore(permit, now)
    assert seen == [ADMIT, REFUSE, REFUSE, PROBE, REFUSE, REFUSE, PROBE, ADMIT, ADMIT]
    assert NullBreaker(SMALL, 0.0).peek(0.0) == ADMIT


def test_the_doubling_never_overflows() -> None:
    breaker = opened()
    now = 0.0
    for _ in range(1200):
        now += 100.0
        breaker.failure(breaker.admit(now), now)
    assert breaker.retry_after(now) == 100.0


class TestObserve:
    settings = msgspec.structs.replace(SMALL, mode="observe")

    def test_it_decides_and_reports_but_refuses_nothing(self) -> None:
        seen = []
        breaker = make_breaker(self.settings, 0.0, lambda old, new, now: seen.append((old, new, now)))
        fail(breaker, 0.0, 4)
        assert breaker.state == OPEN
        permit = breaker.admit(1.0)
        assert permit == UNCOUNTED
        assert permit, "truthy"
        assert breaker.rejects == 1
        assert breaker.may_retry(permit)
        assert not breaker.is_probe(permit)

        probe = breaker.admit(30.0)
        assert breaker.is_probe(probe)
        assert breaker.may_retry(probe)
        assert breaker.admit(30.0) == UNCOUNTED
        assert breaker.rejects == 2
        breaker.success(probe, 30.0)
        assert seen == [(CLOSED, OPEN, 0.0), (OPEN, HALF_OPEN, 30.0), (HALF_OPEN, CLOSED, 30.0)]

    def test_calls_that_enforce_would_have_refused_do_not_count(self) -> None:
        breaker = opened(self.settings)
        uncounted = breaker.admit(1.0)
        assert breaker.admit(30.0) > 0
        breaker.success(uncounted, 30.0)
        breaker.failure(uncounted, 30.0)
        breaker.ignore(uncounted, 30.0)
        assert breaker.state == HALF_OPEN
        assert breaker.admit(30.0) == UNCOUNTED


class TestOff:
    settings = msgspec.structs.replace(SMALL, mode="off")

    def test_it_admits_everything_and_counts_nothing(self) -> None:
        breaker = make_breaker(self.settings, 0.0)
        assert isinstance(breaker, NullBreaker)
        for _ in range(100):
            assert breaker.admit(0.0) == 1
            breaker.failure(1, 0.0, timed_out=True)
        breaker.success(1, 0.0)
        breaker.ignore(1, 0.0)
        assert (breaker.state, breaker.retry_after(0.0), breaker.window(0.0)) == (CLOSED, 0.0, (0, 0))
        assert breaker.may_retry(1)
        assert not breaker.is_probe(1)
        counters = breaker.counters
        assert (counters.successes, counters.failures, counters.timeouts, counters.rejects) == (0, 0, 0, 0)

    def test_turning_off_closes_and_keeps_the_counters(self) -> None:
        seen = []
        breaker = Breaker(SMALL, 0.0, lambda old, new, now: seen.append((old, new, now)))
        fail(breaker, 0.0, 4)
        off = breaker.reconfigure(self.settings, 5.0)
        assert isinstance(off, NullBreaker)
        assert (off.state, off.opens, off.counters) == (CLOSED, 1, breaker.counters)
        assert seen[-1] == (OPEN, CLOSED, 5.0)
        assert off.reconfigure(self.settings, 6.0) is off

    def test_turning_on_begins_closed_and_keeps_the_callback(self) -> None:
        seen = []
        off = make_breaker(self.settings, 0.0, lambda old, new, now: seen.append((old, new, now)))
        breaker = off.reconfigure(SMALL, 5.0)
        assert not isinstance(breaker, NullBreaker)
        fail(breaker, 6.0, 4)
        assert seen == [(CLOSED, OPEN, 6.0)]


class TestReload:
    def test_the_window_stays_while_its_settings_do(self) -> None:
        breaker = Breaker(SMALL, 0.0)
        fail(breaker, 0.0, 3)
        assert breaker.reconfigure(msgspec.structs.replace(SMALL, volume_threshold=5), 1.0) is breaker
        fail(breaker, 1.0)
        assert (breaker.state, breaker.window(1.0)) == (CLOSED, (0, 4))
        fail(breaker, 1.0)
        assert breaker.state == OPEN

    @pytest.mark.parametrize("change", [{"rolling_count_timeout": 20.0}, {"rolling_count_buckets": 5}])
    def test_new_window_settings_begin_an_empty_window(self, change: dict[str, Any]) -> None:
        breaker = Breaker(SMALL, 0.0)
        fail(breaker, 0.0, 3)
        breaker.reconfigure(msgspec.structs.replace(SMALL, **change), 1.0)
        assert breaker.window(1.0) == (0, 0)
        assert breaker.counters.failures == 3

    def test_an_open_breaker_stays_open_for_as_long_as_the_new_settings_say(self) -> None:
        breaker = opened()
        breaker.reconfigure(msgspec.structs.replace(SMALL, reset_timeout=10.0), 5.0)
        assert (breaker.state, breaker.retry_after(5.0)) == (OPEN, 5.0)
        assert not breaker.admit(9.999)
        assert breaker.admit(10.0)

    def test_permits_from_before_a_reload_still_count(self) -> None:
        breaker = Breaker(SMALL, 0.0)
        permits = [breaker.admit(0.0) for _ in range(4)]
        breaker.reconfigure(msgspec.structs.replace(SMALL, reset_timeout=1.0), 0.0)
        for permit in permits:
            breaker.failure(permit, 0.0)
        assert breaker.state == OPEN


@pytest.mark.parametrize("mode", ["enforce", "observe", "off"])
def test_repr_shows_the_state(mode: str) -> None:
    breaker = make_breaker(msgspec.convert({"mode": mode, "volume_threshold": 1}, BreakerSettings), 0.0)
    assert "losed" in repr(breaker) or mode == "off"
    fail(breaker, 1.0)
    assert ("open since 1.000" in repr(breaker)) == (mode != "off")
    breaker.admit(31.0)
    assert ("1 probes in flight" in repr(breaker)) == (mode != "off")


# Half-open, by time and by what says nothing.


def test_it_is_half_open_when_its_time_is_over_though_nobody_calls() -> None:
    breaker = opened()
    breaker.tick(29.9)
    assert breaker.state == OPEN
    breaker.tick(30.0)
    assert (breaker.state, breaker.since, breaker.retry_after(30.0)) == (HALF_OPEN, 30.0, 0.0)
    assert breaker.counters.half_opens == 1
    assert breaker.is_probe(breaker.admit(31.0))


def test_an_inconclusive_probe_is_followed_after_a_second() -> None:
    breaker = opened()
    breaker.inconclusive(breaker.admit(30.0), 30.5)
    assert (breaker.admit(31.4), breaker.state) == (REFUSED, HALF_OPEN)
    assert breaker.retry_after(31.4) == pytest.approx(0.1)
    probe = breaker.admit(31.5)
    assert breaker.is_probe(probe)
    breaker.success(probe, 31.6)
    assert breaker.state == CLOSED


@pytest.mark.parametrize("era", ["closed", "before"])
def test_what_was_no_probe_of_now_makes_nobody_wait(era: str) -> None:
    breaker = Breaker(SMALL, 0.0)
    permit = breaker.admit(0.0)
    if era == "before":
        fail(breaker, 0.0, 4)
        breaker.tick(30.0)
    breaker.inconclusive(permit, 30.0)
    assert breaker.retry_after(30.0) == 0.0


@pytest.mark.parametrize(("outcome", "state"), [("success", CLOSED), ("failure", OPEN), ("ignore", HALF_OPEN)])
def test_a_probe_that_made_room_still_counts(outcome: str, state: str) -> None:
    breaker = opened()
    slow = breaker.admit(30.0)
    assert breaker.admit(30.0) == REFUSED
    slow = breaker.make_room(slow)
    assert not breaker.is_probe(slow)
    assert breaker.make_room(slow) == slow
    second = breaker.admit(31.0)
    assert breaker.is_probe(second)
    getattr(breaker, outcome)(slow, 32.0)
    assert (breaker.state, breaker._probes_out) == (state, 1 if state == HALF_OPEN else 0)


def test_other_settings_do_not_hold_probes_back() -> None:
    breaker = opened()
    breaker.tick(30.0)
    breaker.reconfigure(msgspec.structs.replace(SMALL, reset_timeout=60.0), 31.0)
    assert breaker.admit(31.0)


def test_an_ejection_forgives_where_something_succeeded() -> None:
    breaker = Breaker(SMALL, 0.0)
    fail(breaker, 1.0, 3)
    breaker.forgive(1.0)
    assert breaker.window(1.0) == (0, 3), "nothing succeeded: the whole service may be down"
    breaker = Breaker(SMALL, 0.0)
    serve(breaker, 1.0)
    fail(breaker, 1.0, 1)
    breaker.forgive(1.5)
    assert (breaker.window(1.5), breaker.forgiven_at) == ((0, 0), 1.5)
    breaker = opened()
    breaker.forgive(1.0)
    assert (breaker.state, breaker.forgiven_at) == (OPEN, -inf)


def test_what_was_learned_of_a_service_s_latency_outlives_its_breaker() -> None:
    breaker = Breaker(SMALL, 0.0)
    for _ in range(20):
        breaker.patience.answered(1.0)
    off = breaker.reconfigure(msgspec.structs.replace(SMALL, mode="off"), 1.0)
    assert off.reconfigure(SMALL, 2.0).patience.enough_s == pytest.approx(2.0)


settings_strategy = st.builds(
    BreakerSettings,
    mode=st.sampled_from(["enforce", "observe"]),
    volume_threshold=st.integers(1, 6),
    error_threshold_percentage=st.sampled_from([1.0, 34.0, 50.0, 100.0]),
    rolling_count_timeout=st.sampled_from([1.0, 10.0]),
    rolling_count_buckets=st.integers(1, 5),
    reset_timeout=st.sampled_from([0.5, 3.0]),
    max_reset_timeout=st.just(8.0),
    half_open_requests=st.integers(1, 4),
)
events_strategy = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "success", "failure", "ignore", "inconclusive", "wait"]),
        st.integers(0, 1000),
    ),
    max_size=120,
)


@given(settings_strategy, events_strategy)
def test_permits_hold_over_any_sequence(settings: BreakerSettings, events: list[tuple[str, int]]) -> None:
    changes: list[tuple[str, str]] = []
    breaker = Breaker(settings, 0.0, lambda old, new, now: changes.append((old, new)))
    now = 0.0
    out: list[tuple[int, int]] = []  # permit, number of state changes when it was given
    for event, number in events:
        if event == "wait":
            now += number / 100
        elif event == "admit":
            refused_before = breaker.rejects
            permit = breaker.admit(now)
            assert (permit <= REFUSED) == (breaker.rejects == refused_before + 1)
            assert permit or settings.mode == "enforce"
            if permit:
                out.append((permit, len(changes)))
        elif out:
            permit, era = out.pop(number % len(out))
            stale = era != len(changes) or permit == UNCOUNTED
            before = (len(changes), breaker.window(now), breaker.retry_after(now), breaker._probes_out)
            getattr(breaker, event)(permit, now)
            after = (len(changes), breaker.window(now), breaker.retry_after(now), breaker._probes_out)
            assert not stale or before == after
            if breaker.state == CLOSED and not stale and event not in ("ignore", "inconclusive"):
                served, failed = breaker.window(now)
                below = failed * 100 < settings.error_threshold_percentage * (served + failed)
                assert served + failed < settings.volume_threshold or below
        probes = sum(1 for permit, era in out if era == len(changes) and breaker.is_probe(permit))
        assert probes == breaker._probes_out <= settings.half_open_requests
        assert breaker.retry_after(now) <= settings.max_reset_timeout
    allowed = {(CLOSED, OPEN), (OPEN, HALF_OPEN), (HALF_OPEN, OPEN), (HALF_OPEN, CLOSED)}
    assert set(changes) <= allowed
    assert all(changes[i][1] == changes[i + 1][0] for i in range(len(changes) - 1))
    counters = breaker.counters
    assert counters.opens + counters.half_opens + counters.closes == len(changes)
    assert (counters.opens, counters.rejects) == (breaker.opens, breaker.rejects)
