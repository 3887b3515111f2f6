"""The connections of one service: an idle one is taken at once, a new one is opened, or the request waits for one.

Owns who gets which connection, and the queue of requests that wait. What may be open is counted in `slots`, and
`opening` connects. Which endpoint, and what a failure means, is the exchange's business.

Of a connection the pool asks only: since when it is idle, when it was made and how many requests it carried, whether it
may be used again, and to close.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Final, cast

from sidecar.proxy.upstream.http1_connection import ConnectionOwner, UpstreamConnection
from sidecar.proxy.upstream.linked_list import LinkedList, Node
from sidecar.proxy.upstream.opening import CANCELLED, Opening, Openings
from sidecar.proxy.upstream.slots import ConnectionBudget, Slot, Slots
from sidecar.proxy.upstream.stream import AttemptListener
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService

SAFE_IDLE_S: Final = 1.0
"""A request that must not be sent twice takes a connection that has been idle for less than this: an older one may be
being closed by its upstream at this moment."""

log = logging.getLogger("sidecar.pool")


class Connecting:
    """A connection that was asked for and is not there yet: it is in the queue, or being opened."""

    __slots__ = ("_place", "_timer", "began", "endpoint", "in_background", "pool", "slot", "timeout_s", "waiter")

    def __init__(self, pool: Pool, endpoint: Endpoint, waiter: AttemptListener | None, timeout_s: float) -> None:
        self.pool = pool
        self.endpoint = endpoint
        self.in_background = waiter is None
        """No request asked for it: it is to show whether the endpoint takes connections again."""
        self.waiter = waiter
        self.timeout_s = timeout_s
        self.slot: Slot | None = None
        """Once it is being opened."""
        self.began = 0.0
        self._place: Node[Connecting] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def queued(self) -> bool:
        """It waits for another connection to be given back; nothing has been opened for it."""
        return self._place is not None

    def cancel(self) -> None:
        """The waiter no longer waits. What is being opened goes to the pool; what is queued leaves the queue."""
        self.waiter = None
        self.leave_queue()

    def join_queue(self, queue: LinkedList[Connecting], timer: asyncio.TimerHandle) -> None:
        self._place = Node(self)
        self._timer = timer
        queue.append(self._place)
        self.pool.service.waiting += 1

    def leave_queue(self) -> None:
        if self._place is not None and self._timer is not None:
            self._place.remove()
            self._timer.cancel()
            self._place = self._timer = None
            self.pool.service.waiting -= 1

    def tell_connected(self, upstream: UpstreamConnection) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.connected(upstream)

    def tell_failed(self, reason: str, detail: str) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.connect_failed(reason, detail)

    def opening_ended(self, opening: Opening, reason: str, detail: str) -> None:
        self.pool.opening_ended(self, cast(UpstreamConnection, opening.protocol), reason, detail)


class Pool(ConnectionOwner):
    """See the module. All calls on the event loop's thread."""

    def __init__(
        self,
        service: LiveService,
        openings: Openings,
        budget: ConnectionBudget,
        on_connect_failure: Callable[[str], None],
        random: Callable[[], float] = random,
    ) -> None:
        self.service = service
        self._openings = openings
        self._loop = openings.loop
        self._budget = budget
        self._slots = Slots(service, budget)
        self._queue: LinkedList[Connecting] = LinkedList()
        """First come, first served."""
        self._serving = False
        """Whether `_serve` is called in the next turn of the loop."""
        self._random = random
        self._on_connect_failure = on_connect_failure
        self._warned_of_mixed = False
        service.reconnect = self.reconnect
        service.close_idle = self._slots.close_idle_of
        self.adopt()

    def adopt(self) -> None:
        """Be fit for the configuration that the service has now."""
        config = self.service.config
        if any(spec.url.scheme == "https" for spec in config.endpoints):
            self._openings.contexts.of(config)  # no request shall wait until it is made
        while self._slots.surplus and self._slots.close_oldest():
            pass  # the limit may have come down; connections in use close as they are given back
        self._serve_soon()  # or it may have gone up

    def take(self, endpoint: Endpoint, now: float, *, repeatable: bool) -> UpstreamConnection | None:
        """The connection that was used last, if one is idle and likely to be still good; else None.

        Nobody overtakes requests that wait.
        """
        return None if self._queue.size else self._take(endpoint, now, repeatable)

    def _take(self, endpoint: Endpoint, now: float, repeatable: bool) -> UpstreamConnection | None:
        service, slots = self.service, self._slots
        while (slot := slots.newest(endpoint)) is not None:
            connection = cast(UpstreamConnection, slot.connection)
            age = now - connection.idle_since
            if age >= service.pool_idle_s or connection.transport.is_closing() or self._is_over(connection, now):
                connection.close()
                continue
            if not repeatable:
                if age >= SAFE_IDLE_S:
                    return None  # the others are older still
                if connection.is_stale():
                    connection.close()
                    continue
            slots.wakes(slot)
            return connection
        return None

    def connect(self, endpoint: Endpoint, waiter: AttemptListener, timeout_s: float) -> Connecting:
        """Open a connection, or wait for one of the `max_connections` to be given back."""
        connecting = Connecting(self, endpoint, waiter, timeout_s)
        if not self._queue.size and (slot := self._slots.take(endpoint)) is not None:
            self._open(connecting, slot)
        elif self._queue.size or self._slots.full:
            timer = self._loop.call_later(timeout_s, self._waited_too_long, connecting)
            connecting.join_queue(self._queue, timer)
        else:
            self._loop.call_soon(self._too_many, connecting)
        return connecting

    def reconnect(self, endpoint: Endpoint) -> None:
        """Open a connection that no request waits for, where that takes no other connection's place."""
        if self._slots.spare and not self._queue.size and (slot := self._slots.take(endpoint)) is not None:
            timeout_s = self.service.config.policy.timeout.connect
            self._open(Connecting(self, endpoint, None, timeout_s), slot)
        else:
            endpoint.reconnecting = False

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Give a connection back after a whole exchange: it rests, or closes."""
        used_up = self._slots.surplus or connection.endpoint.departed_at is not None or self._is_over(connection, now)
        if used_up or not connection.may_be_reused():
            connection.close()
        else:
            self._rest(connection, now)

    def _rest(self, connection: UpstreamConnection, now: float) -> None:
        connection.rest(now)
        self._slots.rests(connection.slot)
        self._serve_soon()

    def _is_over(self, connection: UpstreamConnection, now: float) -> bool:
        """Whether it has lived or carried as much as it may: then it closes once it is idle, so nothing is lost.

        Behind one address there may be a load balancer, which spreads connections and not requests.
        """
        service = self.service
        if now - connection.made_at >= service.connection_age_s * connection.expires_share:
            return True
        return connection.requests >= service.connection_requests

    def sweep(self, now: float) -> None:
        """Close what has been idle for `pool_idle`."""
        pool_idle_s = self.service.pool_idle_s
        while (slot := self._slots.oldest) is not None:
            if now - cast(UpstreamConnection, slot.connection).idle_since < pool_idle_s:
                return
            slot.close()

    def close_idle(self) -> None:
        while self._slots.close_oldest():
            pass

    # What a connection says.

    def opened(self, connection: UpstreamConnection) -> None:
        """It is there."""
        self._slots.opened(connection.slot)

    def closed(self, connection: UpstreamConnection) -> None:
        """It has ended."""
        self._slots.end(connection.slot)
        self._serve_soon()

    def most_of_a_head(self) -> tuple[int, int]:
        return self.service.max_head, self.service.max_header_fields

    def line_ends_are_mixed(self, where: str) -> None:
        """Warn of a head of this service's whose lines end differently, the first time."""
        if not self._warned_of_mixed:
            self._warned_of_mixed = True
            fields = {"service": self.service.name, "field": where}
            log.warning("the service's answers mix bare LF and CRLF as line ends", extra={"fields": fields})

    # Who waits.

    def _serve_soon(self) -> None:
        if self._queue.size and not self._serving:
            self._serving = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Give connections that have come to rest, and slots that are free, to those who have waited longest."""
        self._serving = False
        now = monotonic()
        while (first := self._queue.first) is not None:
            rested = self._take(first.endpoint, now, False)
            if rested is not None:
                first.leave_queue()
                first.tell_connected(rested)
            elif (slot := self._slots.take(first.endpoint)) is not None:
                first.leave_queue()
                self._open(first, slot)
            elif not self._slots.full:
                first.leave_queue()
                self._too_many(first)
            else:
                return

    def _waited_too_long(self, connecting: Connecting) -> None:
        connecting.leave_queue()
        connecting.tell_failed("overloaded", f"all {self.service.max_connections} connections are in use")

    def _too_many(self, connecting: Connecting) -> None:
        """Nobody of this service may be using one, so nobody would tell when there is one."""
        detail = (
            f"the limit on open files allows {self._budget.open} connections to services; all are in use:"
            " use fewer at once, or raise it (ulimit -n)"
        )
        connecting.tell_failed("overloaded", detail)

    # Opening.

    def _open(self, connecting: Connecting, slot: Slot) -> None:
        endpoint = connecting.endpoint
        connection = UpstreamConnection(endpoint, self)
        connecting.slot = connection.slot = slot
        slot.connection = connection
        connecting.began = monotonic()
        context = self._openings.contexts.of(self.service.config) if endpoint.tls else None
        Opening(self._openings, connecting, connection, connecting.timeout_s).begin(endpoint, context)

    def opening_ended(self, connecting: Connecting, connection: UpstreamConnection, reason: str, detail: str) -> None:
        endpoint, now = connecting.endpoint, monotonic()
        if reason:
            self._give_up(connection)
            if reason == CANCELLED:
                return
        if connecting.in_background:
            endpoint.reconnecting = False
        if reason:
            if reason != "overloaded":
                endpoint.connect_failed(now, in_background=connecting.in_background)
                self.service.changed(now)
                self._on_connect_failure(endpoint.server_name)
            connecting.tell_failed(reason, detail)
            return
        connection.connected(now, now - connecting.began, self._random())
        if endpoint.skip_until:
            endpoint.connected()
            self.service.refresh(now)  # others that are skipped may have to wait for a connection of their own now
        if connecting.waiter is not None:
            connecting.tell_connected(connection)
        elif endpoint.departed_at is not None:
            connection.close()
        elif not connection.ended:
            self._rest(connection, now)

    def _give_up(self, connection: UpstreamConnection) -> None:
        """The time was over, or the proxy ends; the connection may have come up in the same moment."""
        if connection.made:
            connection.close()  # gives its slot back itself
        else:
            self.closed(connection)

    def __repr__(self) -> str:
        service = self.service
        return f"<Pool {service.name} connections={service.connections}/{service.max_connections} {service.endpoints}>"
