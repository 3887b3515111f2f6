"""The HTTP/2 connections of one service: each carries many calls, and another is opened where they have no more room.

Owns which connection a call goes on, when another is opened, and when one is left to its last calls. What may be open
is counted in `slots`; which endpoint a call goes to is the exchange's business.

- A call goes on the first connection to its endpoint that has room; the others may then fall idle for good.
- The endpoint says how many calls a connection carries (MAX_CONCURRENT_STREAMS). Until it has, the engine assumes 100;
  and until one connection is up, the calls that wait share that one, however many they are. Only then is it known how
  many more they need.
- A connection that has reached `limits.max_connection_age` or `max_connection_requests` takes no more calls and closes
  behind its last one, but only where another can be opened in its place, and two to an endpoint at most: calls may last
  for days, and behind each age a connection would be left over.
- A call waits for room for as long as connecting may take (`timeout.connect`), first come, first served for each
  endpoint.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from math import inf
from random import random
from time import monotonic
from typing import Final, cast

from sidecar.net.tls_contexts import H2
from sidecar.proxy.h2.frames import ENHANCE_YOUR_CALM, NO_ERROR, SETTINGS_TIMEOUT
from sidecar.proxy.upstream.h2_connection import H2ConnectionOwner, H2UpstreamConnection
from sidecar.proxy.upstream.h2_stream import H2UpstreamStream
from sidecar.proxy.upstream.linked_list import LinkedList
from sidecar.proxy.upstream.opening import Openings
from sidecar.proxy.upstream.service_pool import Connecting
from sidecar.proxy.upstream.slots import ConnectionBudget, Slot
from sidecar.proxy.upstream.stream import AttemptListener
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService

MOST_LEAVING: Final = 2
"""Connections to one endpoint that are left to their last calls because of their age."""

PONG_WITHIN_S: Final = 20.0
"""As gRPC's own clients wait for the answer to a PING."""

MOST_PATIENCE: Final = 64

FIRST_SETTINGS_S: Final = 10.0
"""A server that has accepted a connection and says nothing for so long is none of HTTP/2, or has stopped."""

LOOK_AFTER_IDLE_S: Final = 0.01
"""A call that must not be sent twice has the kernel asked about a connection that has rested for so long."""


log = logging.getLogger("sidecar.pool")


class Line:
    """The connections to one endpoint, and the calls that wait for one."""

    __slots__ = ("aged", "connections", "endpoint", "known", "most", "opening", "waiting")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.connections: list[H2UpstreamConnection] = []
        """Those that take calls, the oldest first."""
        self.aged = 0
        """Those that are left to their last calls because of their age."""
        self.opening = 0
        self.known = False
        """Whether the endpoint has said how many calls a connection carries."""
        self.most = 1
        """So many, as far as is known."""
        self.waiting: LinkedList[Connecting] = LinkedList()

    def __repr__(self) -> str:
        connections = " ".join(str(one.calls) for one in self.connections)
        return f"<Line {self.endpoint.label} calls=[{connections}] opening={self.opening} waiting={self.waiting.size}>"


class H2Pool(H2ConnectionOwner):
    """See the module. All calls on the event loop's thread."""

    h2: bool = True

    def __init__(
        self,
        service: LiveService,
        openings: Openings,
        budget: ConnectionBudget,
        on_connect_failure: Callable[[str], None],
        random: Callable[[], float] = random,
    ) -> None:
        self._lines: dict[Endpoint, Line] = {}
        self._up: dict[H2UpstreamConnection, None] = {}
        """All that are open, those that take no more calls too."""
        self._patience = 1
        """Grows each time a server finds that it is asked too often."""
        self._hungry: dict[Line, None] = {}
        """Those with calls that wait, in the order in which their first ones came."""
        super().__init__(service, openings, budget, on_connect_failure, random)

    # What requests ask.

    def take(self, endpoint: Endpoint, now: float, *, repeatable: bool) -> H2UpstreamStream | None:
        line = self._lines.get(endpoint)
        return None if line is None or line.waiting.size else self._take(line, now, repeatable)

    def _take(self, line: Line, now: float, repeatable: bool) -> H2UpstreamStream | None:
        service = self.service
        at = 0
        while at < len(line.connections):
            connection = line.connections[at]
            if connection.room <= 0:
                at += 1
                continue
            if self._is_over(connection, now) and self._let_go(line, connection):
                continue
            rested = not connection.calls
            if rested:
                idle_s = now - connection.idle_since
                if idle_s >= service.pool_idle_s or (
                    not repeatable and idle_s >= LOOK_AFTER_IDLE_S and connection.is_stale()
                ):
                    self._shut(connection)
                    continue
                self._slots.wakes(connection.slot)
            return H2UpstreamStream(connection, served=rested and connection.requests > 0)
        return None

    def connect(self, endpoint: Endpoint, waiter: AttemptListener, timeout_s: float) -> Connecting:
        if not endpoint.h2 and self.other is not None:
            return self.other.connect(endpoint, waiter, timeout_s)
        line = self._line(endpoint)
        connecting = Connecting(self, endpoint, waiter, timeout_s)
        connecting.join_queue(line.waiting, self._loop.call_later(timeout_s, self._waited_too_long, connecting))
        self._hungry[line] = None
        self._serve_soon()
        return connecting

    def _line(self, endpoint: Endpoint) -> Line:
        line = self._lines.get(endpoint)
        if line is None:
            line = self._lines[endpoint] = Line(endpoint)
        return line

    # What the core asks.

    def sweep(self, now: float) -> None:
        if self.service.keepalive_s < inf:
            for connection in list(self._up):
                self._look_after(connection, now)
        pool_idle_s = self.service.pool_idle_s
        while (slot := self._slots.oldest) is not None:
            if now - _resting(slot).connection.idle_since < pool_idle_s:
                return
            slot.close()

    def _look_after(self, connection: H2UpstreamConnection, now: float) -> None:
        """Find out whether the endpoint is still there: its machine may have gone without a word."""
        if connection.pinged_at:
            if connection.heard_at >= connection.pinged_at:
                connection.pinged_at = 0.0
            elif now - connection.pinged_at >= PONG_WITHIN_S:
                connection.close(NO_ERROR, f"the endpoint did not answer a PING within {PONG_WITHIN_S:g} s")
        elif connection.calls and now - connection.heard_at >= self.service.keepalive_s * self._patience:
            connection.pinged_at = now
            connection.ping()

    # Ages and ends.

    def _is_over(self, connection: H2UpstreamConnection, now: float) -> bool:
        """Whether it has lived or carried as much as it may.

        Behind one address there may be a load balancer, which spreads connections and not calls.
        """
        service = self.service
        if now - connection.made_at >= service.connection_age_s * connection.expires_share:
            return True
        return connection.requests >= service.connection_requests or connection.made_at < self._renewed_at

    def _let_go(self, line: Line, connection: H2UpstreamConnection) -> bool:
        """Whether a connection that is over takes no more calls from now on."""
        if not connection.calls:
            self._shut(connection)
            return True
        if line.aged >= MOST_LEAVING or not self._slots.spare:
            return False
        line.aged += 1
        connection.aged = True
        self._leave(line, connection)
        return True

    def _leave(self, line: Line, connection: H2UpstreamConnection) -> None:
        connection.leaving = True
        if connection in line.connections:
            line.connections.remove(connection)

    def _shut(self, connection: H2UpstreamConnection) -> None:
        """Close it; its slot is free at once."""
        self._forget(connection)
        connection.shut()

    def _forget(self, connection: H2UpstreamConnection) -> None:
        """It no longer counts. What is said more than once counts once."""
        slot = connection.slot
        if slot.free:
            return
        self._slots.end(slot)
        self._up.pop(connection, None)
        line = self._lines.get(connection.endpoint)
        if line is not None:
            self._leave(line, connection)
            if connection.aged:
                line.aged -= 1
            self._tidy(line)
        self._serve_soon()

    def _tidy(self, line: Line) -> None:
        """An endpoint may have left for good."""
        if not line.waiting.size:
            self._hungry.pop(line, None)
        if line.connections or line.opening or line.waiting.size or line.aged:
            return
        if self._lines.get(line.endpoint) is line:
            del self._lines[line.endpoint]

    # What a connection says.

    def room_changed(self, connection: H2UpstreamConnection) -> None:
        self._serve_soon()

    def ready(self, connection: H2UpstreamConnection) -> None:
        line = self._lines.get(connection.endpoint)
        if line is not None:
            line.known = True
            line.most = connection.most
        self._serve_soon()

    def going_away(self, connection: H2UpstreamConnection, code: int) -> None:
        if code == ENHANCE_YOUR_CALM and self.service.keepalive_s < inf:
            self._patience = min(self._patience * 2, MOST_PATIENCE)  # too_many_pings: as gRPC's own clients do
            fields = {"service": self.service.name, "endpoint": connection.endpoint.label}
            log.warning("the endpoint is pinged too often: make limits.keepalive longer", extra={"fields": fields})
        line = self._lines.get(connection.endpoint)
        if line is not None:
            self._leave(line, connection)
        if not connection.calls:
            self._shut(connection)

    def left(self, connection: H2UpstreamConnection, now: float) -> None:
        if connection.slot.free:
            return
        if connection.calls:
            self._serve_soon()
            return
        used_up = self._slots.surplus or connection.endpoint.departed_at is not None or connection.leaving
        if used_up or self._is_over(connection, now):
            self._shut(connection)
        else:
            self._rest(connection, now)

    def _rest(self, connection: H2UpstreamConnection, now: float) -> None:
        connection.idle_since = now
        self._slots.rests(connection.slot)
        self._serve_soon()

    def ended(self, connection: H2UpstreamConnection) -> None:
        self._forget(connection)

    def most_fields(self) -> int:
        return self.service.max_header_fields

    # Who waits.

    def is_opening(self, endpoint: Endpoint) -> bool:
        line = self._lines.get(endpoint)
        return line is not None and line.opening > 0

    def _serve(self) -> None:
        self._serving = False
        now = monotonic()
        for line in list(self._hungry):
            while (first := line.waiting.first) is not None:
                stream = self._take(line, now, False)
                if stream is None:
                    break
                first.leave_queue()
                first.tell_connected(stream)
            self._open_more(line, now)
            self._tidy(line)

    def _open_more(self, line: Line, now: float) -> None:
        """Open as many connections as those who wait need."""
        endpoint = line.endpoint
        if line.connections:
            if now < endpoint.skip_until:
                return  # it takes no more connections at the moment: what is open carries the calls
            line.most = line.connections[-1].most
            if not (line.known and line.most):
                return  # it will say how many calls a connection carries, or that it is no longer none
        most = max(line.most, 1)
        while line.waiting.size > line.opening * most and (line.known or not line.opening):
            first = line.waiting.first
            assert first is not None
            slot = self._slots.take(endpoint)
            if slot is None:
                if not (self._slots.full or line.opening or line.connections):
                    for one in list(line.waiting):
                        one.leave_queue()
                        self._too_many(one)
                return
            shared = Connecting(self, endpoint, None, first.timeout_s)
            shared.in_background = False
            self._open(shared, slot)

    def _waited_too_long(self, connecting: Connecting) -> None:
        connecting.leave_queue()
        reason, detail = "overloaded", f"all {self.service.max_connections} connections are in use"
        line = self._lines.get(connecting.endpoint)
        if line is not None:
            if line.connections:
                detail = "all connections to the endpoint carry as many calls as it allows"
            elif line.opening:
                reason, detail = "connect_timeout", f"no connection within {connecting.timeout_s:g} s"
            self._tidy(line)
        connecting.tell_failed(reason, detail)

    # Opening.

    def alpn(self) -> tuple[str, ...]:
        return H2

    def _open(self, connecting: Connecting, slot: Slot) -> None:
        endpoint = connecting.endpoint
        connection = H2UpstreamConnection(endpoint, self, self.service.max_head)
        connection.slot = slot
        slot.connection = _Resting(self, connection)
        self._line(endpoint).opening += 1
        self._begin(connecting, slot, connection)

    def _came_up(self, connecting: Connecting, protocol: object, now: float) -> None:
        connection, endpoint = cast(H2UpstreamConnection, protocol), connecting.endpoint
        connection.connected(now, now - connecting.began, self._random())
        self._is_up_again(endpoint, now)
        line = self._line(endpoint)
        line.opening -= 1
        self._slots.opened(connection.slot)
        line.connections.append(connection)
        self._up[connection] = None
        if endpoint.departed_at is not None and not line.waiting.size:
            self._shut(connection)
            return
        if not connection.ready:
            self._loop.call_later(FIRST_SETTINGS_S, self._look_for_settings, connection)
        self._rest(connection, now)
        self._serve()

    def _look_for_settings(self, connection: H2UpstreamConnection) -> None:
        if not connection.ready:
            connection.close(SETTINGS_TIMEOUT, f"no SETTINGS within {FIRST_SETTINGS_S:g} s")

    def _failed(self, connecting: Connecting, reason: str, detail: str) -> None:
        line = self._line(connecting.endpoint)
        if line.connections:
            self._serve_soon()  # they wait for room on what is open
        else:
            for one in list(line.waiting):
                one.leave_queue()
                one.tell_failed(reason, detail)
        self._tidy(line)

    def _why_unusable(self, protocol: object) -> str:
        connection = cast(H2UpstreamConnection, protocol)
        if not connection.is_open:
            return "the connection was closed as soon as it was open"
        if not connection.endpoint.tls:
            return ""
        chosen = connection.transport.get_extra_info("ssl_object").selected_alpn_protocol()
        return "" if chosen == "h2" else "the server does not speak HTTP/2 over TLS: it did not choose h2 (ALPN)"

    def _give_up(self, connecting: Connecting, protocol: object) -> None:
        self._line(connecting.endpoint).opening -= 1
        self._shut(cast(H2UpstreamConnection, protocol))

    def __repr__(self) -> str:
        service = self.service
        lines = list(self._lines.values())
        return f"<H2Pool {service.name} connections={service.connections}/{service.max_connections} {lines}>"


class _Resting:
    """How the slots close a connection that rests to make room for another."""

    def __init__(self, pool: H2Pool, connection: H2UpstreamConnection) -> None:
        self._pool = pool
        self.connection = connection

    def close(self) -> None:
        self._pool._shut(self.connection)


def _resting(slot: Slot) -> _Resting:
    return cast(_Resting, slot.connection)
