"""Waiting for readiness and for silence, on a clock of the test's own; and the client on a real listener."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from time import monotonic

import pytest

from sidecar.cli.probe_client import CALL_S, SHORTEST_S, Gone, ProbeClient, Traffic, wait_idle, wait_ready
from tests.support.daemon import Daemon, free_ports


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += seconds


def told(story: Callable[[float], Traffic | None]) -> tuple[str, float]:
    """How `prestop --idle 2s --max 15s` ends, and after how many seconds."""
    clock = Clock()
    how = wait_idle(lambda _: story(clock.now - 100.0), 2.0, 15.0, clock, clock.sleep)
    return how, round(clock.now - 100.0, 3)


def test_who_never_calls_is_idle_after_two_seconds() -> None:
    assert told(lambda _: Traffic(5, 0)) == ("idle", 2.0)


def test_a_call_begins_the_two_seconds_anew() -> None:
    how, after = told(lambda now: Traffic(5 + (now >= 1.5), 0))
    assert how == "idle"
    assert 3.5 <= after <= 3.8


def test_a_call_in_flight_is_waited_for() -> None:
    how, after = told(lambda now: Traffic(5, 1 if now < 6 else 0))
    assert how == "idle"
    assert 7.8 <= after <= 8.2


def test_who_calls_to_the_end_is_waited_for_to_the_end() -> None:
    assert told(lambda now: Traffic(now, 0)) == ("late", 15.0)


def test_one_that_does_not_tell_is_not_idle() -> None:
    assert told(lambda _: None) == ("late", 15.0)


def test_one_that_is_gone_is_not_waited_for() -> None:
    def gone(_: float) -> Traffic:
        raise Gone

    assert told(gone) == ("gone", 0.0)


@pytest.mark.parametrize(("after", "expected", "took"), [(0.0, True, 0.0), (3.0, True, 3.0), (99.0, False, 10.0)])
def test_waiting_for_readiness(after: float, expected: bool, took: float) -> None:
    clock = Clock()

    def ready(_: float) -> bool:
        if after and clock.now < 101:
            raise Gone
        return clock.now - 100 >= after

    assert wait_ready(ready, 10.0, clock, clock.sleep) is expected
    assert took <= clock.now - 100.0 <= took + 0.21


def test_one_that_hangs_takes_no_longer_than_there_is_time_for() -> None:
    clock = Clock()

    def hangs(left_s: float) -> None:
        clock.sleep(max(SHORTEST_S, min(CALL_S, left_s)))

    def ready(left_s: float) -> bool:
        hangs(left_s)
        return False

    assert not wait_ready(ready, 3.0, clock, clock.sleep)
    assert clock.now - 100.0 == pytest.approx(3.0, abs=SHORTEST_S)

    clock = Clock()
    assert wait_idle(hangs, 2.0, 3.0, clock, clock.sleep) == "late"
    assert clock.now - 100.0 == pytest.approx(3.0, abs=SHORTEST_S)


def test_a_real_one_that_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = ProbeClient(f"127.0.0.1:{listener.getsockname()[1]}")
        before = monotonic()
        assert not client.ready(0.2)
        assert client.traffic(0.2) is None
        assert 0.4 <= monotonic() - before < CALL_S


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon('services: {venue: {url: "http://127.0.0.1:9"}}') as running:
        yield running


def test_a_real_one(daemon: Daemon) -> None:
    client = ProbeClient(f"http://127.0.0.1:{daemon.ports.probe}")
    assert client.ready()
    before = client.traffic()
    assert before is not None
    assert before.in_flight == 0
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", daemon.proxy_port, timeout=5)
    connection.request("GET", "/venue/x")
    connection.getresponse().read()
    connection.close()
    assert client.traffic() == Traffic(before.ended + 1, 0)


def test_nobody() -> None:
    (port,) = free_ports(1)
    with pytest.raises(Gone):
        ProbeClient(f"127.0.0.1:{port}").ready()


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "http://", "http://x/y", "http://x:y", "ftp://x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|[Pp]ort"):
        ProbeClient(url)
