"""A change of the content is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

from sidecar.daemon.watch import FileWatch


async def test_a_change_is_noticed_and_a_touch_is_not(tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text("one")
    noticed = asyncio.Event()

    async def on_change() -> None:
        noticed.set()

    watch = FileWatch(path, on_change, look_s=0.05)
    running = asyncio.get_running_loop().create_task(watch.run())
    path.touch()
    path.write_text("two")
    await asyncio.wait_for(noticed.wait(), 5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
