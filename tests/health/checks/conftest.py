"""What checks are made with: a starter of tasks, of which none is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sidecar.health.active import Start


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    tasks: set[asyncio.Task[None]] = set()

    def begin(work, name):  # type: ignore[no-untyped-def]
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - stands for the helper
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    yield begin
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
