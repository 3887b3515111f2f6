"""What the pools of all protocols have in common: who waits for a connection, and what became of opening one.

Owns how an opening begins and ends, and what its failure tells of the endpoint. Which connection a request gets, and
how connections are kept, is for each protocol to say: `pool` (HTTP/1.1) and `h2_pool`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import random
from time import monotonic

from sidecar.net.pem import BadPem
from sidecar.net.tls_contexts import HTTP1
from sidecar.proxy.upstream.linked_list import LinkedList, Node
from sidecar.proxy.upstream.opening import CANCELLED, Opening, Openings
from sidecar.proxy.upstream.slots import ConnectionBudget, Slot, Slots
from sidecar.proxy.upstream.stream import AttemptListener, UpstreamStream
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService


class Connecting:
    """A connection that was asked for and is not there yet: it is in the queue, or being opened."""

    __slots__ = ("_place", "_timer", "began", "endpoint", "in_background", "pool", "slot", "timeout_s", "waiter")

    def __init__(self, pool: ServicePool, endpoint: Endpoint, waiter: AttemptListener | None, timeout_s: float) -> None:
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
        """It waits for what others use to be given back; nothing is being opened for it."""
        return self._place is not None and not self.pool.is_opening(self.endpoint)

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

    def tell_connected(self, stream: UpstreamStream) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.connected(stream)

    def tell_failed(self, reason: str, detail: str) -> None:
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.connect_failed(reason, detail)

    def opening_ended(self, opening: Opening, reason: str, detail: str) -> None:
        self.pool.opening_ended(self, opening.protocol, reason, detail)


class ServicePool:
    """The pool of one service. All calls on the event loop's thread."""

    h2: bool = False
    """Its connections are HTTP/2."""

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
        self._serving = False
        """Whether those who wait are served in the next turn of the loop."""
        self._random = random
        self._on_connect_failure = on_connect_failure
        self._tls = service.config.policy.tls
        self._renewed_at = 0.0
        """When `tls` changed. A connection from before closes once it is idle."""
        self.other: ServicePool | None = None
        """For endpoints of the other protocol, where the service has changed its own."""
        service.reconnect = self.reconnect
        service.close_idle = self._slots.close_idle_of
        self.adopt()

    # What requests ask.

    def take(self, endpoint: Endpoint, now: float, *, repeatable: bool) -> UpstreamStream | None:
        """What a request can be sent on at once; None where there is nothing, or others wait for it."""
        raise NotImplementedError

    def connect(self, endpoint: Endpoint, waiter: AttemptListener, timeout_s: float) -> Connecting:
        """Open a connection, or wait for what others use. The waiter hears of it later, never during this call."""
        raise NotImplementedError

    # What the core asks.

    def retire(self, successor: ServicePool) -> None:
        """Another pool takes its place: the service speaks another protocol now.

        For a moment there are calls that have one of the pools and an endpoint of the other: they are passed on.
        """
        self.other = successor
        successor.other = self
        self._slots.retire()

    def adopt(self) -> None:
        """Be fit for the configuration that the service has now."""
        config = self.service.config
        if any(spec.url.scheme == "https" for spec in config.endpoints):
            with suppress(BadPem):  # connections fail with its words
                self._openings.contexts.of(config.policy.tls, self.alpn())  # no request shall wait until it is made
        if self._tls != config.policy.tls:
            self._tls = config.policy.tls
            self._renewed_at = monotonic()
            self.close_idle()
        while self._slots.surplus and self._slots.close_oldest():
            pass  # the limit may have come down; connections in use close as they are given back
        self._serve_soon()  # or it may have gone up

    def sweep(self, now: float) -> None:
        """Close what has been idle for `pool_idle`."""
        raise NotImplementedError

    def close_idle(self) -> None:
        while self._slots.close_oldest():
            pass

    def reconnect(self, endpoint: Endpoint) -> None:
        """Open a connection that no request waits for, where that takes no other connection's place."""
        if self._slots.spare and not self.service.waiting and (slot := self._slots.take(endpoint)) is not None:
            timeout_s = self.service.config.policy.timeout.connect
            self._open(Connecting(self, endpoint, None, timeout_s), slot)
        else:
            endpoint.reconnecting = False

    # Who waits.

    def is_opening(self, endpoint: Endpoint) -> bool:
        """Whether a connection is being opened that those in the queue share."""
        raise NotImplementedError

    def _serve_soon(self) -> None:
        if self.service.waiting and not self._serving:
            self._serving = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Give what has become free to those who have waited longest."""
        raise NotImplementedError

    def _too_many(self, connecting: Connecting) -> None:
        """Nobody of this service may be using one, so nobody would tell when there is one."""
        detail = (
            f"the limit on open files allows {self._budget.open} connections to services; all are in use:"
            " use fewer at once, or raise it (ulimit -n)"
        )
        connecting.tell_failed("overloaded", detail)

    # Opening.

    def alpn(self) -> tuple[str, ...]:
        """What is offered as application protocol where the endpoint is https."""
        return HTTP1

    def _open(self, connecting: Connecting, slot: Slot) -> None:
        raise NotImplementedError

    def _begin(self, connecting: Connecting, slot: Slot, protocol: object) -> None:
        """Open `protocol`, which is an asyncio protocol."""
        endpoint = connecting.endpoint
        connecting.slot = slot
        connecting.began = monotonic()
        opening = Opening(self._openings, connecting, protocol, connecting.timeout_s)
        opening.begin(endpoint, self.service.config.policy.tls, self.alpn())

    def opening_ended(self, connecting: Connecting, protocol: object, reason: str, detail: str) -> None:
        """`reason` is empty where the connection is there."""
        now = monotonic()
        if not reason:
            detail = self._why_unusable(protocol)
            if detail:
                reason = "connect_failure"
        if reason:
            self._give_up(connecting, protocol)
            if reason == CANCELLED:
                return
        endpoint = connecting.endpoint
        if connecting.in_background:
            endpoint.reconnecting = False
        if not reason:
            self._came_up(connecting, protocol, now)
            return
        if reason != "overloaded":
            endpoint.connect_failed(now, in_background=connecting.in_background)
            self.service.changed(now)
            self._on_connect_failure(endpoint.server_name)
        self._failed(connecting, reason, detail)

    def _is_up_again(self, endpoint: Endpoint, now: float) -> None:
        """It takes connections: its skip, if any, is over."""
        if endpoint.skip_until:
            endpoint.connected()
            self.service.refresh(now)  # others that are skipped may have to wait for a connection of their own now

    def _why_unusable(self, protocol: object) -> str:
        """Why a connection that is there cannot carry requests; empty where it can."""
        return ""

    def _came_up(self, connecting: Connecting, protocol: object, now: float) -> None:
        raise NotImplementedError

    def _failed(self, connecting: Connecting, reason: str, detail: str) -> None:
        """Tell those who waited for it."""
        raise NotImplementedError

    def _give_up(self, connecting: Connecting, protocol: object) -> None:
        """The time was over, or the proxy ends; the connection may have come up in the same moment."""
        raise NotImplementedError
