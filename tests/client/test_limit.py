"""What ends a call: its deadline, the limit, closing. None of them takes somebody else's cancelling for its own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from math import inf
from time import monotonic, sleep
from typing import Any

import pytest
import uvloop

from sidecar.client.limit import Limit

Outcome = list[str]


async def call(
    limit: Limit, said: Outcome, waits: Callable[[], Awaitable[object]], left_s: float | None = None
) -> None:
    """As ServiceClient.request does it."""
    task = limit.begin(None if left_s is None else monotonic() + left_s)
    try:
        await waits()
        said.append("answered")
    except asyncio.CancelledError:
        cut = limit.cut(task)
        said.append("cancelled" if cut is None else cut.value)
        if said[-1] == "cancelled":
            raise
    finally:
        limit.end(task)


def forever() -> Awaitable[object]:
    return asyncio.Event().wait()


def due(limit: Limit) -> None:
    """As if the time of all calls were over."""
    limit._calls = {task: (-inf, before, why) for task, (_, before, why) in limit._calls.items()}
    limit._end_due()


async def begun(
    limit: Limit, said: Outcome, waits: Callable[[], Awaitable[object]] = forever, left_s: float | None = None
) -> asyncio.Task[None]:
    task = asyncio.get_running_loop().create_task(call(limit, said, waits, left_s))
    await asyncio.sleep(0)
    return task


async def test_call_is_cut_after_the_limit() -> None:
    limit, said = Limit(asyncio.get_running_loop(), total_s=0.02), Outcome()
    began = monotonic()
    task = await begun(limit, said)
    await task
    assert (said, task.cancelling(), task.cancelled()) == (["limit"], 0, False)
    assert monotonic() - began >= 0.019
    assert limit._timer is None


async def test_call_is_cut_at_its_deadline() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    task = await begun(limit, said, left_s=0.01)
    await task
    assert (said, task.cancelling(), task.cancelled()) == (["deadline"], 0, False)
    assert limit._timer is None


async def test_answered_call_leaves_no_timer_of_its_deadline() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    task = asyncio.get_running_loop().create_task(call(limit, said, lambda: asyncio.sleep(0), 0.0))
    await task
    await asyncio.sleep(0.01)  # Past it.
    assert said == ["answered"]
    assert task.cancelling() == 0


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_each_call_ends_in_its_own_time(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def main() -> None:
        limit, said = Limit(asyncio.get_running_loop(), total_s=0.06), Outcome()
        began = monotonic()
        limited = await begun(limit, said)
        late = await begun(limit, said, left_s=0.04)
        over = await begun(limit, said, lambda: asyncio.sleep(0), 0.01)
        soon = await begun(limit, said, left_s=0.02)
        free = await begun(limit, said, left_s=3600)
        for task, seconds in ((over, 0), (soon, 0.02), (late, 0.04), (limited, 0.06)):
            await task
            assert monotonic() - began >= seconds - 0.002
        assert sorted(said) == ["answered", "deadline", "deadline", "limit"]  # where it is late, more than one is due
        assert not free.done()
        limit.close()
        await free

    run(main())


async def test_one_timer_serves_one_call_after_the_other() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    await (await begun(limit, said, lambda: asyncio.sleep(0), 60))
    timer = limit._timer
    for left_s in (60, 61, None):
        await (await begun(limit, said, lambda: asyncio.sleep(0), left_s))
    assert limit._timer is timer
    await (await begun(limit, said, lambda: asyncio.sleep(0), 30))
    assert limit._timer is not timer
    limit._end_due()
    assert limit._timer is None


async def test_closing_ends_every_call() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    tasks = [await begun(limit, said), await begun(limit, said, left_s=3600)]
    limit.close()
    await asyncio.gather(*tasks)
    assert said == ["closed"] * 2
    assert [task.cancelling() for task in tasks] == [0, 0]


async def test_what_came_first_counts() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    task = await begun(limit, said)
    due(limit)
    limit.close()
    await task
    assert (said, task.cancelling()) == (["limit"], 0)


@pytest.mark.parametrize("ours_first", [True, False])
@pytest.mark.parametrize("ours", [due, Limit.close], ids=["limit", "closed"])
async def test_somebody_elses_cancelling_is_not_taken_for_ours(ours: Callable[[Limit], None], ours_first: bool) -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()
    task = await begun(limit, said)
    ends: list[Callable[[], object]] = [task.cancel, partial(ours, limit)]
    for end in reversed(ends) if ours_first else ends:
        end()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert said == ["cancelled"]
    limit.close()


async def test_call_that_is_answered_as_it_is_cut_leaves_the_task_as_it_was() -> None:
    limit, said = Limit(asyncio.get_running_loop()), Outcome()

    async def answered_at_the_last_moment() -> None:
        due(limit)  # From within: cancelled at its next wait, of which there is none.

    task = await begun(limit, said, answered_at_the_last_moment)
    assert said == ["answered"]
    assert task.cancelling() == 0
    limit.close()


def test_calls_are_made_in_a_task() -> None:
    async def main() -> None:
        limit = Limit(asyncio.get_running_loop())
        failed = asyncio.get_running_loop().create_future()

        def callback() -> None:
            with pytest.raises(RuntimeError, match="inside a task"):
                limit.begin()
            failed.set_result(None)

        asyncio.get_running_loop().call_soon(callback)
        await failed

    asyncio.run(main())


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_answer_that_arrives_with_the_deadline_is_taken(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    """Also where the loop was busy when both became due."""

    async def main() -> None:
        limit, said = Limit(asyncio.get_running_loop()), Outcome()
        reader, writer = socket.socketpair()
        with reader, writer:
            reader.setblocking(False)

            async def answered() -> None:
                await asyncio.get_running_loop().sock_recv(reader, 1)

            task = await begun(limit, said, answered, 0.01)
            sleep(0.2)  # the loop is held up
            writer.send(b"x")
            await task
        assert said == ["answered"]
        assert task.cancelling() == 0

    run(main())
