"""The daemon's life cycle: create all parts, get ready, reload, drain, stop.

Owns the order of these steps, and the handling of signals.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
import random
import signal
import socket
import sys
from collections.abc import Generator
from pathlib import Path
from time import monotonic
from typing import Final, Literal

from sidecar import __version__
from sidecar.admin.listener import Admin
from sidecar.admin.probe import Probes
from sidecar.admin.probe_answers import ProbeAnswers
from sidecar.admin.scrapes import Scrapes
from sidecar.config.load import Origins
from sidecar.config.schema import Config
from sidecar.daemon.admin_backend import AdminBackend
from sidecar.daemon.extras import missing_extra
from sidecar.daemon.health import Chain, HealthChecks
from sidecar.daemon.log_control import LogControl
from sidecar.daemon.notify import notify
from sidecar.daemon.open_files import shares
from sidecar.daemon.reload import Reloader, log_warnings
from sidecar.daemon.sources import Sources
from sidecar.daemon.tls_users import tls_services, tls_users
from sidecar.daemon.traces import Traces
from sidecar.daemon.watch import FileWatch
from sidecar.net.http_listener import Bounds, most_each
from sidecar.net.tasks import Tasks
from sidecar.net.tls_contexts import TlsContexts
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.http1 import request_head
from sidecar.proxy.listener import ProxyListener
from sidecar.runtime.live import Live
from sidecar.runtime.slices import Slices
from sidecar.telemetry import metrics
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.events import EventHandler
from sidecar.telemetry.line_writer import LineWriter
from sidecar.telemetry.loop_lag import LoopLag
from sidecar.telemetry.metrics_process import Build, process_families
from sidecar.telemetry.metrics_spans import spans_family

log = logging.getLogger("sidecar.daemon")

FIRST_LOOKUP_S: Final = 0.3
"""How long the start waits for the first name lookups. Names that take longer are added later."""

GC_THRESHOLDS: Final = (10_000, 20, 50)
"""Thresholds of the garbage collector. A request leaves few objects and no large cycles, so the default runs too
often.
"""


SWITCH_S: Final = 1e-4
"""How long a busy thread may keep the interpreter's lock while the event loop wants it. A file of a thousand services
is read in a thread for 0.2 s; with Python's default of 5 ms, each turn of the loop waited for 5 to 8 ms meanwhile
(0.3 ms with this).
"""

_BUILD: Final = Build(__version__, not str(request_head.__file__).endswith(".py"), platform.python_version())


class _Signals:
    """The first SIGTERM or SIGINT asks for an orderly stop, the second for an immediate one.

    An operator's drain asks for the orderly stop too, but does not count as a signal. The SIGTERM at the end of a pod
    is then still the first one, and cuts no request.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.begin = asyncio.Event()
        self.at_once = asyncio.Event()
        self._came_before = False
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._came)

    def _came(self) -> None:
        (self.at_once if self._came_before else self.begin).set()
        self._came_before = True


class Daemon:
    """All parts of the sidecar, created on the event loop but not started yet."""

    def __init__(self, config: Config, path: Path | None, origins: Origins, writer: LineWriter) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._began = monotonic()
        self._signals = _Signals(loop)
        self._tasks = Tasks(log)
        self.slices = Slices(loop)
        self.live = Live(config, loop.time(), random.random)
        self.access_log = AccessLog(config.log.access, writer.write, loop, query=config.log.query)
        self.contexts = TlsContexts()
        files = shares()
        watchers = Bounds(most=files.listener, most_each=most_each(files.listener))
        self.core = ProxyCore(self.live, self.access_log, max_connections=files.each_way, contexts=self.contexts)
        self.traces = Traces(self.core, self._tasks, config.tracing)
        self.lag = LoopLag(loop, random.random, monotonic)
        self.sources = Sources(self.live, loop, self.slices)
        self.core.on_connect_failure = self.sources.refresh_soon
        self.checks = HealthChecks(self.live, loop, self.contexts, files.checks)
        self.chain = Chain(self.live, self.slices.run, self.contexts, files.checks)
        self.reloader = Reloader(
            path,
            config,
            origins,
            adopt=self._adopt,
            generation=lambda: self.live.generation,
            unfit=missing_extra,
            ahead=lambda config: self.sources.known_ahead(config, FIRST_LOOKUP_S),
        )
        collector = metrics.SidecarCollector(
            self.live.configured,
            lambda: self.live.unrouted,
            lambda: self.live.generation,
            lambda: len(self.core.registry.connections),
            lambda: writer.dropped,
            self.sources.views,
            lambda: self.live.aggregates,
            lambda: self.reloader.results,
            lambda: [(name, self.contexts.in_force(tls)) for name, tls in tls_services(self.live.config)],
            lambda: [
                *process_families(
                    _BUILD, self.lag, self.core.stale, reload_successful=self.reloader.last.result != "rejected"
                ),
                spans_family(self.traces.exported, self.traces.dropped),
            ],
            lambda: (len(self.core.registry.http2), self.core.registry.http2_streams),
        )
        self.scrapes = Scrapes(lambda: metrics.exposing(collector), self.slices)
        answers = ProbeAnswers(lambda: not self.core.draining, self.scrapes.text, self.chain.report, self.lag.silent_s)
        self.probes = Probes(answers, watchers)
        self.log_control = LogControl(config.log, loop, self._set_access)
        self.admin_backend = AdminBackend(
            loop=loop,
            slices=self.slices,
            live=self.live,
            sources=self.sources,
            reloader=self.reloader,
            log_state=self.log_control,
            is_draining=lambda: self.core.draining,
            drain=self.drain,
        )
        self._event_handler = EventHandler(self.admin_backend.events, loop)
        logging.getLogger("sidecar").addHandler(self._event_handler)
        # What its server imports stays, as what is frozen at the start: the collector need not look at it.
        self.admin = Admin(self.admin_backend, answers, config.listen.admin, watchers, on_load=gc.freeze)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    async def run(self, sockets: dict[str, list[socket.socket]]) -> int:
        """Run from the start to the end; returns the exit code."""
        config = self.live.config
        warnings = self.reloader.last.warnings
        listener = ProxyListener(self.core, sockets["proxy"])
        await self.sources.ready(FIRST_LOOKUP_S)
        await listener.start()
        await self.probes.start(sockets["probe"])
        await self.admin.start(sockets["admin"])
        if self.reloader.path is not None:
            self._tasks.start(self._watch(self.reloader.path), "configuration watch")
        self.lag.start()
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        sys.setswitchinterval(SWITCH_S)
        fields = {
            "version": _BUILD.version,
            "compiled": _BUILD.compiled,
            "proxy": [str(one) for one in config.listen.proxy],
            "admin": str(config.listen.admin),
            "probe": str(config.listen.probe),
            "file": str(self.reloader.path) if self.reloader.path is not None else None,
            "services": len(self.live.services),
            "took_ms": round((monotonic() - self._began) * 1000),
        }
        log.info("ready", extra={"kind": "start", "fields": fields})
        notify("READY=1", os.environ)
        log_warnings("start", warnings)
        self._tasks.start(self.contexts.run(lambda: tls_users(self.live.config)), "certificate watch")

        await self._signals.begin.wait()
        drain = self.live.config.drain
        fields = {"delay_s": drain.delay, "timeout_s": drain.timeout}
        log.info("draining", extra={"kind": "drain", "fields": fields})
        notify("STOPPING=1", os.environ)
        cut = await listener.drain(drain.delay, drain.timeout, self._signals.at_once)
        await self._close()
        log.info("stopped", extra={"fields": {"cut_requests": cut}})
        self.access_log.flush()
        return 0

    def drain(self) -> None:
        """Begin the orderly stop, as the first SIGTERM does."""
        self._signals.begin.set()

    def _set_access(self, mode: Literal["off", "errors", "all"]) -> None:
        self.access_log.set_mode(mode)
        self.core.recorder.logs_all = self.access_log.all

    async def _watch(self, path: Path) -> None:
        watch = FileWatch(path, lambda: self.reloader.reload("file"))
        await watch.at_rest()
        await self.reloader.catch_up()
        await watch.run()

    def _hang_up(self) -> None:
        self._tasks.start(self._reload_on_signal(), "reload")

    async def _reload_on_signal(self) -> None:
        await self.reloader.reload("signal")

    async def _adopt(self, config: Config) -> None:
        await self.slices.run(self._adopting(config))

    def _adopting(self, config: Config) -> Generator[None, None, None]:
        """Apply a configuration in slices. New services have their pools and endpoints before the table with them is in
        force, and those that are gone have theirs until then.
        """
        now = self._loop.time()
        prepared = yield from self.live.preparing(config, now)
        yield from self.core.preparing(prepared.services)
        yield from self.sources.preparing(prepared.services)
        # From here on in one step: no request is routed by half of a table.
        self.live.put_in_force(prepared)
        self.access_log.query = config.log.query
        self.traces.adopt(config.tracing)
        self.core.put_in_force()
        self.log_control.adopt(config.log)
        yield
        self.chain.adopt()
        yield
        yield from self.live.retiring(now)
        yield from self.sources.ending_others()
        yield from self.checks.adopting()

    async def _close(self) -> None:
        self.reloader.close()
        self._tasks.cancel()
        await self._tasks.ended()
        await self.reloader.ended()
        await self.checks.close()
        await self.core.close()
        await self.traces.close()
        await self.probes.close()
        self.lag.stop()
        await self.scrapes.close()
        await self.admin.close()
        logging.getLogger("sidecar").removeHandler(self._event_handler)
        self.log_control.close()
        await self.chain.close()
        await self.sources.close()


async def serve(
    config: Config,
    path: Path | None,
    origins: Origins,
    sockets: dict[str, list[socket.socket]],
    writer: LineWriter,
) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    return await Daemon(config, path, origins, writer).run(sockets)
