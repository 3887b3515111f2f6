"""What the whole data path shares.

Owns the references (services, pools, deadlines, budgets), and the step from one configuration to the next. Listening
and draining are `listener`'s, the apps' connections `downstream.registry`'s, decisions `exchange`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping
from random import random
from typing import Final, Protocol

from sidecar.net.tls_contexts import TlsContexts
from sidecar.policy.stale_cache import StaleCache
from sidecar.proxy.body_sink import ByteBudget
from sidecar.proxy.deadlines import Deadlines
from sidecar.proxy.downstream.handler import Handler
from sidecar.proxy.downstream.registry import Registry
from sidecar.proxy.outgoing import Outgoing
from sidecar.proxy.record import Recorder
from sidecar.proxy.upstream.opening import Openings
from sidecar.proxy.upstream.pool import Pool
from sidecar.proxy.upstream.service_pool import ServicePool
from sidecar.proxy.upstream.slots import ConnectionBudget
from sidecar.runtime.live import Live
from sidecar.runtime.service import LiveService
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.trace import Tracer

HANG_UP_CHECK_S: Final = 1.0
SWEEP_S: Final = 0.25

COPY_BUDGET: Final = 16 * 1024 * 1024
"""Bytes of responses that are being copied, for a fallback to the last good one, at a time."""

ANSWER_BUDGET: Final = 32 * 1024 * 1024
"""Bytes of parts' bodies that all aggregates hold at a time, until their apps have taken them: as many as one with the
most and largest parts."""

log = logging.getLogger("sidecar.proxy")


class OpenTunnel(Protocol):
    """A tunnel under way; `by` says who ends it."""

    def abort(self, by: str) -> None: ...


def _nobody_listens(host: str) -> None:
    """The default of `on_connect_failure`."""


def _sources(live: Live) -> dict[str, object]:
    """What is behind the name of each service that keeps responses: where it changes, they are another service's."""
    return {
        name: (service.config.endpoints, service.config.discovery)
        for name, service in live.services.items()
        if service.keeps_stale
    }


def _serves_half_closed(live: Live) -> bool:
    if live.config.defaults.half_close:
        return True
    services = live.config.services.values()
    return any(one.policy.half_close or any(route.policy.half_close for route in one.routes) for one in services)


class ProxyCore:
    """Made once, on the running event loop."""

    def __init__(
        self,
        live: Live,
        access_log: AccessLog,
        *,
        random: Callable[[], float] = random,
        max_connections: int = 1 << 20,
        contexts: TlsContexts | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.live = live
        self.table = live.table
        self.random = random
        self.tracer: Tracer | None = None
        """Where requests are traced; without one, trace context only passes on."""
        self.on_connect_failure: Callable[[str], None] = _nobody_listens
        """Hears the host name of an endpoint that could not be connected to: its address may have changed."""
        self.deadlines = Deadlines(self.loop)
        self.recorder = Recorder(live, access_log, self.loop.time)
        self.outgoing = Outgoing()
        self.registry = Registry(self.loop, self.deadlines, self.recorder, random, max_connections)
        self._openings = Openings(self.loop, contexts)
        self.pools: dict[str, ServicePool] = {}
        self._connection_budget = ConnectionBudget(max_connections)  # as many to services as apps may have
        for name, service in live.services.items():
            self.pools[name] = self._pool(service)
        self.inner: set[Handler] = set()
        """What answers the calls that the sidecar makes on behalf of apps."""
        self.tunnels: set[OpenTunnel] = set()
        self.stale = StaleCache()
        self._sources = _sources(live)
        self.copy_budget = ByteBudget(COPY_BUDGET)
        self.answer_budget = ByteBudget(ANSWER_BUDGET)
        listen = live.config.listen
        self.registry.max_head = listen.max_head
        self.registry.max_header_fields = listen.max_header_fields
        self.registry.head_too_large = f"the head is over {listen.max_head} bytes, which is listen.max_head"
        self._tell_registry()
        self._timers = [self.loop.call_later(SWEEP_S, self._sweep), self.loop.call_later(HANG_UP_CHECK_S, self._look)]

    @property
    def draining(self) -> bool:
        return self.registry.draining

    def adopt(self) -> None:
        """Take over what `live` has become."""
        for _ in self.preparing(self.live.services):
            pass
        self.put_in_force()

    def preparing(self, services: Mapping[str, LiveService]) -> Generator[None, None, None]:
        """The first part of `adopt`, in steps of one service: pools for services that are in force later."""
        for name, service in services.items():
            pool = self.pools.get(name)
            if pool is None or pool.service is not service or pool.h2 != service.h2:
                fresh = self.pools[name] = self._pool(service)
                if pool is not None and pool.service is service:
                    pool.retire(fresh)
            else:
                pool.adopt()
            yield

    def put_in_force(self) -> None:
        """The second part of `adopt`, in one step: requests are routed by the new table from here on."""
        live = self.live
        for name in [name for name in self.pools if name not in live.services]:
            del self.pools[name]
        sources = _sources(live)
        for name, source in self._sources.items():
            if sources.get(name) != source:
                self.stale.forget_service(name)
        self._sources = sources
        self._tell_registry()
        self.recorder.logs_all = self.recorder.access_log.all
        self.table = live.table

    def _tell_registry(self) -> None:
        self.registry.serves_half_closed = _serves_half_closed(self.live)
        self.registry.client_idle_s = self.live.config.defaults.timeout.client_idle

    def _pool(self, service: LiveService) -> ServicePool:
        if service.h2:
            # Imported by the first service that needs it: HTTP/2 takes a MiB, and most sidecars speak HTTP/1.1 alone.
            from sidecar.proxy.upstream.h2_pool import H2Pool

            return H2Pool(service, self._openings, self._connection_budget, self._connect_failed, self.random)
        return Pool(service, self._openings, self._connection_budget, self._connect_failed, self.random)

    def _connect_failed(self, host: str) -> None:
        self.on_connect_failure(host)

    # Housekeeping.

    def _sweep(self) -> None:
        now = self.loop.time()
        for pool in self.pools.values():
            pool.sweep(now)
        self._timers[0] = self.loop.call_later(SWEEP_S, self._sweep)

    def _look(self) -> None:
        self.registry.look()
        now = self.loop.time()
        for service in self.live.services.values():
            if now >= service.due:  # correct without this; but logs and metrics should show it with no traffic too
                service.refresh(now)
            service.expire(now)
        self._timers[1] = self.loop.call_later(HANG_UP_CHECK_S, self._look)

    async def close(self) -> None:
        """Cut what is still open."""
        for timer in self._timers:
            timer.cancel()
        for tunnel in list(self.tunnels):
            tunnel.abort("sidecar")
        self.registry.abort()
        for handler in list(self.inner):
            handler.disconnected("the sidecar stopped before the answer was complete")
        for pool in self.pools.values():
            pool.close_idle()
        self.deadlines.close()
        self._openings.close()
