"""Answers in turn: each one so many times, and the last one again and again. No locks: the owner holds its own."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec
from msgspec.structs import replace

from sidecar.testing.answers import Answer
from sidecar.testing.grpc_answers import GrpcAnswer

A = TypeVar("A", Answer, GrpcAnswer)


class _Turn(msgspec.Struct, Generic[A]):
    """An answer, and how often it is given before the next one."""

    given: A
    left: int
    """0 for a last answer that was given that often. It stays until another answer is added."""
    only_delay: bool = False
    """True for a delay whose answer has not been added yet."""


class Turns(Generic[A]):
    """The answers of one script."""

    def __init__(self, empty: A) -> None:
        """`empty` is what a delay delays if no answer was ever added."""
        self._default: A = empty
        self._turns: list[_Turn[A]] = []
        self.taken = 0
        """How many answers were given."""

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, given: A, times: int) -> None:
        """Adds an answer. A delay that was added before it becomes its delay."""
        if self._turns and self._turns[-1].only_delay:
            delayed = self._turns.pop()
            given, times = replace(given, delay_s=delayed.given.delay_s), max(times, delayed.left)
        self._turns.append(_Turn(given, times))

    def delay(self, seconds: float, times: int) -> None:
        """Delays the answer that is added next. Until then it repeats the one before, delayed."""
        before = self._turns[-1].given if self._turns else self._default
        self._turns.append(_Turn(replace(before, delay_s=seconds), times, only_delay=True))

    def clear(self) -> None:
        self._turns.clear()

    def peek(self) -> A:
        """The next answer, which stays. There must be one."""
        if len(self._turns) > 1 and not self._turns[0].left:
            del self._turns[0]  # it stayed as the last one, but another one has been added since
        return self._turns[0].given

    def next(self) -> A:
        """Takes the next answer. There must be one."""
        self.taken += 1
        self.peek()
        turn = self._turns[0]
        turn.left = max(0, turn.left - 1)
        if len(self._turns) > 1 and not turn.left:
            del self._turns[0]
        return turn.given
