"""What holds for every test: none fails for a machine that stood still, and its order can be had again."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

import sidecar
from tests.support import reruns, wants

if Path(sidecar.__file__).parents[1] != Path(__file__).parents[1]:
    # The package brings a pytest plugin, which pytest may load from what is installed, and so all else of it.
    raise pytest.UsageError(f"{sidecar.__file__} would be tested and not the sources here: use `python -m pytest`")

# Shells start what runs in the background with SIGINT ignored, which processes inherit: those that tests interrupt too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A developer's runs look for new examples each time; CI runs the same ones, so that a red build is the change's doing.
settings.register_profile("developer", deadline=None, print_blob=True)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "developer")


def pytest_configure(config: pytest.Config) -> None:
    reruns.register(config)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # after all else that is told at the end
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> Generator[None, None, None]:
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    if line := wants.summary(report.longrepr[2] for report in skipped):
        terminalreporter.write_line(line, yellow=True)
    seed = getattr(terminalreporter.config.option, "randomly_seed", None)
    if exitstatus and isinstance(seed, int):
        terminalreporter.write_line(f"the same order again: --randomly-seed={seed}")
