"""The types that an app's editor and its mypy see."""

from __future__ import annotations

import subprocess
import sys

from tests.support.daemon import ROOT

CHECKED = ROOT / "tests" / "client" / "typing_check.py"


def test_types_are_what_they_are_said_to_be() -> None:
    """With the cache that `mypy` keeps here, a second; without, half a minute."""
    command = [sys.executable, "-m", "mypy", "--strict", str(CHECKED)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90)
    assert run.returncode == 0, run.stdout + run.stderr


def test_installations_have_the_types() -> None:
    assert (ROOT / "sidecar" / "py.typed").is_file()
