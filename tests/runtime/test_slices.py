"""Long work in slices: how long a slice is, who gets it, and how work ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from typing import Any

import pytest

from sidecar.net.tasks import Tasks
from sidecar.runtime.slices import Slices, as_it_is, at_once


class Cpu:
    """A clock of CPU time that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Turns:
    """Counts turns of the loop, while it is entered."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.count = 0
        self._handle = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.count += 1
        self._handle = self._loop.call_soon(self._turn)

    def stop(self) -> None:
        self._handle.cancel()


def steps(cpu: Cpu, count: int, each_s: float, seen: list[Any] | None = None, name: object = None) -> Any:
    for number in range(count):
        cpu.now += each_s
        if seen is not None:
            seen.append(name if name is not None else number)
        yield
    return count


async def test_the_loop_has_a_turn_after_each_slice() -> None:
    cpu = Cpu()
    slices = Slices(asyncio.get_running_loop(), 0.004, cpu)
    turns = Turns()
    assert await slices.run(steps(cpu, 40, 0.001)) == 40
    turns.stop()
    assert 10 <= turns.count <= 13
    assert len(slices) == 0


async def test_a_step_that_is_longer_than_a_slice_has_a_turn_of_its_own() -> None:
    cpu = Cpu()
    slices = Slices(asyncio.get_running_loop(), 0.001, cpu)
    turns = Turns()
    await slices.run(steps(cpu, 5, 0.1))
    turns.stop()
    assert turns.count >= 5


async def test_several_works_share_the_slice_of_a_turn_in_turn() -> None:
    cpu = Cpu()
    slices = Slices(asyncio.get_running_loop(), 0.002, cpu)
    seen: list[Any] = []
    begun: list[float] = []
    turn = slices._slice

    def watched() -> None:
        before = cpu.now
        turn()
        begun.append(cpu.now - before)

    slices._slice = watched  # type: ignore[method-assign]
    await asyncio.gather(*(slices.run(steps(cpu, 4, 0.001, seen, name)) for name in "abc"))
    assert "".join(seen) == "aabbccaabbcc"
    assert max(begun) == pytest.approx(0.002)


async def test_work_without_a_pause_ends_in_the_next_turn() -> None:
    def one() -> Generator[None, None, str]:
        return "done"
        yield

    assert await Slices(asyncio.get_running_loop()).run(one()) == "done"


async def test_a_failure_reaches_the_caller_and_nobody_else() -> None:
    cpu = Cpu()
    slices = Slices(asyncio.get_running_loop(), 0.002, cpu)

    def bad() -> Generator[None, None, None]:
        yield
        raise ValueError("no")

    other, failed = await asyncio.gather(slices.run(steps(cpu, 9, 0.001)), slices.run(bad()), return_exceptions=True)
    assert other == 9
    assert repr(failed) == "ValueError('no')"


async def test_work_whose_caller_leaves_is_not_continued() -> None:
    cpu = Cpu()
    slices = Slices(asyncio.get_running_loop(), 0.001, cpu)
    seen: list[Any] = []
    closed: list[bool] = []

    def watched() -> Generator[None, None, None]:
        try:
            yield from steps(cpu, 1000, 0.001, seen)
        finally:
            closed.append(True)

    async def caller() -> None:
        await slices.run(watched())

    task = Tasks(logging.getLogger()).start(caller(), "caller")
    for _ in range(5):
        await asyncio.sleep(0)
    assert seen
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert closed == [True]
    assert len(seen) < 10
    assert len(slices) == 0


def test_at_once_gives_what_the_work_returns() -> None:
    cpu = Cpu()
    assert at_once(steps(cpu, 3, 1.0)) == 3
    assert cpu.now == 3
    assert as_it_is("x") == "x"
