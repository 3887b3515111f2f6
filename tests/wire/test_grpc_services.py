"""The service's side of HTTP/2 against real grpcio servers on real sockets: pool, connection and stream; no app."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from sidecar.config.schema import EndpointSpec, Service, Url
from sidecar.policy.settings import Limits, Policy, TlsSettings
from sidecar.proxy.body_sink import BodySink
from sidecar.proxy.h2.response import H2ResponseHead
from sidecar.proxy.http1.head_syntax import CHUNKED, Trailers
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.upstream.h2_pool import H2Pool
from sidecar.proxy.upstream.opening import Openings
from sidecar.proxy.upstream.slots import ConnectionBudget
from sidecar.proxy.upstream.stream import AttemptListener, Lost, UpstreamStream
from sidecar.runtime.additions import Additions
from sidecar.runtime.service import LiveService
from tests.proxy.h2_bench import grpc_head
from tests.support.certificate import Authority, put
from tests.support.tls_upstream import TlsUpstream

MIB = 1024 * 1024
UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Methods whose messages are bytes."""

    def service(self, details: Any) -> Any:
        kinds = {
            "Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Many": grpc.unary_stream_rpc_method_handler(self.many),
            "Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            "Talk": grpc.stream_stream_rpc_method_handler(self.talk),
        }
        return kinds.get(details.method.rpartition("/")[2])

    def echo(self, request: bytes, context: Any) -> bytes:
        return request

    def fail(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("details-bin", bytes(range(256)) * 160),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no, ünd why")
        raise AssertionError

    def many(self, request: bytes, context: Any) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number

    def sum(self, requests: Iterator[bytes], context: Any) -> bytes:
        return b"%d" % sum(map(int, requests))

    def talk(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        yield from requests


def message(data: bytes) -> bytes:
    return b"\x00" + struct.pack(">I", len(data)) + data


def messages(body: bytes) -> list[bytes]:
    found = []
    while body:
        size = struct.unpack(">I", body[1:5])[0]
        found.append(body[5 : 5 + size])
        body = body[5 + size :]
    return found


class Call(AttemptListener, BodySink):
    """One attempt, which takes all of its answer; `ends` is told its trailers, or why there are none."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.streams: asyncio.Future[UpstreamStream] = loop.create_future()
        self.ends: asyncio.Future[Trailers] = loop.create_future()
        self.response: ResponseHead | None = None
        self.arrived: list[bytes] = []
        self.more = asyncio.Event()
        self.stream: UpstreamStream | None = None
        self.body = RequestBody(CHUNKED, 64 * 1024, plain=True)
        self.may_send = asyncio.Event()
        self.may_send.set()

    @property
    def answer(self) -> list[bytes]:
        return messages(b"".join(self.arrived))

    async def answered(self, count: int = 1) -> None:
        """So many messages are here."""
        async with asyncio.timeout(30):
            while len(self.answer) < count:
                self.more.clear()
                await self.more.wait()

    def said(self, trailers: Trailers) -> dict[bytes, bytes]:
        """Of an answer without messages, its head bears what trailers do."""
        assert isinstance(self.response, H2ResponseHead)
        return dict([*self.response.fields, *trailers])

    def connected(self, stream: UpstreamStream) -> None:
        self.streams.set_result(stream)

    def connect_failed(self, reason: str, detail: str) -> None:
        self.streams.set_exception(Lost(reason, detail))

    def interim(self, response: ResponseHead) -> None:
        raise AssertionError

    def response_began(self, response: ResponseHead) -> None:
        self.response = response
        assert self.stream is not None
        self.arrived += self.stream.relay(self)
        if self.stream.complete:
            self.response_ended(self.stream.trailers())

    def write_body(self, pieces: list[bytes]) -> None:
        self.arrived += pieces
        self.more.set()

    def response_ended(self, trailers: Trailers = ()) -> None:
        self.ends.set_result(trailers)

    def attempt_lost(self, lost: Lost) -> None:
        self.ends.set_exception(lost)

    def pause_upload(self) -> None:
        self.may_send.clear()

    def resume_upload(self) -> None:
        self.may_send.set()

    def push(self, data: bytes, *, end: bool = False) -> None:
        assert self.stream is not None
        self.body.arrived(len(data), end=end)
        self.stream.send_body([data] if data else [], end=end)


class Side:
    """The service's side of a service with one endpoint."""

    def __init__(self, port: int, max_connections: int = 100, ca_file: Path | None = None) -> None:
        loop = asyncio.get_running_loop()
        spec = EndpointSpec(url=Url("h2c" if ca_file is None else "https", "127.0.0.1", port))
        tls = TlsSettings(ca_file=None if ca_file is None else str(ca_file))
        policy = Policy(limits=Limits(max_connections=max_connections), tls=tls)
        config = Service(name="shop", endpoints=(spec,), protocol="h2", policy=policy)
        self.service = LiveService(config, loop.time(), lambda: 0.0, loop.time)
        self.service.set_endpoints([(spec, "127.0.0.1")], loop.time())
        self.openings = Openings(loop)
        self.pool = H2Pool(self.service, self.openings, ConnectionBudget(1000), lambda host: None)
        self.calls: list[Call] = []

    def take(self) -> UpstreamStream | None:
        return self.pool.take(self.service.endpoints[0], asyncio.get_running_loop().time(), repeatable=False)

    async def begin(self, method: str, *, timeout_s: float = 5.0) -> Call:
        call = Call()
        self.calls.append(call)
        stream = self.take()
        if stream is None:
            self.pool.connect(self.service.endpoints[0], call, timeout_s)
            stream = await call.streams
        call.stream = stream
        head = grpc_head()
        target = b"/shop.v1.Venue/" + method.encode()
        additions = Additions(b"sidecar-1", None, 1, 0, False)
        assert stream.send(call, head, target, b"shop", additions, None, None, call.body, True)
        return call

    async def unary(self, method: str, data: bytes) -> tuple[list[bytes], dict[bytes, bytes]]:
        call = await self.begin(method)
        call.push(message(data), end=True)
        return await self.end(call)

    async def end(self, call: Call) -> tuple[list[bytes], dict[bytes, bytes]]:
        try:
            async with asyncio.timeout(30):
                trailers = await call.ends
        finally:
            assert call.stream is not None
            call.stream.release(asyncio.get_running_loop().time())
        return call.answer, call.said(trailers)

    async def close(self) -> None:
        for call in self.calls:
            if call.stream is not None:
                call.stream.close()
            if call.ends.done() and not call.ends.cancelled():
                call.ends.exception()
        self.openings.close()
        self.pool.close_idle()
        endpoint = self.service.endpoints[0]
        assert (self.service.connections, endpoint.active, endpoint.idle) == (0, 0, 0)
        assert self.service.waiting == 0


async def all_closed(openings: Openings) -> None:
    """A connection reads on for a while after it has left, and asyncio's TLS waits for the peer to say goodbye."""
    transports = asyncio.get_running_loop()._transports  # type: ignore[attr-defined]
    quiet = 0
    async with asyncio.timeout(10):
        while quiet < 10:
            await asyncio.sleep(0.001)
            quiet += 1
            for one in list(transports.values()):
                if one._sock is not None:
                    one.abort()
                    quiet = 0
            if len(openings):
                quiet = 0


@asynccontextmanager
async def serving(
    options: list[tuple[str, int]] | None = None, max_connections: int = 100, tls: Path | None = None
) -> AsyncIterator[tuple[Side, Any]]:
    server = grpc.server(ThreadPoolExecutor(8), handlers=[Handlers()], options=[*UNLIMITED, *(options or [])])
    if tls is None:
        port, ca_file = server.add_insecure_port("127.0.0.1:0"), None
    else:
        authority = Authority()
        ca_file, issued = put(tls / "ca.pem", authority.pem), authority.issue()
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(issued.key, issued.chain)]))
    server.start()
    side = Side(port, max_connections, ca_file)
    try:
        yield side, server
    finally:
        await side.close()
        await asyncio.to_thread(server.stop(None).wait)
        await all_closed(side.openings)


async def test_unary_calls_and_streams_of_all_kinds() -> None:
    async with serving() as (side, _):
        answer, trailers = await side.unary("Echo", b"hello")
        assert (answer, trailers[b"grpc-status"]) == ([b"hello"], b"0")
        found, trailers = await side.unary("Many", b"1000")
        assert (found, trailers[b"grpc-status"]) == ([b"%d" % number for number in range(1000)], b"0")
        call = await side.begin("Sum")
        for number in range(500):
            call.push(message(b"%d" % number))
        call.push(b"", end=True)
        assert (await side.end(call))[0] == [b"124750"]
        talk = await side.begin("Talk")
        for number in range(50):
            talk.push(message(b"%d" % number))
            await talk.answered(number + 1)
        talk.push(b"", end=True)
        assert (await side.end(talk))[0] == [b"%d" % number for number in range(50)]
        assert side.service.connections == 1


async def test_three_megabytes_both_ways() -> None:
    """Above every window: what the server grants, and what we grant, comes in parts."""
    async with serving() as (side, _):
        data = bytes(range(256)) * (3 * MIB // 256)
        call = await side.begin("Echo")
        whole = message(data)
        paused = 0
        for at in range(0, len(whole), 64 * 1024):
            if not call.may_send.is_set():
                paused += 1
                async with asyncio.timeout(10):
                    await call.may_send.wait()
            call.push(whole[at : at + 64 * 1024])
        call.push(b"", end=True)
        answer, trailers = await side.end(call)
        assert answer == [data]
        assert trailers[b"grpc-status"] == b"0"
        assert paused


async def test_errors_and_trailers_of_40_kilobytes() -> None:
    async with serving([("grpc.max_metadata_size", 1 << 20), ("grpc.absolute_max_metadata_size", 1 << 20)]) as found:
        side = found[0]
        answer, trailers = await side.unary("Fail", b"x")
        assert answer == []
        assert trailers[b"grpc-status"] == b"9"
        assert trailers[b"grpc-message"] == b"no, %C3%BCnd why"
        assert len(trailers[b"details-bin"]) > 50_000
        assert (await side.unary("None", b"x"))[1][b"grpc-status"] == b"12"


async def test_a_thousand_calls_at_once_of_100_a_connection() -> None:
    async with serving([("grpc.max_concurrent_streams", 100)]) as (side, _):
        answers = await asyncio.gather(*[side.unary("Echo", b"%d" % number) for number in range(1000)])
        assert [answer for answer, _ in answers] == [[b"%d" % number] for number in range(1000)]
        assert side.service.connections <= 11


async def test_calls_wait_for_one_another_where_there_is_room_for_one() -> None:
    async with serving([("grpc.max_concurrent_streams", 1)], max_connections=1) as (side, _):
        await side.unary("Echo", b"first")
        answers = await asyncio.gather(*[side.unary("Echo", b"%d" % number) for number in range(50)])
        assert [answer for answer, _ in answers] == [[b"%d" % number] for number in range(50)]
        assert side.service.connections == 1


async def test_a_cancelled_call_ends_at_the_server_too() -> None:
    async with serving() as (side, _):
        call = await side.begin("Talk")
        call.push(message(b"x"))
        await call.answered()
        assert call.stream is not None
        call.stream.close()
        assert (await side.unary("Echo", b"after"))[0] == [b"after"]
        assert side.service.connections == 1


async def test_a_server_that_stops_lets_its_calls_end_and_new_ones_go_elsewhere() -> None:
    """GOAWAY in the midst of a stream: it ends well, and what comes after it finds no server."""
    async with serving() as (side, server):
        talk = await side.begin("Talk")
        talk.push(message(b"before"))
        await talk.answered()
        stopped = server.stop(10)
        while (stream := side.take()) is not None:  # until GOAWAY is here
            stream.close()
            await asyncio.sleep(0.01)
        talk.push(message(b"after"))
        talk.push(b"", end=True)
        answer, trailers = await side.end(talk)
        assert (answer, trailers[b"grpc-status"]) == ([b"before", b"after"], b"0")
        with pytest.raises(Lost) as refused:
            await side.begin("Echo")
        assert refused.value.reason == "connect_failure"
        await asyncio.to_thread(stopped.wait)


async def test_a_server_killed_under_a_hundred_calls_ends_each_once() -> None:
    async with serving() as (side, server):
        calls = [await side.begin("Talk") for _ in range(100)]
        for call in calls:
            call.push(message(b"x"))
        for call in calls[:8]:  # as many as the server has threads
            await call.answered()
        await asyncio.to_thread(server.stop(0).wait)
        ends = await asyncio.gather(*[call.ends for call in calls], return_exceptions=True)
        assert len(ends) == 100
        for call, end in zip(calls, ends, strict=True):
            if isinstance(end, Lost):
                assert end.reason in ("reset", "truncated")
            else:
                assert not isinstance(end, BaseException)
                assert call.said(end)[b"grpc-status"] in (b"1", b"2", b"14")


async def test_calls_over_tls(tmp_path: Path) -> None:
    """The protocol is agreed on in the handshake (ALPN)."""
    async with serving(tls=tmp_path) as (side, _):
        answers = await asyncio.gather(*[side.unary("Echo", b"%d" % number) for number in range(100)])
        assert [answer for answer, _ in answers] == [[b"%d" % number] for number in range(100)]
        assert side.service.connections == 1


async def test_a_server_of_tls_that_does_not_choose_http2_is_told_in_words(tmp_path: Path) -> None:
    authority = Authority()
    upstream = TlsUpstream(authority.serving())
    side = Side(upstream.port, ca_file=put(tmp_path / "ca.pem", authority.pem))
    with pytest.raises(Lost) as failed:
        await side.begin("Echo")
    assert failed.value.reason == "connect_failure"
    assert str(failed.value) == "the server does not speak HTTP/2 over TLS: it did not choose h2 (ALPN)"
    assert side.service.endpoints[0].connect_failures == 1
    await side.close()
    upstream.stop()
    await all_closed(side.openings)
