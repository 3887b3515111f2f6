"""Runs pytest for an app that uses the plugin, in a separate process and folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[2]

INI = """\
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""


@dataclass
class Ended:
    code: int
    output: str

    def counts(self) -> dict[str, int]:
        """The counts of the last line: `{"passed": 3, "failed": 1}`."""
        last = self.output.rstrip().splitlines()[-1]
        return {word.rstrip("s") if word == "errors" else word: int(number) for number, word in _COUNT.findall(last)}


_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)")


@dataclass
class InnerRun:
    """`tests` is the text of the app's test file."""

    folder: Path
    tests: str
    ini: str = ""
    args: tuple[str, ...] = ()

    def start(self) -> subprocess.Popen[str]:
        (self.folder / "pytest.ini").write_text(INI + self.ini)
        (self.folder / "test_app.py").write_text(dedent(self.tests))
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        return subprocess.Popen(
            # As a module, because the entry point exists only after the project is installed. In the order of the file:
            # some of these tests split the whole output at the names of the next tests.
            [sys.executable, "-m", "pytest", "-p", "no:sidecar", "-p", "sidecar.testing.plugin", "-p", "no:randomly",
             "-p", "no:cacheprovider", "-q", "-ra", *self.args],
            cwd=self.folder,
            env=environment | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )  # fmt: skip

    def run(self) -> Ended:
        return ended(self.start())


def ended(run: subprocess.Popen[str], timeout: float = 90.0) -> Ended:
    try:
        output, _ = run.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        run.kill()
        raise
    return Ended(run.returncode, output)
