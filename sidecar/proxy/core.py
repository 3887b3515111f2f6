"""What all connections of the data path share.

Owns the references (services, pools, deadlines), the open connections, and what is recorded of a request. Listening and
draining are `listener`'s, decisions are `exchange`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping
from random import getrandbits, random
from typing import TYPE_CHECKING, Final

from sidecar.policy.stale_cache import StaleCache
from sidecar.proxy.deadlines import Deadlines
from sidecar.proxy.exchange.body_copy import ByteBudget
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.problem import Problem
from sidecar.proxy.upstream.opening import Openings
from sidecar.proxy.upstream.pool import Pool
from sidecar.proxy.upstream.slots import ConnectionBudget
from sidecar.runtime.last_failure import last_failure
from sidecar.runtime.live import Live
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService
from sidecar.telemetry.access_log import AccessLog
from sidecar.telemetry.history import is_failure
from sidecar.telemetry.trace import Tracer, traceparent

if TYPE_CHECKING:
    from sidecar.proxy.downstream.http1_connection import Downstream
    from sidecar.proxy.exchange.call import Call
    from sidecar.proxy.exchange.tunnel import Tunnel

HANG_UP_CHECK_S: Final = 1.0
SWEEP_S: Final = 0.25

MOST_BEGUN: Final = 64
"""Requests that are begun in one turn of the loop: some milliseconds of work."""

COPY_BUDGET: Final = 16 * 1024 * 1024
"""Bytes of responses that are being copied, for a fallback to the last good one, at a time."""

LOOP: Final = 3
"""How often our own name stands in the loop header of a request that is refused."""

TURNED_AWAY_EVERY_S: Final = 60.0
"""For the log to say so again."""
TOLD_WHY: Final = 16
"""Connections beyond the most that stay for the second that their answer may take."""

ANSWER_BUDGET: Final = 32 * 1024 * 1024
"""Bytes of parts' bodies that all aggregates hold at a time, until their apps have taken them: as many as one with the
most and largest parts."""

log = logging.getLogger("sidecar.proxy")


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
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.live = live
        self.table = live.table
        self.access_log = access_log
        self.logs_all = access_log.all
        self.tracer: Tracer | None = None
        """Where requests are traced; without one, trace context only passes on."""
        self.random = random
        self.on_connect_failure: Callable[[str], None] = _nobody_listens
        """Hears the host name of an endpoint that could not be connected to: its address may have changed."""
        self.deadlines = Deadlines(self.loop)
        self._openings = Openings(self.loop)
        self.pools: dict[str, Pool] = {}
        self._connection_budget = ConnectionBudget(max_connections)
        for name, service in live.services.items():
            self.pools[name] = self._pool(service)
        self.client_idle_s = live.config.defaults.timeout.client_idle
        self.max_head = live.config.listen.max_head
        self.max_header_fields = live.config.listen.max_header_fields
        self.head_too_large = f"the head is over {self.max_head} bytes, which is listen.max_head"
        self.loop_name = b"sidecar-%012x" % getrandbits(48)
        """Random for each process, so that a request that comes back is known (RFC 9110, section 7.6.3)."""
        self.loop_line = b"\r\nx-sidecar-loop: " + self.loop_name
        self.via_line = b"\r\nVia: 1.1 " + self.loop_name
        self.max_connections = max_connections
        """That apps may have open, and as many to services. An app's beyond that are turned away."""
        self._warn_at = 0.0
        self.connections: set[Downstream] = set()
        self.inner: set[Downstream] = set()
        """Those of calls that the sidecar makes on behalf of an app."""
        self.waiting: dict[Downstream, None] = {}
        """Connections whose next request waits for a turn of the loop, first come first served."""
        self._begun = 0
        """Requests begun in this turn of the loop."""
        self.paused: set[Downstream] = set()
        self.tunnels: set[Tunnel] = set()
        self.stale = StaleCache()
        self._sources = _sources(live)
        self.serves_half_closed = _serves_half_closed(live)
        """Whether an app may close its sending side on some route, and still wait for the answer."""
        self.copy_budget = ByteBudget(COPY_BUDGET)
        self.answer_budget = ByteBudget(ANSWER_BUDGET)
        self.draining = False
        self._timers = [self.loop.call_later(SWEEP_S, self._sweep), self.loop.call_later(HANG_UP_CHECK_S, self._look)]

    def adopt(self) -> None:
        """Take over what `live` has become."""
        for _ in self.preparing(self.live.services):
            pass
        self.put_in_force()

    def preparing(self, services: Mapping[str, LiveService]) -> Generator[None, None, None]:
        """The first part of `adopt`, in steps of one service: pools for services that are in force later."""
        for name, service in services.items():
            pool = self.pools.get(name)
            if pool is None or pool.service is not service:
                self.pools[name] = self._pool(service)
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
        self.serves_half_closed = _serves_half_closed(live)
        self.client_idle_s = live.config.defaults.timeout.client_idle
        self.logs_all = self.access_log.all
        self.table = live.table

    # For connections.

    def opened(self, connection: Downstream) -> None:
        (self.inner if connection.inner else self.connections).add(connection)
        self.deadlines.watch(connection)
        if len(self.connections) > self.max_connections and not connection.inner:
            self._turn_away(connection)

    def closed(self, connection: Downstream) -> None:
        self.connections.discard(connection)
        self.inner.discard(connection)
        self.paused.discard(connection)
        self.waiting.pop(connection, None)
        self.deadlines.forget(connection)

    def may_begin(self, connection: Downstream) -> bool:
        """Whether a connection may begin a request now. If not, it is told when its turn comes.

        Otherwise thousands of requests that arrive together are begun in one turn of the loop, and neither a probe nor
        an answer is read meanwhile.
        """
        if self._begun >= MOST_BEGUN:
            self.waiting[connection] = None
            return False
        if not self._begun:
            self.loop.call_soon(self._next_turn)
        self._begun += 1
        return True

    def _next_turn(self) -> None:
        self._begun = 0
        while self.waiting and self._begun < MOST_BEGUN:
            connection = next(iter(self.waiting))
            del self.waiting[connection]
            connection.turn_came()

    def _turn_away(self, connection: Downstream) -> None:
        """No room for one more. Few at a time are told why, which takes a second; the others are reset."""
        few = len(self.connections) <= self.max_connections + TOLD_WHY
        detail = (
            f"{self.max_connections} connections of apps are open, as many as the limit on open files lets be:"
            " close those that are not used, or raise it (ulimit -n)"
        )
        now = self.loop.time()
        if now >= self._warn_at:
            self._warn_at = now + TURNED_AWAY_EVERY_S
            log.warning(
                "connections of apps are turned away",
                extra={"fields": {"open": self.max_connections, "detail": detail}},
            )
        if few:
            problem = Problem(status=503, reason="overloaded", detail=detail, retry_after=1.0, jitter=self.random())
            self.refused(problem, None)
            connection.turn_away(problem)
        else:
            self.live.unrouted.request(503, "overloaded", 0.0)
            connection.turn_away(None)

    def refused(self, problem: Problem, request: RequestHead | None) -> None:
        """Record what reached no service."""
        self.live.unrouted.request(problem.status, problem.reason, 0.0)
        if self.access_log.errors:
            method, target = (request.method, request.target) if request is not None else ("", None)
            if request is not None and request.unusual:
                method = ""  # any word may stand there
            self.access_log.refused(problem.request_id, method, problem.status, problem.reason, problem.detail, target)

    # For exchanges.

    def first_lines(self, route: LiveRoute, service: LiveService, *, by_path: bool) -> bytes:
        """The fields that a first attempt adds to each request of a route where nothing shortens its time."""
        found = route.first_lines.get(by_path)
        if found is None:
            prefix = service.prefix if by_path else None
            found = route.first_lines[by_path] = self.lines(prefix, 1, route.attempt_s, via=route.via)
        return found

    def is_loop(self, request: RequestHead) -> bool:
        """Whether the request has come back for the third time. An app that copies the headers of the request that it
        serves may call back once and more."""
        name = self.loop_name
        return (request.loop is not None and request.loop.count(name) >= LOOP) or (
            request.via is not None and request.via.count(name) >= LOOP
        )

    def lines(self, prefix: bytes | None, attempt: int, left_s: float, *, via: bool) -> bytes:
        """The fields that an attempt adds to a request; `left_s` is the time that it has, `prefix` what was cut off its
        path, where it was routed by that."""
        found = b"%b\r\nx-envoy-attempt-count: %d\r\nx-envoy-expected-rq-timeout-ms: %d" % (
            self.loop_line + self.via_line if via else self.loop_line,
            attempt,
            max(left_s * 1000, 1),
        )
        return found if prefix is None else found + b"\r\nX-Forwarded-Prefix: " + prefix

    def new_request_id(self) -> bytes:
        """A random UUID (RFC 9562, version 4)."""
        bits = b"%032x" % (getrandbits(128) & ~(0xF << 76) & ~(0x3 << 62) | (0x4 << 76) | (0x2 << 62))
        return b"-".join((bits[:8], bits[8:12], bits[12:16], bits[16:20], bits[20:]))

    def new_traceparent(self) -> bytes | None:
        """A new trace (W3C Trace Context) if the sidecar traces, else None: then it adds nothing to the context."""
        tracer = self.tracer
        return traceparent(tracer.root()) if tracer is not None else None

    def record(self, exchange: Call, detail: str, seconds: float) -> None:
        code, reason = exchange.code, exchange.reason
        exchange.service.counters.request(code, reason, seconds)
        if reason != "ok":
            self._failed(exchange, detail)
        access_log = self.access_log
        if self.logs_all or (reason != "ok" and access_log.errors):
            request = exchange.request
            access_log.request(
                service=exchange.service.name,
                route=exchange.route.name,
                method=request.method,
                target=request.target,
                request_id=exchange.request_id,
                traceparent=request.traceparent,
                code=code,
                reason=reason,
                detail=detail,
                attempts=exchange.attempts,
                seconds=seconds,
                connecting_s=exchange.connecting_s,
                backoff_s=exchange.backoff_s,
                received=exchange.received,
                sent=exchange.sent,
                fallback=exchange.fallback,
            )

    def gone(self) -> None:
        """Record a request whose app left before the request was begun."""
        self.live.unrouted.request(499, "client_disconnect", 0.0)

    def _failed(self, exchange: Call, detail: str) -> None:
        """Keep why, for who asks for the service's state."""
        reason = exchange.reason
        if reason == "circuit_open" or not is_failure(reason):
            return
        if reason == "status" and not detail and exchange.attempts:
            detail = f"{exchange.attempts[-1].endpoint} answered {exchange.code}"
        exchange.service.last_failure = last_failure(self.loop.time(), reason, detail, exchange.request_id)

    def _pool(self, service: LiveService) -> Pool:
        return Pool(service, self._openings, self._connection_budget, self._connect_failed, self.random)

    def _connect_failed(self, host: str) -> None:
        self.on_connect_failure(host)

    def crashed(self, exchange: Call, error: Exception) -> None:
        fields = {"service": exchange.service.name, "request_id": exchange.request_id.decode("latin-1")}
        log.error("a request failed through a defect of the sidecar", exc_info=error, extra={"fields": fields})

    # Housekeeping.

    def _sweep(self) -> None:
        now = self.loop.time()
        for pool in self.pools.values():
            pool.sweep(now)
        self._timers[0] = self.loop.call_later(SWEEP_S, self._sweep)

    def _look(self) -> None:
        for connection in list(self.paused):
            connection.check_hang_up()
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
        for connection in [*self.connections, *self.inner]:
            connection.abort()
        for pool in self.pools.values():
            pool.close_idle()
        self.deadlines.close()
        self._openings.close()
