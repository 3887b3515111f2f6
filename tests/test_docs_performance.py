"""docs/performance.md: its commands run as they stand there."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.shown import blocks_of

ROOT = Path(__file__).resolve().parents[1]


def test_the_command_tells_how_python_was_built() -> None:
    blocks = [block for block in blocks_of((ROOT / "docs" / "performance.md").read_text()) if block.language == "sh"]
    (command,) = [block.text for block in blocks if "sysconfig" in block.text]
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "--" in run.stdout or run.stdout.strip() == "None"
