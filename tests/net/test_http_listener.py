"""The HTTP listener: the limit on connections, which one makes room, idle times; without and with TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from sidecar.net import http_listener as module
from sidecar.net.http_listener import Bounds, HttpListener
from tests.support.certificate import make_certificate
from tests.support.kubernetes_api import until

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Certificate:
    """A server's context, and a client's that trusts it."""

    def __init__(self, folder: Path) -> None:
        self.server, path = make_certificate(folder)
        self.client = ssl.create_default_context(cafile=path)


class Listening:
    """A listener with these bounds; its handler waits for `gate`."""

    def __init__(self, bounds: Bounds, certificate: Certificate | None) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.server = web.Server(self._handle, access_log=None)
        self.tls: ssl.SSLContext | None = None
        self.trust: ssl.SSLContext | None = None
        self.handshakes = 0
        """That came as far as a ClientHello, where they begin to cost."""
        if certificate is not None:
            self.tls, self.trust = certificate.server, certificate.client
            self.tls.sni_callback = self._count
        self.listener = HttpListener(self.server, bounds, self.tls)
        self.port = 0
        self.opened: list[asyncio.StreamWriter] = []
        self.asked = 0

    def _count(self, *_: object) -> None:
        self.handshakes += 1

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        with self.listener.under_way(request.protocol):
            self.asked += 1
            await self.gate.wait()
        return web.Response(text="here")

    async def open(self, *, tls: bool = True, address: str = "127.0.0.1") -> Stream:
        context = self.trust if tls else None
        own = (address, 0)
        stream = await asyncio.open_connection("127.0.0.1", self.port, ssl=context, local_addr=own)
        self.opened.append(stream[1])
        return stream


@asynccontextmanager
async def listening(certificate: Certificate | None = None, **bounds: float) -> AsyncIterator[Listening]:
    found = Listening(Bounds(**{"most": 100} | bounds), certificate)  # type: ignore[arg-type]
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    found.port = bound.getsockname()[1]
    await found.listener.start([bound])
    try:
        yield found
    finally:
        await found.listener.end(0.1)
        for writer in found.opened:
            writer.transport.abort()


@pytest.fixture(params=["plain", "tls"])
def certificate(request: pytest.FixtureRequest, tmp_path: Path) -> Certificate | None:
    return Certificate(tmp_path) if request.param == "tls" else None


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_S", 0.01)


async def ask(stream: Stream) -> bytes:
    reader, writer = stream
    writer.write(ASK)
    return await reader.readuntil(b"here")


async def closed(stream: Stream) -> None:
    """The other side closed it, by TLS's closing message, end of file or a reset."""
    try:
        async with asyncio.timeout(5):
            while await stream[0].read(100):
                pass
    except (ConnectionError, ssl.SSLError):
        pass


@pytest.mark.parametrize("most", [1, 3])
async def test_a_connection_too_many_gets_a_503_when_all_are_busy(most: int) -> None:
    async with listening(most=most) as found:
        found.gate.clear()
        for _ in range(most):
            (await found.open())[1].write(ASK)
        await until(lambda: found.asked == most)
        reader, _ = await found.open()
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 503")
        assert (found.listener.refused, len(found.listener)) == (1, most)
        found.gate.set()
        found.opened[0].close()
        await until(lambda: len(found.listener) < most)
        async with asyncio.timeout(5):
            await ask(await found.open())


async def test_a_refused_connection_costs_no_handshake(tmp_path: Path) -> None:
    async with listening(Certificate(tmp_path), most=2) as found:
        found.gate.clear()
        for _ in range(2):
            (await found.open())[1].write(ASK)
        await until(lambda: found.asked == 2)
        assert found.handshakes == 2
        for _ in range(20):
            with pytest.raises((ConnectionError, ssl.SSLError)):
                await found.open()
        assert (found.listener.refused, found.handshakes, len(found.listener)) == (20, 2, 2)
        found.gate.set()


async def test_the_longest_idle_connection_makes_room(certificate: Certificate | None) -> None:
    async with listening(certificate, most=3) as found:
        first, second = await found.open(), await found.open()
        await ask(second)
        await ask(first)
        busy = await found.open()
        found.gate.clear()
        busy[1].write(ASK)
        await until(lambda: found.asked == 3)
        newcomer = await found.open()
        newcomer[1].write(ASK[:-2])
        await closed(second)
        found.gate.set()
        first[1].write(ASK)
        newcomer[1].write(ASK[-2:])
        async with asyncio.timeout(5):
            for one in (first, busy, newcomer):
                await one[0].readuntil(b"here")
        assert found.listener.refused == 0


async def test_idle_connections_keep_nobody_out(certificate: Certificate | None) -> None:
    async with listening(certificate, most=4) as found:
        for _ in range(20):
            await found.open()
            assert len(found.listener) <= 4
        async with asyncio.timeout(5):
            await ask(await found.open())
        assert len(found.listener) == 4
        await until(lambda: len(found.server.connections) == 4)


async def test_one_client_cannot_keep_the_others_out(certificate: Certificate | None) -> None:
    """With requests that take long, on as many connections as it likes."""
    async with listening(certificate, most=4, most_each=2) as found:
        found.gate.clear()
        for _ in range(2):
            (await found.open())[1].write(ASK)
        await until(lambda: found.asked == 2)
        for _ in range(3):
            with suppress(ConnectionError, ssl.SSLError):
                await closed(await found.open())
        assert (found.listener.refused, len(found.listener)) == (3, 2)
        others = [await found.open(address=f"127.0.0.{number}") for number in (2, 3)]
        found.gate.set()
        async with asyncio.timeout(5):
            for other in others:
                await ask(other)
        assert found.listener.refused == 3


async def test_a_client_with_its_share_replaces_only_its_own_idle_connections(certificate: Certificate | None) -> None:
    async with listening(certificate, most=4, most_each=2) as found:
        other = await found.open(address="127.0.0.2")
        await ask(other)  # idle for longer than all that follow
        first = await found.open()
        await ask(first)
        for _ in range(3):
            await ask(await found.open())
        await closed(first)
        async with asyncio.timeout(5):
            await ask(other)
        assert (found.listener.refused, len(found.listener)) == (0, 3)


async def test_a_client_that_left_is_forgotten() -> None:
    async with listening(most=4, most_each=1) as found:
        for _ in range(3):
            stream = await found.open()
            await ask(stream)
            stream[1].close()
            await until(lambda: len(found.listener) == 0)
        assert not found.listener._by_address


async def test_connections_without_a_handshake_keep_nobody_out(tmp_path: Path) -> None:
    async with listening(Certificate(tmp_path), most=4) as found:
        silent = [await found.open(tls=False) for _ in range(4)]
        await until(lambda: len(found.listener) == 4)
        async with asyncio.timeout(5):
            await ask(await found.open())
        await closed(silent[0])
        assert (len(found.listener), found.handshakes) == (4, 1)


async def test_many_connections_at_once_stay_within_the_limit(certificate: Certificate | None) -> None:
    async with listening(certificate, most=4) as found:
        wires = []
        for _ in range(40):  # all are in the queue before the listener gets to run
            wire = socket.socket()
            wire.setblocking(False)
            wire.connect_ex(("127.0.0.1", found.port))
            wires.append(wire)
        await asyncio.sleep(0)
        for _ in range(50):
            assert len(found.listener) <= 4
            await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await ask(await found.open())
        for wire in wires:
            wire.close()


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("sent", [b"", b"GET / HTT", ASK[:-2]])
async def test_a_connection_that_sends_no_head_is_closed(certificate: Certificate | None, sent: bytes) -> None:
    async with listening(certificate, head_s=0.05) as found:
        stream = await found.open()
        stream[1].write(sent)
        await closed(stream)
        await until(lambda: not found.server.connections)
        assert len(found.listener) == 0


@pytest.mark.usefixtures("swept")
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x00"])
async def test_a_connection_without_a_handshake_is_closed(tmp_path: Path, sent: bytes) -> None:
    async with listening(Certificate(tmp_path), handshake_s=0.05) as found:
        stream = await found.open(tls=False)
        stream[1].write(sent)
        await closed(stream)
        assert len(found.listener) == 0


async def test_a_connection_without_tls_is_closed_and_forgotten(tmp_path: Path) -> None:
    async with listening(Certificate(tmp_path)) as found:
        stream = await found.open(tls=False)
        stream[1].write(ASK)
        await closed(stream)
        await until(lambda: len(found.listener) == 0)


async def test_a_connection_lost_during_the_handshake_is_forgotten(tmp_path: Path) -> None:
    async with listening(Certificate(tmp_path)) as found:
        for sent in (b"", b"\x16\x03\x01\x02\x00\x01"):
            _, writer = await found.open(tls=False)
            await until(lambda: len(found.listener) == 1)
            writer.write(sent)
            await writer.drain()
            writer.close()
            await until(lambda: len(found.listener) == 0)


@pytest.mark.usefixtures("swept")
async def test_a_connection_idle_after_a_response_is_closed(certificate: Certificate | None) -> None:
    async with listening(certificate, idle_s=0.05) as found:
        stream = await found.open()
        await ask(stream)
        stream[1].write(b"GET /")
        await closed(stream)
        assert len(found.listener) == 0


@pytest.mark.usefixtures("swept")
async def test_a_connection_with_a_request_in_flight_is_not_idle(certificate: Certificate | None) -> None:
    async with listening(certificate, idle_s=0.02, head_s=0.5) as found:
        found.gate.clear()
        reader, writer = await found.open()
        writer.write(ASK)
        await asyncio.sleep(0.1)
        found.gate.set()
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("swept")
async def test_a_connection_that_does_not_read_its_response_loses_its_place() -> None:
    async with listening(idle_s=0.05) as found:

        async def much(request: web.BaseRequest) -> web.StreamResponse:
            with found.listener.under_way(request.protocol):
                return web.Response(body=b"x" * 32 * 1024 * 1024)

        found.server.request_handler = much
        reader, writer = await found.open()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(ASK)
        await until(lambda: len(found.listener) == 1)
        await until(lambda: len(found.listener) == 0)
        await until(lambda: not found.server.connections)


async def test_data_that_arrives_with_the_end_of_the_handshake_is_not_lost(tmp_path: Path) -> None:
    """Written by hand, because no library sends its first request together with its Finished message."""
    async with listening(Certificate(tmp_path)) as found:
        assert found.trust is not None
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = found.trust.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
        reader, writer = await found.open(tls=False)
        while True:
            try:
                client.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(outgoing.read())
                incoming.write(await reader.read(1 << 16))
        client.write(ASK)
        writer.write(outgoing.read())  # Finished, and the request
        got = b""
        async with asyncio.timeout(5):
            while b"here" not in got:
                incoming.write(await reader.read(1 << 16))
                try:
                    got += client.read(1 << 16)
                except ssl.SSLWantReadError:
                    continue
        assert got.startswith(b"HTTP/1.1 200")


async def test_at_the_end_idle_connections_close_and_requests_in_flight_are_answered(
    certificate: Certificate | None,
) -> None:
    async with listening(certificate) as found:
        idle, busy = await found.open(), await found.open()
        found.gate.clear()
        busy[1].write(ASK)
        shaking = await found.open(tls=False)
        await until(lambda: found.asked == 1 and len(found.listener) == 3)
        asyncio.get_running_loop().call_later(0.05, found.gate.set)
        async with asyncio.timeout(5):
            await found.listener.end(10.0)
        assert (await busy[0].readuntil(b"here")).startswith(b"HTTP/1.1 200")
        await closed(idle)
        await closed(shaking)
        with pytest.raises(ConnectionRefusedError):
            await found.open()
        await until(lambda: len(found.listener) == 0)


# A server that is loaded when it is wanted.


class Later:
    """A listener whose server is loaded by the first connection."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.loads = 0
        self.error: Exception | None = None
        self.server = web.Server(self._handle, access_log=None)
        self.port = 0
        self.opened: list[asyncio.StreamWriter] = []

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="here")

    async def load(self) -> web.Server:
        self.loads += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.server

    async def open(self) -> Stream:
        stream = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(stream[1])
        return stream


@asynccontextmanager
async def loading(tls: ssl.SSLContext | None = None) -> AsyncIterator[tuple[Later, HttpListener]]:
    later = Later()
    listener = HttpListener(None, Bounds(most=3), tls, load=later.load)
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setblocking(False)
    later.port = bound.getsockname()[1]
    await listener.start([bound])
    try:
        yield later, listener
    finally:
        await listener.end(0.1)
        for writer in later.opened:
            writer.transport.abort()


async def test_connections_wait_while_their_server_is_loaded() -> None:
    async with loading() as (later, listener):
        streams = [await later.open() for _ in range(3)]
        for stream in streams:
            stream[1].write(ASK)
        await until(lambda: (later.loads, len(listener)) == (1, 3))
        later.gate.set()
        async with asyncio.timeout(5):
            for stream in streams:
                await stream[0].readuntil(b"here")
            await ask(await later.open())
        assert later.loads == 1


async def test_a_handshake_begins_once_the_server_is_loaded(tmp_path: Path) -> None:
    certificate = Certificate(tmp_path)
    async with loading(certificate.server) as (later, _):
        opening = asyncio.get_running_loop().create_task(
            asyncio.open_connection("127.0.0.1", later.port, ssl=certificate.client)
        )
        await until(lambda: later.loads == 1)
        later.gate.set()
        async with asyncio.timeout(5):
            stream = await opening
            await ask(stream)
        stream[1].transport.abort()


async def test_a_server_that_cannot_be_loaded_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    async with loading() as (later, listener):
        later.gate.set()
        later.error = ImportError("no aiohttp")
        await closed(await later.open())
        await until(lambda: len(listener) == 0)
        assert "no aiohttp" in caplog.text
        later.error = None
        async with asyncio.timeout(5):
            await ask(await later.open())
        assert later.loads == 2


@pytest.mark.usefixtures("swept")
async def test_nobody_waits_for_a_server_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOAD_S", 0.05)
    async with loading() as (later, listener):
        await closed(await later.open())
        assert len(listener) == 0
        later.gate.set()
        async with asyncio.timeout(5):
            await ask(await later.open())


async def test_connections_that_wait_keep_to_the_limit_and_end_with_it() -> None:
    async with loading() as (later, listener):
        streams = [await later.open() for _ in range(4)]
        await closed(streams[0])
        assert len(listener) == 3
        await listener.end(0.1)
        for stream in streams[1:]:
            await closed(stream)
