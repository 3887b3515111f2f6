"""An event loop whose clock jumps to the next timer, so that nothing sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    now = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("everything waits and nothing is due: the test would hang")
        self.now += max(0.0, timeout)
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _JumpingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end in a loop that begins at 1000.0 and needs no time to sleep."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        runner.run(scenario)
