"""Log settings: as configured, or changed by an operator for a limited time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from sidecar.config.schema import Log
from sidecar.daemon.log_control import LogControl
from sidecar.telemetry import logs


@pytest.fixture(autouse=True)
def loggers_as_before() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("sidecar")
    before = (root.level, list(root.handlers), ours.level)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]
    ours.setLevel(before[2])


class Stage:
    def __init__(self, **configured: str) -> None:
        self.lines: list[bytes] = []
        self.modes: list[str] = []
        logs.set_up("info", self.lines.append)
        loop = asyncio.get_running_loop()
        self.control = LogControl(Log(**configured), loop, self.modes.append)  # type: ignore[arg-type]

    def written(self) -> list[str]:
        """The levels at which a record is written now."""
        log, found = logging.getLogger("sidecar.test"), []
        for level in ("debug", "info", "warning", "error"):
            before = len(self.lines)
            getattr(log, level)("x")
            found += [level] * (len(self.lines) - before)
        return found


async def over(control: LogControl) -> None:
    for _ in range(1000):
        if control.until is None:
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it is not over")


async def test_a_change_holds_for_its_time_and_then_ends() -> None:
    stage = Stage(level="warning", access="off")
    stage.control.adopt(Log(level="warning", access="off"))
    assert stage.written() == ["warning", "error"]
    began = asyncio.get_running_loop().time()
    assert stage.control.set("debug", "all", 0.05) is stage.control
    assert (stage.control.level, stage.control.access, stage.modes[-1]) == ("debug", "all", "all")
    assert stage.control.until is not None
    assert stage.control.until >= began + 0.05
    assert stage.written() == ["debug", "info", "warning", "error"]
    await over(stage.control)
    assert (stage.control.level, stage.control.access, stage.modes[-1]) == ("warning", "off", "off")
    assert stage.written() == ["warning", "error"]


async def test_other_settings_stay_as_configured() -> None:
    stage = Stage(level="info", access="errors")
    stage.control.set(None, "all", 60)
    assert (stage.control.level, stage.control.access) == ("info", "all")
    stage.control.set("error", None, 60)
    assert (stage.control.level, stage.control.access) == ("error", "errors")
    stage.control.close()


async def test_a_reload_in_between_changes_what_comes_back_later() -> None:
    stage = Stage(level="info")
    stage.control.set("debug", None, 0.05)
    stage.control.adopt(Log(level="error", access="all"))
    assert (stage.control.level, stage.control.access) == ("debug", "all")
    await over(stage.control)
    assert stage.written() == ["error"]


async def test_a_second_change_replaces_the_first() -> None:
    stage = Stage()
    stage.control.set("debug", None, 0.02)
    stage.control.set("warning", None, 60)
    await asyncio.sleep(0.05)
    assert stage.control.level == "warning"
    stage.control.close()


async def test_after_close_nothing_changes() -> None:
    stage = Stage()
    stage.control.set("debug", None, 0.01)
    stage.control.close()
    await asyncio.sleep(0.03)
    assert stage.control.level == "debug"
