"""How an app's HTTP/2 connection and its streams end: by the app, by time, and with the sidecar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from string import Template

import pytest

from tests.support import steps
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.h2_app import H2Client
from tests.support.rig import Rig
from tests.support.steps import answer, held
from tests.support.upstream import Upstream

CONFIG = """
drain: {delay: 100ms, timeout: 5s}
defaults:
  timeout: {connect: 2s, attempt: 20s, request: 30s, idle: 2s, client_idle: 1s}
  breaker: {volume_threshold: 1000}
services:
  venue: {endpoints: ["$venue"], limits: {max_concurrent: 8}}
  slow: {endpoints: ["$slow"]}
"""
ALL_IDS = 2**31 - 1
BIG = 8 * 1024 * 1024


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue", "slow") as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(answer())


def at_rest(daemon: Daemon) -> None:
    """Nothing of what apps began is left."""

    def check() -> None:
        assert daemon.metric("sidecar_app_http2_connections") == 0
        assert daemon.metric("sidecar_app_http2_streams") == 0
        for service in ("venue", "slow"):
            assert daemon.metric("sidecar_in_flight_requests", service=service) == 0

    eventually(check)


def test_a_reset_cancels_one_request(rig: Rig, venue: Upstream) -> None:
    venue.play(steps.silence)
    with H2Client(rig.ports.proxy) as client:
        number = client.app.ask("/venue/")
        client.flush()
        eventually(lambda: venue.hits == 1)
        client.app.reset(number)
        client.flush()
        eventually(lambda: venue.begun_and_open == 0)
        rig.idle("venue")
        venue.play(answer())
        assert client.ask("/venue/").status == 200


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_takes_its_requests_with_it(rig: Rig, venue: Upstream, how: str) -> None:
    venue.play(steps.silence)
    changes = rig.changes()
    client = H2Client(rig.ports.proxy)
    for _ in range(8):
        client.app.ask("/venue/")
    client.flush()
    eventually(lambda: venue.hits == 8)
    if how == "reset":
        client.reset_connection()
    client.socket.close()
    at_rest(rig.daemon)
    changes.eventually(8, "sidecar_requests_total", service="venue", code="499")


def test_a_connection_that_rests_is_told_and_closed(rig: Rig, venue: Upstream) -> None:
    with H2Client(rig.ports.proxy) as client:
        assert client.ask("/venue/").status == 200
        client.until_closed()
    assert client.app.goaways[0] == (0, ALL_IDS)
    assert client.app.goaways[-1] == (0, 1)


def test_a_stream_is_no_rest(rig: Rig, venue: Upstream) -> None:
    slow = rig["slow"].play(held(answer()))
    with H2Client(rig.ports.proxy) as client:
        number = client.app.ask("/slow/")
        client.flush()
        eventually(lambda: slow.hits == 1)
        client.pass_time(1.5)
        assert not client.app.goaways
        slow.gate.set()
        assert client.answer(number).status == 200


def test_an_app_that_reads_nothing(rig: Rig, venue: Upstream) -> None:
    """It costs a bounded amount of memory, and is given up after `idle`; whoever shares its service gets on."""
    venue.play(answer(body=b"x" * BIG))
    daemon = rig.daemon
    daemon.forget_peak_rss()
    before = daemon.rss_mib()
    clients = [H2Client(rig.ports.proxy, reads=False, window=(1 << 31) - 1) for _ in range(4)]
    for client in clients:
        client.app.h2.increment_flow_control_window(1 << 30)
        client.app.ask("/venue/")
        client.flush()
    eventually(lambda: venue.hits >= 4)
    at_rest_of(daemon, "venue")
    assert daemon.peak_rss_mib() - before < 24
    for client in clients:
        client.socket.close()
    at_rest(daemon)


def at_rest_of(daemon: Daemon, service: str) -> None:
    eventually(lambda: daemon.metric("sidecar_in_flight_requests", service=service) == 0, timeout=10)


@pytest.fixture
def own(start: Callable[..., Daemon]) -> Iterator[tuple[Daemon, Upstream]]:
    upstream = Upstream()
    daemon = start(Template(CONFIG).substitute(venue=upstream.url, slow=upstream.url))
    yield daemon, upstream
    upstream.stop()


def test_draining(own: tuple[Daemon, Upstream]) -> None:
    """GOAWAY in two steps; what is under way ends; then the connection."""
    daemon, upstream = own
    upstream.play(held(answer(body=b"late")))
    with H2Client(daemon.proxy_port) as client, H2Client(daemon.proxy_port) as resting:
        number = client.app.ask("/venue/")
        client.flush()
        eventually(lambda: upstream.hits == 1)
        resting.until(lambda: bool(resting.app.settings))
        daemon.signal()
        client.until(lambda: len(client.app.goaways) == 2)
        assert client.app.goaways == [(0, ALL_IDS), (0, 1)]
        resting.until_closed()
        assert resting.app.goaways[0] == (0, ALL_IDS)
        upstream.gate.set()
        assert client.answer(number).body == b"late"
        client.until_closed()
    assert daemon.wait() == 0


def test_a_slow_reader_gets_all_of_it_while_the_sidecar_drains(own: tuple[Daemon, Upstream]) -> None:
    daemon, upstream = own
    upstream.play(answer(body=b"x" * (2 << 20)))
    with H2Client(daemon.proxy_port, receive_buffer=8192, window=(1 << 31) - 1) as client:
        client.app.h2.increment_flow_control_window(1 << 30)
        number = client.app.ask("/venue/")
        client.flush()
        eventually(lambda: upstream.hits == 1)
        daemon.signal()
        client.pass_time(1.5)
        assert len(client.answer(number).body) == 2 << 20
    assert daemon.wait() == 0
