"""Discovery sources: starts the kind of discovery that each service configures, and updates its endpoints.

Owns which source belongs to which service. A kind of discovery is imported and created when the first service uses it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

from sidecar.config.schema import Config, EndpointSpec, Service
from sidecar.daemon.continued import continued
from sidecar.discovery.addresses import Resolver
from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint
from sidecar.policy.settings import DnsSettings, HealthSettings, KubernetesSettings
from sidecar.runtime.live import Live
from sidecar.runtime.service import LiveService
from sidecar.runtime.slices import Slices, at_once
from sidecar.telemetry.metrics_discovery import SourceView

if TYPE_CHECKING:
    from sidecar.discovery.dns import DnsSource
    from sidecar.discovery.kubernetes.watcher import Kubernetes

log = logging.getLogger("sidecar.daemon")

LONGEST_REST_S: Final = 240.0
"""A name is looked up as often, however seldom health is checked: SidecarDiscoveryStale fires after 300 s."""


class Watch(Protocol):
    """Pushes endpoints until it is closed."""

    def close(self) -> None: ...


class _Followed:
    """The watch of a service, and the configuration that it was created for."""

    def __init__(self, service: LiveService, watch: Watch, views: Sequence[SourceView]) -> None:
        self._service = service
        self._wanted = _wanted(service)
        self.watch = watch
        self.views = views

    def is_for(self, service: LiveService) -> bool:
        return self._service is service and self._wanted == _wanted(service)


def _wanted(service: LiveService) -> object:
    """Where the endpoints come from, and how they are called: with another protocol they are other endpoints."""
    config = service.config
    return config.discovery, config.endpoints, config.protocol


class Sources:
    """The discovery of all services. A kind is imported and created when the first service uses it."""

    def __init__(self, live: Live, loop: asyncio.AbstractEventLoop, slices: Slices | None = None) -> None:
        self._slices = slices or Slices(loop)
        self.resolver = Resolver()
        self._live = live
        self._loop = loop
        self._dns: DnsSource | None = None
        self._kubernetes: Kubernetes | None = None
        self._followed: dict[str, _Followed] = {}
        """Watches by service name."""
        self.adopt()

    def adopt(self) -> None:
        """Watch what the services of the configuration in force need, and nothing else.

        An unchanged watch goes on. A changed one begins before the old one ends, so a name that both look up stays
        known. The old endpoints stay until the new watch has found some.
        """
        at_once(self.preparing(self._live.services))
        at_once(self.ending_others())

    def preparing(self, services: Mapping[str, LiveService]) -> Generator[None, None, None]:
        """The first part of `adopt`, in steps of one service, for services that are in force later."""
        for name, service in services.items():
            known = self._followed.get(name)
            if known is None or not known.is_for(service):
                self._followed[name] = self._follow_anew(service, known.views if known is not None else ())
                if known is not None:
                    known.watch.close()
            yield

    def ending_others(self) -> Generator[None, None, None]:
        """The last part of `adopt`, in steps of one service: ends the watches of services that are gone."""
        for name in [name for name in self._followed if name not in self._live.services]:
            self._followed.pop(name).watch.close()
            yield

    @asynccontextmanager
    async def known_ahead(self, config: Config, timeout_s: float) -> AsyncIterator[Sequence[str]]:
        """Look up the names of a configuration before it is applied, so that its first requests find endpoints.

        Yields a warning for each service that keeps its old endpoints because no new ones are known yet.
        """
        watches: list[Watch] = []
        try:
            await self._slices.run(self._watching(config, watches))
            await self.resolver.ready(timeout_s)
            yield await self._slices.run(self._keeping(config))
        finally:
            await self._slices.run(_closing(watches))

    def _watching(self, config: Config, watches: list[Watch]) -> Generator[None, None, None]:
        for service in config.services.values():
            watches.append(self.resolver.watch(service.endpoints, lambda _: None))
            yield

    def _keeping(self, config: Config) -> Generator[None, None, list[str]]:
        warnings: list[str] = []
        for name, service in config.services.items():
            if self._keeps_endpoints(service):
                warnings.append(f"services.{name} keeps its old endpoints until {_names(service)} can be resolved")
            yield
        return warnings

    def _keeps_endpoints(self, wanted: Service) -> bool:
        running = self._live.services.get(wanted.name)
        if running is None or not running.endpoints or not wanted.endpoints:
            return False
        return not any(self.resolver.addresses(spec.url.host) for spec in wanted.endpoints)

    def _follow_anew(self, service: LiveService, before: Sequence[SourceView]) -> _Followed:
        """Start a new watch for a service. Its endpoints are outdated until the watch finds some, which may happen at
        once.
        """
        outdated, service.outdated = service.outdated, bool(service.endpoints)
        try:
            followed = self._follow(service)
        except Exception:
            service.outdated = outdated
            raise
        followed.views = [continued(view, before) for view in followed.views]
        if service.outdated and service.config.endpoints:  # names, which have already been looked up
            fields = {"service": service.name, "source": "name", "name": _names(service.config)}
            extra = {"kind": "discovery", "fields": fields}
            log.warning("a service keeps its old endpoints; its new names are not resolved yet", extra=extra)
        return followed

    def _follow(self, service: LiveService) -> _Followed:
        """Start the watch of a service. Each set that it finds becomes the endpoints of the service."""
        settings = service.config.discovery
        watch: Watch
        views: Sequence[SourceView]

        def set_endpoints(found: Sequence[tuple[EndpointSpec, str]]) -> None:
            service.set_endpoints(found, self._loop.time())

        def push(found: list[DiscoveredEndpoint]) -> None:
            set_endpoints(
                [(EndpointSpec(url=one.url, weight=one.weight, priority=one.priority), one.address) for one in found]
            )

        if isinstance(settings, DnsSettings):
            if self._dns is None:
                from sidecar.discovery.dns import DnsSource

                self._dns = DnsSource()
            found_by_dns = self._dns.watch(settings, push)
            watch, views = found_by_dns, (found_by_dns,)
        elif isinstance(settings, KubernetesSettings):
            if self._kubernetes is None:
                from sidecar.discovery.kubernetes.watcher import Kubernetes

                self._kubernetes = Kubernetes()
            found_by_kubernetes = self._kubernetes.watch(settings, push)
            watch, views = found_by_kubernetes, (found_by_kubernetes,)
        else:
            names = self.resolver.watch(service.config.endpoints, set_endpoints, self._rest(service))
            watch, views = names, names.sources
        return _Followed(service, watch, views)

    def _rest(self, service: LiveService) -> Callable[[], float]:
        """Names of a service without requests are looked up as seldom as its health is checked, or would be; often
        enough for the alert on stale addresses.
        """

        def rest() -> float:
            health = service.config.policy.health or HealthSettings()
            return (
                min(health.idle_interval, LONGEST_REST_S)
                if service.is_idle(health.interval, self._loop.time())
                else 0.0
            )

        return rest

    def views(self) -> Iterable[tuple[str, SourceView]]:
        """Pairs of (service, source). An IP address in the configuration has no source."""
        return [(name, view) for name, followed in self._followed.items() for view in followed.views]

    def views_of(self, service: str) -> Sequence[SourceView]:
        """The sources of one service."""
        followed = self._followed.get(service)
        return followed.views if followed is not None else ()

    def refresh_soon(self, host: str) -> None:
        """Call when a connection to an endpoint of this host failed."""
        self.resolver.refresh_soon(host)
        if self._dns is not None:
            self._dns.refresh_soon(host)

    async def ready(self, timeout_s: float) -> None:
        """Wait until each name has been looked up once, with or without success."""
        sources = [one for one in (self.resolver, self._dns, self._kubernetes) if one is not None]
        await asyncio.gather(*[one.ready(timeout_s) for one in sources])

    async def close(self) -> None:
        sources = [one for one in (self.resolver, self._dns, self._kubernetes) if one is not None]
        for one in sources:
            one.close()
        for one in sources:
            await one.closed()


def _closing(watches: Sequence[Watch]) -> Generator[None, None, None]:
    for watch in watches:
        watch.close()
        yield


def _names(service: Service) -> str:
    return ", ".join(dict.fromkeys(spec.url.host for spec in service.endpoints))
