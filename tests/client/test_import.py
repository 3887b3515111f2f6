"""What `import sidecar.client` brings with it, and how long it takes: an app pays for both at each start."""

from __future__ import annotations

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


IMPORT = """
import time, aiohttp
began = time.process_time()
import sidecar.client
print((time.process_time() - began) * 1000)
"""


def import_ms() -> float:
    """In a process of its own. CPU time: with all cores busy, the clock tells of the machine."""
    return float(run(IMPORT).stdout)


def test_it_is_quick() -> None:
    # The lowest: caches that others use slow a process down, and nothing speeds it up.
    assert any(import_ms() < BUDGET_MS for _ in range(10))
