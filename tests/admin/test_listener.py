"""The admin listener before and while its server is loaded; tests/admin/test_server.py asks the server itself."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from sidecar.admin.listener import Admin
from sidecar.admin.probe_answers import ProbeAnswers
from sidecar.config.schema import Address
from sidecar.health.report import Report
from tests.admin.stage import RealTime
from tests.support.kubernetes_api import until


class Listening:
    """An admin listener of a stage that nobody has asked yet."""

    def __init__(self) -> None:
        self.stage = RealTime()
        self.loads = 0
        self.bound = socket.create_server(("127.0.0.1", 0))
        self.bound.setblocking(False)
        self.port = self.bound.getsockname()[1]
        self.admin = Admin(
            self.stage,
            ProbeAnswers(lambda: True, self._metrics, self._health),
            Address("127.0.0.1", self.port),
            on_load=self._loaded,
        )

    def _loaded(self) -> None:
        self.loads += 1

    async def _metrics(self) -> tuple[list[bytes], int]:
        return [b""], 0

    async def _health(self) -> Report:
        return Report(status="healthy", checks={}, services={})

    async def ask(self, path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nConnection: close\r\n\r\n".encode())
        async with asyncio.timeout(10):
            got = await reader.read()
        writer.close()
        return got


async def test_the_server_is_loaded_for_the_first_connection_alone() -> None:
    found = Listening()
    await found.admin.start([found.bound])
    assert (found.admin._server, found.loads) == (None, 0)
    first, second = await asyncio.gather(found.ask("/livez"), found.ask("/services"))
    server = found.admin._server
    assert server is not None
    assert first.endswith(b"ok\n")
    assert json.loads(second.partition(b"\r\n\r\n")[2])["generation"] == 1
    assert (await found.ask("/nothing")).startswith(b"HTTP/1.1 404")
    assert (found.admin._server, found.loads) == (server, 1)
    await found.admin.close()


async def test_without_a_visitor_it_samples_the_history_and_ends() -> None:
    found = Listening()
    await found.admin.start([found.bound])
    waiting = await asyncio.open_connection("127.0.0.1", found.port)
    await found.admin.close()
    async with asyncio.timeout(5):
        assert await waiting[0].read() == b""
    waiting[1].close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", found.port)
    assert "venue" in found.stage.history._watched


async def test_what_never_started_can_be_closed() -> None:
    found = Listening()
    await found.admin.close()
    found.bound.close()


async def test_events_under_way_end_with_it() -> None:
    found = Listening()
    await found.admin.start([found.bound])
    reader, writer = await asyncio.open_connection("127.0.0.1", found.port)
    writer.write(f"GET /events?follow=true HTTP/1.1\r\nHost: 127.0.0.1:{found.port}\r\n\r\n".encode())
    await reader.readuntil(b"retry:")
    async with asyncio.timeout(5):
        await found.admin.close()
        await reader.read()
    writer.close()
    await until(lambda: reader.at_eof())
