"""gRPC servers that restart, die, hang, slow down and fail under many callers: what the app sees of it.

The HTTP table of docs/reliability.md, for gRPC. The servers are real grpcio in processes of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.eventually import eventually
from tests.support.grpc_callers import Callers
from tests.support.grpc_stage import Stage
from tests.support.grpc_upstream import GrpcUpstream

CALLERS = 40

IDEMPOTENT = """
routes: [{match: {path: /test.Echo/Unary}, idempotent: true, unary: true, timeout: {attempt: 500ms}}]
retry: {max_retries: 3, on: [connect_failure, reset, attempt_timeout, UNAVAILABLE, CANCELLED], budget: {ratio: 1}}
"""
"""What an operator writes for calls that may be made twice."""

BACK_SOON = "outlier: {base_ejection_time: 500ms}\n"
"""A server that is away for a moment has refused many connections by then, and without checks stays out for 30 s."""

Make = Callable[..., Stage]
Change = Callable[[GrpcUpstream], None]


@pytest.fixture
def make() -> Iterator[Make]:
    """`make(number of servers, policy)`."""
    with ExitStack() as stack:

        def stage(count: int, policy: str = "", **of_servers: object) -> Stage:
            servers = [
                stack.enter_context(GrpcUpstream(f"s{number}", **of_servers))  # type: ignore[arg-type]
                for number in range(count)
            ]
            return stack.enter_context(Stage(*servers, policy=policy))

        yield stage


def times_seen(stage: Stage) -> Counter[str]:
    """How often the servers together saw each call."""
    return Counter(line["id"] for server in stage.upstreams for line in server.lines("begin"))


@pytest.mark.parametrize("threaded", [False, True], ids=["aio", "threads"])
def test_no_call_fails_while_servers_restart(make: Make, threaded: bool) -> None:
    """grpc.aio answers CANCELLED while it stops, so a policy for it names that too."""
    stage = make(2, IDEMPOTENT + BACK_SOON, threaded=threaded)
    with Callers(stage.port, CALLERS, channels=4, wish_delay_ms=5) as callers:
        callers.more(200)
        for _ in range(2):
            for server in stage.upstreams:
                server.restart()
                callers.until_served_by(server.name)
    assert not callers.failures
    assert len(callers.made) > 500


def test_one_server_restarts_and_no_other_is_there(make: Make) -> None:
    """While it starts nobody listens: calls fail at once and in words, none hangs, and afterwards all goes well."""
    stage = make(1, IDEMPOTENT)
    with Callers(stage.port, CALLERS, wish_delay_ms=5) as callers:
        callers.more(200)
        stage.upstreams[0].restart()
        callers.until_served_by("s0")
        back = len(callers.made)
        callers.more(200)
    assert {code for code, _ in callers.failures} <= {"UNAVAILABLE"}
    assert all(one.ok for one in callers.made[back + CALLERS :])


def test_a_call_that_may_not_be_repeated_is_made_once_whatever_ends(make: Make) -> None:
    """Without `idempotent` only calls that the server has certainly not seen are sent again."""
    stage = make(2, BACK_SOON)
    with Callers(stage.port, CALLERS, wish_delay_ms=5) as callers:
        callers.more(200)
        for server in stage.upstreams:
            server.kill()
            callers.more(100)
            server.start()
            callers.until_served_by(server.name)
    assert set(times_seen(stage).values()) == {1}
    # INTERNAL where the server died between its HEADERS, which had gone to the app, and its message.
    assert {code for code, _ in callers.failures} <= {"UNAVAILABLE", "INTERNAL"}
    assert 0 < callers.failures.total() <= 2 * CALLERS  # at most what was under way at the two kills


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        pytest.param(GrpcUpstream.kill, GrpcUpstream.start, id="killed"),
        pytest.param(GrpcUpstream.pause, GrpcUpstream.resume, id="paused"),
        pytest.param(lambda one: one.answer(delay_ms=2000), lambda one: one.answer(delay_ms=5), id="slow"),
        pytest.param(lambda one: one.answer(status=14, delay_ms=5), lambda one: one.answer(delay_ms=5), id="14"),
    ],
)
def test_no_idempotent_call_fails_while_half_of_the_servers_are_well(make: Make, begin: Change, end: Change) -> None:
    checks = "health: {grpc: {service: ''}, interval: 500ms, timeout: 400ms}\noutlier: {base_ejection_time: 1s}\n"
    stage = make(4, IDEMPOTENT + checks)
    for server in stage.upstreams:
        server.answer(delay_ms=5)
    with Callers(stage.port, 20, channels=2) as callers:
        callers.more(200)
        for server in stage.upstreams[:2]:
            begin(server)
        callers.more(1000)
        for server in stage.upstreams[:2]:
            end(server)
        for server in stage.upstreams[:2]:
            callers.until_served_by(server.name)
    assert not callers.failures


def test_health_checks_of_grpc_take_a_server_out_and_back(make: Make) -> None:
    stage = make(2, "health: {grpc: {service: ''}, interval: 200ms, timeout: 1s, unhealthy_threshold: 1}")
    with Callers(stage.port, 4, wish_delay_ms=1) as callers:
        for server in stage.upstreams:
            callers.until_served_by(server.name)
        stage.upstreams[0].answer(health=2)  # NOT_SERVING

        def out() -> bool:
            callers.more(50)
            return {one.server for one in callers.made[-20:]} == {"s1"}

        eventually(out)
        stage.upstreams[0].answer(health=1)
        callers.until_served_by("s0")
    assert not callers.failures
