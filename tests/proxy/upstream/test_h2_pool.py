"""HTTP/2 connections of one service: which carries a call, when another is opened, and that no count ever leaks."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from h2.events import PingReceived
from h2.exceptions import ProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.proxy.h2.stream import H2Stream
from sidecar.proxy.upstream.h2_pool import FIRST_SETTINGS_S, MOST_LEAVING, PONG_WITHIN_S
from sidecar.proxy.upstream.h2_stream import H2UpstreamStream
from sidecar.proxy.upstream.service_pool import Connecting
from sidecar.proxy.upstream.stream import Lost
from sidecar.runtime.additions import Additions
from tests.proxy.fakes import Dial
from tests.proxy.h2_bench import AGE_S, CONNECT_S, POOL_IDLE_S, Bench, Call, grpc_head, whole


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.close()


@pytest.fixture
def bench(benches: list[Bench]) -> Bench:
    benches.append(Bench())
    return benches[-1]


def hang(bench: Bench) -> None:
    bench.loop.network = Dial.hang


def ask(bench: Bench, count: int, **how: bool) -> list[Call]:
    calls = [bench.ask(**how)[0] for _ in range(count)]
    bench.loop.settle()
    return calls


def left_by_us(bench: Bench, number: int = -1) -> bool:
    """Whether our side has said GOAWAY and its end: what the peer still says is read and thrown away."""
    wire = bench.wire(number)
    return wire.eof_sent and b"\x07\x00\x00\x00\x00\x00" in wire.heard


def served(calls: list[Call]) -> int:
    return sum(call.stream is not None for call in calls)


def end(bench: Bench, calls: list[Call]) -> None:
    for call in calls:
        if call.stream is not None:
            call.stream.close()
    bench.loop.settle()


# How many connections.


def test_one_connection_carries_many_calls(bench: Bench) -> None:
    bench.up()
    calls = [bench.send(body=whole(b"x")) for _ in range(100)]
    assert len(bench.dials) == 1
    peer = bench.peer
    for number in list(peer.asked):
        peer.answer(number)
    assert all(call.heard == ["began 200", "ended"] for call in calls)
    assert (bench.endpoint.active, bench.endpoint.idle) == (1, 0)
    end(bench, calls)
    assert (bench.endpoint.active, bench.endpoint.idle) == (0, 1)


def test_calls_that_come_while_a_connection_is_opened_share_it(bench: Bench) -> None:
    hang(bench)
    calls = ask(bench, 50)
    assert len(bench.dials) == 1
    bench.dials[0].accept()
    bench.loop.settle()
    assert served(calls) == 50
    assert len(bench.dials) == 1


def test_a_thousand_first_calls_open_one_connection_and_then_as_many_as_they_need(benches: list[Bench]) -> None:
    """Until the endpoint has said how many calls a connection carries, nobody knows."""
    bench = Bench(max_connections=50, streams=100)
    benches.append(bench)
    calls = ask(bench, 1000)
    assert len(bench.dials) == 1
    assert served(calls) == 100
    assert bench.peer_of(0)
    assert len(bench.dials) == 10
    assert served(calls) == 1000
    end(bench, calls)


def test_an_endpoint_that_takes_them_all_gets_one_connection(benches: list[Bench]) -> None:
    bench = Bench(max_connections=50, streams=5000)
    benches.append(bench)
    calls = ask(bench, 1000)
    assert served(calls) == 100
    assert bench.peer_of(0)
    assert served(calls) == 1000
    assert len(bench.dials) == 1
    end(bench, calls)


def test_another_is_opened_where_the_first_is_full(benches: list[Bench]) -> None:
    bench = Bench(streams=1)
    benches.append(bench)
    bench.up()
    first = bench.send(body=whole(b"x"))
    assert bench.take() is None
    second = ask(bench, 1)
    assert served(second) == 1
    assert len(bench.dials) == 2
    end(bench, [first, *second])
    assert bench.endpoint.idle == 2


def test_settings_may_change_how_many_calls_there_are(benches: list[Bench]) -> None:
    bench = Bench(max_connections=1, streams=1)
    benches.append(bench)
    bench.up()
    first = bench.send(body=whole(b"x"))
    others = ask(bench, 3)
    assert served(others) == 0
    bench.peer.settings(max_concurrent_streams=3)
    assert served(others) == 2
    bench.peer.settings(max_concurrent_streams=1)
    assert first.stream is not None
    first.stream.close()
    bench.loop.settle()
    assert served(others) == 2, "two are on it still, and one may be"
    end(bench, others[:2])
    assert served(others) == 3
    end(bench, others)


def test_an_endpoint_that_takes_no_calls_for_now_gets_no_more_connections(benches: list[Bench]) -> None:
    bench = Bench(streams=0)
    benches.append(bench)
    calls = ask(bench, 2)
    end(bench, calls)
    assert bench.peer_of(0)
    calls = ask(bench, 5)
    assert (served(calls), len(bench.dials)) == (0, 1)
    bench.peer.settings(max_concurrent_streams=10)
    assert (served(calls), len(bench.dials)) == (5, 1)
    end(bench, calls)


def test_a_call_waits_for_room_as_long_as_connecting_may_take(benches: list[Bench]) -> None:
    bench = Bench(max_connections=1, streams=1)
    benches.append(bench)
    bench.up()
    first = bench.send(body=whole(b"x"))
    (call, connecting), (patient, _) = bench.ask(), bench.ask()
    bench.loop.settle()
    assert connecting.queued
    bench.loop.advance(CONNECT_S * 0.9)
    assert first.stream is not None
    first.stream.close()
    bench.loop.settle()
    assert call.stream is not None
    bench.loop.advance(CONNECT_S)
    assert patient.heard == ["overloaded: all connections to the endpoint carry as many calls as it allows"]
    assert bench.service.waiting == 0
    call.stream.close()


def test_who_waits_for_a_connection_that_is_being_opened_is_not_queued(bench: Bench) -> None:
    hang(bench)
    _, connecting = bench.ask()
    bench.loop.settle()
    assert not connecting.queued
    connecting.cancel()
    bench.dials[0].accept()
    bench.loop.settle()
    assert bench.endpoint.idle == 1, "it goes to the pool"


def test_nobody_overtakes_those_who_wait(benches: list[Bench]) -> None:
    bench = Bench(max_connections=1, streams=1)
    benches.append(bench)
    bench.up()
    first = bench.send(body=whole(b"x"))
    waiting = ask(bench, 1)
    assert first.stream is not None
    first.stream.close()
    assert bench.take() is None
    bench.loop.settle()
    assert served(waiting) == 1
    end(bench, waiting)


def test_a_connection_that_rests_makes_room_for_one_to_another_endpoint(benches: list[Bench]) -> None:
    bench = Bench(2, max_connections=1)
    benches.append(bench)
    bench.up()
    call, _ = bench.ask(bench.all_endpoints[1])
    bench.loop.settle()
    assert call.stream is not None
    assert left_by_us(bench, 0)
    call.stream.close()


def test_a_busy_connection_does_not(benches: list[Bench]) -> None:
    bench = Bench(2, max_connections=1)
    benches.append(bench)
    bench.up()
    busy = bench.send(body=whole(b"x"))
    call, connecting = bench.ask(bench.all_endpoints[1])
    bench.loop.settle()
    assert connecting.queued
    end(bench, [busy])
    assert call.stream is not None
    call.stream.close()


def test_the_limit_on_open_files_is_told(benches: list[Bench]) -> None:
    bench = Bench(max_connections=5, most=0)
    benches.append(bench)
    calls = ask(bench, 2)
    assert [call.heard[0].partition(":")[0] for call in calls] == ["overloaded"] * 2
    assert "ulimit -n" in calls[0].heard[0]


# Failures.


def test_all_who_wait_hear_that_no_connection_came_up(bench: Bench) -> None:
    bench.loop.network = Dial.refuse
    calls = ask(bench, 3)
    assert [call.heard for call in calls] == [["connect_failure: connection refused"]] * 3
    assert bench.endpoint.connect_failures == 1
    assert bench.unreachable == ["venue-service"]
    assert not bench.pool._lines


def test_a_connection_that_does_not_come_up_in_time(bench: Bench) -> None:
    hang(bench)
    call, _ = bench.ask()
    bench.loop.advance(0.5)
    late, _ = bench.ask()
    bench.loop.advance(0.6)
    words = ["connect_timeout: no connection within 1 s"]
    assert call.heard == late.heard == words, "who came later knows as much"


def test_who_waits_for_room_goes_on_waiting_where_another_connection_cannot_be_opened(benches: list[Bench]) -> None:
    bench = Bench(streams=1)
    benches.append(bench)
    bench.up()
    first = bench.send(body=whole(b"x"))
    bench.loop.network = Dial.refuse
    calls = ask(bench, 2)
    assert len(bench.dials) == 3, "and it is not tried again at once"
    assert [call.heard for call in calls] == [[], []]
    end(bench, [first])
    assert served(calls) == 1
    end(bench, calls)
    assert served(calls) == 2
    end(bench, calls)


def test_a_connection_that_ends_as_it_comes_up(bench: Bench) -> None:
    def slam(dial: Dial) -> None:
        dial.accept()
        assert dial.wire is not None
        dial.wire._end(None)

    bench.loop.network = slam
    call, _ = bench.ask()
    bench.loop.settle()
    assert call.heard == ["connect_failure: the connection was closed as soon as it was open"]


def test_a_server_that_speaks_another_protocol(bench: Bench) -> None:
    call, _ = bench.ask()
    bench.loop.settle()
    assert call.stream is not None
    sent = bench.send(body=whole(b"x"), on=call.stream)
    bench.wire().says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    assert sent.lost is not None
    assert sent.lost.reason == "bad_response"
    assert (
        sent.lost.detail == "what the service sends is not HTTP/2: FRAME_SIZE_ERROR, a frame of more than 16,384 bytes"
    )
    assert bench.service.connections == 0
    end(bench, [sent])


def test_a_hundred_calls_each_hear_once_that_their_connection_broke(bench: Bench) -> None:
    bench.up()
    calls = [bench.send(body=whole(b"x")) for _ in range(100)]
    bench.wire().breaks()
    assert all(call.heard == ["lost reset"] for call in calls)
    assert bench.service.connections == 0
    assert (bench.endpoint.active, bench.endpoint.idle) == (0, 0)
    end(bench, calls)
    assert not bench.pool._lines


def test_a_server_that_says_nothing_is_given_up(bench: Bench) -> None:
    """It has taken the connection and never says its SETTINGS: calls without a deadline would wait for ever."""
    call, _ = bench.ask()
    bench.loop.settle()
    sent = bench.send(body=whole(b"x"), on=call.stream)
    bench.loop.advance(FIRST_SETTINGS_S - 0.1)
    assert sent.lost is None
    bench.loop.advance(0.2)
    assert sent.lost is not None
    assert sent.lost.detail == "what the service sends is not HTTP/2: SETTINGS_TIMEOUT, no SETTINGS within 10 s"
    assert bench.service.connections == 0


# Ends in good order.


def test_calls_go_elsewhere_after_goaway_and_those_under_way_end_well(bench: Bench) -> None:
    bench.up()
    call = bench.send(body=whole(b"x"))
    old, number = bench.peer, bench.peer.newest
    old.go_away(0x7FFFFFFF)
    assert bench.take() is None
    after = ask(bench, 1)
    assert len(bench.dials) == 2
    assert served(after) == 1
    old.go_away(number)
    assert not left_by_us(bench, 0)
    old.answer(number)
    assert call.heard == ["began 200", "ended"]
    assert left_by_us(bench, 0)
    end(bench, [call])
    end(bench, after)
    assert bench.service.connections == 1


def test_calls_that_goaway_sends_elsewhere_share_the_next_connection(bench: Bench) -> None:
    """A server that restarts under a hundred calls is not met by a hundred connections."""
    bench.up()
    calls = [bench.send(body=whole(b"x")) for _ in range(50)]
    again: list[Call] = []

    def ask_again(lost: Lost) -> None:
        assert lost.unprocessed
        again.append(bench.ask()[0])

    for call in calls:
        setattr(call, "attempt_lost", ask_again)  # noqa: B010 - as the exchange does, at once
    bench.peer.go_away(0)
    bench.loop.settle()
    assert (len(again), served(again)) == (50, 50)
    assert len(bench.dials) == 2
    end(bench, [*calls, *again])


def test_a_connection_that_rests_ends_at_goaway(bench: Bench) -> None:
    bench.up()
    bench.peer.go_away(0)
    assert bench.service.connections == 0
    assert left_by_us(bench)


def test_what_has_rested_for_pool_idle_closes_with_goaway(bench: Bench) -> None:
    bench.up()
    bench.wire().take()
    bench.loop.advance(POOL_IDLE_S - 1)
    bench.pool.sweep(bench.loop.now)
    assert bench.wire().open
    bench.loop.advance(1)
    bench.pool.sweep(bench.loop.now)
    assert bench.service.connections == 0
    bench.loop.settle()
    assert left_by_us(bench)


def test_a_call_is_not_sent_on_what_has_rested_for_too_long(bench: Bench) -> None:
    """The sweep comes a quarter of a second later."""
    bench.up()
    bench.loop.advance(POOL_IDLE_S)
    assert bench.take() is None
    bench.loop.settle()
    assert bench.service.connections == 0


def test_an_old_connection_is_left_to_its_last_calls(bench: Bench) -> None:
    bench.up()
    call = bench.send(body=whole(b"x"))
    bench.loop.advance(AGE_S)
    assert bench.take() is None
    assert bench.wire(0).open
    fresh = ask(bench, 1)
    assert served(fresh) == 1
    assert len(bench.dials) == 2
    end(bench, [call])
    assert left_by_us(bench, 0)
    end(bench, fresh)


def test_an_old_connection_that_rests_closes(bench: Bench) -> None:
    bench.up()
    call = bench.send(body=whole(b"x"))
    bench.loop.advance(AGE_S)
    end(bench, [call])
    assert bench.service.connections == 0


def test_age_waits_while_two_are_left_to_their_last_calls(benches: list[Bench]) -> None:
    """Calls may last for days: behind each age a connection would be left over."""
    bench = Bench(max_connections=10)
    benches.append(bench)
    calls = []
    for _ in range(MOST_LEAVING):
        calls += ask(bench, 1)
        bench.peer_of()
        bench.loop.advance(AGE_S)
        assert bench.take() is None
    last = ask(bench, 1)
    bench.peer_of()
    bench.loop.advance(AGE_S)
    more = bench.take()
    assert more is not None
    assert len(bench.dials) == MOST_LEAVING + 1
    end(bench, [calls[0]])
    assert bench.take() is None, "there is a place again"
    more.close()
    end(bench, [*calls, *last])
    assert bench.service.connections == 0


def test_age_waits_where_no_other_connection_may_be_opened(benches: list[Bench]) -> None:
    bench = Bench(max_connections=1)
    benches.append(bench)
    bench.up()
    call = bench.send(body=whole(b"x"))
    bench.loop.advance(AGE_S)
    more = bench.take()
    assert more is not None
    more.close()
    end(bench, [call])
    assert bench.service.connections == 0


def test_connections_to_an_endpoint_that_left_end_behind_their_calls(benches: list[Bench]) -> None:
    bench = Bench(2)
    benches.append(bench)
    bench.up()
    call = bench.send(body=whole(b"x"))
    bench.publish(bench.addresses[1:])
    assert bench.wire().open
    end(bench, [call])
    assert bench.service.connections == 0
    assert not bench.pool._lines


def test_resting_connections_to_an_endpoint_that_left_end_at_once(benches: list[Bench]) -> None:
    bench = Bench(2)
    benches.append(bench)
    bench.up()
    bench.publish(bench.addresses[1:])
    assert bench.service.connections == 0


def test_a_lower_limit_closes_what_is_too_much(benches: list[Bench]) -> None:
    bench = Bench(streams=1)
    benches.append(bench)
    bench.up()
    calls = [bench.send(body=whole(b"x")), *ask(bench, 2)]
    assert bench.service.connections == 3
    bench.service.adopt(bench.config(1), bench.loop.now)
    bench.pool.adopt()
    end(bench, calls)
    assert bench.service.connections == 1


def test_a_connection_in_the_background_shows_that_the_endpoint_is_there(bench: Bench) -> None:
    bench.loop.network = Dial.refuse
    ask(bench, 1)
    bench.loop.network = Dial.accept
    bench.endpoint.begin_reconnect(bench.loop.now, 1.0)
    bench.pool.reconnect(bench.endpoint)
    bench.loop.settle()
    assert not bench.endpoint.reconnecting
    assert bench.endpoint.skip_until == 0
    assert bench.endpoint.idle == 1


# Keepalive.


def pings(bench: Bench) -> int:
    return len(bench.peer.says([PingReceived]))


def pass_time(bench: Bench, seconds: float, *, answers: bool = True) -> None:
    """As it passes, the pool looks after its connections; the endpoint answers what it is asked, or nothing."""
    for _ in range(int(seconds)):
        bench.loop.advance(1)
        bench.pool.sweep(bench.loop.now)
        bench.loop.settle()
        if answers:
            bench.peer_of()


@pytest.fixture
def kept(benches: list[Bench]) -> Bench:
    benches.append(Bench(keepalive=30.0).up())
    return benches[-1]


def test_an_endpoint_that_says_nothing_for_long_is_pinged(kept: Bench) -> None:
    call = kept.send(body=whole(b"x"))
    pass_time(kept, 29)
    assert pings(kept) == 0
    pass_time(kept, 2)
    assert pings(kept) == 1
    pass_time(kept, 100)
    assert 3 <= pings(kept) <= 4, "each answer is a word"
    assert call.lost is None
    end(kept, [call])


def test_an_endpoint_that_does_not_answer_is_gone(kept: Bench) -> None:
    """Its machine may have lost its power: no TCP says so while nothing is sent."""
    call = kept.send(body=whole(b"x"))
    pass_time(kept, 30 + PONG_WITHIN_S + 1, answers=False)
    lost = call.lost
    assert lost is not None
    assert (lost.reason, lost.unprocessed) == ("reset", False)
    assert lost.detail == (
        "the connection broke before the response head was complete (the endpoint did not answer a PING within 20 s)"
    )
    assert kept.service.connections == 0


def test_who_has_no_calls_is_not_pinged(kept: Bench) -> None:
    pass_time(kept, 200)
    assert pings(kept) == 0


def test_by_default_nobody_is(bench: Bench) -> None:
    bench.up()
    call = bench.send(body=whole(b"x"))
    pass_time(bench, 200)
    assert pings(bench) == 0
    end(bench, [call])


def test_a_server_that_has_had_enough_is_asked_half_as_often(kept: Bench, caplog: pytest.LogCaptureFixture) -> None:
    kept.peer.go_away(0x7FFFFFFF, 11)
    assert "make limits.keepalive longer" in caplog.text
    kept.up()
    call = kept.send(body=whole(b"x"))
    pass_time(kept, 59)
    assert pings(kept) == 0
    pass_time(kept, 2)
    assert pings(kept) == 1
    end(kept, [call])


# What a broken connection tells.


def test_a_call_that_woke_a_connection_may_have_come_too_late(bench: Bench) -> None:
    """`served` says so; among others that are under way, it does not."""
    bench.up()
    first = bench.send(body=whole(b"x"))
    assert isinstance(first.stream, H2UpstreamStream)
    end(bench, [first])
    woke, beside = bench.stream(), bench.stream()
    assert (woke.served, beside.served) == (True, False)
    woke.close()
    beside.close()


def test_a_call_that_must_not_be_sent_twice_has_the_kernel_asked(bench: Bench) -> None:
    bench.up()
    bench.wire().peer.close()
    bench.loop.advance(1)
    assert bench.take(repeatable=False) is None
    bench.loop.settle()
    assert bench.service.connections == 0


def test_its_name_in_logs(bench: Bench) -> None:
    bench.up()
    first = bench.send(body=whole(b"x"))
    assert repr(bench.pool) == ("<H2Pool venue connections=1/4 [<Line 10.0.0.1:50051 calls=[1] opening=0 waiting=0>]>")
    assert repr(bench.connection()) == "<H2UpstreamConnection 10.0.0.1:50051 calls=1>"
    end(bench, [first])


# Whatever happens.

STEPS = st.one_of(
    st.tuples(st.just("ask"), st.integers(0, 1)),
    st.tuples(st.just("ask"), st.integers(0, 1)),
    st.tuples(st.just("cancel"), st.integers(0, 9)),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("end"), st.integers(0, 9)),
    st.tuples(st.just("settle"), st.just(0)),
    st.tuples(st.just("read"), st.integers(0, 5)),
    st.tuples(st.just("settings"), st.integers(0, 3)),
    st.tuples(st.just("goaway"), st.integers(0, 3)),
    st.tuples(st.just("reset"), st.integers(0, 13)),
    st.tuples(st.just("break"), st.integers(0, 5)),
    st.tuples(st.just("network"), st.sampled_from([Dial.accept, Dial.refuse, Dial.hang])),
    st.tuples(st.just("up"), st.integers(0, 5)),
    st.tuples(st.just("time"), st.sampled_from([0.1, 0.6, CONNECT_S, 20.0, POOL_IDLE_S, AGE_S])),
    st.tuples(st.just("sweep"), st.just(0)),
    st.tuples(st.just("publish"), st.integers(0, 2)),
    st.tuples(st.just("limit"), st.integers(1, 4)),
    st.tuples(st.just("background"), st.integers(0, 1)),
)


class Story:
    """Calls on a pool, each with what it was told; a call is told once that it has a stream, or why it has none."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.calls: list[tuple[Call, Connecting]] = []
        self.network = Dial.accept

    def step(self, kind: str, what: Any) -> None:
        bench = self.bench
        if kind == "ask":
            endpoint = bench.all_endpoints[what]
            stream = bench.take(endpoint, repeatable=False)
            call, connecting = Call(), None
            if stream is None:
                call, connecting = bench.ask(endpoint)
            else:
                call.connected(stream)
            self.calls.append((call, connecting))  # type: ignore[arg-type]
        elif kind in ("cancel", "end") and what < len(self.calls):
            call, connecting = self.calls.pop(what)
            if call.stream is None and connecting is not None:
                connecting.cancel()
            self.over(call)
        elif kind in ("read", "settings", "goaway", "break", "reset"):
            self.peer_does(kind, what)
        elif kind == "network":
            bench.loop.network = what
        elif kind == "up":
            pending = [dial for dial in bench.dials if dial.pending]
            if what < len(pending):
                pending[what].accept()
        elif kind == "time":
            bench.loop.advance(what)
        elif kind == "sweep":
            bench.pool.sweep(bench.loop.now)
        elif kind == "publish":
            bench.publish([bench.addresses, bench.addresses[:1], bench.addresses[1:]][what])
            bench.all_endpoints += [one for one in bench.service.endpoints if one not in bench.all_endpoints]
        elif kind == "limit":
            bench.service.adopt(bench.config(what), bench.loop.now)
            bench.pool.adopt()
        elif kind == "background" and bench.service.endpoints:
            bench.endpoint.begin_reconnect(bench.loop.now, 1.0)
            bench.pool.reconnect(bench.endpoint)
        for call, _ in self.calls:
            self.send(call)
        if kind != "ask":  # several may ask within one turn of the loop
            bench.loop.settle()

    def peer_does(self, kind: str, what: int) -> None:
        bench = self.bench
        bench.loop.settle()
        up = [number for number, dial in enumerate(bench.dials) if dial.wire is not None and dial.wire.open]
        if what >= len(up) and kind in ("read", "break"):
            return
        if not up:
            return
        number = up[what % len(up)]
        if kind == "break":
            bench.wire(number).breaks()
            return
        if bench.wire(number).eof_sent:
            return
        try:
            peer = bench.peer_of(number)
        except ProtocolError:  # it announced fewer calls than it got before that was heard: a server may end it all
            bench.wire(number).breaks()
            return
        if bench.wire(number).eof_sent or not bench.wire(number).open:
            return
        if kind == "settings":
            peer.settings(max_concurrent_streams=what)
        elif kind == "goaway":
            peer.go_away(max([0, *peer.asked]) if what else 0)
        elif kind == "reset" and peer.asked and peer.asked[peer.newest].reset is None:
            with suppress(ProtocolError):
                peer.reset(peer.newest, what)

    def send(self, call: Call) -> None:
        stream = call.stream
        if isinstance(stream, H2UpstreamStream) and not call.heard and repr(stream).endswith(" new>"):
            added = Additions(b"sidecar-1", None, 1, 1000, False)
            stream.send(call, grpc_head(), b"/x", b"venue", added, None, None, whole(b"x"), True)

    def over(self, call: Call) -> None:
        assert len([word for word in call.heard if word.startswith(("lost", "connect", "overloaded"))]) <= 1
        if call.stream is not None:
            call.stream.close()

    def end(self) -> None:
        for call, connecting in self.calls:
            if call.stream is None and connecting is not None:
                connecting.cancel()
            self.over(call)
        bench = self.bench
        bench.loop.settle()
        for dial in bench.dials:
            if dial.pending:
                dial.refuse()
        bench.loop.settle()
        bench.pool.close_idle()
        bench.loop.advance(FIRST_SETTINGS_S + 1)
        assert bench.service.connections == bench.service.waiting == bench.budget.open == 0
        assert not bench.pool._lines, bench.pool
        assert not bench.pool._hungry
        assert not bench.pool._up


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, max_size=40), streams=st.sampled_from([None, 0, 1, 2]))
def test_counts_are_right_whatever_happens(steps: list[tuple[str, Any]], streams: int | None) -> None:
    bench = Bench(2, max_connections=3, streams=streams)
    try:
        story = Story(bench)
        for kind, what in steps:
            story.step(kind, what)
        story.end()
    finally:
        bench.close()


def test_a_call_leaves_no_cycle_behind(bench: Bench) -> None:
    """The collector took a tenth of the time of a prototype that left one for each call."""
    bench.up()
    gc.collect()
    gc.disable()
    try:
        call = bench.send(body=whole(b"x"))
        bench.peer.answer(bench.peer.newest)
        assert call.stream is not None
        call.stream.release(bench.loop.now)
        call.stream = None
        left = [one for one in gc.get_objects() if isinstance(one, H2UpstreamStream | H2Stream)]
        assert left == []
    finally:
        gc.enable()
