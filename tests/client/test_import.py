"""What `import sidecar.client` brings with it, and how long it takes: an app pays for both at each start."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.daemon import ROOT

BUDGET_MS = 30.0
"""Beyond aiohttp's own import."""


def run(code: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *flags, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)


def test_it_brings_no_part_of_the_daemon() -> None:
    loaded = run("import sys, sidecar.client; print(*sys.modules)").stdout.split()
    ours = {name for name in loaded if name.partition(".")[0] == "sidecar"}
    assert {name for name in ours if not name.startswith("sidecar.client")} == {"sidecar"}
    assert "sidecar.client.service_client" in ours
    others = ("aiohttp.web", "uvloop", "httptools", "yaml", "click", "rich", "prometheus_client", "pydantic")
    assert not set(others) & set(loaded)


def import_ms() -> float:
    """The time that modules take which aiohttp does not bring: each one's own, as `-X importtime` has it."""
    lines = run("import aiohttp; import sidecar.client", "-X", "importtime").stderr.splitlines()
    found = [re.fullmatch(r"import time:\s+(\d+) \|\s+\d+ \| +(\S+)", line) for line in lines]
    times = [(match[2], int(match[1])) for match in found if match is not None]
    names = [name for name, _ in times]
    return sum(own_us for _, own_us in times[names.index("aiohttp") + 1 :]) / 1000


def test_it_is_quick() -> None:
    # The lowest: on a busy machine the others tell of the machine.
    assert min(import_ms() for _ in range(5)) < BUDGET_MS
