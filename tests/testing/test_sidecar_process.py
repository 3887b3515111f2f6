"""The sidecar as a process of the test run: soon there, and never left behind."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sidecar.testing import sidecar_process
from sidecar.testing.admin import Admin
from sidecar.testing.errors import FakeError
from sidecar.testing.sidecar_process import SidecarProcess, free_ports
from tests.support.eventually import eventually
from tests.testing.asking import ask

ROOT = Path(__file__).resolve().parents[2]


def gone(pid: int) -> bool:
    """Ended, whether or not somebody has asked for its exit code yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_it_serves_once_waited_for(tmp_path: Path) -> None:
    process = SidecarProcess(tmp_path)
    try:
        process.wait()
        assert ask(process.url + "/venue/").reason == "unknown_service"
        Admin(process.admin_port).reload()
        assert process.running
    finally:
        process.close()
    assert gone(process.pid)
    assert not process.running


def test_the_log_is_of_a_test_and_without_our_own_doing(tmp_path: Path) -> None:
    process = SidecarProcess(tmp_path)
    try:
        process.wait()
        assert '"event":"ready"' in process.log()
        process.forget_log()
        assert process.log() == ""
        Admin(process.admin_port).reload()
        ask(process.url + "/venue/x")
        (line,) = process.readable_log().splitlines()
        assert "GET /venue/x: 404 unknown_service" in line
    finally:
        process.close()


def test_the_last_lines_are_there_though_the_sidecar_was_late(tmp_path: Path) -> None:
    process = SidecarProcess(tmp_path)
    try:
        process.wait()
        process.forget_log()
        ask(process.url + "/venue/x")
        os.kill(process.pid, signal.SIGSTOP)
        going_on = threading.Timer(2 * sidecar_process.FLUSHED_S, os.kill, (process.pid, signal.SIGCONT))
        going_on.start()
        (line,) = process.readable_log().splitlines()
        assert "GET /venue/x: 404 unknown_service" in line
        going_on.join()
    finally:
        process.close()


def test_how_it_ended_and_another_start_on_the_same_ports(tmp_path: Path) -> None:
    process = SidecarProcess(tmp_path)
    try:
        process.wait()
        assert process.ended == ""
        ports, pid = process.ports, process.pid
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not process.running)
        assert process.ended == "killed by SIGKILL"
        process.restart()
        assert process.ports == ports
        assert process.pid != pid
        assert ask(process.url + "/").status == 404
        os.kill(process.pid, signal.SIGTERM)
        eventually(lambda: not process.running, timeout=10)
        assert process.ended.startswith("exit code ")
    finally:
        process.close()


def test_the_lines_of_refused_requests_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = SidecarProcess(tmp_path)
    try:
        process.wait()
        process.forget_log()
        assert process.refused(0) == []
        ask(process.url + "/venue/x", "PUT")
        (stray,) = process.refused(1)
        assert (stray.service, stray.method, stray.path) == ("venue", "PUT", "/x")
        monkeypatch.setattr(sidecar_process, "WRITTEN_S", 0.05)
        assert process.refused(2) == [stray]
    finally:
        process.close()


def test_a_port_that_somebody_took_is_not_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        choices = [[*free_ports(2), taken.getsockname()[1]], free_ports(3)]
        monkeypatch.setattr(sidecar_process, "free_ports", lambda _: choices.pop(0))
        process = SidecarProcess(tmp_path)
        try:
            process.wait()
            assert choices == []
            assert ask(process.url + "/").status == 404
        finally:
            process.close()


def test_ports_that_are_always_taken_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar_process, "TRIES", 2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(sidecar_process, "free_ports", lambda _: [*free_ports(2), taken.getsockname()[1]])
        process = SidecarProcess(tmp_path)
        with pytest.raises(FakeError, match=r"did not start:\nsidecar: listen\.probe: .* is already in use"):
            process.wait()
    assert gone(process.pid)


def test_one_that_does_not_start_says_why_and_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SidecarProcess, "listen", {"proxi": "x"})
    process = SidecarProcess(tmp_path)
    with pytest.raises(FakeError, match=r"(?s)did not start:\n.*unknown key; did you mean proxy\?"):
        process.wait()
    assert gone(process.pid)


def test_one_that_never_serves_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sidecar_process, "START_S", 0.0)
    process = SidecarProcess(tmp_path)
    with pytest.raises(FakeError, match="did not start:\nit printed nothing"):
        process.wait()
    assert gone(process.pid)


RUN = """
import sys, time
from pathlib import Path
from sidecar.testing.sidecar_process import SidecarProcess
process = SidecarProcess(Path(sys.argv[1]))
process.wait()
print(process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_ends_with_a_test_run_that_is_killed(tmp_path: Path, number: int) -> None:
    with subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert not gone(pid)
        run.send_signal(number)
        run.wait(10)
    eventually(lambda: gone(pid))


def test_ctrl_c_is_for_the_test_run(tmp_path: Path) -> None:
    process = SidecarProcess(tmp_path)
    try:
        process.wait()
        assert os.getpgid(process.pid) != os.getpgid(0)
    finally:
        process.close()


def test_the_same_sidecar_runs_as_is_imported_here(tmp_path: Path) -> None:
    """Whatever the folder in which the tests run, and whatever else is installed."""
    process = SidecarProcess(tmp_path)
    try:
        process.wait()
        environment = Path(f"/proc/{process.pid}/environ")
        if environment.exists():
            import sidecar

            root = Path(sidecar.__file__).parents[1]
            assert f"PYTHONPATH={root}".encode() in environment.read_bytes() or "site-packages" in root.parts
    finally:
        process.close()


def test_the_first_call_can_be_made_within_a_second(tmp_path: Path) -> None:
    """By the clock; or, where the machine is busy with other things, by the processor's time that a start takes."""
    took: list[tuple[float, float]] = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        before, began = cpu_of_children(), time.monotonic()
        process = SidecarProcess(folder)
        try:
            process.wait()
            assert ask(process.url + "/").status == 404
            wall = time.monotonic() - began
        finally:
            process.close()
        took.append((wall, cpu_of_children() - before))
        if min(took[-1]) < 1.0:
            return
    raise AssertionError(f"seconds by the clock and of the processor: {took}")


def cpu_of_children() -> float:
    """Seconds of the processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
