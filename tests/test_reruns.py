"""tests/support/reruns.py: a failure is excused by a stall alone, and is told all the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.stalls import STALL_S

ROOT = Path(__file__).resolve().parents[1]

CONFTEST = """
from tests.support.eventually import eventually
from tests.support.reruns import Reruns

def pytest_configure(config):
    stalls = iter({stalls})
    config.pluginmanager.register(Reruns(lambda since: next(stalls)))
"""

TESTS = """
import pathlib
import pytest

RUNS = pathlib.Path(__file__).with_name("runs")

@pytest.fixture(scope="module")
def shared():
    with RUNS.open("a") as file:
        file.write("shared ")
    yield
    with RUNS.open("a") as file:
        file.write("ended ")

def test_before(shared):
    pass

def test_one(shared):
    with RUNS.open("a") as file:
        file.write("run ")
    assert RUNS.read_text().count("run") > {failures}, "too late"

def test_after(shared):
    pass
"""


def scene(folder: Path, failures: int, stalls: list[float]) -> tuple[int, str, str]:
    """pytest's exit code, what it printed, and which fixtures and tests ran. `stalls`: the answers of a witness."""
    (folder / "conftest.py").write_text(CONFTEST.format(stalls=stalls))
    (folder / "test_scene.py").write_text(TESTS.format(failures=failures))
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    return run.returncode, run.stdout + run.stderr, (folder / "runs").read_text()


def test_what_failed_while_the_machine_stood_still_is_run_again_with_all_made_anew(tmp_path: Path) -> None:
    code, printed, runs = scene(tmp_path, failures=1, stalls=[2.5])
    assert code == 0, printed
    assert "3 passed, 1 rerun in" in printed
    assert "test_scene.py::test_one (call, 2.5 s): AssertionError: too late" in printed
    assert runs == "shared run ended shared run ended "


def test_a_failure_without_a_stall_stays_one(tmp_path: Path) -> None:
    code, printed, runs = scene(tmp_path, failures=1, stalls=[STALL_S / 2])
    assert code == 1, printed
    assert "1 failed, 2 passed in" in printed
    assert runs == "shared run ended "


def test_what_fails_again_without_a_stall_has_failed(tmp_path: Path) -> None:
    code, printed, _ = scene(tmp_path, failures=9, stalls=[2.5, 0.0])
    assert code == 1, printed
    assert "1 failed, 2 passed, 1 rerun in" in printed


def test_what_always_fails_fails_however_the_machine_stands(tmp_path: Path) -> None:
    code, printed, runs = scene(tmp_path, failures=9, stalls=[2.5] * 9)
    assert code == 1, printed
    assert "1 failed, 2 passed, 3 rerun in" in printed
    assert runs.count("run ") == 4
