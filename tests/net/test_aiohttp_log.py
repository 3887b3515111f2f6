"""What aiohttp's servers log about clients."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest
from aiohttp import web

from sidecar.net.aiohttp_log import http_logger

NOT_GZIP = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnot!"


@pytest.mark.parametrize("sent", [b"\x00garbage\r\n\r\n", NOT_GZIP])
async def test_invalid_http_does_not_fill_the_log(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text=await request.text())

    bound = socket.create_server(("127.0.0.1", 0))
    with caplog.at_level(logging.INFO):
        for name in ("test.http", "test.http"):  # asking twice changes nothing
            server = web.Server(handle, access_log=None, logger=http_logger(name))
        accepting = await asyncio.get_running_loop().create_server(server, sock=bound)
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        writer.write(sent)
        async with asyncio.timeout(5):
            assert (await reader.read(100)).startswith(b"HTTP/1.")
        writer.close()
        accepting.close()
        await server.shutdown(0.1)
    assert not [record for record in caplog.records if record.exc_info]


async def test_our_own_faults_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise OSError("ours")
    except OSError:
        http_logger("test.http").exception("failed")
    assert "ours" in caplog.text
