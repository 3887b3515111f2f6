"""Real grpcio on both sides of the real daemon: all kinds of calls, and what comes back is what was sent.

Each test also runs without the daemon in between, which shows what grpcio itself does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from tests.support.grpc_stage import Stage, failure, value
from tests.support.grpc_upstream import CLIENT_OPTIONS, App, GrpcUpstream, wishes

S = 20.0
"""A deadline that no call here comes near."""


@pytest.fixture(scope="module", params=["aio", "threads"])
def upstream(request: pytest.FixtureRequest) -> Iterator[GrpcUpstream]:
    with GrpcUpstream(threaded=request.param == "threads") as one:
        yield one


@pytest.fixture(scope="module", params=["direct", "sidecar"])
def stage(request: pytest.FixtureRequest, upstream: GrpcUpstream) -> Iterator[Stage]:
    # The breaker would open: most calls of some of these tests are told to fail.
    with Stage(upstream, direct=request.param == "direct", policy="breaker: {mode: off}") as one:
        yield one


@pytest.fixture
def app(stage: Stage) -> Iterator[App]:
    with stage.app() as one:
        yield one


def test_unary(app: App) -> None:
    answer, call = app.unary.with_call(b"hello", timeout=S)
    assert answer == b"hello"
    assert call.code() is grpc.StatusCode.OK
    assert value(call.initial_metadata(), "served-by") == "one"
    assert value(call.trailing_metadata(), "trailing-by") == "one"


def test_empty_message(app: App) -> None:
    assert app.unary(b"", timeout=S) == b""


def test_three_megabytes_each_way(app: App) -> None:
    message = bytes(range(256)) * 12_000
    assert app.unary(message, timeout=S) == message


def test_a_thousand_calls_at_once(stage: Stage) -> None:
    async def call_all() -> list[bytes]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.port}", options=CLIENT_OPTIONS) as channel:
            unary = channel.unary_unary("/test.Echo/Unary")
            calls = [unary(b"%d" % number, timeout=S) for number in range(1000)]
            return await asyncio.gather(*calls)

    assert asyncio.run(call_all()) == [b"%d" % number for number in range(1000)]


def test_server_stream(app: App) -> None:
    call = app.down(b"m" * 1000, metadata=wishes(wish_count=500), timeout=S)
    assert list(call) == [b"m" * 1000] * 500
    assert value(call.trailing_metadata(), "trailing-by") == "one"


def test_client_stream(app: App) -> None:
    assert app.up(iter([b"x" * 10_000] * 300), timeout=S) == b"300 3000000"


def test_client_stream_of_nothing(app: App) -> None:
    assert app.up(iter([]), timeout=S) == b"0 0"


def test_both_ways_in_turns(app: App) -> None:
    """Each message is sent when the last one has come back, so nothing between may wait for more."""
    heard: list[bytes] = []
    begun = threading.Event()

    def says() -> Iterator[bytes]:
        yield b"0"
        begun.wait(S)
        for answer in call:
            heard.append(answer)
            if len(heard) == 50:
                return
            yield b"%d" % len(heard)

    call = app.both(says(), timeout=S)
    begun.set()
    assert call.code() is grpc.StatusCode.OK
    assert heard == [b"%d" % number for number in range(50)]


def test_both_ways_at_once(app: App) -> None:
    messages = [bytes([number]) * 30_000 for number in range(100)]
    assert list(app.both(iter(messages), timeout=S)) == messages


def test_asyncio_client(stage: Stage) -> None:
    async def calls() -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{stage.port}", options=CLIENT_OPTIONS) as channel:
            assert await channel.unary_unary("/test.Echo/Unary")(b"hello", timeout=S) == b"hello"
            down = channel.unary_stream("/test.Echo/Down")(b"m", metadata=wishes(wish_count=3), timeout=S)
            assert [message async for message in down] == [b"m"] * 3
            assert await channel.stream_unary("/test.Echo/Up")(iter([b"xyz"] * 3), timeout=S) == b"3 9"
            both = channel.stream_stream("/test.Echo/Both")(timeout=S)
            for message in (b"a", b"b"):
                await both.write(message)
                assert await both.read() == message
            await both.done_writing()
            assert await both.read() is grpc.aio.EOF
            assert await both.code() is grpc.StatusCode.OK

    asyncio.run(calls())


def test_metadata_both_ways(app: App, upstream: GrpcUpstream) -> None:
    every_byte = bytes(range(256))
    sent = wishes(x_id="metadata", x_text='a, b;c="d"', x_every_bin=every_byte, x_empty_bin=b"")
    _, call = app.unary.with_call(b"", metadata=(*sent, ("x-twice", "1"), ("x-twice", "2")), timeout=S)
    back = call.initial_metadata()
    assert value(back, "x-text") == 'a, b;c="d"'
    assert value(back, "x-every-bin") == every_byte
    assert value(back, "x-empty-bin") == b""
    twice = [each for key, each in back if key == "x-twice"]
    assert twice in (["1", "2"], ["1, 2"], ["1,2"])
    assert value(call.trailing_metadata(), "trailing-bin") == every_byte
    assert upstream.began("metadata")["metadata"]["user-agent"].startswith("grpc-python/")


def test_compressed_messages(app: App) -> None:
    message = b"again and again " * 10_000
    assert app.unary(message, timeout=S, compression=grpc.Compression.Gzip) == message


@pytest.mark.parametrize("headers_first", [0, 1], ids=["trailers-only", "trailers"])
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_errors_pass_whole(app: App, code: grpc.StatusCode, headers_first: int) -> None:
    words = '50% of "nothing"\n\u20ac'
    wanted = wishes(wish_status=code.value[0], wish_headers_first=headers_first, x_text="t")
    error = failure(lambda: app.unary(b"x", metadata=(*wanted, ("wish-details-bin", words.encode())), timeout=S))
    assert (error.code(), error.details()) == (code, words)
    assert value(error.trailing_metadata(), "trailing-by") == "one"
    assert value(error.trailing_metadata(), "trailing-bin") == bytes(range(256))
    assert value(error.trailing_metadata(), "x-sidecar-reason") is None
    assert value(error.initial_metadata(), "x-text") == ("t" if headers_first else None)


def test_a_status_after_messages(app: App) -> None:
    call = app.down(b"m", metadata=wishes(wish_count=3, wish_status=8, wish_details="enough"), timeout=S)
    heard: list[bytes] = []
    error = failure(lambda: heard.extend(call))
    assert heard == [b"m"] * 3
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "enough")


def test_trailers_of_40_kilobytes(app: App) -> None:
    for more in (wishes(), wishes(wish_status=5), wishes(wish_status=5, wish_headers_first=1)):
        call = app.unary.future(b"x", metadata=(*wishes(wish_trailer_bytes=40_000), *more), timeout=S)
        assert value(call.trailing_metadata(), "trailing-long") == "t" * 40_000
        assert call.code() is (grpc.StatusCode.NOT_FOUND if more else grpc.StatusCode.OK)


def test_unknown_method(app: App) -> None:
    error = failure(lambda: app.channel.unary_unary("/test.Echo/Nothing")(b"", timeout=S))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.details() == "Method not found!"


def test_deadline_goes_to_the_server_and_ends_the_call(app: App, upstream: GrpcUpstream, stage: Stage) -> None:
    call = f"deadline-{stage.port}"
    error = failure(lambda: app.unary(b"", metadata=wishes(x_id=call, wish_delay_ms=10_000), timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0 < upstream.began(call)["left_s"] < 0.35  # grpcio rounds up
    assert upstream.ended(call) == "cancelled"


def test_no_deadline_is_none(app: App, upstream: GrpcUpstream, stage: Stage) -> None:
    call = f"no-deadline-{stage.port}"
    app.unary(b"", metadata=wishes(x_id=call))
    left = upstream.began(call)["left_s"]
    assert left is None or left > 1e6


@pytest.mark.parametrize("kind", ["unary", "down", "up", "both"])
def test_a_cancelled_call_is_cancelled_at_the_server(app: App, upstream: GrpcUpstream, stage: Stage, kind: str) -> None:
    call_id = f"cancel-{kind}-{stage.port}"
    more = {"metadata": wishes(x_id=call_id, wish_delay_ms=15_000, wish_count=2), "timeout": S}
    call = {
        "unary": lambda: app.unary.future(b"", **more),
        "down": lambda: app.down(b"", **more),
        "up": lambda: app.up.future(iter([]), **more),
        "both": lambda: app.both(iter([]), **more),
    }[kind]()
    upstream.began(call_id)
    call.cancel()
    assert upstream.ended(call_id) == "cancelled"
    assert call.code() is grpc.StatusCode.CANCELLED


def test_an_app_that_ends_takes_its_calls_with_it(stage: Stage, upstream: GrpcUpstream) -> None:
    call_id = f"gone-{stage.port}"
    with stage.app() as app:
        call = app.unary.future(b"", metadata=wishes(x_id=call_id, wish_delay_ms=15_000), timeout=S)
        upstream.began(call_id)
    assert upstream.ended(call_id) == "cancelled"
    assert call.code() is grpc.StatusCode.CANCELLED
