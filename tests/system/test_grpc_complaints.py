"""What users of other proxies complained of in gRPC, each as a test: the real daemon does none of it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import grpc
import grpc.aio
import pytest

from tests.support.grpc_stage import Stage, failure, value
from tests.support.grpc_upstream import CLIENT_OPTIONS, GrpcUpstream, wishes
from tests.support.h2_app import H2Client
from tests.support.h2_server import H2Server, Session

S = 20.0
Make = Callable[..., Stage]

IDEMPOTENT = """
routes: [{match: {path: /test.Echo}, idempotent: true}]
retry: {max_retries: 2, on: [UNAVAILABLE], budget: {ratio: 1, min_per_second: 100}}
"""


@pytest.fixture
def make() -> Iterator[Make]:
    """`make(servers, policy=...)`: a stage, which ends with the test; so do the servers."""
    with ExitStack() as stack:

        def stage(*upstreams: GrpcUpstream | H2Server, **more: object) -> Stage:
            for upstream in upstreams:
                stack.enter_context(upstream)
            return stack.enter_context(Stage(*upstreams, **more))  # type: ignore[arg-type]

        yield stage


# The connection to the service.


def test_nothing_is_sent_after_goaway(make: Make) -> None:
    def leaves_after_each(session: Session, stream: int) -> None:
        session.leave(stream)
        session.answer(stream)

    server = H2Server(leaves_after_each)
    with make(server).app() as app:
        for _ in range(5):
            assert app.unary(b"", timeout=S) == b"ok"
    assert server.asked == [(number, 1) for number in range(5)]


def test_calls_above_the_last_of_goaway_go_elsewhere(make: Make) -> None:
    """The service has not looked at them, so they are sent again whatever their method."""

    def leaves_at_once(session: Session, stream: int) -> None:
        if session.number == 0:
            session.leave(0)
        else:
            session.answer(stream)

    server = H2Server(leaves_at_once)
    with make(server).app() as app:
        assert app.unary(b"", timeout=S) == b"ok"
    assert server.asked == [(0, 1), (1, 1)]


@pytest.mark.parametrize("calls", [1, 50])
def test_a_call_costs_no_connection(make: Make, calls: int) -> None:
    server = GrpcUpstream()
    with make(server).app() as app:
        for _ in range(calls):
            app.unary(b"", timeout=S)
    assert len(server.peers) == 1


def test_calls_beyond_the_servers_100_streams_get_another_connection(make: Make) -> None:
    server = GrpcUpstream(options=[("grpc.max_concurrent_streams", 100)])
    stage = make(server)

    async def call_all() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.port}", options=CLIENT_OPTIONS) as channel:
            unary = channel.unary_unary("/test.Echo/Unary")
            calls = [unary(b"", metadata=wishes(wish_delay_ms=500), timeout=S) for _ in range(250)]
            await asyncio.gather(*calls)

    asyncio.run(call_all())
    assert 3 <= len(server.peers) <= 6


def test_one_channel_is_balanced_call_by_call(make: Make) -> None:
    servers = [GrpcUpstream("a"), GrpcUpstream("b")]
    with make(*servers).app() as app:
        for number in range(40):
            app.unary(b"", metadata=wishes(x_id=number), timeout=S)
    assert Counter(line["server"] for server in servers for line in server.lines("begin")) == {"a": 20, "b": 20}


# What is sent again, and what is not.


def test_retries_see_a_status_in_trailers(make: Make) -> None:
    server = GrpcUpstream()
    with make(server, policy=IDEMPOTENT).app() as app:
        for headers_first in (0, 1):
            asked = wishes(
                x_id=f"t{headers_first}", wish_status=14, wish_fail_first=1, wish_headers_first=headers_first
            )
            assert app.unary(b"x", metadata=asked, timeout=S) == b"x"
            assert len(server.lines("begin", f"t{headers_first}")) == 2


def test_a_status_is_not_retried_where_nobody_allowed_it(make: Make) -> None:
    server = GrpcUpstream()
    with make(server).app() as app:
        error = failure(lambda: app.unary(b"", metadata=wishes(x_id="once", wish_status=14), timeout=S))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert len(server.lines("begin", "once")) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [(1, "INTERNAL"), (2, "INTERNAL"), (8, "CANCELLED"), (11, "RESOURCE_EXHAUSTED"), (13, "INTERNAL")],
)
def test_a_reset_after_sending_is_no_reason_to_send_again(make: Make, code: int, status: str) -> None:
    server = H2Server(lambda session, stream: session.reset(stream, code))
    with make(server).app() as app:
        error = failure(lambda: app.unary(b"", timeout=S))
    assert error.code().name == status
    assert len(server.asked) == 1


def test_a_refused_stream_is_sent_again(make: Make) -> None:
    refused: list[int] = []

    def refuses_the_first(session: Session, stream: int) -> None:
        if refused:
            session.answer(stream)
        else:
            refused.append(stream)
            session.reset(stream, 7)

    server = H2Server(refuses_the_first)
    with make(server).app() as app:
        assert app.unary(b"", timeout=S) == b"ok"
    assert len(server.asked) == 2


def test_pushback_is_obeyed(make: Make) -> None:
    server = GrpcUpstream()
    with make(server, policy=IDEMPOTENT).app() as app:
        no = wishes(x_id="no", wish_status=14, wish_fail_first=1, wish_pushback_ms="-1")
        assert failure(lambda: app.unary(b"", metadata=no, timeout=S)).code() is grpc.StatusCode.UNAVAILABLE
        assert len(server.lines("begin", "no")) == 1
        later = wishes(x_id="later", wish_status=14, wish_fail_first=1, wish_pushback_ms="300")
        app.unary(b"", metadata=later, timeout=S)
        first, second = server.lines("begin", "later")
        assert second["at"] - first["at"] >= 0.299


# Time.


def test_a_timeout_of_the_sidecars_is_deadline_exceeded(make: Make) -> None:
    server = GrpcUpstream()
    policy = "routes: [{match: {path: /test.Echo}, unary: true, timeout: {attempt: 200ms}}]"
    with make(server, policy=policy).app() as app:
        error = failure(lambda: app.unary(b"", metadata=wishes(x_id="slow", wish_delay_ms=15_000), timeout=S))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert value(error.trailing_metadata(), "x-sidecar-reason") == "attempt_timeout"
    assert server.ended("slow") == "cancelled"


def test_a_stream_outlives_the_timeouts_of_all_services(make: Make) -> None:
    server = GrpcUpstream()
    config = "defaults: {timeout: {attempt: 200ms, request: 300ms, idle: 200ms}}\n"
    with make(server, config=config).app() as app:
        for headers_first in (0, 1):
            began = time.monotonic()
            wanted = wishes(wish_count=2, wish_delay_ms=800, wish_headers_first=headers_first)
            assert list(app.down(b"event", metadata=wanted)) == [b"event"] * 2
            assert time.monotonic() - began > 0.7


# Bytes.


def test_a_long_upload_is_not_kept(make: Make) -> None:
    server = GrpcUpstream()
    stage = make(server, policy=IDEMPOTENT)
    assert stage.daemon is not None
    with stage.app() as app:
        app.unary(b"", timeout=S)
        stage.daemon.forget_peak_rss()
        before = stage.daemon.rss_mib()
        assert app.up((b"u" * 100_000 for _ in range(1000)), timeout=60) == b"1000 100000000"
        assert stage.daemon.peak_rss_mib() - before < 16


def test_windows_are_returned_for_as_long_as_a_stream_lasts(make: Make) -> None:
    server = GrpcUpstream()
    with make(server).app() as app:
        total = sum(len(each) for each in app.down(b"d" * 65_536, metadata=wishes(wish_count=800), timeout=60))
    assert total == 800 * 65_536


def test_a_stream_that_nobody_reads_stops_no_other(make: Make) -> None:
    server = GrpcUpstream()
    with make(server).app() as app:
        stalled = app.down(b"d" * 1_000_000, metadata=wishes(wish_count=50), timeout=60)
        assert next(stalled) == b"d" * 1_000_000
        for _ in range(20):
            assert len(app.unary(b"u" * 500_000, timeout=S)) == 500_000
        assert len(list(stalled)) == 49


# Words.


def test_what_the_sidecar_answers_itself_is_grpc(make: Make) -> None:
    server = GrpcUpstream()
    stage = make(server, policy="retry: {max_retries: 0}")
    server.kill()
    with stage.app() as app:
        error = failure(lambda: app.unary(b"", timeout=S))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        assert value(error.trailing_metadata(), "x-sidecar-reason") == "connect_failure"
        assert error.details() == f"127.0.0.1:{server.port}: connection refused"
        unknown = failure(lambda: app.channel.unary_unary("/other.Service/Get")(b"", timeout=S))
        assert unknown.code() is grpc.StatusCode.UNIMPLEMENTED
        assert value(unknown.trailing_metadata(), "x-sidecar-reason") == "unknown_service"


@pytest.mark.parametrize(("status", "code"), [(503, "UNAVAILABLE"), (500, "UNKNOWN"), (404, "UNIMPLEMENTED")])
def test_an_answer_that_is_not_grpc_gets_the_status_that_grpc_gives_it(make: Make, status: int, code: str) -> None:
    server = H2Server(lambda session, stream: session.head(stream, [("content-type", "text/html")], status, end=True))
    with make(server).app() as app:
        assert failure(lambda: app.unary(b"", timeout=S)).code().name == code
    assert len(server.asked) == 1


# The connection from the app.


def test_draining_says_goaway_and_lets_calls_end(make: Make) -> None:
    server = GrpcUpstream()
    stage = make(server, config="drain: {delay: 0s, timeout: 20s}\n")
    assert stage.daemon is not None
    with stage.app() as app, H2Client(stage.port) as watcher:
        assert watcher.call("/test.Echo/Unary").grpc == (0, "")
        call = app.unary.future(b"last", metadata=wishes(x_id="last", wish_delay_ms=1500), timeout=S)
        server.began("last")
        stage.daemon.signal()
        assert call.result() == b"last"
        watcher.until_closed()
        assert {code for code, _ in watcher.app.goaways} == {0}
    assert stage.daemon.wait() == 0


def test_keepalive_is_not_answered_with_too_many_pings(make: Make) -> None:
    server = GrpcUpstream()
    options = {"keepalive_time_ms": 50, "keepalive_permit_without_calls": 1}
    options |= {"http2.max_pings_without_data": 0, "http2.min_time_between_pings_ms": 50}
    with make(server).app(**options) as app:
        assert list(app.down(b"e", metadata=wishes(wish_count=2, wish_delay_ms=4000), timeout=S)) == [b"e"] * 2
        assert app.unary(b"x", timeout=S) == b"x"
    assert len(server.peers) == 1


def test_250_watches_at_the_start_are_no_flood(make: Make) -> None:
    server = GrpcUpstream()
    stage = make(server)

    async def watch_all() -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.port}", options=CLIENT_OPTIONS) as channel:
            down = channel.unary_stream("/test.Echo/Down")
            calls = [down(b"e", metadata=wishes(wish_count=2, wish_delay_ms=1000), timeout=S) for _ in range(250)]

            async def heard(call: grpc.aio.UnaryStreamCall) -> int:
                return len([message async for message in call])

            return sum(await asyncio.gather(*(heard(call) for call in calls)))

    assert asyncio.run(watch_all()) == 500
