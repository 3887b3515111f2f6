"""One timer for many deadlines: who is told, when, and how late at the most."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.proxy.deadlines import CLOSEST_S, EARLY_S, NEAR_S, Deadlines
from tests.proxy.fakes import START, ManualLoop


class Watched:
    """Remembers when it was told."""

    def __init__(self, loop: ManualLoop, deadline: float = inf) -> None:
        self.deadline = deadline
        self.told: list[float] = []
        self.then: Callable[[], object] = lambda: None
        self._loop = loop

    def deadline_passed(self, now: float) -> None:
        assert now == self._loop.time()
        assert self.deadline == inf
        self.told.append(round(now - START, 6))
        self.then()


@pytest.fixture
def loop() -> ManualLoop:
    return ManualLoop()


@pytest.fixture
def deadlines(loop: ManualLoop) -> Deadlines:
    return Deadlines(cast("Any", loop))


def test_whoever_is_watched_is_told_once(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop, START + 2)
    deadlines.watch(one)
    loop.advance(1.9)
    assert one.told == []
    loop.advance(10)
    assert one.told == [2]


def test_no_deadline_is_never_told(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop)
    deadlines.watch(one)
    loop.advance(1e6)
    assert one.told == []


def test_armed_nearer(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop, START + 5)
    deadlines.watch(one)
    deadlines.arm(one, START + 1)
    loop.advance(10)
    assert one.told == [1]


def test_armed_farther(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop, START + 1)
    deadlines.watch(one)
    deadlines.arm(one, START + 5)
    loop.advance(4.9)
    assert one.told == []
    loop.advance(0.2)
    assert one.told == [5]


def test_moving_a_deadline_away_needs_no_timer(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop, START + 1)
    deadlines.watch(one)
    before = len(loop._timers)
    for step in range(1000):
        deadlines.arm(one, START + 1 + step)
    assert len(loop._timers) == before


def test_disarmed(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop, START + 1)
    deadlines.watch(one)
    deadlines.arm(one, inf)
    loop.advance(10)
    assert one.told == []


def test_in_the_past_is_told_at_once(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop)
    deadlines.watch(one)
    deadlines.arm(one, START - 5)
    loop.advance(CLOSEST_S)
    assert one.told == [0]


def test_forgotten(loop: ManualLoop, deadlines: Deadlines) -> None:
    one, two = Watched(loop, START + 1), Watched(loop, START + 2)
    deadlines.watch(one)
    deadlines.watch(two)
    deadlines.forget(one)
    deadlines.forget(one)
    loop.advance(10)
    assert (one.told, two.told) == ([], [2])


def test_armed_again_while_told(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop, START + 1)
    one.then = lambda: deadlines.arm(one, loop.time() + 1)
    deadlines.watch(one)
    loop.advance(3.5)
    assert one.told == pytest.approx([1, 2, 3], abs=CLOSEST_S)


def test_forgotten_by_another_while_both_are_due(loop: ManualLoop, deadlines: Deadlines) -> None:
    """Whoever comes first forgets the other, which then must not be told."""
    one, two = Watched(loop, START + 1), Watched(loop, START + 1)
    one.then = lambda: deadlines.forget(two)
    two.then = lambda: deadlines.forget(one)
    deadlines.watch(one)
    deadlines.watch(two)
    loop.advance(2)
    assert sorted([one.told, two.told]) == [[], [1]]


def test_armed_anew_by_another_while_both_are_due(loop: ManualLoop, deadlines: Deadlines) -> None:
    """Whoever comes first gives the other until 5 s."""
    one, two = Watched(loop, START + 1), Watched(loop, START + 1)
    one.then = lambda: deadlines.arm(two, START + 5)
    two.then = lambda: deadlines.arm(one, START + 5)
    deadlines.watch(one)
    deadlines.watch(two)
    loop.advance(4)
    assert sorted([one.told, two.told]) == [[], [1]]


def test_watched_while_others_are_told(loop: ManualLoop, deadlines: Deadlines) -> None:
    one, new = Watched(loop, START + 1), Watched(loop, START + 2)
    one.then = lambda: deadlines.watch(new)
    deadlines.watch(one)
    loop.advance(10)
    assert new.told == [2]


def test_far_deadlines_are_looked_at_once_in_a_while(loop: ManualLoop, deadlines: Deadlines) -> None:
    looked = 0

    class Far(Watched):
        def __getattribute__(self, name: str) -> Any:
            nonlocal looked
            looked += name == "deadline"
            return super().__getattribute__(name)

    for number in range(100):
        deadlines.watch(Far(loop, START + 60 + number))
    busy = Watched(loop, START + 0.01)
    busy.then = lambda: deadlines.arm(busy, loop.time() + 0.01)
    deadlines.watch(busy)
    loop.advance(1.5)  # the first look is at all of them
    looked = 0
    loop.advance(10 * NEAR_S)
    assert len(busy.told) > 900
    assert looked <= 100 * 10 * 4


def test_armed_from_far_to_near_after_a_look(loop: ManualLoop, deadlines: Deadlines) -> None:
    one, two = Watched(loop, START + 60), Watched(loop, START + 0.1)
    deadlines.watch(one)
    deadlines.watch(two)
    loop.advance(0.2)
    deadlines.arm(one, loop.time() + NEAR_S / 2)
    loop.advance(NEAR_S)
    assert one.told == [0.2 + NEAR_S / 2]


def test_closed(loop: ManualLoop, deadlines: Deadlines) -> None:
    one = Watched(loop, START + 1)
    deadlines.watch(one)
    deadlines.close()
    loop.advance(10)
    assert one.told == []
    assert "watched=0" in repr(deadlines)


moments = st.floats(0.0, 3.0)


@given(
    st.lists(
        st.tuples(moments, st.lists(st.tuples(moments, st.one_of(moments, st.just(inf))), max_size=4)), max_size=12
    ),
    st.booleans(),
)
@example([(0.0, [(0.1, 2.0), (1.5, 1.6)]), (2.5, [(0.2, inf), (1.2, 1.3)])], True)
def test_nobody_is_told_early_or_late(script: list[tuple[float, list[tuple[float, float]]]], idle: bool) -> None:
    """Each is watched with a first deadline, and armed anew at given moments; what counts is the last deadline set.

    `idle`: others have deadlines that are far.
    """
    loop = ManualLoop()
    deadlines = Deadlines(cast("Any", loop))
    if idle:
        deadlines.watch(Watched(loop, START + 60))
    watched = []
    steps = []
    for first, arms in script:
        one = Watched(loop, START + first)
        watched.append(one)
        deadlines.watch(one)
        steps += [(at, one, when) for at, when in arms]
    due = {one: one.deadline for one in watched}
    for at, one, when in sorted(steps, key=lambda step: step[0]):
        loop.advance(max(START + at - loop.now, 0))
        if not one.told and due[one] > loop.now + EARLY_S:
            due[one] = START + when
            deadlines.arm(one, START + when)
            due[one] = max(due[one], loop.now)
    loop.advance(10)
    for one in watched:
        if due[one] == inf:
            assert one.told == []
        else:
            assert len(one.told) == 1
            assert -EARLY_S - 1e-6 <= START + one.told[0] - due[one] <= CLOSEST_S + 1e-6
