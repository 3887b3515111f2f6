"""Listening and draining."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from sidecar.proxy.downstream.http1_connection import NEWCOMER_S
from sidecar.proxy.listener import ProxyListener
from tests.proxy.fakes import World, ok
from tests.support.bound import LOCAL, Bound, port_of


class Server:
    """What `create_server` gives."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Draining:
    """A listener of a world, whose draining takes the world's time."""

    def __init__(self, world: World, sockets: list[socket.socket]) -> None:
        self.world = world
        self.server = Server()
        loop: Any = world.loop

        async def create_server(factory: Callable[[], object], **_: Any) -> Server:
            assert factory() is not None
            return self.server

        loop.create_server = create_server
        self.listener = ProxyListener(world.core, sockets)
        world.loop.run(self.listener.start())
        self.now_please = asyncio.Event()

    def begin(self, delay_s: float = 1.0, timeout_s: float = 20.0) -> asyncio.Task[int]:
        work = self.listener.drain(delay_s, timeout_s, self.now_please)
        task = self.world.loop.create_task(work)
        self.world.settle()
        return task


@pytest.fixture
def draining(world: World, bound: Bound) -> Draining:
    return Draining(world, bound(LOCAL))


def test_ports_are_those_really_bound(world: World, bound: Bound) -> None:
    sockets = bound(LOCAL, LOCAL)
    assert ProxyListener(world.core, sockets).ports == [port_of(one) for one in sockets]


def test_requests_are_served_during_the_delay_and_told_to_close(world: World, draining: Draining) -> None:
    done = draining.begin()
    world.pass_time(0.9)
    assert not draining.server.closed
    app = world.asks()
    world.upstream.says(ok())
    assert b"\r\nConnection: close\r\n" in app.heard
    world.pass_time(0.2)
    assert draining.server.closed
    assert done.result() == 0


def test_resting_connections_are_closed_after_the_delay(world: World, draining: Draining) -> None:
    app = world.app()
    done = draining.begin()
    world.pass_time(0.9)
    assert app.open
    world.pass_time(0.2)
    assert app.how == "close"
    assert done.done()


def test_who_has_only_just_come_may_still_ask(world: World, draining: Draining) -> None:
    done = draining.begin()
    world.pass_time(1.0 - NEWCOMER_S / 2)
    app = world.app()
    world.pass_time(NEWCOMER_S)
    assert app.open or b"Connection: close" in app.heard
    world.pass_time(NEWCOMER_S)
    assert not app.open
    assert done.done()


def test_requests_in_flight_are_finished(world: World, draining: Draining) -> None:
    app = world.asks("POST /venue/")
    done = draining.begin(delay_s=0.2)
    world.pass_time(0.5)
    assert draining.server.closed
    assert not done.done()
    world.upstream.says(ok(b"whole"))
    world.pass_time(0.1)
    assert app.heard.endswith(b"whole")
    assert done.result() == 0


def test_what_takes_too_long_is_counted(world: World, draining: Draining) -> None:
    world.asks()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    world.asks("GET /venue/", "Connection: upgrade", "Upgrade: websocket")
    world.upstream.says(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert len(world.core.tunnels) == 1
    done = draining.begin(timeout_s=3.0)
    world.pass_time(3.9)
    assert not done.done()
    world.pass_time(0.2)
    assert done.result() == 1  # the tunnel is no request that is dropped


@pytest.mark.parametrize("after_s", [0.5, 5.0])
def test_second_signal_ends_it_now(world: World, draining: Draining, after_s: float) -> None:
    world.asks()
    world.upstream.says(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    done = draining.begin()
    world.pass_time(after_s)
    assert not done.done()
    draining.now_please.set()
    world.settle()
    assert draining.server.closed
    assert done.result() == 1


def test_no_delay_is_a_delay_too(world: World, draining: Draining) -> None:
    done = draining.begin(delay_s=0.0)
    world.pass_time(0.1)
    assert cast("int", done.result()) == 0
