"""A call of the sidecar's own: one request and one bounded response through the data path, with no socket of an app."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sidecar.policy.settings import HashSettings, Policy
from sidecar.proxy.body_sink import ByteBudget
from sidecar.proxy.exchange.inner_call import MAX_BODY, InnerCall
from sidecar.proxy.http1.head_syntax import MAX_HEAD
from tests.proxy.fakes import World, field_of, ok

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Caller:
    """Makes calls in a world, and keeps those that have told of their end."""

    def __init__(self, world: World, budget: int = 4 * MAX_BODY) -> None:
        self.world = world
        self.app = world.app()
        self.budget = ByteBudget(budget)
        self.ended: list[InnerCall] = []

    def call(self, target: str = "/venue/a", *fields: str, peer: str | None = "192.0.2.7") -> InnerCall:
        core = self.world.core
        call = InnerCall(core, peer, self.budget, self.ended.append)
        lines = [f"GET {target} HTTP/1.1", "Host: localhost", "Connection: close", *fields]
        call.start(core.registry.dispatcher, "\r\n".join(lines).encode() + b"\r\n\r\n")
        self.world.settle()
        return call


@pytest.fixture
def caller(world: World) -> Caller:
    return Caller(world)


def test_a_call_goes_the_way_of_an_app_s(caller: Caller) -> None:
    call = caller.call("/venue/a?b=c", "X-A: 1")
    upstream = caller.world.upstream
    assert upstream.heard.startswith(b"GET /a?b=c HTTP/1.1\r\n")
    assert field_of(upstream.heard, "host") == ["venue-service:3002"]
    assert field_of(upstream.heard, "x-a") == ["1"]
    upstream.says(ok(b"[1]", "X-B: 2", status="418 Teapot"))
    assert caller.ended == [call]
    assert call.head is not None
    assert (call.head.status, call.body, call.failure, call.reason) == (418, b"[1]", "", "")
    assert caller.world.reasons() == {(418, "ok"): 1}


def test_it_is_no_app_s_connection_and_is_gone_with_its_end(caller: Caller) -> None:
    core = caller.world.core
    caller.call()
    assert core.registry.connections == {caller.app.protocol}
    assert len(core.inner) == 1
    caller.world.upstream.says(ok())
    assert not core.inner
    assert caller.world.upstream.open  # the upstream's connection is kept for the next


def test_the_end_is_told_after_what_it_held_is_given_back(caller: Caller) -> None:
    world = caller.world
    in_flight: list[int] = []
    call = InnerCall(world.core, None, caller.budget, lambda _: in_flight.append(world.service.limit.in_flight))
    head = b"GET /venue/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    call.start(world.core.registry.dispatcher, head)
    world.settle()
    world.upstream.says(ok())
    assert in_flight == [0]


def test_an_answer_of_the_sidecar_s_own_has_its_reason(caller: Caller) -> None:
    caller.world.service.set_endpoints([], caller.world.loop.now)
    call = caller.call()
    assert call.head is not None
    assert (call.head.status, call.reason, call.failure) == (503, "no_endpoint", "")
    assert caller.ended == [call]


def test_a_request_that_the_data_path_refuses_has_an_answer_too(caller: Caller) -> None:
    call = caller.call("/venue/", "Cookie: " + "a" * MAX_HEAD)
    assert call.head is not None
    assert (call.head.status, call.reason) == (431, "bad_request")
    assert caller.ended == [call]
    assert not caller.world.core.inner


def test_interim_responses_are_passed_over(caller: Caller) -> None:
    call = caller.call()
    caller.world.upstream.says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3 + ok(b"{}"))
    assert call.head is not None
    assert (call.head.status, call.body) == (200, b"{}")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_no_body(caller: Caller, status: str) -> None:
    call = caller.call()
    caller.world.upstream.says(b"HTTP/1.1 " + status.encode() + b"\r\n\r\n")
    assert (call.body, call.failure) == (b"", "")
    assert caller.ended == [call]


@given(
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    chunked=st.booleans(),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_a_body_is_the_same_however_it_is_framed_and_comes(pieces: list[bytes], chunked: bool, cuts: list[int]) -> None:
    assume(not b"".join(pieces).startswith(b"\x1f\x8b"))  # that would be gzip, and is unpacked
    if chunked:
        answer = CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
    else:
        answer = ok(b"".join(pieces))
    with World() as world:
        caller = Caller(world)
        call = caller.call()
        at = 0
        for cut in sorted({cut for cut in cuts if cut < len(answer)}):
            world.upstream.says(answer[at:cut])
            at = cut
        assert not caller.ended
        world.upstream.says(answer[at:])
        assert caller.ended == [call]
        assert (call.failure, call.body) == ("", b"".join(pieces))
        call.release()
        assert caller.budget.left == 4 * MAX_BODY


def test_a_body_that_ends_with_the_connection(caller: Caller) -> None:
    call = caller.call()
    caller.world.upstream.says(b"HTTP/1.1 200 OK\r\n\r\nbody").leaves()
    assert (call.failure, call.body) == ("", b"body")


@pytest.mark.parametrize(
    "answer", [ok(b"whole")[:-1], CHUNKED + b"5\r\nwhole\r\n", CHUNKED + b"5\r\nwho", CHUNKED + b"5\r\nwhole\r\n0\r\n"]
)
@pytest.mark.parametrize("end", ["leaves", "breaks"])
def test_a_body_that_breaks_off_is_never_taken_for_a_whole_one(caller: Caller, answer: bytes, end: str) -> None:
    call = caller.call()
    getattr(caller.world.upstream.says(answer), end)()
    assert caller.ended == [call]
    assert call.failure == "truncated"
    assert caller.budget.left == 4 * MAX_BODY


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("chunked", [False, True])
def test_bound_on_the_body(caller: Caller, more: int, chunked: bool) -> None:
    call = caller.call()
    size = MAX_BODY + more
    upstream = caller.world.upstream
    if chunked:
        upstream.says(CHUNKED)
        for at in range(0, size, 1 << 16):
            piece = b"a" * min(1 << 16, size - at)
            upstream.says(b"%x\r\n%b\r\n" % (len(piece), piece))
        if upstream.open:
            upstream.says(b"0\r\n\r\n")
    else:
        upstream.says(ok(b"a" * size))
    assert caller.ended == [call]
    if more <= 0:
        assert (call.failure, len(call.body)) == ("", size)
        assert upstream.open
    else:
        assert (call.failure, call.body) == ("too_large", b"")
        assert not upstream.open or not chunked
        assert caller.budget.left == 4 * MAX_BODY


def test_a_length_beyond_the_bound_is_not_waited_for(caller: Caller) -> None:
    call = caller.call()
    caller.world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")
    assert call.failure == "too_large"
    assert not caller.world.upstream.open


def test_all_bodies_together_are_bounded_until_they_are_released(world: World) -> None:
    caller = Caller(world, budget=100)
    first = caller.call()
    world.upstream.says(ok(b"a" * 60))
    second = caller.call()
    world.upstream.says(ok(b"b" * 60))
    assert (first.failure, second.failure) == ("", "overloaded")
    assert caller.budget.left == 40
    first.release()
    first.release()
    third = caller.call()
    world.upstream.says(ok(b"c" * 100))
    assert third.failure == ""


@pytest.mark.parametrize("answered", [b"", ok(b"12345")[:-2]], ids=["waiting", "within the body"])
def test_a_call_that_is_cancelled_gives_everything_back(caller: Caller, answered: bytes) -> None:
    call = caller.call()
    upstream = caller.world.upstream
    upstream.says(answered)
    assert caller.world.service.limit.in_flight == 1
    call.cancel()
    call.cancel()
    caller.world.settle()
    assert caller.world.service.limit.in_flight == 0
    assert not upstream.open
    assert not caller.world.core.inner
    assert caller.ended == []
    assert caller.budget.left == 4 * MAX_BODY
    assert list(caller.world.reasons().values()) == [1]


def test_a_call_while_connecting_can_be_cancelled(caller: Caller) -> None:
    caller.world.loop.network = lambda dial: dial.hang()
    call = caller.call()
    call.cancel()
    caller.world.settle()
    assert caller.world.service.limit.in_flight == 0
    assert caller.world.reasons() == {(499, "client_disconnect"): 1}


def test_the_end_of_draining_cuts_it(caller: Caller) -> None:
    call = caller.call()
    caller.world.loop.run(caller.world.core.close())
    caller.world.settle()
    assert (call.failure, caller.ended) == ("truncated", [call])


def test_deadlines_are_watched(caller: Caller) -> None:
    call = caller.call("/venue/", "x-envoy-upstream-rq-timeout-ms: 500")
    caller.world.pass_time(0.6)
    assert call.head is not None
    assert (call.head.status, call.reason) == (504, "request_timeout")


def test_balancing_by_source_goes_by_the_app_s_address() -> None:
    by_source = Policy(balancer=HashSettings(source=True))
    with World(by_source, endpoints=5) as world:
        caller = Caller(world)
        hosts = []
        for peer in ("192.0.2.1", "192.0.2.1", *[f"192.0.2.{last}" for last in range(2, 12)], None):
            caller.call(peer=peer)
            hosts.append(world.loop.dials[-1].host)
            world.upstream.says(ok(b"", "Connection: close"))
        assert hosts[0] == hosts[1]
        assert len(set(hosts)) > 1
