"""Bounds, by the loop's own time; tests/kubernetes/test_webhook.py has them over TLS."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from aiohttp import web

from sidecar.kubernetes import connections as module
from sidecar.kubernetes.connections import HANDSHAKE_S, HEAD_S, IDLE_S, Connections
from tests.support.kubernetes_api import until


async def handle(_: web.BaseRequest) -> web.Response:
    return web.Response()


def transport() -> Mock:
    made = Mock(spec=asyncio.Transport)
    made.get_extra_info.return_value = None
    made.is_closing.return_value = False
    return made


async def test_every_state_of_a_connection_counts_once() -> None:
    found = Connections(handle, asyncio.get_running_loop(), most=2)
    one, two = found(), found()
    assert len(found) == 2
    assert not isinstance(found(), web.RequestHandler)
    assert found.refused == 1
    one.connection_made(transport())
    await asyncio.sleep(0)
    assert len(found) == 2
    one.connection_lost(None)
    await until(lambda: len(found) == 1)
    assert isinstance(found(), web.RequestHandler)
    two.connection_made(transport())
    await asyncio.sleep(0)
    await found.end(0.1)


async def test_each_state_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_S", 3600.0)
    loop = asyncio.get_running_loop()
    found = Connections(handle, loop)
    began = loop.time()

    def at(seconds: float) -> None:
        monkeypatch.setattr(found, "_clock", Mock(time=lambda: began + seconds, call_later=loop.call_later))
        found._sweep()

    found()
    made = found()
    wire = transport()
    made.connection_made(wire)
    assert len(found) == 2
    at(HANDSHAKE_S + 0.1)
    assert len(found) == 1, "a handshake that takes too long is no connection any more"
    at(HEAD_S - 0.1)
    wire.close.assert_not_called()
    at(HEAD_S + 0.1)
    wire.close.assert_called()
    assert IDLE_S > HEAD_S
    await found.end(0.1)
    assert found._timer is None or found._timer.cancelled()
