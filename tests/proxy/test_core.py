"""What the whole data path shares: housekeeping, and the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sidecar.policy.settings import Policy, Timeouts
from sidecar.proxy.core import SWEEP_S
from tests.proxy.fakes import World, ok, request, status


def test_idle_connections_are_swept(world: World) -> None:
    world.asks()
    world.upstream.says(ok())
    world.pass_time(4.0 - SWEEP_S)
    assert world.service.connections == 1
    world.pass_time(2 * SWEEP_S)
    assert world.service.connections == 0


def test_failed_connections_are_told_on(world: World) -> None:
    heard: list[str] = []
    world.core.on_connect_failure = heard.append
    world.loop.network = lambda dial: dial.refuse()
    app = world.asks()
    world.pass_time(1)
    assert status(app.heard) == 503
    assert set(heard) == {"venue-service"}


def test_close_cuts_everything(make_world: Callable[..., World]) -> None:
    world = make_world(Policy(timeout=Timeouts(connect=1.0)))
    resting = world.app()
    waiting = world.asks()
    world.asks()
    world.upstream.says(ok())
    tunnel = world.asks("GET /venue/", "Connection: upgrade", "Upgrade: websocket")
    world.upstream.says(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
    world.loop.network = lambda dial: dial.hang()
    connecting = world.asks()
    assert len(world.core.tunnels) == 1
    world.loop.run(world.core.close())
    world.settle()
    assert not any(wire.open for wire in (resting, waiting, tunnel, connecting, *world.upstreams))
    world.check_at_rest()
    assert world.service.connections == 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
def test_what_the_end_cuts_is_not_blamed_on_the_app(make_world: Callable[..., World], answer: bytes) -> None:
    world = make_world(access="errors")
    app = world.app().says(request() + request("GET /venue/next"))
    if answer:
        world.upstream.says(answer)
    world.loop.run(world.core.close())
    world.settle()
    world.access_log.flush()
    (line,) = world.lines
    assert (line["status"], line["reason"]) == (499, "client_disconnect")
    assert line["detail"] == "the sidecar stopped before the answer was complete"
    assert not app.open
    world.check_at_rest()
