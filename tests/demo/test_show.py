"""`sidecar demo` as a user meets it: what its guide promises comes true, and nothing outlives it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

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


def breaker_of(service: str, status: str) -> str:
    """What `sidecar status` has in the second column."""
    (state,) = re.findall(rf"^{service} +(\w+)", status, re.MULTILINE)
    return str(state)


def auth_calls(demo: RunningDemo, calls: str) -> float:
    """Seconds that the longest of the two calls to auth took; both were answered by the endpoint that is not slow."""
    printed = shell(calls)
    _, fast = demo.endpoints["auth"]
    assert re.findall(r'"endpoint": "127\.0\.0\.1:(\d+)"', printed) == [str(fast)] * 2
    return max(float(seconds) for seconds in re.findall(r"^([\d.]+) s$", printed, re.MULTILINE))


def calls_by_name_reach_both_endpoints_and_so_do_calls_by_http_proxy(demo: RunningDemo) -> None:
    by_path, by_proxy = step(demo, 1)
    answers = [json.loads(shell(by_path)) for _ in range(4)]
    assert {answer["path"] for answer in answers} == {"/events/42"}
    assert [a["endpoint"] for a in answers[:2]] == [a["endpoint"] for a in answers[2:]]
    assert {a["endpoint"] for a in answers} == {f"127.0.0.1:{port}" for port in demo.endpoints["venue"]}
    assert json.loads(shell(by_proxy))["path"] == "/events/42"


def a_get_that_failed_is_sent_to_the_other_endpoint(demo: RunningDemo) -> None:
    break_first, calls = step(demo, 2)
    assert json.loads(shell(break_first))["failure_rate"] == 1
    assert shell(calls).splitlines() == ["200 application/json"] * 4


def the_breaker_opens_and_the_sidecar_answers_itself(demo: RunningDemo) -> None:
    break_second, calls, why, status, explain = step(demo, 3)
    shell(break_second)
    seen = shell(calls).splitlines()
    upstream, ours = "503 application/json", "503 application/problem+json"
    opened_after = seen.count(upstream)
    assert 4 <= opened_after < 8
    assert seen == [upstream] * opened_after + [ours] * (8 - opened_after)
    assert json.loads(shell(why))["reason"] == "circuit_open"
    assert breaker_of("payment", shell(status)) == "open"
    explanation = shell(explain)
    assert re.search(r"^breaker +open", explanation, re.MULTILINE)
    assert re.search(r"^breaker\.volume_threshold +defaults, line \d+ +4$", explanation, re.MULTILINE)


def repaired_endpoints_close_the_breaker(demo: RunningDemo) -> None:
    heal, call = step(demo, 4)
    shell(heal)
    assert json.loads(shell(call))["service"] == "payment"
    assert breaker_of("payment", shell(step(demo, 3)[3])) == "closed"


def an_attempt_that_takes_too_long_goes_to_the_other_endpoint(demo: RunningDemo) -> None:
    slow_down, calls = step(demo, 5)
    shell(slow_down)
    took = auth_calls(demo, calls)
    assert 1 <= took < 3, "at least one of two calls goes to the slow endpoint first, and none waits for it"


def a_timeout_changed_in_the_file_applies_without_a_restart(demo: RunningDemo) -> None:
    change, _, calls, events = step(demo, 6)
    shell(change)

    def reloaded() -> None:
        seen = shell(events)
        assert re.search(r"configuration reloaded +trigger=file .*defaults\.timeout\.attempt", seen), seen

    eventually(reloaded, timeout=10)
    assert 0.3 <= auth_calls(demo, calls) < 1


def test_the_steps_of_the_guide_come_true_in_their_order(demo: RunningDemo) -> None:
    """As a reader types them, on one demo: a step finds what the one before it did."""
    calls_by_name_reach_both_endpoints_and_so_do_calls_by_http_proxy(demo)
    a_get_that_failed_is_sent_to_the_other_endpoint(demo)
    the_breaker_opens_and_the_sidecar_answers_itself(demo)
    repaired_endpoints_close_the_breaker(demo)
    an_attempt_that_takes_too_long_goes_to_the_other_endpoint(demo)
    a_timeout_changed_in_the_file_applies_without_a_restart(demo)


def test_the_dashboard_is_where_the_guide_says(demo: RunningDemo) -> None:
    (url,) = re.findall(r"^The dashboard at (\S+)", demo.log, re.MULTILINE)
    assert url == f"http://localhost:{demo.ports.admin}/"
    assert shell(f"curl -s -o /dev/null -w '%{{http_code}} %{{content_type}}' {url}").startswith("200 text/html")


def test_the_guide_fits_on_a_screen() -> None:
    assert len(show.GUIDE.splitlines()) <= 50


@pytest.mark.parametrize(
    ("started_as", "on_the_path", "admin_port", "line"),
    [
        ("/opt/bin/sidecar", "/opt/bin/sidecar", 15000, "sidecar status"),
        ("/opt/bin/sidecar", None, 15000, "/opt/bin/sidecar status"),
        ("/opt/my bin/sidecar", "/usr/bin/sidecar", 1, "'/opt/my bin/sidecar' status --admin http://127.0.0.1:1"),
        (".venv/bin/sidecar", None, 15000, f"{Path.cwd()}/.venv/bin/sidecar status"),
        ("/src/sidecar/__main__.py", "/usr/bin/sidecar", 15000, "/opt/bin/python -m sidecar status"),
    ],
)
def test_a_command_of_the_guide_is_the_sidecar_that_shows_it(
    monkeypatch: pytest.MonkeyPatch, started_as: str, on_the_path: str | None, admin_port: int, line: str
) -> None:
    monkeypatch.setattr("sys.argv", [started_as, "demo"])
    monkeypatch.setattr("sys.executable", "/opt/bin/python")
    monkeypatch.setattr("shutil.which", lambda name: on_the_path)
    assert show._command("status", admin_port) == line


def refuses(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_to_the_group_ends_everything_in_order(number: signal.Signals) -> None:
    with RunningDemo() as demo:
        os.killpg(demo.process.pid, number)
        assert demo.process.wait(15) == 0, demo.log
        assert "Traceback" not in demo.log
        assert demo.left_behind == []
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
def test_a_taken_port_gives_one_clear_line_and_starts_nothing(listener: str) -> None:
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
