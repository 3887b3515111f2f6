"""The limit of calls without a deadline: it cuts what takes too long, and takes no other cancelling for its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sidecar.client.limit import _TICKS, Limit
from tests.support.eventually import eventually

Outcome = list[str]


async def call(limit: Limit, said: Outcome, waits: Callable[[], Awaitable[object]]) -> None:
    """As ServiceClient.request does it."""
    task = limit.begin()
    try:
        await waits()
        said.append("answered")
    except asyncio.CancelledError:
        said.append("cut" if limit.is_cut(task) else "cancelled")
        if said[-1] == "cancelled":
            raise
    finally:
        limit.end(task)


def forever() -> Awaitable[object]:
    return asyncio.Event().wait()


def ticks(limit: Limit, count: int) -> None:
    for _ in range(count):
        limit._tick()


async def begun(limit: Limit, said: Outcome, waits: Callable[[], Awaitable[object]] = forever) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(call(limit, said, waits))
    await asyncio.sleep(0)
    return task


async def test_call_is_cut_after_the_limit_and_not_before() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    task = await begun(limit, said)
    ticks(limit, _TICKS)
    await asyncio.sleep(0)
    assert said == []
    ticks(limit, 2)
    await task
    assert (said, task.cancelling(), task.cancelled()) == (["cut"], 0, False)
    limit.close()


async def test_somebody_elses_cancelling_is_not_taken_for_the_limits() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    task = await begun(limit, said)
    ticks(limit, _TICKS + 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["cancelled"]
    limit.close()


async def test_it_counts_from_each_calls_beginning() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    first = await begun(limit, said)
    ticks(limit, _TICKS // 2)
    second = await begun(limit, said)
    ticks(limit, _TICKS // 2 + 1)
    await first
    await asyncio.sleep(0)
    assert not second.done()
    ticks(limit, _TICKS)
    await second
    limit.close()


async def test_call_that_is_answered_as_it_is_cut_leaves_the_task_as_it_was() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()

    async def answered_with_the_last_tick() -> None:
        ticks(limit, _TICKS + 1)  # From within: cancelled at its next wait, of which there is none.

    task = await begun(limit, said, answered_with_the_last_tick)
    assert said == ["answered"]
    assert task.cancelling() == 0
    limit.close()


async def test_timer_runs_while_there_are_calls_only() -> None:
    limit, said = Limit(asyncio.get_running_loop(), total_s=0.06), Outcome()
    assert limit._timer is None
    task = await begun(limit, said)
    await task
    assert said == ["cut"]
    await asyncio.to_thread(eventually, lambda: limit._timer is None)
    await (await begun(limit, said, lambda: asyncio.sleep(0)))
    assert limit._timer is not None
    limit.close()
    assert limit._timer is None


def test_calls_are_made_in_a_task() -> None:
    async def main() -> None:
        limit = Limit(asyncio.get_running_loop())
        failed = asyncio.get_running_loop().create_future()

        def callback() -> None:
            with pytest.raises(RuntimeError, match="in a task"):
                limit.begin()
            failed.set_result(None)

        asyncio.get_running_loop().call_soon(callback)
        await failed

    asyncio.run(main())
