"""Connections of one service: which is taken, who waits, and that no count ever leaks."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import sidecar.proxy.upstream.pool
import sidecar.proxy.upstream.service_pool
from sidecar.config.schema import EndpointSpec, Service, Url
from sidecar.policy.settings import DEFAULT_TLS, Limits, Policy, Timeouts, TlsSettings
from sidecar.proxy.upstream.http1_connection import Lost, UpstreamConnection
from sidecar.proxy.upstream.opening import Openings
from sidecar.proxy.upstream.pool import SAFE_IDLE_S, Pool
from sidecar.proxy.upstream.service_pool import Connecting
from sidecar.proxy.upstream.slots import ConnectionBudget, Slots
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService
from tests.proxy.fakes import START, Dial, ManualLoop, Wire, check_counts, ok, send_on

CONNECT_S = 1.0


class Waiter:
    """Asks for a connection and remembers what it was told; then a holder that hears all and does nothing."""

    def __init__(self) -> None:
        self.upstream: UpstreamConnection | None = None
        self.failure: tuple[str, str] | None = None
        self.lost: Lost | None = None

    @property
    def told(self) -> bool:
        return self.upstream is not None or self.failure is not None

    def connected(self, upstream: UpstreamConnection) -> None:
        assert not self.told
        self.upstream = upstream

    def connect_failed(self, reason: str, detail: str) -> None:
        assert not self.told
        self.failure = (reason, detail)

    def attempt_lost(self, lost: Lost) -> None:
        self.lost = lost

    def response_began(self, response: object) -> None: ...
    def response_ended(self) -> None: ...
    def interim(self, response: object) -> None: ...
    def pause_upload(self) -> None: ...
    def resume_upload(self) -> None: ...


class Bench:
    """A pool of a service with some endpoints, on a network that does as the test says."""

    def __init__(self, endpoints: int = 1, max_connections: int = 4, most: int = 1000) -> None:
        self.loop = loop = ManualLoop()
        self.patches = pytest.MonkeyPatch()
        for timed in (sidecar.proxy.upstream.pool, sidecar.proxy.upstream.service_pool):
            self.patches.setattr(timed, "monotonic", loop.time)
        asyncio._set_running_loop(loop)  # type: ignore[arg-type]
        timeout = Timeouts(pool_idle=4.0)
        policy = Policy(timeout=timeout, limits=Limits(max_connections=max_connections))
        self.spec = EndpointSpec(url=Url("http", "venue-service", 3002))
        service = Service(name="venue", endpoints=(self.spec,), policy=policy)
        self.service = LiveService(service, loop.now, lambda: 0.0, loop.time)
        self.addresses = [f"10.0.0.{number}" for number in range(1, endpoints + 1)]
        self.publish(self.addresses)
        self.all_endpoints = list(self.service.endpoints)
        self.unreachable: list[str] = []
        self.budget = ConnectionBudget(most)
        self.openings = Openings(cast("Any", loop))
        self.pool = Pool(self.service, self.openings, self.budget, self.unreachable.append)
        other = Service(name="other", endpoints=(self.spec,), policy=Policy())
        self.other = LiveService(other, loop.now, lambda: 0.0, loop.time)
        self.other.set_endpoints([(self.spec, "10.1.0.1")], loop.now)
        self.others = Slots(self.other, self.budget)
        """Connections of another service."""
        self.most = max_connections
        """Connections that there may be: where a reload lowers the limit, those in use stay for as long."""
        self.queued: list[Connecting] = []
        """Who waited for a connection when that was last looked at."""
        self.waiters: dict[Connecting, Waiter] = {}
        loop.after_settling = self.check

    def close(self) -> None:
        self.loop.after_settling = lambda: None  # what is wrong has been said
        try:
            while len(self.openings):
                self.openings.close()  # the room that this makes may be taken by those who wait
                self.loop.settle()
        finally:
            asyncio._set_running_loop(None)
            self.patches.undo()
            for dial in self.dials:
                if dial.wire is not None:
                    dial.wire.dispose()
        assert not self.loop.failures

    def publish(self, addresses: list[str]) -> None:
        """What discovery says now."""
        self.service.set_endpoints([(self.spec, address) for address in addresses], self.loop.now)

    @property
    def dials(self) -> list[Dial]:
        return self.loop.dials

    @property
    def endpoint(self) -> Endpoint:
        return self.all_endpoints[0]

    def check(self) -> None:
        connections = [dial.protocol for dial in self.dials if dial.protocol is not None]
        self.most = max(self.service.max_connections, min(self.most, self.service.connections))
        check_counts(self.service, self.all_endpoints, connections, self.dials, self.most)
        assert self.budget.open == self.service.connections + self.other.connections
        assert self.budget.open <= self.budget.most
        self.check_queue()

    def reload(self, max_connections: int, tls: TlsSettings = DEFAULT_TLS) -> None:
        policy = Policy(timeout=Timeouts(pool_idle=4.0), limits=Limits(max_connections=max_connections), tls=tls)
        self.service.adopt(Service(name="venue", endpoints=(self.spec,), policy=policy), self.loop.now)
        self.pool.adopt()

    def check_queue(self) -> None:
        """First come, first served; and nobody waits for what is there."""
        waiting = list(self.pool._queue)
        assert self.service.waiting == len(waiting)
        stayed = [one for one in self.queued if one in waiting]
        assert waiting[: len(stayed)] == stayed, "somebody was put before those who waited"
        if stayed:
            behind = self.queued[self.queued.index(stayed[0]) :]
            served = [one for one in behind if one.slot is not None or self.waiters[one].upstream is not None]
            assert not served, "somebody was overtaken"
        self.queued = waiting
        if waiting:
            assert self.service.connections >= self.service.max_connections, "a slot is free, and somebody waits"
            assert not [one for one in self.all_endpoints if one.idle], "a connection is idle, and somebody waits"

    def pass_time(self, seconds: float) -> None:
        self.loop.advance(seconds)

    # What a request does.

    def ask(self, endpoint: Endpoint | None = None) -> tuple[Waiter, Connecting]:
        waiter = Waiter()
        connecting = self.pool.connect(endpoint or self.endpoint, waiter, CONNECT_S)
        self.waiters[connecting] = waiter
        self.loop.settle()
        return waiter, connecting

    def connection(self, endpoint: Endpoint | None = None) -> UpstreamConnection:
        """A new connection, in use."""
        waiter, _ = self.ask(endpoint)
        assert waiter.upstream is not None
        return waiter.upstream

    def use(self, connection: UpstreamConnection, answer: bytes = ok()) -> None:
        """A request and its whole answer; the connection is still held."""
        assert send_on(connection, Waiter())
        wire_of(connection).says(answer)

    def release(self, connection: UpstreamConnection) -> None:
        self.pool.release(connection, self.loop.now)
        self.loop.settle()

    def idle(self, endpoint: Endpoint | None = None) -> UpstreamConnection:
        """A connection that has just fallen idle."""
        connection = self.connection(endpoint)
        self.use(connection)
        self.release(connection)
        return connection

    def idle_together(self, count: int, endpoint: Endpoint | None = None) -> list[UpstreamConnection]:
        """So many, the first of them idle the longest, by a tenth of a second each."""
        connections = [self.connection(endpoint) for _ in range(count)]
        for connection in connections:
            self.use(connection)
        for connection in connections:
            self.release(connection)
            self.pass_time(0.1)
        return connections

    def take(self, endpoint: Endpoint | None = None, *, repeatable: bool = True) -> UpstreamConnection | None:
        connection = self.pool.take(endpoint or self.endpoint, self.loop.now, repeatable=repeatable)
        self.loop.settle()
        return connection


def wire_of(connection: UpstreamConnection) -> Wire:
    return cast("Wire", connection.transport)


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(**more: int) -> Bench:
        made.append(Bench(**more))
        return made[-1]

    yield make
    for bench in made:
        bench.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()


# Taking.


def test_nothing_to_take(bench: Bench) -> None:
    assert bench.take() is None


def test_the_one_used_last_is_taken_first(bench: Bench) -> None:
    first, second, third = bench.idle_together(3)
    assert [bench.take(), bench.take(), bench.take(), bench.take()] == [third, second, first, None]


def test_a_taken_connection_is_not_taken_twice(bench: Bench) -> None:
    bench.idle()
    assert bench.take() is not None
    assert bench.take() is None
    assert (bench.endpoint.active, bench.endpoint.idle) == (1, 0)


def test_only_of_the_endpoint_asked_for(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=2)
    one, two = bench.service.endpoints
    connection = bench.idle(one)
    assert bench.take(two) is None
    assert bench.take(one) is connection


@pytest.mark.parametrize(("idle_s", "usable"), [(3.99, True), (4.0, False), (4.01, False)])
def test_pool_idle_is_the_longest_rest(bench: Bench, idle_s: float, usable: bool) -> None:
    connection = bench.idle()
    bench.pass_time(idle_s)
    assert (bench.take() is connection) is usable
    assert connection.ended is not usable


@pytest.mark.parametrize(("idle_s", "closed"), [(3.99, False), (4.0, True)])
def test_sweep_closes_what_has_rested_too_long(bench: Bench, idle_s: float, closed: bool) -> None:
    old = bench.idle()
    bench.pass_time(idle_s)
    young = bench.connection()
    bench.use(young)
    bench.release(young)
    bench.pool.sweep(bench.loop.now)
    bench.loop.settle()
    assert (old.ended, young.ended) == (closed, False)
    assert bench.service.connections == (1 if closed else 2)


@pytest.mark.parametrize(("idle_s", "usable"), [(0.0, True), (SAFE_IDLE_S - 0.01, True), (SAFE_IDLE_S, False)])
def test_what_may_not_be_repeated_takes_only_what_was_used_just_now(bench: Bench, idle_s: float, usable: bool) -> None:
    assert SAFE_IDLE_S == 1.0
    connection = bench.idle()
    bench.pass_time(idle_s)
    assert (bench.take(repeatable=False) is connection) is usable
    assert not connection.ended
    if not usable:
        assert bench.take(repeatable=True) is connection


def test_what_may_not_be_repeated_asks_the_kernel_first(bench: Bench) -> None:
    good, stale = bench.idle_together(2)
    wire_of(stale).peer.close()
    assert bench.take(repeatable=False) is good
    assert stale.ended


def test_bytes_that_nobody_asked_for_are_noticed_too(bench: Bench) -> None:
    connection = bench.idle()
    wire_of(connection).peer.send(b"HTTP/1.1 408 Request Timeout\r\n")
    assert bench.take(repeatable=False) is None
    assert connection.ended


def test_closing_connection_is_not_taken(bench: Bench) -> None:
    connection = bench.idle()
    wire_of(connection).how = "lost"  # the event loop knows, and has not said so yet
    assert bench.take() is None
    assert connection.ended


@pytest.mark.parametrize("end", [Wire.leaves, Wire.breaks, lambda wire: wire.says(b"x")])
def test_idle_connection_that_says_anything_is_closed(bench: Bench, end: Callable[[Wire], object]) -> None:
    connection = bench.idle()
    end(wire_of(connection))
    assert connection.ended
    assert bench.take() is None
    assert bench.service.connections == 0


# Giving back.


def test_connection_falls_idle(bench: Bench) -> None:
    connection = bench.idle()
    assert not connection.ended
    assert (bench.endpoint.active, bench.endpoint.idle, bench.service.connections) == (0, 1, 1)


@pytest.mark.parametrize(
    "answer",
    [
        ok(b"ok", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        ok() + b"more",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_connection_that_may_not_be_used_again_is_closed(bench: Bench, answer: bytes) -> None:
    connection = bench.connection()
    bench.use(connection, answer)
    bench.release(connection)
    assert connection.ended
    assert bench.service.connections == 0


def test_connection_of_a_departed_endpoint_is_closed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=2)
    one, _ = bench.service.endpoints
    idle, used = bench.idle_together(2, one)
    assert bench.take(one) is used
    bench.publish(["10.0.0.2"])
    bench.loop.settle()
    assert idle.ended
    assert not used.ended
    bench.use(used)
    bench.release(used)
    assert used.ended
    assert bench.service.connections == 0


def test_close_idle_closes_what_rests_and_nothing_else(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=2)
    one, two = bench.service.endpoints
    used = bench.connection(one)
    rests = [bench.idle(one), bench.idle(two)]
    bench.pool.close_idle()
    bench.loop.settle()
    assert [connection.ended for connection in rests] == [True, True]
    assert not used.ended


# Opening.


def test_new_connection(bench: Bench) -> None:
    connection = bench.connection()
    (dial,) = bench.dials
    assert (dial.host, dial.port, dial.server_name) == ("10.0.0.1", 3002, None)
    assert (bench.endpoint.active, bench.service.connections) == (1, 1)
    assert not connection.ended


def test_refused_connection(bench: Bench) -> None:
    bench.loop.network = Dial.refuse
    waiter, _ = bench.ask()
    assert waiter.failure == ("connect_failure", "connection refused")
    assert bench.service.connections == 0
    assert bench.endpoint.skip_until == START + 1
    assert bench.unreachable == ["venue-service"]


def test_good_connection_ends_the_skipping(bench: Bench) -> None:
    bench.loop.network = Dial.refuse
    bench.ask()
    bench.loop.network = Dial.accept
    bench.connection()
    assert (bench.endpoint.skip_until, bench.endpoint.connect_failures) == (0.0, 0)


# In the background.


@pytest.fixture
def refused() -> Iterator[Bench]:
    """Two endpoints, of which the first has just refused a connection."""
    bench = Bench(endpoints=2)
    bench.loop.network = Dial.refuse
    bench.ask()
    bench.loop.network = Dial.hang
    yield bench
    bench.close()


def skip_ends(bench: Bench) -> list[Dial]:
    """Lets the skip end; the connections that are being opened then."""
    bench.pass_time(max(0.0, bench.endpoint.skip_until - bench.loop.now))
    bench.service.pick(bench.loop.now, ())
    bench.loop.settle()
    return [dial for dial in bench.dials if dial.pending]


def test_skipped_endpoint_is_tried_by_a_connection_of_its_own(refused: Bench) -> None:
    (dial,) = skip_ends(refused)
    assert dial.host == refused.endpoint.address
    picked = {refused.service.pick(refused.loop.now, ()) for _ in range(4)}
    assert picked == {refused.all_endpoints[1]}
    dial.accept()
    refused.loop.settle()
    assert (refused.endpoint.skip_until, refused.endpoint.connect_failures) == (0.0, 0)
    assert refused.endpoint.idle == 1
    assert not refused.endpoint.reconnecting


def test_skip_that_is_over_is_followed_by_one_attempt_at_a_time(refused: Bench) -> None:
    skipped_s = []
    for _ in range(7):
        (dial,) = skip_ends(refused)
        refused.pass_time(CONNECT_S / 2)
        refused.service.refresh(refused.loop.now)
        refused.loop.settle()
        assert [one for one in refused.dials if one.pending] == [dial]
        dial.refuse()
        refused.loop.settle()
        skipped_s.append(refused.endpoint.skip_until - refused.loop.now)
        assert not refused.endpoint.reconnecting
    assert skipped_s == [2, 4, 8, 16, 30, 30, 30]
    assert refused.service.connections == 0


def test_attempt_in_the_background_takes_no_longer_than_a_request_s(refused: Bench) -> None:
    (dial,) = skip_ends(refused)
    refused.pass_time(CONNECT_S + 0.01)
    assert dial.cancelled
    assert refused.endpoint.skip_until == pytest.approx(refused.loop.now + 2, abs=0.02)


def test_only_endpoint_is_left_to_requests() -> None:
    bench = Bench()
    bench.loop.network = Dial.refuse
    bench.ask()
    assert skip_ends(bench) == []
    assert bench.service.pick(bench.loop.now, ()) is bench.endpoint
    assert len(bench.dials) == 1
    bench.close()


def test_endpoints_that_all_failed_are_left_to_requests_until_one_is_back(refused: Bench) -> None:
    refused.loop.network = Dial.refuse
    refused.ask(refused.all_endpoints[1])
    refused.loop.network = Dial.hang
    assert skip_ends(refused) == []
    refused.loop.network = Dial.accept
    refused.ask(refused.all_endpoints[1])
    assert [dial.host for dial in refused.dials[2:]] == ["10.0.0.2", "10.0.0.1"]
    assert refused.endpoint.skip_until == 0.0


@pytest.mark.parametrize("narrow", ["service", "budget"])
def test_attempt_in_the_background_takes_no_connection_s_place(narrow: str) -> None:
    bench = Bench(endpoints=2, **({"max_connections": 1} if narrow == "service" else {"most": 1}))
    bench.loop.network = Dial.refuse
    bench.ask()
    bench.loop.network = Dial.accept
    resting = bench.idle(bench.all_endpoints[1])
    bench.loop.network = Dial.hang
    assert skip_ends(bench) == []
    assert not resting.ended
    assert not bench.endpoint.reconnecting
    bench.pool.close_idle()
    (dial,) = skip_ends(bench)
    assert dial.host == bench.endpoint.address
    bench.close()


def test_connecting_takes_no_longer_than_its_timeout(bench: Bench) -> None:
    bench.loop.network = Dial.hang
    waiter, _ = bench.ask()
    bench.pass_time(CONNECT_S - 0.01)
    assert not waiter.told
    bench.pass_time(0.02)
    assert waiter.failure is not None
    assert waiter.failure[0] == "connect_timeout"
    assert bench.service.connections == 0


@pytest.mark.parametrize("close_late", [Wire.close, Wire.vanish])
def test_connection_that_comes_up_just_as_its_time_is_over_is_counted_once(
    bench: Bench, close_late: Callable[[Wire], None]
) -> None:
    """The event loop has made the connection and has not resumed who waits for it, when the timeout strikes."""
    bench.loop.network = Dial.hang
    bench.loop.close_late = close_late
    waiter, _ = bench.ask()
    bench.dials[0].come_up()
    bench.pass_time(CONNECT_S + 0.01)
    assert waiter.failure is not None
    assert waiter.failure[0] == "connect_timeout"
    assert (bench.endpoint.active, bench.service.connections) == (0, 0)


def test_connection_that_ends_as_soon_as_it_is_there(bench: Bench) -> None:
    bench.loop.network = Dial.hang
    waiter, _ = bench.ask()
    (dial,) = bench.dials
    dial.come_up()
    assert dial.wire is not None
    dial.wire.breaks()
    dial.outcome.set_result((dial.wire, dial.protocol))
    bench.loop.settle()
    assert waiter.upstream is not None
    assert waiter.upstream.ended
    assert not send_on(waiter.upstream, Waiter())
    assert (bench.endpoint.active, bench.service.connections) == (0, 0)


def test_whoever_cancels_hears_nothing_and_the_connection_rests(bench: Bench) -> None:
    bench.loop.network = Dial.hang
    waiter, connecting = bench.ask()
    connecting.cancel()
    bench.dials[0].accept()
    bench.loop.settle()
    assert not waiter.told
    assert bench.take() is bench.dials[0].protocol


def test_whoever_cancels_hears_nothing_of_a_failure_either(bench: Bench) -> None:
    bench.loop.network = Dial.hang
    waiter, connecting = bench.ask()
    connecting.cancel()
    bench.dials[0].refuse()
    bench.loop.settle()
    assert not waiter.told
    assert bench.service.connections == 0


def test_connection_opened_for_nobody_to_a_departed_endpoint_is_closed(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=2)
    bench.loop.network = Dial.hang
    _, connecting = bench.ask()
    connecting.cancel()
    bench.publish(["10.0.0.2"])
    bench.dials[0].accept()
    bench.loop.settle()
    assert bench.dials[0].protocol.ended
    assert bench.service.connections == 0


def test_end_of_the_pool_while_connecting(bench: Bench) -> None:
    bench.loop.network = Dial.hang
    bench.ask()
    bench.openings.close()
    bench.loop.settle()
    assert bench.service.connections == 0


# No more than max_connections.


@pytest.mark.parametrize(("open_already", "waits"), [(1, False), (2, True)])
def test_bound_on_connections(make_bench: Callable[..., Bench], open_already: int, waits: bool) -> None:
    bench = make_bench(max_connections=2)
    for _ in range(open_already):
        bench.connection()
    waiter, _ = bench.ask()
    assert waiter.told is not waits
    assert bench.service.waiting == waits


def test_those_that_are_being_opened_count_too(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_connections=1)
    bench.loop.network = Dial.hang
    bench.ask()
    bench.ask()
    assert len(bench.dials) == 1


def test_the_one_idle_longest_makes_room(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=3, max_connections=3)
    one, two, three = bench.service.endpoints
    oldest, younger = bench.idle_together(2, two)
    youngest = bench.idle(one)
    assert bench.ask(three)[0].upstream is not None
    assert (oldest.ended, younger.ended, youngest.ended) == (True, False, False)


# No more of all services together than the limit on open files lets be.


class Other:
    """A connection of another service, of which nothing is known here but that it is idle."""

    def __init__(self, bench: Bench) -> None:
        self.slots = bench.others
        slot = self.slots.take(bench.other.endpoints[0])
        assert slot is not None
        self.slot = slot
        slot.connection = self
        self.slots.opened(slot)
        self.slots.rests(slot)

    def close(self) -> None:
        self.slots.end(self.slot)

    @property
    def ended(self) -> bool:
        return self.slot.free


def test_what_another_service_has_idle_makes_room(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(most=2)
    others = [Other(bench), Other(bench)]
    assert bench.ask()[0].upstream is not None
    assert [one.ended for one in others] == [True, False]
    assert bench.ask()[0].upstream is not None
    assert [one.ended for one in others] == [True, True]


def test_of_all_services_the_one_idle_longest_makes_room(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=2, most=3)
    one, two = bench.service.endpoints
    oldest = bench.idle(one)
    other = Other(bench)
    bench.connection(two)
    waiter, _ = bench.ask(two)
    assert waiter.upstream is not None
    assert oldest.ended
    assert not other.ended


def test_where_all_are_in_use_the_next_is_refused_in_words_at_once(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(most=2)
    bench.connection()
    held = bench.connection()
    waiter, _ = bench.ask()
    assert waiter.failure is not None
    reason, detail = waiter.failure
    assert reason == "overloaded"
    assert detail == (
        "the limit on open files allows 2 connections to services; all are in use:"
        " use fewer at once, or raise it (ulimit -n)"
    )
    assert not bench.service.waiting
    bench.use(held)
    bench.release(held)
    assert bench.take() is held  # those that there are go on


def test_who_leaves_before_it_is_refused_hears_nothing(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(most=1)
    bench.connection()
    waiter = Waiter()
    bench.pool.connect(bench.endpoint, waiter, CONNECT_S).cancel()
    bench.loop.settle()
    assert not waiter.told


def test_who_waits_is_told_when_another_service_took_the_room(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_connections=1, most=2)
    connection = bench.connection()
    bench.others.take(bench.other.endpoints[0])
    waiters = [bench.ask()[0] for _ in range(2)]
    connection.close()
    bench.others.take(bench.other.endpoints[0])  # and one more, before anybody here was served
    bench.loop.settle()
    assert [waiter.failure and waiter.failure[0] for waiter in waiters] == ["overloaded"] * 2
    assert not bench.service.waiting


def test_each_that_ends_leaves_room(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(most=1)
    bench.loop.network = Dial.refuse
    assert bench.ask()[0].failure is not None
    bench.loop.network = Dial.accept
    bench.connection().close()
    assert bench.ask()[0].upstream is not None


def test_waiters_are_served_first_come_first_served(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_connections=1)
    connection = bench.connection()
    waiters = [bench.ask()[0] for _ in range(3)]
    for waiter in waiters:
        assert [one.told for one in waiters] == sorted((one.told for one in waiters), reverse=True)
        bench.use(connection)
        bench.release(connection)
        assert waiter.upstream is connection  # handed on, not opened anew
    assert len(bench.dials) == 1


def test_nobody_overtakes_who_waits(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=2, max_connections=1)
    one, two = bench.service.endpoints
    connection = bench.connection(one)
    first, _ = bench.ask(two)
    bench.use(connection)
    bench.pool.release(connection, bench.loop.now)
    assert bench.pool.take(one, bench.loop.now, repeatable=True) is None
    second, _ = bench.ask(one)
    assert (first.told, second.told) == (True, False)
    assert connection.ended


@pytest.mark.parametrize(("most", "told"), [(1, [False, False]), (2, [True, False]), (3, [True, True])])
def test_a_reload_makes_room_for_those_who_wait(make_bench: Callable[..., Bench], most: int, told: list[bool]) -> None:
    bench = make_bench(max_connections=1)
    bench.connection()
    waiters = [bench.ask()[0] for _ in range(2)]
    bench.reload(most)
    bench.loop.settle()
    assert [waiter.told for waiter in waiters] == told


def test_a_reload_with_other_settings_of_tls_ends_connections_from_before_once_they_are_idle(bench: Bench) -> None:
    idle, used = bench.idle(), bench.connection()
    bench.reload(4)
    assert not idle.ended
    bench.pass_time(0.1)
    bench.reload(4, TlsSettings(verify="off"))
    assert idle.ended
    assert not used.ended
    bench.use(used)
    bench.release(used)
    assert used.ended
    new = bench.idle()
    assert bench.take() is new


def test_closed_connection_makes_room_for_a_waiter(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_connections=1)
    connection = bench.connection()
    waiter, _ = bench.ask()
    connection.close()
    bench.loop.settle()
    assert waiter.upstream is not None
    assert waiter.upstream is not connection


def test_failed_connecting_makes_room_for_a_waiter(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_connections=1)
    bench.loop.network = Dial.hang
    first, _ = bench.ask()
    second, _ = bench.ask()
    bench.loop.network = Dial.accept
    bench.dials[0].refuse()
    bench.loop.settle()
    assert first.failure is not None
    assert second.upstream is not None


def test_waiter_for_another_endpoint_gets_a_new_connection(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(endpoints=2, max_connections=1)
    one, two = bench.service.endpoints
    connection = bench.connection(one)
    waiter, _ = bench.ask(two)
    bench.use(connection)
    bench.release(connection)
    assert connection.ended
    assert waiter.upstream is not None
    assert waiter.upstream.endpoint is two


def test_connection_that_its_asker_left_serves_a_waiter(make_bench: Callable[..., Bench]) -> None:
    """It does not rest while somebody waits in vain."""
    bench = make_bench(max_connections=1)
    bench.loop.network = Dial.hang
    _, connecting = bench.ask()
    waiter, _ = bench.ask()
    connecting.cancel()
    bench.dials[0].accept()
    bench.loop.settle()
    assert waiter.upstream is bench.dials[0].protocol


@pytest.mark.parametrize("endpoint", [0, 1])
def test_overloaded_after_the_timeout(make_bench: Callable[..., Bench], endpoint: int) -> None:
    bench = make_bench(endpoints=2, max_connections=1)
    bench.connection()
    waiter, _ = bench.ask(bench.service.endpoints[endpoint])
    bench.pass_time(CONNECT_S - 0.01)
    assert not waiter.told
    bench.pass_time(0.02)
    assert waiter.failure == ("overloaded", "all 1 connections are in use")
    assert not bench.service.waiting


def test_waiter_that_leaves_the_queue(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_connections=1)
    connection = bench.connection()
    leaver, connecting = bench.ask()
    waiter, _ = bench.ask()
    connecting.cancel()
    bench.use(connection)
    bench.release(connection)
    assert not leaver.told
    assert waiter.upstream is connection
    bench.pass_time(10)
    assert not leaver.told


def test_waiter_that_was_served_is_not_told_of_the_timeout(make_bench: Callable[..., Bench]) -> None:
    bench = make_bench(max_connections=1)
    connection = bench.connection()
    waiter, _ = bench.ask()
    bench.use(connection)
    bench.release(connection)
    bench.pass_time(10)
    assert waiter.upstream is connection
    assert waiter.failure is None


# Whatever happens.

steps = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "ask",
                "ask",
                "take",
                "take once",
                "accept",
                "refuse",
                "come up",
                "cancel",
                "answer",
                "close",
                "reset",
                "leave",
                "babble",
                "sweep",
                "second",
                "depart",
                "return",
                "reload",
            ]
        ),
        st.integers(0, 5),
    ),
    max_size=30,
)


@given(steps)
@example([("ask", 0), ("come up", 0), ("second", 0), ("second", 0)])
@example([("ask", 0), ("ask", 0), ("ask", 1), ("ask", 0), ("cancel", 0), ("accept", 0), ("second", 0), ("second", 0)])
def test_counts_are_right_whatever_happens(script: list[tuple[str, int]]) -> None:
    bench = Bench(endpoints=2, max_connections=3)
    bench.loop.network = Dial.hang
    asked: list[tuple[Waiter, Connecting]] = []
    try:
        for step, number in script:
            play(bench, asked, step, number)
        for _, connecting in asked:
            connecting.cancel()
        for dial in bench.dials:
            if dial.pending:
                dial.refuse()
            elif not dial.outcome.done() and not dial.cancelled:
                dial.outcome.set_result((dial.wire, dial.protocol))
        bench.pass_time(10)
        for dial in bench.dials:
            if dial.protocol is not None:
                dial.protocol.close()
        bench.loop.settle()
        assert bench.service.connections == 0
        assert [endpoint.active for endpoint in bench.all_endpoints] == [0, 0]
        assert not bench.service.waiting
    finally:
        bench.close()


def play(bench: Bench, asked: list[tuple[Waiter, Connecting]], step: str, number: int) -> None:
    endpoint = bench.all_endpoints[number % 2]
    pending = [dial for dial in bench.dials if dial.pending]
    living = [dial for dial in bench.dials if dial.protocol is not None and not dial.protocol.ended]
    used = [dial for dial in living if dial.outcome.done() and not dial.protocol.slot.idle]
    if step == "ask":
        asked.append(bench.ask(endpoint))
    elif step.startswith("take"):
        bench.take(endpoint, repeatable=step == "take")
    elif step == "cancel" and asked:
        waiter, connecting = asked[number % len(asked)]
        if not waiter.told:
            connecting.cancel()
    elif step == "accept" and pending:
        pending[number % len(pending)].accept()
    elif step == "refuse" and pending:
        pending[number % len(pending)].refuse()
    elif step == "come up" and pending:
        pending[number % len(pending)].come_up()
    elif step == "answer" and used:
        connection = used[number % len(used)].protocol
        bench.use(connection)
        bench.release(connection)
    elif step in ("close", "reset", "leave", "babble") and living:
        dial = living[number % len(living)]
        assert dial.wire is not None
        act = {"close": lambda wire: wire.protocol.close(), "reset": Wire.breaks, "leave": Wire.leaves}
        act.get(step, lambda wire: wire.says(b"babble"))(dial.wire)
    elif step == "sweep":
        bench.pool.sweep(bench.loop.now)
    elif step == "second":
        bench.pass_time(0.7)
    elif step == "reload":
        bench.reload(1 + number % 4)
    elif step == "depart":
        bench.publish(["10.0.0.2"])
    elif step == "return":
        bench.publish(["10.0.0.1", "10.0.0.2"])
    bench.loop.settle()


# What it costs.


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of the data path run during this: the same on any machine."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> object:
        nonlocal count
        if f"{os.sep}sidecar{os.sep}proxy{os.sep}" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    gc.disable()  # what it finalizes is not counted
    sys.settrace(cast("Any", trace))
    try:
        work()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def test_cost_does_not_grow_with_endpoints_connections_or_waiting_requests() -> None:
    def costs(many: int) -> dict[str, int]:
        bench = Bench(endpoints=many, max_connections=many)
        bench.loop.after_settling = lambda: None  # which looks at all of them
        endpoints = bench.all_endpoints
        idle = [bench.idle(endpoint) for endpoint in endpoints]
        found = {}

        def take() -> None:
            assert bench.take(endpoints[many // 2]) is not None

        def give_back() -> None:
            bench.release(idle[many // 2])

        def open_in_place_of_the_oldest() -> None:
            assert bench.ask(endpoints[0])[0].upstream is not None

        found["take"] = lines_run(take)
        bench.use(idle[many // 2])
        found["release"] = lines_run(give_back)
        found["connect at the limit"] = lines_run(open_in_place_of_the_oldest)
        found["an idle one breaks"] = lines_run(wire_of(idle[many // 2]).breaks)
        found["sweep"] = lines_run(lambda: bench.pool.sweep(bench.loop.now))
        while bench.ask(endpoints[0])[0].told:
            pass
        asked = [bench.ask(endpoints[0]) for _ in range(many)]
        assert bench.service.waiting == many + 1
        found["one of many leaves the queue"] = lines_run(asked[many // 2][1].cancel)
        bench.close()
        return found

    assert costs(5) == costs(200)
