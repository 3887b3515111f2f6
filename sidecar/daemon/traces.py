"""Tracing on and off: creates the span exporter at the start and when a reload changes it, and ends it with the daemon.

OpenTelemetry is loaded only if tracing is configured, and never on the event loop while requests are served.
"""

from __future__ import annotations

from threading import Thread
from typing import TYPE_CHECKING, Final

from sidecar import __version__
from sidecar.config.schema import Tracing
from sidecar.net.tasks import Tasks
from sidecar.net.threads import in_thread
from sidecar.proxy.core import ProxyCore

if TYPE_CHECKING:
    from sidecar.telemetry.tracing import SpanExport

LAST_SPANS_S: Final = 1.0
"""How long the process waits at its end for the last spans to be sent."""


class Traces:
    """Gives `core` its tracer. `exported` and `dropped` count spans since the start, across reloads."""

    def __init__(self, core: ProxyCore, tasks: Tasks, settings: Tracing | None) -> None:
        self._core = core
        self._tasks = tasks
        self._settings = settings
        self._export: SpanExport | None = None
        self._ending: list[tuple[SpanExport, Thread]] = []
        self._before = [0, 0]
        """Spans exported and dropped by exporters that have ended."""
        if settings is not None:
            self._put(_made(settings))

    @property
    def exported(self) -> int:
        return self._before[0] + sum(one.exported for one in self._all)

    @property
    def dropped(self) -> int:
        return self._before[1] + sum(one.dropped for one in self._all)

    def adopt(self, settings: Tracing | None) -> None:
        """Use these settings as soon as their exporter is ready; until then the old ones stay in use."""
        if settings == self._settings:
            return
        self._settings = settings
        if settings is None:
            self._put(None)
        else:
            self._tasks.start(self._change(settings), "tracing")

    async def close(self) -> None:
        """Send the waiting spans, for at most LAST_SPANS_S."""
        self._settings = None
        ending, self._export, self._core.tracer = self._export, None, None
        if ending is not None:
            await in_thread(ending.close().join, LAST_SPANS_S)

    @property
    def _all(self) -> list[SpanExport]:
        ending = [one for one, _ in self._ending]
        return ending if self._export is None else [*ending, self._export]

    async def _change(self, settings: Tracing) -> None:
        made = await in_thread(_made, settings)
        if self._settings is settings:
            self._put(made)
        else:  # another reload came meanwhile
            made.close()

    def _put(self, export: SpanExport | None) -> None:
        if self._export is not None:
            self._ending.append((self._export, self._export.close()))
        self._export = export
        for ended in [pair for pair in self._ending if not pair[1].is_alive()]:
            self._ending.remove(ended)
            self._before[0] += ended[0].exported
            self._before[1] += ended[0].dropped
        self._core.tracer = export.tracer if export is not None else None


def _made(settings: Tracing) -> SpanExport:
    from sidecar.telemetry.tracing import SpanExport  # OpenTelemetry, an extra

    return SpanExport(
        settings.otlp,
        sample=settings.sample,
        headers=settings.headers,
        service_name=settings.service_name,
        version=__version__,
    )
