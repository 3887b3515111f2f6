"""`sidecar demo` as a user meets it: what its guide promises comes true, and nothing outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from sidecar.demo import show
from tests.demo.running import RunningDemo, demo_command, shell
from tests.support.daemon import ROOT, Ports
from tests.support.eventually import eventually


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningDemo]:
    with RunningDemo() as running:
        yield running


def step(demo: RunningDemo, number: int) -> list[str]:
    """The commands of one step of the guide, as printed: a loop over several lines is one command."""
    text = re.search(rf"^{number}\. .*?(?=^\S|\Z)", demo.log, re.DOTALL | re.MULTILINE)
    assert text is not None, demo.log
    lines = re.findall(r"^ {5}(.*)$", text[0], re.MULTILINE)
    return re.findall(r"^(?:for .*?^done|.+?)$", "\n".join(lines), re.DOTALL | re.MULTILINE)


# These five follow each other as a reader of the guide would type them, on one demo.


def test_step_1_calls_by_name_reach_both_endpoints_and_so_do_calls_by_http_proxy(demo: RunningDemo) -> None:
    by_path, by_proxy = step(demo, 1)
    answers = [json.loads(shell(by_path)) for _ in range(4)]
    assert {answer["path"] for answer in answers} == {"/events/42"}
    assert [a["endpoint"] for a in answers[:2]] == [a["endpoint"] for a in answers[2:]]
    assert {a["endpoint"] for a in answers} == {f"127.0.0.1:{port}" for port in demo.endpoints["venue"]}
    assert json.loads(shell(by_proxy))["path"] == "/events/42"


def test_step_2_a_get_that_failed_is_sent_to_the_other_endpoint(demo: RunningDemo) -> None:
    break_first, calls = step(demo, 2)
    assert json.loads(shell(break_first))["failure_rate"] == 1
    assert shell(calls).splitlines() == ["200 application/json"] * 4


def test_step_3_the_breaker_opens_and_the_sidecar_answers_itself(demo: RunningDemo) -> None:
    break_second, calls, why, metrics = step(demo, 3)
    shell(break_second)
    seen = shell(calls).splitlines()
    upstream, ours = "503 application/json", "503 application/problem+json"
    opened_after = seen.count(upstream)
    assert 4 <= opened_after < 8
    assert seen == [upstream] * opened_after + [ours] * (8 - opened_after)
    assert json.loads(shell(why))["reason"] == "circuit_open"
    assert re.search(
        r'^sidecar_breaker_state\{(?=.*service="payment")(?=.*state="open").*\} 1(\.0)?$', shell(metrics), re.MULTILINE
    )


def test_step_4_healed_endpoints_close_the_breaker(demo: RunningDemo) -> None:
    heal, call = step(demo, 4)
    shell(heal)
    assert json.loads(shell(call))["service"] == "payment"
    metrics = step(demo, 3)[3]
    assert re.search(
        r'^sidecar_breaker_state\{(?=.*service="payment")(?=.*state="closed").*\} 1(\.0)?$',
        shell(metrics),
        re.MULTILINE,
    )


def test_step_5_an_attempt_that_takes_too_long_goes_to_the_other_endpoint(demo: RunningDemo) -> None:
    slow_down, calls = step(demo, 5)
    shell(slow_down)
    printed = shell(calls)
    _, fast = demo.endpoints["auth"]
    assert re.findall(r'"endpoint": "127\.0\.0\.1:(\d+)"', printed) == [str(fast)] * 2
    took = [float(seconds) for seconds in re.findall(r"^([\d.]+) s$", printed, re.MULTILINE)]
    assert 1 <= max(took) < 3, "at least one of two calls goes to the slow endpoint first, and none waits for it"


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_to_the_group_ends_everything_in_order(number: signal.Signals) -> None:
    with RunningDemo() as demo:
        os.killpg(demo.process.pid, number)
        assert demo.process.wait(15) == 0, demo.log
        assert "Traceback" not in demo.log
        for port in (demo.ports.proxy, *(port for pair in demo.endpoints.values() for port in pair)):
            assert refuses(port)


def test_upstreams_end_with_a_demo_that_was_killed() -> None:
    with RunningDemo() as demo:
        ports = [port for pair in demo.endpoints.values() for port in pair]
        assert len(ports) == 6
        assert not any(refuses(port) for port in ports)
        demo.process.kill()
        demo.process.wait(10)
        eventually(lambda: all(refuses(port) for port in ports))


@pytest.mark.parametrize("listener", ["proxy", "admin", "probe", "upstream"])
def test_a_port_that_is_taken_is_one_clear_line_and_nothing_is_started(listener: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [*demo_command(Ports.free()), f"--{listener}-port", str(port)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert run.returncode == 2
    assert run.stdout == ""
    assert (
        run.stderr
        == f"Error: port {port} on 127.0.0.1: address already in use; choose another with --{listener}-port\n"
    )


def test_the_guide_is_printed_with_the_default_ports_of_the_design() -> None:
    assert show.DemoPorts() == show.DemoPorts(proxy=15001, admin=15000, probe=15021, upstream=19101)
