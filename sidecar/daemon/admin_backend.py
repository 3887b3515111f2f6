"""The backend of the admin API: the daemon as the API sees it.

It only forwards each call to the part that answers it (`sidecar.admin.running.Running`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from sidecar.admin.running import Source
from sidecar.config.load import Origins
from sidecar.daemon.log_control import LogControl
from sidecar.daemon.reload import Reloader
from sidecar.daemon.sources import Sources
from sidecar.runtime.live import Live
from sidecar.runtime.reload_report import ReloadReport
from sidecar.runtime.slices import Slices
from sidecar.telemetry.events import Events
from sidecar.telemetry.history import History


class AdminBackend:
    """`is_draining` and `drain` belong to the process; `loop` is its only event loop."""

    def __init__(
        self,
        *,
        loop: asyncio.AbstractEventLoop,
        slices: Slices,
        live: Live,
        sources: Sources,
        reloader: Reloader,
        log_state: LogControl,
        is_draining: Callable[[], bool],
        drain: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.slices = slices
        self.live = live
        self.events = Events()
        self.history = History()
        self.log_state = log_state
        self.drain = drain
        self._sources = sources
        self._reloader = reloader
        self._is_draining = is_draining

    @property
    def draining(self) -> bool:
        return self._is_draining()

    @property
    def path(self) -> Path | None:
        return self._reloader.path

    @property
    def origins(self) -> Origins:
        return self._reloader.origins

    @property
    def loaded_at(self) -> float:
        return self._reloader.loaded_at

    @property
    def last_reload(self) -> ReloadReport:
        return self._reloader.last

    def sources_of(self, service: str) -> Sequence[Source]:
        return self._sources.views_of(service)

    async def reload(self) -> ReloadReport:
        return await self._reloader.reload("api")

    def set_log(self, level: str | None, access: str | None, for_s: float) -> LogControl:
        return self.log_state.set(level, access, for_s)
