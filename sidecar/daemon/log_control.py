"""What is logged: as configured, or as an operator asked for a while.

Owns which of the two is in force and when that ends. A reload in between changes what it falls back to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

from sidecar.config.schema import Log
from sidecar.telemetry import logs

log = logging.getLogger("sidecar.daemon")


class LogControl:
    """`set_access` is told of each change of the access log's mode, at the start too."""

    def __init__(self, configured: Log, loop: asyncio.AbstractEventLoop, set_access: Callable[[Any], None]) -> None:
        self._configured = configured
        self._loop = loop
        self._set_access = set_access
        self._level: str | None = None
        self._access: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.until: float | None = None
        """Monotonic seconds at which it is as configured again; None where it is."""

    @property
    def level(self) -> str:
        return self._level or self._configured.level

    @property
    def access(self) -> str:
        return self._access or self._configured.access

    def adopt(self, configured: Log) -> None:
        """What to be like when nobody asked for anything else."""
        self._configured = configured
        self._apply()

    def set(self, level: str | None, access: str | None, for_s: float) -> LogControl:
        """For so long; None is as configured."""
        self.close()
        self._level, self._access = level, access
        self.until = self._loop.time() + for_s
        self._timer = self._loop.call_later(for_s, self._over)
        self._apply()
        return self

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _over(self) -> None:
        self._level = self._access = self.until = self._timer = None
        self._apply()
        fields = {"level_set": self.level, "access": self.access}
        log.info("the log is as configured again", extra={"kind": "operator", "fields": fields})

    def _apply(self) -> None:
        logs.set_level(self.level)
        self._set_access(cast(Any, self.access))
