"""Long responses in pieces, as clients get them over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import ClientSession, web

from sidecar.admin import pieces
from sidecar.admin.pieces import PIECE_BYTES, send

LONG = [b"a" * 10, b"b" * (3 * PIECE_BYTES + 1), b"", b"c" * PIECE_BYTES]


@asynccontextmanager
async def serving(handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port: int = runner.addresses[0][1]
    try:
        yield port
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("body", [[b"short"], [b"x" * PIECE_BYTES], LONG], ids=["short", "most", "long"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_whole_body_arrives_with_its_length(body: list[bytes], method: str) -> None:
    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        return await send(request, body, {"Content-Type": "text/plain", "X-Own": "1"}, 203)

    whole = b"".join(body)
    async with serving(handler) as port, ClientSession() as client:
        for _ in range(2):  # the connection stays usable
            async with client.request(method, f"http://127.0.0.1:{port}/") as response:
                assert response.status == 203
                assert response.headers["Content-Length"] == str(len(whole))
                assert response.headers["X-Own"] == "1"
                assert await response.read() == (whole if method == "GET" else b"")


async def test_a_reader_that_takes_nothing_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "LONGEST_WRITE_S", 0.2)
    ended = asyncio.Event()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await send(request, [b"x" * (64 << 20)], {})
        finally:
            ended.set()

    async with serving(handler) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(ended.wait(), 10)
        taken = 0
        with suppress(ConnectionError):
            while found := await reader.read(1 << 20):
                taken += len(found)
        assert taken < 64 << 20
        writer.close()
