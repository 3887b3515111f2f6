"""The gRPC fakes on the wire: what a channel of grpcio sees of each answer, without a sidecar."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from sidecar.testing import grpc_server as grpc_server_module
from sidecar.testing.errors import FakeError
from sidecar.testing.grpc_answers import grpc_answer
from sidecar.testing.grpc_calls import GrpcCall
from sidecar.testing.grpc_script import GrpcScript, GrpcScripts
from sidecar.testing.grpc_server import GrpcListener, GrpcServer
from sidecar.testing.script import ServiceScript
from sidecar.testing.server import FakeServer
from tests.support.eventually import eventually

GET = "/shop.v1.Venue/Get"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def behind(server: FakeServer) -> Iterator[GrpcServer]:
    behind = GrpcServer(server.loop)
    yield behind
    behind.close()


class Venue:
    """One fake with a port, and a channel to it."""

    def __init__(self, server: FakeServer, behind: GrpcServer) -> None:
        self.service = ServiceScript("venue", "fake.venue")
        self.scripts = GrpcScripts(self.service)
        self.port = GrpcListener(self.scripts, behind)
        server.up(self.port)
        # Each channel has connections of its own, and is not slow to try again.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port.port}", options)

    def script(self, path: str = GET) -> GrpcScript:
        return self.scripts.script(path)

    def unary(self, message: bytes = b"", path: str = GET, **how: Any) -> tuple[bytes, grpc.Call]:
        return self.channel.unary_unary(path).with_call(message, timeout=how.pop("timeout", 10), **how)

    def failed(self, message: bytes = b"", **how: Any) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as error:
            self.unary(message, **how)
        return error.value


@pytest.fixture
def venue(server: FakeServer, behind: GrpcServer) -> Iterator[Venue]:
    venue = Venue(server, behind)
    yield venue
    venue.channel.close()
    server.close_all([venue.port])


def test_a_call_is_recorded_as_it_came(venue: Venue) -> None:
    venue.script().then(b"reply", headers={"kind": "a"}, trailers={"detail-bin": b"\0\1"})
    before = time.monotonic()
    reply, call = venue.unary(b"ask", metadata=[("user", "1"), ("user", "2"), ("x-bin", b"\0")], timeout=5)
    assert (reply, call.code()) == (b"reply", grpc.StatusCode.OK)
    assert ("kind", "a") in call.initial_metadata()
    assert ("detail-bin", b"\0\1") in call.trailing_metadata()
    (got,) = venue.scripts.calls
    assert (got.service, got.path, got.message, got.answered) == ("venue", GET, b"ask", "OK")
    assert got.metadata.getall("user") == ["1", "2"]
    assert got.metadata["x-bin"] == b"\0"
    assert before <= got.at <= time.monotonic()
    assert got.time_left is not None
    assert 3 < got.time_left < 5.1, "grpcio counts by the wall clock, and rounds"


def test_a_call_without_a_deadline(venue: Venue) -> None:
    venue.script().then()
    venue.unary(timeout=None)
    assert venue.scripts.calls[0].time_left is None


def test_answers_come_in_turn(venue: Venue) -> None:
    venue.script().fails(details="no seat").fails("NOT_FOUND", trailers={"reason": "gone"}).then(b"x")
    error = venue.failed()
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "no seat")
    error = venue.failed()
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert ("reason", "gone") in error.trailing_metadata()
    assert venue.unary()[0] == b"x"


def test_every_status_can_be_given(venue: Venue) -> None:
    venue.script().answers(lambda call: grpc_answer(status=int(call.message)))
    for code in grpc.StatusCode:
        if code is not grpc.StatusCode.OK:
            assert venue.failed(str(code.value[0]).encode()).code() == code


def test_a_delay_and_a_deadline(venue: Venue) -> None:
    venue.script().delays(0.2).then(b"late").delays(60).then()
    began = time.monotonic()
    assert venue.unary()[0] == b"late"
    assert time.monotonic() - began >= 0.2
    assert venue.failed(timeout=0.2).code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_streams_of_both_sides(venue: Venue) -> None:
    venue.script("/a.B/Down").then([b"1", b"2", b"3"], every=0.01)
    venue.script("/a.B/Up").answers(lambda call: b"+".join(call.messages))
    venue.script("/a.B/Half").then([b"1", b"2"], status="DATA_LOSS", details="half")
    assert list(venue.channel.unary_stream("/a.B/Down")(b"", timeout=10)) == [b"1", b"2", b"3"]
    assert venue.channel.stream_unary("/a.B/Up")(iter([b"1", b"2"]), timeout=10) == b"1+2"
    half = venue.channel.unary_stream("/a.B/Half")(b"", timeout=10)
    got = [next(half), next(half)]
    with pytest.raises(grpc.RpcError) as error:
        next(half)
    assert (got, error.value.code(), error.value.details()) == ([b"1", b"2"], grpc.StatusCode.DATA_LOSS, "half")
    assert list(venue.channel.unary_stream("/a.B/Down")(b"", timeout=10)) == [b"1", b"2", b"3"]


class Asking:
    """An app that sends its next message when it has read the reply to the last."""

    def __init__(self) -> None:
        self._go = threading.Semaphore(1)
        self._over = False

    def __iter__(self) -> Iterator[bytes]:
        for number in range(10):
            if not self._go.acquire(timeout=10) or self._over:
                return
            yield b"%d" % number

    def go(self) -> None:
        self._go.release()

    def end(self) -> None:
        self._over = True
        self.go()


def test_a_conversation(venue: Venue) -> None:
    def talk(call: GrpcCall, messages: Iterator[bytes]) -> Iterator[object]:
        yield b"hello"
        for message in messages:
            yield b"you said " + message
        yield grpc_answer([b"bye"], status="OUT_OF_RANGE", trailers={"count": str(len(call.messages))})

    venue.script().converses(talk)
    asking = Asking()
    replies = venue.channel.stream_stream(GET)(iter(asking), timeout=20)
    assert next(replies) == b"hello"
    assert next(replies) == b"you said 0"
    asking.go()
    assert next(replies) == b"you said 1"
    asking.end()
    assert next(replies) == b"bye"
    with pytest.raises(grpc.RpcError) as error:
        next(replies)
    assert error.value.code() == grpc.StatusCode.OUT_OF_RANGE
    assert ("count", "2") in error.value.trailing_metadata()
    (call,) = venue.scripts.calls
    assert call.messages == [b"0", b"1"]


def test_silence_ends_with_the_call(venue: Venue) -> None:
    venue.script().hangs()
    call = venue.channel.unary_unary(GET).future(b"", timeout=30)
    eventually(lambda: venue.script().assert_called(times=1))
    call.cancel()
    assert venue.failed(timeout=0.1).code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_silence_is_bounded(venue: Venue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_server_module, "HANG_S", 0.05)
    venue.script().hangs()
    error = venue.failed()
    assert error.details() == "the fake has been silent for its longest time"


def test_a_reset_ends_all_calls_of_its_connection(venue: Venue) -> None:
    venue.script("/a.B/Wait").hangs()
    venue.script().resets().then(b"again")
    waiting = venue.channel.unary_unary("/a.B/Wait").future(b"", timeout=30)
    eventually(lambda: venue.script("/a.B/Wait").assert_called())
    error = venue.failed()
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert waiting.exception(timeout=10).code() == grpc.StatusCode.UNAVAILABLE
    assert venue.unary(wait_for_ready=True)[0] == b"again"


def test_down_and_up(venue: Venue, server: FakeServer) -> None:
    venue.script().then(b"x").hangs()
    assert venue.unary()[0] == b"x"
    port = venue.port.port
    waiting = venue.channel.unary_unary(GET).future(b"", timeout=30)
    eventually(lambda: venue.script().assert_called(times=2))
    server.down(venue.port)
    server.down(venue.port)
    assert waiting.exception(timeout=10).code() == grpc.StatusCode.UNAVAILABLE
    assert venue.failed().code() == grpc.StatusCode.UNAVAILABLE
    venue.script().clear().then(b"y")
    server.up(venue.port)
    server.up(venue.port)
    assert venue.unary(wait_for_ready=True)[0] == b"y"
    assert venue.port.port == port


def test_a_call_that_ends_before_its_last_message_is_recorded(venue: Venue) -> None:
    """grpcio may show its end as that of the messages."""
    venue.script().then()
    call = venue.channel.stream_unary(GET).future(iter(Asking()), timeout=0.3)
    assert call.exception(timeout=10).code() == grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: venue.script().assert_called(times=1))
    assert [list(one.messages) for one in venue.scripts.calls] == [[b"0"]]


def test_a_function_of_the_test_that_fails(venue: Venue) -> None:
    def wrong(call: GrpcCall) -> bytes:
        raise ValueError(f"no answer to {call.message!r}")

    def talk(call: GrpcCall, messages: Iterator[bytes]) -> Iterator[object]:
        yield b"first"
        yield 7

    venue.script().answers(wrong).converses(talk)
    error = venue.failed(b"x")
    assert (error.code(), error.details()) == (
        grpc.StatusCode.UNKNOWN,
        "the function that answers failed: ValueError",
    )
    with pytest.raises(grpc.RpcError, match="FakeError"):
        list(venue.channel.stream_stream(GET)(iter([b""]), timeout=10))
    first, second = venue.service.problems()
    assert "the function that answers gRPC /shop.v1.Venue/Get failed" in first
    assert "ValueError: no answer to b'x'" in first
    assert "a message must be bytes" in second


def test_an_async_function_answers_in_the_loop_of_the_fakes(venue: Venue, server: FakeServer) -> None:
    async def answered(call: GrpcCall) -> bytes:
        await asyncio.sleep(0)
        assert asyncio.get_running_loop() is server.loop
        return b"from the loop"

    venue.script().answers(answered)
    assert venue.unary()[0] == b"from the loop"


def test_a_function_may_wait_while_others_are_answered(venue: Venue) -> None:
    go = threading.Event()
    venue.script().answers(lambda call: b"late" if go.wait(10) else b"never")
    venue.script("/a.B/C").then(b"at once")
    waiting = venue.channel.unary_unary(GET).future(b"", timeout=20)
    eventually(lambda: venue.script().assert_called())
    assert venue.unary(path="/a.B/C")[0] == b"at once"
    go.set()
    assert waiting.result(timeout=10) == b"late"


def test_large_messages_and_trailers_pass_whole(venue: Venue) -> None:
    venue.script().answers(lambda call: grpc_answer(call.message, trailers={"long": "x" * 40_000}))
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]
    with grpc.insecure_channel(f"127.0.0.1:{venue.port.port}", [*options, ("grpc.use_local_subchannel_pool", 1)]) as to:
        big = bytes(range(256)) * (5 << 12)
        reply, call = to.unary_unary(GET).with_call(big, timeout=20)
    assert reply == big
    assert ("long", "x" * 40_000) in call.trailing_metadata()


def test_many_calls_at_once(venue: Venue) -> None:
    venue.script().answers(lambda call: call.message)
    calls = [venue.channel.unary_unary(GET).future(b"%d" % number, timeout=20) for number in range(200)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(200)]


def test_two_fakes_of_one_server(venue: Venue, server: FakeServer, behind: GrpcServer) -> None:
    other = Venue(server, behind)
    try:
        venue.script().then(b"venue")
        other.script().then(b"other")
        assert (venue.unary()[0], other.unary()[0]) == (b"venue", b"other")
    finally:
        other.channel.close()
        server.close_all([other.port])
    assert len(venue.scripts.calls) == len(other.scripts.calls) == 1
    eventually(lambda: _equal(len(behind.connections), 1))


def _equal(found: object, wanted: object) -> None:
    assert found == wanted


def test_without_grpcio_the_words_say_what_to_install(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(grpc_server_module, "import_module", missing)
    with pytest.raises(FakeError, match=r"pip install 'service-sidecar\[grpc\]'"):
        GrpcServer(server.loop)


def test_asyncio_channels_are_served_too(venue: Venue) -> None:
    venue.script().then(b"x")

    async def ask() -> bytes:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{venue.port.port}") as channel:
            found: bytes = await channel.unary_unary(GET)(b"", timeout=10)
            return found

    assert asyncio.run(ask()) == b"x"
