"""tests/support/wants.py, and the run's closing lines: what was missing for tests that were skipped, and the seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import wants

ROOT = Path(__file__).resolve().parents[1]

CONFTEST = "from tests.conftest import pytest_terminal_summary"

TESTS = """
import pytest
from tests.support import wants

wants.PACKAGES |= {"no-browser": "a-browser", "no-driver": "a-driver", "no-store": "a-store"}

@wants.program("no-browser", "no-driver")
@pytest.mark.parametrize("number", range(3))
def test_shown(number): ...

def test_stored():
    wants.skip_without("sh")
    wants.skip_without("no-store")

@wants.of_the_machine("IPv6", there=False)
def test_six(): ...

@wants.of_the_machine("IPv4", there=True)
def test_four(): ...

def test_seven():
    wants.skip_for("IPv7")
"""

LINE = "skipped for want of: a-browser and a-driver (3 tests), IPv6 (1 test), IPv7 (1 test), a-store (1 test)"


def run(folder: Path, tests: str, *arguments: str) -> tuple[int, list[str]]:
    """pytest's exit code, and the lines that it printed."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (folder / "test_scene.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:sidecar", "-ra", *arguments]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=90)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_one_line_says_what_skipped_tests_wanted(tmp_path: Path, workers: tuple[str, ...]) -> None:
    code, lines = run(tmp_path, TESTS, *workers)
    assert code == 0, lines
    assert lines[-2] == LINE
    assert lines[-1].strip("= ").startswith("1 passed, 6 skipped in")


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_a_run_that_fails_ends_with_the_seed_of_its_order(tmp_path: Path, workers: tuple[str, ...]) -> None:
    tests = "def test_one():\n    assert False\n"
    code, lines = run(tmp_path, tests, "-q", "--randomly-seed=42", *workers)
    assert code == 1
    assert "the same order again: --randomly-seed=42" in lines
    code, lines = run(tmp_path, tests.replace("False", "True"), "--randomly-seed=42", *workers)
    assert code == 0
    assert not any("same order" in line for line in lines)
    assert any("--randomly-seed=42" in line for line in lines[:5]), lines


def test_without_anything_missing_there_is_no_line() -> None:
    assert wants.summary([]) == ""


def test_one_reason_names_all_that_is_missing_and_what_to_install() -> None:
    assert wants.reason("chromedriver", "openssl") == (
        "wants chromedriver and openssl; apt-get install chromium-driver openssl"
    )
    (mark,) = [wants.program("sh").mark]
    assert mark.args == (False,)


def test_other_reasons_are_told_as_they_are() -> None:
    assert wants.summary(["Skipped: unconditional skip"]) == "skipped for want of: unconditional skip (1 test)"


def test_ci_installs_each_package() -> None:
    """Where a change is judged, no test is skipped for want of a package."""
    text = (ROOT / ".ci" / "run").read_text()
    for program, package in wants.PACKAGES.items():
        assert f"command -v {program} >/dev/null || missing+=({package})" in text
