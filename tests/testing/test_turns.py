"""Answers in turn; tests/testing/test_script.py tells the rest as a script does."""

from __future__ import annotations

from sidecar.testing.answers import Answer, answer
from sidecar.testing.turns import Turns


def given(turns: Turns[Answer], count: int) -> list[str]:
    return [str(turns.next()) for _ in range(count)]


def test_each_is_given_so_many_times_and_the_last_one_stays() -> None:
    turns = Turns(answer())
    turns.add(answer(503), 2)
    turns.add(answer(201), 1)
    assert given(turns, 4) == ["503", "503", "201", "201"]
    assert turns.taken == 4


def test_a_delay_belongs_to_the_answer_that_follows() -> None:
    turns = Turns(answer())
    turns.delay(0.5, 2)
    assert given(turns, 1) == ["200 after 0.5 s"]
    turns.add(answer(201), 1)
    turns.add(answer(202), 1)
    assert given(turns, 3) == ["201 after 0.5 s", "202", "202"]


def test_the_next_one_can_be_seen_without_taking_it() -> None:
    turns = Turns(answer())
    turns.add(answer(201), 1)
    assert str(turns.peek()) == str(turns.peek()) == "201"
    assert turns.taken == 0
    given(turns, 2)
    turns.add(answer(202), 1)
    assert str(turns.peek()) == "202", "the one before was given as often as was said"


def test_without_answers_there_are_no_turns() -> None:
    turns = Turns(answer())
    assert not turns
    turns.add(answer(), 1)
    assert turns
    turns.clear()
    assert not turns
