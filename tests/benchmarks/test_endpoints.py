"""Upstream processes: each fault is really there when the method returns, and really gone afterwards."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.endpoints import EndpointProcess
from benchmarks.ports import free_ports


@pytest.fixture
def one(tmp_path: Path) -> Iterator[EndpointProcess]:
    with EndpointProcess("e0", free_ports(1)[0], tmp_path / "requests.log") as process:
        yield process


def ask(one: EndpointProcess, target: str = "/", timeout: float = 5.0, **headers: str) -> tuple[int, str | None]:
    """(status, who answered)."""
    connection = http.client.HTTPConnection("127.0.0.1", one.port, timeout=timeout)
    try:
        connection.request("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        assert answer.getheader("x-attempt") == headers.get("x_envoy_attempt_count", "1")
        return answer.status, answer.getheader("x-endpoint")
    finally:
        connection.close()


def test_answers_say_who_and_which_attempt(one: EndpointProcess) -> None:
    assert ask(one) == (200, "e0")
    assert ask(one, x_envoy_attempt_count="3") == (200, "e0")


def test_killed_it_refuses_and_revived_it_has_its_old_port(one: EndpointProcess) -> None:
    one.kill()
    with pytest.raises(ConnectionRefusedError):
        ask(one)
    one.start()
    assert ask(one) == (200, "e0")


def test_paused_it_accepts_and_says_nothing(one: EndpointProcess) -> None:
    one.pause()
    with pytest.raises(TimeoutError):
        ask(one, timeout=0.1)
    one.resume()
    assert ask(one) == (200, "e0")


def test_it_answers_as_it_was_told(one: EndpointProcess) -> None:
    one.answer(503)
    assert (ask(one)[0], ask(one, "/health")[0]) == (503, 503)
    one.answer(503, checks_too=False)
    assert (ask(one)[0], ask(one, "/health")[0]) == (503, 200)
    one.answer(delay_s=5)
    with pytest.raises(TimeoutError):
        ask(one, timeout=0.1)
    one.answer()
    assert ask(one) == (200, "e0")


def test_its_log_has_each_request_but_checks(one: EndpointProcess, tmp_path: Path) -> None:
    ask(one, x_test_id="a")
    ask(one, "/health", x_test_id="b")
    one.kill()
    assert (tmp_path / "requests.log").read_text() == "GET a e0\n"
