"""The HTTP/1.1 connections of one service: an idle one is taken at once, a new one is opened, or the request waits.

Owns who gets which connection, and the queue of requests that wait. What may be open is counted in `slots`, and
`opening` connects. Which endpoint, and what a failure means, is the exchange's business.

Of a connection the pool asks only: since when it is idle, when it was made and how many requests it carried, whether it
may be used again, and to close.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Final, cast

from sidecar.proxy.upstream.http1_connection import ConnectionOwner, UpstreamConnection
from sidecar.proxy.upstream.linked_list import LinkedList
from sidecar.proxy.upstream.opening import Openings
from sidecar.proxy.upstream.service_pool import Connecting
from sidecar.proxy.upstream.slots import ConnectionBudget, Slot
from sidecar.proxy.upstream.stream import AttemptListener
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService

SAFE_IDLE_S: Final = 1.0
"""A request that must not be sent twice takes a connection that has been idle for less than this: an older one may be
being closed by its upstream at this moment."""

log = logging.getLogger("sidecar.pool")


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
        self._queue: LinkedList[Connecting] = LinkedList()
        """First come, first served."""
        self._warned_of_mixed = False
        super().__init__(service, openings, budget, on_connect_failure, random)

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
        if endpoint.h2 and self.other is not None:
            return self.other.connect(endpoint, waiter, timeout_s)
        connecting = Connecting(self, endpoint, waiter, timeout_s)
        if not self._queue.size and (slot := self._slots.take(endpoint)) is not None:
            self._open(connecting, slot)
        elif self._queue.size or self._slots.full:
            timer = self._loop.call_later(timeout_s, self._waited_too_long, connecting)
            connecting.join_queue(self._queue, timer)
        else:
            self._loop.call_soon(self._too_many, connecting)
        return connecting

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
        return connection.requests >= service.connection_requests or connection.made_at < self._renewed_at

    def sweep(self, now: float) -> None:
        """Close what has been idle for `pool_idle`."""
        pool_idle_s = self.service.pool_idle_s
        while (slot := self._slots.oldest) is not None:
            if now - cast(UpstreamConnection, slot.connection).idle_since < pool_idle_s:
                return
            slot.close()

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

    def is_opening(self, endpoint: Endpoint) -> bool:
        return False  # who waits for one that is being opened is not in the queue

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

    # Opening.

    def _open(self, connecting: Connecting, slot: Slot) -> None:
        connection = UpstreamConnection(connecting.endpoint, self)
        connection.slot = slot
        slot.connection = connection
        self._begin(connecting, slot, connection)

    def _came_up(self, connecting: Connecting, protocol: object, now: float) -> None:
        connection, endpoint = cast(UpstreamConnection, protocol), connecting.endpoint
        connection.connected(now, now - connecting.began, self._random())
        self._is_up_again(endpoint, now)
        if connecting.waiter is not None:
            connecting.tell_connected(connection)
        elif endpoint.departed_at is not None:
            connection.close()
        elif not connection.ended:
            self._rest(connection, now)

    def _failed(self, connecting: Connecting, reason: str, detail: str) -> None:
        connecting.tell_failed(reason, detail)

    def _give_up(self, connecting: Connecting, protocol: object) -> None:
        connection = cast(UpstreamConnection, protocol)
        if connection.made:
            connection.close()  # gives its slot back itself
        else:
            self.closed(connection)

    def __repr__(self) -> str:
        service = self.service
        return f"<Pool {service.name} connections={service.connections}/{service.max_connections} {service.endpoints}>"
