"""The daemon: everything is wired together here, and here alone.

Owns start-up order, signals and the exit code. It starts what can fail for an operator's reason first (sockets), so
that a taken port is one line and not half a daemon.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import TYPE_CHECKING, Final

import uvloop

from sidecar import __version__
from sidecar.admin.probe import Probes
from sidecar.config.schema import Config, EndpointSpec
from sidecar.discovery.addresses import Resolver
from sidecar.discovery.found import Found, from_specs
from sidecar.discovery.tasks import Tasks
from sidecar.health.active import ActiveChecker, Checks
from sidecar.policy.settings import DnsSettings, KubernetesSettings
from sidecar.proxy import head
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.listener import PortTaken, ProxyListener, bind
from sidecar.runtime.live import Live
from sidecar.runtime.service import LiveService
from sidecar.telemetry import logs, metrics
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.line_writer import LineWriter

if TYPE_CHECKING:
    from sidecar.discovery.dns import DnsSource
    from sidecar.discovery.kubernetes.watcher import Kubernetes

log = logging.getLogger("sidecar.daemon")

FIRST_LOOKUP_S: Final = 0.3
"""How long start-up waits for the names of services; what is not known by then comes later."""

LAST_LINES_S: Final = 1.0
"""How long the end waits for the last log lines to be written."""

KEPT_FREE_BYTES: Final = 8 * 1024 * 1024
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3

GC_THRESHOLDS: Final = (10_000, 20, 50)
"""A request makes few objects that live on and no cycles that matter; the default would look for them far too often."""


def run(config: Config) -> int:
    """Run until SIGTERM or SIGINT; returns the exit code: 0 after an orderly end, 2 where a listener cannot be had."""
    writer = LineWriter()
    logs.set_up(config.log.level, writer.write)
    missing = missing_extra(config)
    if missing:
        sys.stderr.write(f"sidecar: {missing}\n")
        return 2
    _keep_freed_memory()
    _raise_descriptor_limit()
    sockets: dict[str, list[socket.socket]] = {}
    try:
        for name, addresses in (
            ("proxy", config.listen.proxy),
            ("admin", (config.listen.admin,)),
            ("probe", (config.listen.probe,)),
        ):
            sockets[name] = bind(name, addresses)
    except PortTaken as taken:
        for bound in sockets.values():
            for one in bound:
                one.close()
        sys.stderr.write(f"sidecar: {taken}\n")
        return 2
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_serve(config, sockets, writer))
    writer.close(LAST_LINES_S)
    return code


def _keep_freed_memory() -> None:
    """Let the C library keep some freed memory instead of giving it back after each large piece of a body.

    The event loop hands over bodies in pieces of up to 256 KiB. glibc would return each to the kernel as it is freed,
    and fault it in again for the next: a third of the CPU of a large response. Elsewhere than on glibc nothing happens.
    """
    try:
        from ctypes import CDLL

        libc = CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, KEPT_FREE_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, KEPT_FREE_BYTES)
    except (ImportError, OSError, AttributeError):
        log.debug("this C library has no mallopt")


def _raise_descriptor_limit() -> None:
    """Each request in flight takes two descriptors; a soft limit of 1024 would be met below the default limits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def missing_extra(config: Config, find: Callable[[str], object | None] = find_spec) -> str | None:
    """One line that says what has to be installed for this configuration and is not; None where nothing is missing."""
    for service in config.services.values():
        if isinstance(service.discovery, DnsSettings) and find("aiodns") is None:
            return f"services.{service.name}.discovery.dns needs aiodns: pip install 'service-sidecar[dns]'"
    return None


class _Signals:
    """The first SIGTERM or SIGINT asks for an orderly end, the second for an immediate one."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.first = asyncio.Event()
        self.second = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._came, number)

    def _came(self, number: signal.Signals) -> None:
        (self.second if self.first.is_set() else self.first).set()


async def _serve(config: Config, sockets: dict[str, list[socket.socket]], writer: LineWriter) -> int:
    began = monotonic()
    loop = asyncio.get_running_loop()
    signals = _Signals(loop)
    live = Live(config, loop.time(), random.random)
    access_log = AccessLog(config.log.access, writer.write, loop)
    core = ProxyCore(live, access_log)
    sources = _Sources(live, loop)
    core.on_connect_failure = sources.refresh_soon
    checks = _HealthChecks(live, loop)
    collector = metrics.SidecarCollector(
        live.services.values,
        lambda: live.unrouted,
        lambda: live.generation,
        lambda: len(core.connections),
        lambda: writer.dropped,
    )
    registry = metrics.registry(collector)
    probes = Probes(lambda: not core.draining, lambda: metrics.exposition(registry))
    listener = ProxyListener(core, sockets["proxy"])
    await sources.ready(FIRST_LOOKUP_S)
    await listener.start()
    await probes.start(sockets["probe"], sockets["admin"])
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    fields = {
        "version": __version__,
        "compiled": not str(head.__file__).endswith(".py"),
        "proxy": [str(one) for one in config.listen.proxy],
        "probe": str(config.listen.probe),
        "services": len(live.services),
        "took_ms": round((monotonic() - began) * 1000),
    }
    log.info("ready", extra={"fields": fields})

    await signals.first.wait()
    log.info("draining", extra={"fields": {"delay_s": config.drain.delay, "timeout_s": config.drain.timeout}})
    cut = await listener.drain(config.drain.delay, config.drain.timeout, signals.second)
    await checks.close()
    await core.close()
    await probes.close()
    await sources.close()
    log.info("stopped", extra={"fields": {"cut_requests": cut}})
    access_log.flush()
    return 0


class _Sources:
    """Where endpoints come from: each kind of source is made, and imported, when a service asks for it."""

    def __init__(self, live: Live, loop: asyncio.AbstractEventLoop) -> None:
        self.resolver = Resolver()
        self._loop = loop
        self._dns: DnsSource | None = None
        self._kubernetes: Kubernetes | None = None
        for service in live.services.values():
            self._follow(service)

    def _follow(self, service: LiveService) -> None:
        """What is found for a service, whenever it changes, is its set of endpoints."""
        settings = service.config.discovery

        def push(found: list[Found]) -> None:
            specs = [
                (EndpointSpec(url=one.url, weight=one.weight, priority=one.priority), one.address) for one in found
            ]
            service.set_endpoints(specs, self._loop.time())

        if isinstance(settings, DnsSettings):
            if self._dns is None:
                from sidecar.discovery.dns import DnsSource

                self._dns = DnsSource()
            self._dns.watch(settings, push)
        elif isinstance(settings, KubernetesSettings):
            if self._kubernetes is None:
                from sidecar.discovery.kubernetes.watcher import Kubernetes

                self._kubernetes = Kubernetes()
            self._kubernetes.watch(settings, push)
        else:
            self.resolver.watch(service.config.endpoints, from_specs(push))

    def refresh_soon(self, host: str) -> None:
        """A connection to an endpoint of that name failed."""
        self.resolver.refresh_soon(host)
        if self._dns is not None:
            self._dns.refresh_soon(host)

    async def ready(self, timeout_s: float) -> None:
        """Until each name has been looked up once, well or not."""
        sources = [one for one in (self.resolver, self._dns, self._kubernetes) if one is not None]
        await asyncio.gather(*[one.ready(timeout_s) for one in sources])

    async def close(self) -> None:
        sources = [one for one in (self.resolver, self._dns, self._kubernetes) if one is not None]
        for one in sources:
            one.close()
        for one in sources:
            await one.closed()


class _HealthChecks:
    """Active checks of the services that ask for them."""

    def __init__(self, live: Live, loop: asyncio.AbstractEventLoop) -> None:
        self._tasks = Tasks(log)
        self._checks = Checks()
        self._checkers = []
        for service in live.services.values():
            settings = service.config.policy.health
            if settings is not None:
                service.checker = ActiveChecker(
                    service.name,
                    settings,
                    check=self._checks.check,
                    start=self._tasks.start,
                    on_result=service.checked,
                    idle=partial(_idle, service, settings.interval, loop),
                )
                service.checker.update(service.endpoints)
                self._checkers.append(service.checker)

    async def close(self) -> None:
        for checker in self._checkers:
            checker.close()
        await self._tasks.ended()
        await self._checks.close()


def _idle(service: LiveService, interval_s: float, loop: asyncio.AbstractEventLoop) -> bool:
    return loop.time() - service.last_request > interval_s
