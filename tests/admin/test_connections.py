"""How many connections a listener takes, who makes room for whom, and how long one may do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from sidecar.admin import connections
from sidecar.admin.connections import Connections
from tests.admin.stage import until

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Listener:
    """A server with these bounds; its handler waits for `gate`."""

    def __init__(self, most: int) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.server = web.Server(self._handle, access_log=None)
        self.connections = Connections(self.server, asyncio.get_running_loop(), most)
        self.port = 0
        self.opened: list[Stream] = []
        self.asked = 0

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.connections.busy(request)
        self.asked += 1
        await self.gate.wait()
        self.connections.idle(request)
        return web.Response(text="here")

    async def open(self) -> Stream:
        stream = await asyncio.open_connection("127.0.0.1", self.port)
        self.opened.append(stream)
        return stream


@asynccontextmanager
async def listening(most: int = 100) -> AsyncIterator[Listener]:
    listener = Listener(most)
    server = await asyncio.get_running_loop().create_server(listener.connections, "127.0.0.1", 0)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        listener.connections.close()
        server.close()
        await listener.server.shutdown(timeout=0.1)
        for _, writer in listener.opened:
            writer.close()


async def ask(stream: Stream) -> bytes:
    reader, writer = stream
    writer.write(ASK)
    return await reader.readuntil(b"here")


@pytest.mark.parametrize("most", [1, 3])
async def test_one_too_many_is_told_so_and_closed(most: int) -> None:
    async with listening(most) as listener:
        listener.gate.clear()
        for _ in range(most):
            (await listener.open())[1].write(ASK)
        await until(lambda: listener.asked == most)
        reader, _ = await listener.open()
        async with asyncio.timeout(5):
            assert (await reader.read()).startswith(b"HTTP/1.1 503")
        listener.gate.set()
        listener.opened[0][1].close()
        await until(lambda: len(listener.server.connections) < most)
        async with asyncio.timeout(5):
            await ask(await listener.open())


@pytest.mark.parametrize("before", [b"", ASK[:-2]])
async def test_the_one_that_was_idle_for_longest_makes_room(before: bytes) -> None:
    async with listening(3) as listener:
        first = await listener.open()
        second = await listener.open()
        await ask(second)
        await ask(first)
        busy = await listener.open()
        listener.gate.clear()
        busy[1].write(ASK)
        await until(lambda: listener.asked == 3)
        newcomer = await listener.open()
        newcomer[1].write(before)
        async with asyncio.timeout(5):
            assert await second[0].read() == b""
            listener.gate.set()
            for one in (first, newcomer):
                one[1].write(ASK if one is first or not before else ASK[-2:])
            for one in (first, busy, newcomer):
                await one[0].readuntil(b"here")


async def test_idle_ones_keep_nobody_out() -> None:
    async with listening(4) as listener:
        for _ in range(20):
            await listener.open()
            assert len(listener.server.connections) <= 5
        async with asyncio.timeout(5):
            await ask(await listener.open())
        await until(lambda: len(listener.server.connections) == 4)


@pytest.mark.parametrize("sent", [b"", b"GET / HTT", ASK[:-2]])
async def test_one_that_does_not_send_a_head_is_closed(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.05)
    monkeypatch.setattr(connections, "_SWEEP_S", 0.01)
    async with listening() as listener:
        reader, writer = await listener.open()
        writer.write(sent)
        async with asyncio.timeout(5):
            while await reader.read(100):
                pass
            await until(lambda: not listener.server.connections)


async def test_one_that_falls_silent_after_an_answer_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.05)
    monkeypatch.setattr(connections, "_SWEEP_S", 0.01)
    async with listening() as listener:
        stream = await listener.open()
        await ask(stream)
        stream[1].write(b"GET /")
        async with asyncio.timeout(5):
            assert await stream[0].read() == b""


async def test_one_with_a_request_under_way_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0.02)
    monkeypatch.setattr(connections, "_SWEEP_S", 0.01)
    async with listening() as listener:
        listener.gate.clear()
        reader, writer = await listener.open()
        writer.write(ASK)
        await asyncio.sleep(0.1)
        listener.gate.set()
        async with asyncio.timeout(5):
            assert (await reader.readuntil(b"here")).startswith(b"HTTP/1.1 200")
