"""The connections of one service: idle ones by endpoint, new ones opened, no more of them than `max_connections`, and
no more of all services than the limit on open files lets be.

Owns opening, resting and counting. An idle connection is taken at once, with no await; only a new one is waited for.
Which endpoint, and what a failure means, is the exchange's business.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import ssl
from collections.abc import Callable, Mapping
from random import random
from time import monotonic
from typing import Any, Final, Protocol, cast

from sidecar.net.tasks import Tasks
from sidecar.proxy.upstream.http1_connection import Upstream
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService

SAFE_IDLE_S: Final = 1.0
"""A request that must not be sent twice takes a connection that has been idle for less than this: an older one may be
being closed by its upstream at this moment."""

_OWN_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

log = logging.getLogger("sidecar.pool")


class Waiter(Protocol):
    """Who asked for a connection; hears exactly one of these, unless it cancelled."""

    def connected(self, upstream: Upstream) -> None: ...
    def connect_failed(self, reason: str, detail: str) -> None: ...


class Connecting:
    """A connection that was asked for and is not there yet."""

    __slots__ = ("endpoint", "in_background", "pool", "timeout_s", "timer", "waiter")

    def __init__(self, pool: Pool, endpoint: Endpoint, waiter: Waiter | None, timeout_s: float) -> None:
        self.pool = pool
        self.endpoint = endpoint
        self.in_background = waiter is None
        """No request asked for it: it is to show whether the endpoint takes connections again."""
        self.waiter = waiter
        self.timeout_s = timeout_s
        self.timer: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> bool:
        """It waits for another connection to be given back; nothing has been opened for it."""
        return self.timer is not None

    def cancel(self) -> None:
        """The waiter no longer waits. What is being opened goes to the pool; what is queued leaves the queue."""
        self.waiter = None
        if self.timer is not None:
            self.pool.unqueue(self)


class Trust:
    """What TLS connections are trusted by: made when first needed, as it takes a while, and then shared."""

    def __init__(self) -> None:
        self._context: ssl.SSLContext | None = None

    @property
    def context(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context


class Together:
    """What all pools may have open: idle connections of one service make room for another's that are wanted."""

    def __init__(self, most: int, pools: Mapping[str, Pool]) -> None:
        self.most = most
        self.open = 0
        self._pools = pools

    def make_room(self) -> bool:
        """Take a slot, if need be from the connection that has been idle longest."""
        if self.open >= self.most:
            resting = [found for pool in self._pools.values() if (found := pool.oldest_idle()) is not None]
            if resting:
                min(resting, key=lambda connection: connection.idle_since).close()
        if self.open >= self.most:
            return False
        self.open += 1
        return True


class Pool:
    """See the module. All calls on the event loop's thread."""

    def __init__(
        self,
        service: LiveService,
        loop: asyncio.AbstractEventLoop,
        tasks: Tasks,
        on_connect_failure: Callable[[str], None],
        together: Together,
        trust: Trust | None = None,
        random: Callable[[], float] = random,
    ) -> None:
        self.service = service
        self._trust = trust or Trust()
        self._together = together
        self._random = random
        self._on_connect_failure = on_connect_failure
        self._loop = loop
        self._tasks = tasks
        self._tls: ssl.SSLContext | None = None
        self._warned_of_mixed = False
        service.reconnect = self.reconnect
        self.adopt()

    def adopt(self) -> None:
        """Be fit for the configuration that the service has now."""
        if self._tls is None and any(spec.url.scheme == "https" for spec in self.service.config.endpoints):
            self._tls = self._trust.context
        self._close_surplus()
        if self.service.waiting:  # there may be more room than there was
            self._loop.call_soon(self._serve_next)

    def take(self, endpoint: Endpoint, now: float, *, repeatable: bool) -> Upstream | None:
        """The connection that was used last, if one is idle and likely to be still good; else None."""
        idle = endpoint.idle
        while idle:
            connection: Upstream = idle[-1]  # type: ignore[assignment]
            age = now - connection.idle_since
            if age >= self.service.pool_idle_s or connection.transport.is_closing() or self._is_over(connection, now):
                connection.close()  # takes itself out of the list
                continue
            if not repeatable:
                if age >= SAFE_IDLE_S:
                    return None  # those below are older still
                if connection.is_stale():
                    connection.close()
                    continue
            idle.pop()
            endpoint.active += 1
            return connection
        return None

    def connect(self, endpoint: Endpoint, waiter: Waiter, timeout_s: float) -> Connecting:
        """Open a connection, or wait for one of the `max_connections` to be given back."""
        connecting = Connecting(self, endpoint, waiter, timeout_s)
        if self._make_room():
            self._open(connecting)
        elif self.service.connections < self.service.max_connections:
            self._loop.call_soon(self._too_many, connecting)
        else:
            connecting.timer = self._loop.call_later(timeout_s, self._waited_too_long, connecting)
            self.service.waiting.append(connecting)
        return connecting

    def reconnect(self, endpoint: Endpoint) -> None:
        """Open a connection that no request waits for, where that takes no other connection's place."""
        service, together = self.service, self._together
        if service.connections < service.max_connections and together.open < together.most and self._make_room():
            self._open(Connecting(self, endpoint, None, service.config.policy.timeout.connect))
        else:
            endpoint.reconnecting = False

    def release(self, connection: Upstream, now: float) -> None:
        """Give a connection back after a whole exchange: it rests, or closes."""
        endpoint = connection.endpoint
        service = self.service
        surplus = service.connections > service.max_connections  # the limit may have come down
        used_up = surplus or endpoint.departed_at is not None or self._is_over(connection, now)
        if used_up or not connection.may_be_reused():
            connection.close()
            return
        endpoint.active -= 1
        connection.rest(now)
        endpoint.idle.append(connection)
        if service.waiting:
            self._loop.call_soon(self._serve_next)

    def _is_over(self, connection: Upstream, now: float) -> bool:
        """Whether it has lived or carried as much as it may: then it closes once it is idle, so nothing is lost.

        Behind one address there may be a load balancer, which spreads connections and not requests.
        """
        service = self.service
        if now - connection.made_at >= service.connection_age_s * connection.expires_share:
            return True
        return connection.requests >= service.connection_requests

    def closed(self, connection: Upstream) -> None:
        """A connection says that it has ended."""
        endpoint = connection.endpoint
        if connection in endpoint.idle:
            endpoint.idle.remove(connection)
        else:
            endpoint.active -= 1
        self._slot_freed()

    def line_ends_are_mixed(self, where: str) -> None:
        """Warn of a head of this service's whose lines end differently, the first time."""
        if not self._warned_of_mixed:
            self._warned_of_mixed = True
            fields = {"service": self.service.name, "field": where}
            log.warning("the service's answers mix bare LF and CRLF as line ends", extra={"fields": fields})

    def sweep(self, now: float) -> None:
        """Close what has been idle for `pool_idle`. The oldest stand first."""
        for endpoint in self.service.endpoints:
            while endpoint.idle and now - endpoint.idle[0].idle_since >= self.service.pool_idle_s:
                endpoint.idle[0].close()

    def close_idle(self) -> None:
        for endpoint in (*self.service.endpoints, *self.service.departed):
            for connection in list(endpoint.idle):
                connection.close()

    def unqueue(self, connecting: Connecting) -> None:
        if connecting.timer is not None:
            connecting.timer.cancel()
            connecting.timer = None
        if connecting in self.service.waiting:
            self.service.waiting.remove(connecting)

    def _make_room(self) -> bool:
        """Take one of the service's connection slots, if need be from the connection that has been idle longest."""
        service = self.service
        if service.connections >= service.max_connections:
            self._close_oldest()
        if service.connections >= service.max_connections or not self._together.make_room():
            return False
        service.connections += 1
        return True

    def oldest_idle(self) -> Upstream | None:
        """The connection that has been idle longest; None where none is idle."""
        resting = [cast(Upstream, endpoint.idle[0]) for endpoint in self.service.endpoints if endpoint.idle]
        return min(resting, key=lambda connection: connection.idle_since) if resting else None

    def _close_oldest(self) -> bool:
        """False where none is idle."""
        oldest = self.oldest_idle()
        if oldest is None:
            return False
        oldest.close()
        return True

    def _close_surplus(self) -> None:
        """The limit may have come down: those that are in use close as they are given back."""
        while self.service.connections > self.service.max_connections:
            if not self._close_oldest():
                return

    def _slot_freed(self) -> None:
        self.service.connections -= 1
        self._together.open -= 1
        if self.service.waiting and self.service.connections < self.service.max_connections:
            self._loop.call_soon(self._serve_next)

    def _serve_next(self) -> None:
        """Give a connection that has come to rest, or a slot that is free, to whoever has waited longest."""
        waiting = self.service.waiting
        if not waiting:
            return
        first: Connecting = waiting[0]
        rested = self.take(first.endpoint, monotonic(), repeatable=False)
        if rested is not None:
            self.unqueue(first)
            waiter, first.waiter = first.waiter, None
            if waiter is not None:
                waiter.connected(rested)
        elif self._make_room():
            self.unqueue(first)
            self._open(first)
        elif self.service.connections < self.service.max_connections:
            self.unqueue(first)
            self._too_many(first)
        else:
            return
        if waiting:
            self._loop.call_soon(self._serve_next)

    def _waited_too_long(self, connecting: Connecting) -> None:
        self.unqueue(connecting)
        self._overloaded(connecting, f"all {self.service.max_connections} connections are in use")

    def _too_many(self, connecting: Connecting) -> None:
        """Nobody of this service may be using one, so nobody would tell when there is one."""
        detail = (
            f"{self._together.open} connections to services are in use, as many as the limit on open files lets be:"
            " use fewer at once, or raise it (ulimit -n)"
        )
        self._overloaded(connecting, detail)

    def _overloaded(self, connecting: Connecting, detail: str) -> None:
        waiter, connecting.waiter = connecting.waiter, None
        if waiter is not None:
            waiter.connect_failed("overloaded", detail)

    def _open(self, connecting: Connecting) -> None:
        self._tasks.start(self._connect(connecting), f"connect {connecting.endpoint.label}")

    async def _connect(self, connecting: Connecting) -> None:
        endpoint = connecting.endpoint
        connection = Upstream(endpoint, self)
        reason = detail = ""
        now = monotonic()
        try:
            async with asyncio.timeout(connecting.timeout_s):
                await self._loop.create_connection(
                    lambda: cast(Any, connection),
                    endpoint.address,
                    endpoint.port,
                    ssl=self._tls if endpoint.tls else None,
                    server_hostname=endpoint.server_name if endpoint.tls else None,
                )
        except TimeoutError:
            reason, detail = "connect_timeout", f"no connection within {connecting.timeout_s:g} s"
        except ssl.SSLCertVerificationError as error:
            reason, detail = "connect_failure", f"the certificate is not trusted: {error.verify_message}"
        except ssl.SSLError as error:
            reason, detail = "connect_failure", f"TLS failed: {error.reason or 'no shared protocol'}"
        except OSError as error:
            words = os.strerror(error.errno) if error.errno else "connection failed"
            # What this process or machine lacks is no fault of the endpoint's.
            reason = "overloaded" if error.errno in _OWN_LIMITS else "connect_failure"
            detail = words[:1].lower() + words[1:]
        except asyncio.CancelledError:
            self._give_up(connection)
            raise
        began, now = now, monotonic()
        if connecting.in_background:
            endpoint.reconnecting = False
        if reason:
            if reason != "overloaded":
                endpoint.connect_failed(now, in_background=connecting.in_background)
                self.service.changed(now)
                self._on_connect_failure(endpoint.server_name)
            self._give_up(connection)
            if connecting.waiter is not None:
                connecting.waiter.connect_failed(reason, detail)
            return
        connection.connected(now, now - began, self._random())
        if endpoint.skip_until:
            endpoint.connected()
            self.service.refresh(now)  # others that are skipped may have to wait for a connection of their own now
        if connecting.waiter is not None:
            connecting.waiter.connected(connection)
        elif endpoint.departed_at is not None:
            connection.close()
        elif not connection.ended:
            endpoint.active -= 1
            connection.rest(now)
            endpoint.idle.append(connection)
            if self.service.waiting:
                self._loop.call_soon(self._serve_next)

    def _give_up(self, connection: Upstream) -> None:
        """The time was over, or the proxy ends; the connection may have come up in the same moment."""
        if connection.made:
            connection.close()  # gives its slot back itself
        else:
            self._slot_freed()

    def __repr__(self) -> str:
        service = self.service
        return f"<Pool {service.name} connections={service.connections}/{service.max_connections} {service.endpoints}>"
