"""The parts of the daemon and their life: made, ready, reloaded, drained, ended.

Owns the order of these, and signals.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import signal
import socket
from pathlib import Path
from time import monotonic
from typing import Final

from sidecar import __version__
from sidecar.admin.probe import Probes
from sidecar.config.load import Origins
from sidecar.config.schema import Config
from sidecar.daemon.extras import missing_extra
from sidecar.daemon.health import Chain, HealthChecks
from sidecar.daemon.reload import Reloader
from sidecar.daemon.sources import Sources
from sidecar.daemon.watch import FileWatch
from sidecar.discovery.tasks import Tasks
from sidecar.proxy import head
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.listener import ProxyListener
from sidecar.runtime.live import Live
from sidecar.telemetry import metrics
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.line_writer import LineWriter

log = logging.getLogger("sidecar.daemon")

FIRST_LOOKUP_S: Final = 0.3
"""How long start-up waits for the names of services; what is not known by then comes later."""

GC_THRESHOLDS: Final = (10_000, 20, 50)
"""A request makes few objects that live on and no cycles that matter; the default would look for them far too often."""


class _Signals:
    """The first SIGTERM or SIGINT asks for an orderly end, the second for an immediate one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._came)

    def _came(self) -> None:
        (self.second if self.first.is_set() else self.first).set()


class Daemon:
    """Everything that runs, made on the event loop and not started yet."""

    def __init__(self, config: Config, path: Path | None, origins: Origins, writer: LineWriter) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._began = monotonic()
        self._signals = _Signals(loop)
        self._tasks = Tasks(log)
        self.live = Live(config, loop.time(), random.random)
        self.access_log = AccessLog(config.log.access, writer.write, loop)
        self.core = ProxyCore(self.live, self.access_log)
        self.sources = Sources(self.live, loop)
        self.core.on_connect_failure = self.sources.refresh_soon
        self.checks = HealthChecks(self.live, loop)
        self.chain = Chain(self.live)
        self.reloader = Reloader(
            path,
            config,
            origins,
            adopt=self._adopt,
            generation=lambda: self.live.generation,
            unfit=missing_extra,
        )
        collector = metrics.SidecarCollector(
            self.live.configured,
            lambda: self.live.unrouted,
            lambda: self.live.generation,
            lambda: len(self.core.connections),
            lambda: writer.dropped,
            self.sources.views,
            lambda: self.live.aggregates,
            lambda: self.reloader.results,
        )
        registry = metrics.registry(collector)
        self.probes = Probes(
            lambda: not self.core.draining, lambda: metrics.exposition(registry), self.chain.report
        )  # fmt: skip

    async def run(self, sockets: dict[str, list[socket.socket]]) -> int:
        """From ready to the end; returns the exit code."""
        config = self.live.config
        listener = ProxyListener(self.core, sockets["proxy"])
        await self.sources.ready(FIRST_LOOKUP_S)
        await listener.start()
        await self.probes.start(sockets["probe"], sockets["admin"])
        self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        if self.reloader.path is not None:
            watch = FileWatch(self.reloader.path, lambda: self.reloader.reload("file"))
            self._tasks.start(watch.run(), "configuration watch")
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        fields = {
            "version": __version__,
            "compiled": not str(head.__file__).endswith(".py"),
            "proxy": [str(one) for one in config.listen.proxy],
            "probe": str(config.listen.probe),
            "services": len(self.live.services),
            "took_ms": round((monotonic() - self._began) * 1000),
        }
        log.info("ready", extra={"fields": fields})

        await self._signals.first.wait()
        drain = self.live.config.drain
        log.info("draining", extra={"fields": {"delay_s": drain.delay, "timeout_s": drain.timeout}})
        cut = await listener.drain(drain.delay, drain.timeout, self._signals.second)
        await self._close()
        log.info("stopped", extra={"fields": {"cut_requests": cut}})
        self.access_log.flush()
        return 0

    def drain(self) -> None:
        """Begin the orderly end, as SIGTERM does."""
        self._signals.first.set()

    def _hang_up(self) -> None:
        self._tasks.start(self._reload_on_signal(), "reload")

    async def _reload_on_signal(self) -> None:
        await self.reloader.reload("signal")

    def _adopt(self, config: Config) -> None:
        """Put a configuration in force, in one step: nothing here may wait."""
        self.live.adopt(config, self._loop.time())
        self.access_log.set_mode(config.log.access)
        logging.getLogger().setLevel(config.log.level.upper())
        self.core.adopt()
        self.sources.adopt()
        self.checks.adopt()
        self.chain.adopt()

    async def _close(self) -> None:
        self._tasks.cancel()
        await self._tasks.ended()
        await self.checks.close()
        await self.core.close()
        await self.probes.close()
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
