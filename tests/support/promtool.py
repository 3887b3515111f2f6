"""Prometheus' own checker, from Debian's `prometheus` package. `.ci/run` installs it; elsewhere it may be missing."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support import wants

needs_promtool = wants.program("promtool")


def promtool(*arguments: str | Path, given: bytes | None = None) -> None:
    """Runs promtool, and fails with its message if it finds an error."""
    run = subprocess.run(
        ["promtool", *map(str, arguments)], input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    assert run.returncode == 0, run.stdout.decode()
