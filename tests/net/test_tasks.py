"""The helper that starts discovery's background tasks."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from sidecar.net.tasks import Tasks


async def test_a_task_is_held_until_it_ends() -> None:
    tasks = Tasks(logging.getLogger("test"))
    go, done = asyncio.Event(), []

    async def work() -> None:
        await go.wait()
        done.append(True)

    tasks.start(work(), "work")
    gc.collect()
    assert len(tasks) == 1
    go.set()
    await tasks.ended()
    assert done == [True]
    assert len(tasks) == 0


async def test_a_failure_is_logged_with_the_task_s_name(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(logging.getLogger("test"))

    async def work() -> None:
        raise ValueError("broken")

    tasks.start(work(), "some work")
    await tasks.ended()
    await asyncio.sleep(0)
    assert "background task some work failed" in caplog.text
    assert "ValueError: broken" in caplog.text


async def test_cancellation_is_not_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    tasks = Tasks(logging.getLogger("test"))
    task = tasks.start(asyncio.Event().wait(), "waiting")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    tasks.cancel()
    await tasks.ended()
    assert task.cancelled()
    assert not caplog.records
