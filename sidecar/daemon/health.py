"""Creates the active health checks of services and the health chain, and updates them on a reload."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from ssl import SSLContext

from sidecar.config.schema import HealthCheck
from sidecar.health.active import MOST_AT_ONCE, ActiveChecker, CheckedEndpoint, Checks
from sidecar.health.chain import HealthChain, Sliced
from sidecar.health.checks.make import make_checks
from sidecar.health.report import Report
from sidecar.net.tasks import Tasks
from sidecar.net.tls_contexts import TlsContexts
from sidecar.policy.settings import HealthSettings
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.live import Live
from sidecar.runtime.service import LiveService
from sidecar.runtime.slices import at_once

log = logging.getLogger("sidecar.daemon")


async def _ask_over_h2(
    endpoint: CheckedEndpoint, settings: HealthSettings, tls: SSLContext | None, server_name: str | None
) -> str:
    # Imported by the first check that needs it.
    from sidecar.proxy.upstream import h2_check

    return await h2_check.ask(endpoint, settings, tls, server_name)


class HealthChecks:
    """Active checks of the services that configure them."""

    def __init__(
        self, live: Live, loop: asyncio.AbstractEventLoop, contexts: TlsContexts, at_once: int = MOST_AT_ONCE
    ) -> None:
        self._tasks = Tasks(log)
        self._checks = Checks(contexts, over_h2=_ask_over_h2, at_once=at_once)
        self._live = live
        self._loop = loop
        self._checkers: dict[str, tuple[LiveService, HealthSettings, ActiveChecker[Endpoint]]] = {}
        """Checkers by service name, with the service and the settings that each was created for."""
        self.adopt()

    def adopt(self) -> None:
        """Apply the configuration in force; the known health of an endpoint stays."""
        at_once(self.adopting())

    def adopting(self) -> Generator[None, None, None]:
        """`adopt` in steps of one service."""
        services = self._live.services
        for name, (service, settings, checker) in list(self._checkers.items()):
            if services.get(name) is not service or service.config.policy.health != settings:
                checker.close()
                del self._checkers[name]
            yield
        for name, service in services.items():
            yield
            settings_now = service.config.policy.health
            if settings_now is None:
                service.checker = None
            elif name not in self._checkers:
                service.checker = self._checker(service, settings_now)
                service.checker.update(service.endpoints)
                self._checkers[name] = (service, settings_now, service.checker)

    def _checker(self, service: LiveService, settings: HealthSettings) -> ActiveChecker[Endpoint]:
        return ActiveChecker(
            service.name,
            settings,
            check=lambda endpoint, settings: self._checks.check(endpoint, settings, service.config.policy.tls),
            start=self._tasks.start,
            on_result=service.checked,
            idle=lambda: service.is_idle(settings.interval, self._loop.time()),
        )

    async def close(self) -> None:
        for _, _, checker in self._checkers.values():
            checker.close()
        await self._tasks.ended()


class Chain:
    """The checks behind `GET /health`. They and the active checks have separate limits, so neither delays the other."""

    def __init__(self, live: Live, sliced: Sliced, contexts: TlsContexts, at_once: int = MOST_AT_ONCE) -> None:
        self._tasks = Tasks(log)
        self._asking = Checks(contexts, over_h2=_ask_over_h2, at_once=at_once)
        self._sliced = sliced
        self._live = live
        self._made_for: dict[str, HealthCheck] | None = None
        self._chain: HealthChain
        self.adopt()

    def adopt(self) -> None:
        """Apply the configuration in force. A run that has begun ends with the old checks."""
        wanted = self._live.config.checks
        if wanted != self._made_for:
            self._made_for = wanted
            self._chain = HealthChain(
                make_checks(wanted, self._asking.check, self._asking.contexts),
                self._live.configured,
                check=self._asking.check,
                start=self._tasks.start,
                sliced=self._sliced,
            )

    async def report(self) -> Report:
        return await self._chain.report()

    async def close(self) -> None:
        self._tasks.cancel()
        await self._tasks.ended()
