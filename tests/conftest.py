"""What holds for every test: its environment is nobody's, it leaves nothing behind, and its order can be had again."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import sidecar
from tests.support import leftovers, surroundings, wants

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


@pytest.hookimpl(trylast=True)  # pytest's own output is the developer's: it has read NO_COLOR and its like by now
def pytest_configure(config: pytest.Config) -> None:
    if not getattr(config.option, "numprocesses", None):  # else this process runs no tests: its workers do
        home = tempfile.mkdtemp(prefix="sidecar-tests-home-")
        config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
        surroundings.enter(home)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """The process is after each test as it was before it."""
    before = leftovers.state()
    yield
    left = leftovers.between(before, leftovers.state())
    assert not left, "the test leaves behind:\n" + "\n".join(left)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # after all else that is told at the end
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, exitstatus: int) -> Generator[None, None, None]:
    yield
    skipped = terminalreporter.stats.get("skipped", [])
    if line := wants.summary(report.longrepr[2] for report in skipped):
        terminalreporter.write_line(line, yellow=True)
    seed = getattr(terminalreporter.config.option, "randomly_seed", None)
    if exitstatus and isinstance(seed, int):
        terminalreporter.write_line(f"the same order again: --randomly-seed={seed}")
