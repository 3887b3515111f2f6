"""An endpoint that cannot be connected to: connections in the background find out when it is back, no request does."""

from __future__ import annotations

import time

from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.traffic import Traffic
from tests.support.upstream import ConnectBlackHole, RefusedPort, Upstream

CONFIG = 'defaults: {breaker: {mode: "off"}}\nservices: {venue: {endpoints: ["$well", "$dead"]}}\n'


def attempts_at(rig: Rig, authority: str) -> float:
    return rig.daemon.metric("sidecar_attempts_total", service="venue", endpoint=authority)


def test_an_address_that_swallows_packets_costs_one_request_its_time_and_no_other() -> None:
    """It fails at 0 s, and would be tried again at 2 and 5 s by requests, each of which would take 1 s longer."""
    with (
        ConnectBlackHole() as hole,
        Rig(CONFIG, "well", dead={"dead": hole}) as rig,
        rig.client() as client,
    ):
        rig["well"].play(answer())
        while attempts_at(rig, hole.authority) == 0:
            client.ask("GET", "/venue/")
        took = []
        end = time.monotonic() + 6.5
        while time.monotonic() < end:
            began = time.monotonic()
            assert client.ask("GET", "/venue/").status == 200
            took.append(time.monotonic() - began)
            time.sleep(0.01)
        assert attempts_at(rig, hole.authority) == 1
        assert max(took) < 0.9


def test_an_endpoint_that_is_back_gets_requests_with_no_failed_one_before() -> None:
    with RefusedPort() as port, Rig(CONFIG, "well", dead={"dead": port}) as rig:
        rig["well"].play(answer(body=b"well"))
        with Traffic(rig.client, lambda client: client.ask("GET", "/venue/")) as steady:
            eventually(lambda: attempts_at(rig, port.authority) == 1)
            while_it_is_tried_twice = time.monotonic() + 3.5
            eventually(lambda: time.monotonic() > while_it_is_tried_twice)
            port.stop()
            with Upstream(answer(body=b"back"), port=port.port):
                steady.until_seen(b"back", timeout=10)
                assert set(steady.more(20)) == {b"well", b"back"}
                by_reason = rig.daemon.metrics()
                what = {"service": "venue", "endpoint": port.authority, "reason": "connect_failure"}
                assert by_reason.total("sidecar_attempts_total", **what) == 1
        assert steady.statuses == {200: steady.count}


def test_an_endpoint_is_tried_again_with_no_request_at_all() -> None:
    with RefusedPort() as port, Rig(CONFIG, "well", dead={"dead": port}) as rig, rig.client() as client:
        rig["well"].play(answer())
        while attempts_at(rig, port.authority) == 0:
            client.ask("GET", "/venue/")
        port.stop()
        with Upstream(answer(), port=port.port) as back:
            eventually(lambda: back.open_connections == 1, timeout=10)
            what = {"service": "venue", "endpoint": port.authority}
            eventually(lambda: rig.daemon.metric("sidecar_endpoint_healthy", **what) == 1)
            assert back.hits == 0


def test_the_only_endpoint_is_tried_by_requests() -> None:
    with RefusedPort() as port, Rig(CONFIG.replace('"$well", ', ""), dead={"dead": port}) as rig:
        assert rig.ask("GET", "/venue/").reason == "connect_failure"
        port.stop()
        with Upstream(answer(), port=port.port):
            assert rig.ask("GET", "/venue/").status == 200
