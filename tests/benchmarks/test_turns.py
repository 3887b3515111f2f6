"""No work of the control side keeps the event loop from the requests: a bound in CPU time, whatever else runs here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

BOUND_MS = 5.0
"""docs/architecture.md promises it."""


@pytest.fixture(scope="module")
def turns() -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.turns", "--json"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def test_with_1000_services_of_10_endpoints_no_turn_is_long(turns: dict[str, float]) -> None:
    assert {"GET /metrics", "a reload that changes all services"} <= set(turns)
    long = {name: turn_ms for name, turn_ms in turns.items() if turn_ms > BOUND_MS}
    assert not long, turns
