"""The interface between the admin API and the daemon.

The running daemon implements it, and so do the tests.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from sidecar.config.load import Origins
from sidecar.runtime.live import Live
from sidecar.runtime.reload_report import ReloadReport
from sidecar.runtime.slices import Slices
from sidecar.telemetry.events import Events
from sidecar.telemetry.history import History


class Source(Protocol):
    """A source of endpoints of a service."""

    @property
    def kind(self) -> str: ...
    @property
    def last_success(self) -> float | None: ...
    @property
    def problem(self) -> str | None: ...


class LogState(Protocol):
    """What is logged, and until when it differs from the configuration (in monotonic seconds)."""

    @property
    def level(self) -> str: ...
    @property
    def access(self) -> str: ...
    @property
    def until(self) -> float | None: ...


class Running(Protocol):
    """The daemon, as the admin API sees it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def slices(self) -> Slices: ...
    @property
    def live(self) -> Live: ...
    @property
    def events(self) -> Events: ...
    @property
    def history(self) -> History: ...
    @property
    def draining(self) -> bool: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def origins(self) -> Origins: ...
    @property
    def loaded_at(self) -> float: ...
    @property
    def last_reload(self) -> ReloadReport: ...
    @property
    def log_state(self) -> LogState: ...
    def sources_of(self, service: str) -> Sequence[Source]: ...
    async def reload(self) -> ReloadReport: ...
    def drain(self) -> None:
        """Starts the shutdown, as SIGTERM does."""

    def set_log(self, level: str | None, access: str | None, for_s: float) -> LogState: ...
