"""Log settings: as configured, or changed by an operator for a limited time.

Owns which of the two is in force, and when the operator's change ends. A reload in between changes only what comes back
afterwards.
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
    """The log level and the mode of the access log. `set_access` is called with the mode at the start and on each
    change.
    """

    def __init__(self, configured: Log, loop: asyncio.AbstractEventLoop, set_access: Callable[[Any], None]) -> None:
        self._configured = configured
        self._loop = loop
        self._set_access = set_access
        self._level: str | None = None
        self._access: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.until: float | None = None
        """When the operator's change ends, in monotonic seconds; None without one."""

    @property
    def level(self) -> str:
        return self._level or self._configured.level

    @property
    def access(self) -> str:
        return self._access or self._configured.access

    def adopt(self, configured: Log) -> None:
        """Set the configured values, which hold when no operator's change is in force."""
        self._configured = configured
        self._apply()

    def set(self, level: str | None, access: str | None, for_s: float) -> LogControl:
        """Change the settings for `for_s` seconds. None means "as configured"."""
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
        log.info(
            "the log settings of the configuration are in force again", extra={"kind": "operator", "fields": fields}
        )

    def _apply(self) -> None:
        logs.set_level(self.level)
        self._set_access(cast(Any, self.access))
