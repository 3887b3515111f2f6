"""Connection slots: who may open a connection, which ones are idle, and that every count goes back exactly once.

Owns the counts, as plain state with no I/O: `LiveService.connections`, `Endpoint.active` and `Endpoint.idle` are
written here alone, and others read them. A slot is taken before a connection is opened and freed when that has ended or
could not be opened. Every step costs the same for any number of endpoints, services and connections.

    one endpoint   Idle connections, of which the one used last is taken first: the others may then fall idle for good.
    one service    No more than `limits.max_connections`. The connection that has been idle longest makes room.
    all services   No more than the limit on open files allows (`ConnectionBudget`). Here too, the one idle longest
                   makes room, whichever service it belongs to.
"""

from __future__ import annotations

from typing import Final, Protocol

from sidecar.proxy.upstream.linked_list import LinkedList, Node
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService

_OPENING: Final = 0
_ACTIVE: Final = 1
_IDLE: Final = 2
_FREE: Final = 3


class Connection(Protocol):
    """What the slots need of a connection. `close` frees its slot, at once."""

    def close(self) -> None: ...


class ConnectionBudget:
    """What all services may have open together. `most` counts connections that are being opened too."""

    __slots__ = ("idle", "most", "open")

    def __init__(self, most: int) -> None:
        self.most = most
        self.open = 0
        self.idle: LinkedList[Slot] = LinkedList()
        """Slots of all services, the one that has been idle longest first."""

    def make_room(self) -> bool:
        """Have room for one more, if need be in place of the connection that has been idle longest."""
        if self.open >= self.most:
            oldest = self.idle.first
            if oldest is not None:
                oldest.close()
        return self.open < self.most

    def __repr__(self) -> str:
        return f"<ConnectionBudget {self.open}/{self.most}, {self.idle.size} idle>"


class Slot:
    """The place of one connection to `endpoint`. `connection` is set by who opens it."""

    __slots__ = ("_in_all", "_in_endpoint", "_in_service", "_state", "connection", "endpoint")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.connection: Connection | None = None
        self._state = _OPENING
        self._in_endpoint: Node[Slot] | None = None
        self._in_service: Node[Slot] | None = None
        self._in_all: Node[Slot] | None = None
        """Its places among idle connections, from its first rest to its end: they refer to it in a cycle."""

    @property
    def idle(self) -> bool:
        return self._state == _IDLE

    @property
    def free(self) -> bool:
        """It counts no longer."""
        return self._state == _FREE

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()

    def __repr__(self) -> str:
        return f"<Slot {self.endpoint.label} {('opening', 'active', 'idle', 'free')[self._state]}>"


class Slots:
    """The slots of one service."""

    __slots__ = ("_budget", "_idle", "_idle_of", "_retired", "_service")

    def __init__(self, service: LiveService, budget: ConnectionBudget) -> None:
        self._service = service
        self._budget = budget
        self._idle: LinkedList[Slot] = LinkedList()
        """The one that has been idle longest first."""
        self._idle_of: dict[Endpoint, LinkedList[Slot]] = {}
        """The same by endpoint, for endpoints of the service that had one."""
        self._retired = False

    @property
    def full(self) -> bool:
        """Whether the service has as many connections as it may have."""
        return self._service.connections >= self._service.max_connections

    @property
    def surplus(self) -> bool:
        """Whether it has more: the limit may have come down, or all are too many."""
        return self._retired or self._service.connections > self._service.max_connections

    @property
    def spare(self) -> bool:
        """Whether a slot can be taken in no connection's place."""
        return not self.full and self._budget.open < self._budget.most

    def take(self, endpoint: Endpoint) -> Slot | None:
        """A slot for a connection that is to be opened, if need be in place of the one that has been idle longest."""
        if self.full:
            self.close_oldest()
        if self.full or not self._budget.make_room():
            return None
        self._service.connections += 1
        self._budget.open += 1
        return Slot(endpoint)

    def opened(self, slot: Slot) -> None:
        """The connection is there, and in use."""
        if slot._state == _OPENING:
            slot._state = _ACTIVE
            slot.endpoint.active += 1

    def rests(self, slot: Slot) -> None:
        """A connection that was in use falls idle."""
        if slot._state != _ACTIVE:
            return
        slot._state = _IDLE
        endpoint = slot.endpoint
        endpoint.active -= 1
        endpoint.idle += 1
        own = self._idle_of.get(endpoint)
        if own is None:
            own = self._idle_of[endpoint] = LinkedList()
        if slot._in_endpoint is None or slot._in_service is None or slot._in_all is None:
            slot._in_endpoint, slot._in_service, slot._in_all = Node(slot), Node(slot), Node(slot)
        own.append(slot._in_endpoint)
        self._idle.append(slot._in_service)
        self._budget.idle.append(slot._in_all)

    def wakes(self, slot: Slot) -> None:
        """An idle connection is used again."""
        if slot._state == _IDLE:
            self._not_idle(slot)
            slot._state = _ACTIVE
            slot.endpoint.active += 1

    def end(self, slot: Slot) -> None:
        """The connection has ended, or is not opened after all. What is said more than once counts once."""
        if slot._state == _FREE:
            return
        if slot._state == _IDLE:
            self._not_idle(slot)
        elif slot._state == _ACTIVE:
            slot.endpoint.active -= 1
        slot._state = _FREE
        slot.connection = slot._in_endpoint = slot._in_service = slot._in_all = None
        self._service.connections -= 1
        self._budget.open -= 1

    def newest(self, endpoint: Endpoint) -> Slot | None:
        """The idle connection to this endpoint that was used last."""
        own = self._idle_of.get(endpoint)
        return None if own is None else own.last

    @property
    def oldest(self) -> Slot | None:
        """The one that has been idle longest."""
        return self._idle.first

    def close_oldest(self) -> bool:
        """False where none is idle."""
        oldest = self._idle.first
        if oldest is None:
            return False
        oldest.close()
        return True

    def retire(self) -> None:
        """Others count for the service from now on: close idle connections, and those in use as they fall idle."""
        self._retired = True
        while self.close_oldest():
            pass

    def close_idle_of(self, endpoint: Endpoint) -> None:
        """The endpoint has left the service: close its idle connections."""
        own = self._idle_of.pop(endpoint, None)
        if own is not None:
            for slot in own:
                slot.close()

    def _not_idle(self, slot: Slot) -> None:
        slot.endpoint.idle -= 1
        for place in (slot._in_endpoint, slot._in_service, slot._in_all):
            assert place is not None
            place.remove()

    def __repr__(self) -> str:
        return f"<Slots {self._service.connections}/{self._service.max_connections}, {self._idle.size} idle>"
