"""The open connections of apps: how many there may be, and those that have been left."""

from __future__ import annotations

import logging

import pytest

from sidecar.proxy.core import HANG_UP_CHECK_S
from sidecar.proxy.downstream.http1_connection import LINGER_S
from sidecar.proxy.downstream.registry import TOLD_WHY, TURNED_AWAY_EVERY_S
from tests.proxy.fakes import World, ok, request, status


def test_app_that_left_unheard_is_looked_for(world: World) -> None:
    """Reading is paused: 64 KiB of further requests wait."""
    app = world.asks()
    app.says(b"x" * 70_000)
    assert not app.reading
    world.pass_time(2 * HANG_UP_CHECK_S)
    assert app.open
    app.peer.close()
    world.pass_time(HANG_UP_CHECK_S)
    assert world.reasons() == {(499, "client_disconnect"): 1}
    assert not world.upstream.open
    world.check_at_rest()


def test_a_connection_too_many_is_told_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.core.registry.max_connections = 2
    first, second = world.app(), world.asks()
    with caplog.at_level(logging.WARNING):
        third = world.app().says(request())
    answer = third.heard
    assert (status(answer), third.eof_sent) == (503, True)
    assert b"x-sidecar-reason: overloaded" in answer
    assert b"Connection: close" in answer
    assert b"apps have 2 connections open" in answer
    assert [record.message for record in caplog.records] == ["connections from apps are refused"]
    assert world.upstream.heard.count(b"GET ") == 1
    world.pass_time(LINGER_S + 0.1)
    assert not third.open

    # Those that were there go on, and one that leaves makes room for another.
    world.upstream.says(ok())
    assert status(second.heard) == 200
    first.leaves()
    assert world.asks().open
    assert len(world.core.registry.connections) == 2
    assert world.live.unrouted.requests == {(503, "overloaded"): 1}


def test_of_a_flood_few_are_told_why_and_the_log_says_it_once_a_minute(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.core.registry.max_connections = 1
    world.app()
    with caplog.at_level(logging.WARNING):
        flood = [world.app() for _ in range(50)]
        assert [status(one.heard) for one in flood if one.heard] == [503] * TOLD_WHY
        assert all(b"apps have 1 connections open" in one.heard for one in flood if one.heard)
        assert sum(one.open for one in flood) <= TOLD_WHY
        assert len(caplog.records) == 1
        world.pass_time(TURNED_AWAY_EVERY_S)
        world.app()
        world.app()
    assert len(caplog.records) == 2
