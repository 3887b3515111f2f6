"""Connection slots: no count ever leaks, whatever happens in which order."""

from __future__ import annotations

import gc
import weakref

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sidecar.config.schema import EndpointSpec, Service, Url
from sidecar.policy.settings import Limits, Policy
from sidecar.proxy.upstream.slots import ConnectionBudget, Slot, Slots
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService

SPEC = EndpointSpec(url=Url("http", "venue-service", 3002))


def live(name: str, *addresses: str, most: int = 100) -> LiveService:
    service = LiveService(config(name, most), 0.0, lambda: 0.0, lambda: 0.0)
    service.set_endpoints([(SPEC, address) for address in addresses], 0.0)
    return service


def config(name: str, most: int) -> Service:
    return Service(name=name, endpoints=(SPEC,), policy=Policy(limits=Limits(max_connections=most)))


class Connection:
    """Frees its slot when it is closed."""

    def __init__(self, slots: Slots, slot: Slot) -> None:
        self.slots = slots
        self.slot = slot
        slot.connection = self

    def close(self) -> None:
        self.slots.end(self.slot)


def opened(slots: Slots, endpoint: Endpoint, *, idle: bool = False) -> Slot:
    slot = slots.take(endpoint)
    assert slot is not None
    Connection(slots, slot)
    slots.opened(slot)
    if idle:
        slots.rests(slot)
    return slot


def test_the_limit_of_a_service() -> None:
    service = live("venue", "a", most=2)
    slots = Slots(service, ConnectionBudget(100))
    (endpoint,) = service.endpoints
    first = opened(slots, endpoint)
    assert (slots.full, slots.spare) == (False, True)
    second = opened(slots, endpoint)
    assert (slots.full, slots.surplus, slots.spare) == (True, False, False)
    assert slots.take(endpoint) is None
    slots.end(first)
    assert slots.take(endpoint) is not None
    service.adopt(config("venue", 1), 0.0)
    assert slots.surplus
    slots.end(second)
    assert not slots.surplus


def test_the_budget_of_all_services() -> None:
    budget = ConnectionBudget(2)
    one, two = live("one", "a"), live("two", "b")
    slots = [Slots(one, budget), Slots(two, budget)]
    opened(slots[0], one.endpoints[0])
    idle = opened(slots[0], one.endpoints[0], idle=True)
    assert (slots[1].full, slots[1].spare) == (False, False)
    assert slots[1].take(two.endpoints[0]) is not None
    assert idle.free
    assert slots[1].take(two.endpoints[0]) is None
    assert (budget.open, one.connections, two.connections) == (2, 1, 1)


def test_the_newest_of_an_endpoint_and_the_oldest_of_the_service() -> None:
    service = live("venue", "a", "b")
    slots = Slots(service, ConnectionBudget(100))
    a, b = service.endpoints
    assert (slots.newest(a), slots.oldest) == (None, None)
    first, second, third = opened(slots, b, idle=True), opened(slots, a, idle=True), opened(slots, a, idle=True)
    assert (slots.newest(a), slots.newest(b), slots.oldest) == (third, first, first)
    slots.wakes(third)
    slots.wakes(first)
    assert (slots.newest(a), slots.newest(b), slots.oldest) == (second, None, second)
    slots.rests(first)
    assert slots.close_oldest()
    assert (second.free, slots.oldest) == (True, first)


def test_an_endpoint_that_leaves() -> None:
    service = live("venue", "a", "b")
    slots = Slots(service, ConnectionBudget(100))
    a, b = service.endpoints
    leaving = [opened(slots, a, idle=True), opened(slots, a, idle=True)]
    used, staying = opened(slots, a), opened(slots, b, idle=True)
    slots.close_idle_of(a)
    assert [slot.free for slot in (*leaving, used, staying)] == [True, True, False, False]
    slots.close_idle_of(a)
    assert (service.connections, a.active, a.idle) == (2, 1, 0)
    assert not slots._idle_of.keys() - {b}, "nothing is kept of an endpoint that left"


def test_what_is_said_twice_counts_once() -> None:
    service = live("venue", "a")
    slots = Slots(service, ConnectionBudget(100))
    (endpoint,) = service.endpoints
    slot = opened(slots, endpoint)
    slots.opened(slot)
    slots.rests(slot)
    slots.rests(slot)
    slots.opened(slot)
    assert (endpoint.active, endpoint.idle) == (0, 1)
    slots.end(slot)
    slots.end(slot)
    for late in (slots.opened, slots.rests, slots.wakes):
        late(slot)
    assert (service.connections, endpoint.active, endpoint.idle) == (0, 0, 0)


def test_a_slot_that_ended_is_no_garbage_for_the_collector() -> None:
    """It knows its connection and its places, and they know it."""
    service = live("venue", "a")
    slots = Slots(service, ConnectionBudget(100))
    gc.disable()
    try:
        slot = opened(slots, service.endpoints[0], idle=True)
        connection = weakref.ref(slot.connection)
        slots.end(slot)
        del slot
        assert connection() is None
    finally:
        gc.enable()


def test_reprs() -> None:
    service = live("venue", "a", most=4)
    budget = ConnectionBudget(9)
    slots = Slots(service, budget)
    slot = opened(slots, service.endpoints[0], idle=True)
    assert repr(slot) == "<Slot a:3002 idle>"
    assert repr(slots) == "<Slots 1/4, 1 idle>"
    assert repr(budget) == "<ConnectionBudget 1/9, 1 idle>"


class CountsAreRight(RuleBasedStateMachine):
    """Two services of two endpoints, with few slots. The model is a list of what is open, the idle ones in order."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = ConnectionBudget(5)
        self.services = [live("one", "a", "b", most=3), live("two", "c", "d", most=4)]
        self.slots = [Slots(service, self.budget) for service in self.services]
        self.opening: list[Slot] = []
        self.active: list[Slot] = []
        self.idle: list[Slot] = []

    def of(self, slot: Slot) -> int:
        return 0 if slot.endpoint in self.services[0].endpoints else 1

    def forget_closed(self) -> None:
        for slots in (self.opening, self.active, self.idle):
            slots[:] = [slot for slot in slots if not slot.free]

    @rule(at=st.integers(0, 1), number=st.integers(0, 1))
    def take(self, at: int, number: int) -> None:
        service = self.services[at]
        before = [*self.opening, *self.active, *self.idle]
        own_idle = [slot for slot in self.idle if self.of(slot) == at]
        own = sum(self.of(slot) == at for slot in before)
        wants_own = own >= service.max_connections
        expected = (own_idle if wants_own else self.idle if len(before) >= self.budget.most else [])[:1]
        slot = self.slots[at].take(service.endpoints[number])
        closed = [one for one in self.idle if one.free]
        assert closed == expected, "the one idle longest, and no other, makes room"
        self.forget_closed()
        room = own - len([one for one in closed if self.of(one) == at]) < service.max_connections
        assert (slot is not None) == (room and len(before) - len(closed) < self.budget.most)
        if slot is not None:
            Connection(self.slots[at], slot)
            self.opening.append(slot)

    @rule(at=st.integers(0, 20))
    def open(self, at: int) -> None:
        if self.opening:
            slot = self.opening.pop(at % len(self.opening))
            self.slots[self.of(slot)].opened(slot)
            self.active.append(slot)

    @rule(at=st.integers(0, 20))
    def rest(self, at: int) -> None:
        if self.active:
            slot = self.active.pop(at % len(self.active))
            self.slots[self.of(slot)].rests(slot)
            self.idle.append(slot)

    @rule(at=st.integers(0, 1), number=st.integers(0, 1))
    def wake(self, at: int, number: int) -> None:
        endpoint = self.services[at].endpoints[number]
        slot = self.slots[at].newest(endpoint)
        theirs = [one for one in self.idle if one.endpoint is endpoint]
        assert slot is (theirs[-1] if theirs else None)
        if slot is not None:
            self.slots[at].wakes(slot)
            self.idle.remove(slot)
            self.active.append(slot)

    @rule(at=st.integers(0, 20))
    def end(self, at: int) -> None:
        """Whatever state it is in, and whoever says so again."""
        living = [*self.opening, *self.active, *self.idle]
        if living:
            slot = living[at % len(living)]
            slots = self.slots[self.of(slot)]
            slots.end(slot)
            slots.end(slot)
            self.forget_closed()

    @rule(at=st.integers(0, 1), number=st.integers(0, 1))
    def leave(self, at: int, number: int) -> None:
        endpoint = self.services[at].endpoints[number]
        self.slots[at].close_idle_of(endpoint)
        self.forget_closed()
        assert not [slot for slot in self.idle if slot.endpoint is endpoint]

    @rule(at=st.integers(0, 1), most=st.integers(1, 4))
    def reload(self, at: int, most: int) -> None:
        service, slots = self.services[at], self.slots[at]
        service.adopt(config(service.name, most), 0.0)
        while slots.surplus and slots.close_oldest():
            pass
        self.forget_closed()
        assert not (slots.surplus and [slot for slot in self.idle if self.of(slot) == at])

    @invariant()
    def counts(self) -> None:
        living = [*self.opening, *self.active, *self.idle]
        assert self.budget.open == len(living) <= self.budget.most
        assert list(self.budget.idle) == self.idle
        for at, service in enumerate(self.services):
            assert service.connections == sum(self.of(slot) == at for slot in living)
            own_idle = [slot for slot in self.idle if self.of(slot) == at]
            assert self.slots[at].oldest is (own_idle[0] if own_idle else None)
            for endpoint in service.endpoints:
                assert endpoint.active == sum(slot.endpoint is endpoint for slot in self.active)
                assert endpoint.idle == sum(slot.endpoint is endpoint for slot in self.idle)


TestCountsAreRight = CountsAreRight.TestCase
