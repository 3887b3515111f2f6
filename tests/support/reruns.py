"""A test that failed while the machine stood still is run again: its bounds in seconds were then not the product's.

Timeouts and health checks of a real daemon really fail in such a stall, and no bound that still means something is wide
enough. A failure without one stays one, however rare, and each rerun is in the summary with its stall and with what had
failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.support.stalls import STALL_S, Witness

BEFORE_S = 5.0
"""What a stall did (a breaker opened, an endpoint ejected) is still there for the test that begins after it."""

RERUNS = 3


class Reruns:
    """The plugin. `longest_s` is a `Witness`'s, and in the process that only gathers reports it is never asked."""

    def __init__(self, longest_s: Callable[[float], float]) -> None:
        self._longest_s = longest_s

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool:
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for run in range(RERUNS + 1):
            since = time.monotonic() - BEFORE_S
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
            failed = [report for report in reports if report.failed]
            stall_s = self._longest_s(since) if failed and run < RERUNS else 0.0
            if stall_s < STALL_S:
                break
            for report in failed:
                report.outcome = "rerun"  # type: ignore[assignment]  # as pytest-rerunfailures has it
                report.stood_still_s = stall_s
                item.ihook.pytest_runtest_logreport(report=report)
            # What tests of a file share was there during the stall too, and is made anew; how it ends is no matter now.
            with suppress(Exception, pytest.fail.Exception):
                item.session._setupstate.teardown_exact(None)
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def pytest_report_teststatus(self, report: Any) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        return ("rerun", "R", ("RERUN", {"yellow": True})) if report.outcome == "rerun" else None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        reports = terminalreporter.stats.get("rerun", [])
        if reports:
            terminalreporter.section("run again, for the machine stood still", yellow=True)
        for report in reports:
            crash = getattr(report.longrepr, "reprcrash", None)
            failure = crash.message if crash else str(report.longrepr)
            first = failure.strip().partition("\n")[0][:200]
            terminalreporter.write_line(f"{report.nodeid} ({report.when}, {report.stood_still_s:.1f} s): {first}")


def register(config: pytest.Config) -> None:
    """Under xdist, each worker has a witness of its own."""
    if getattr(config.option, "numprocesses", None):
        config.pluginmanager.register(Reruns(lambda _: 0.0))
        return
    witness = Witness()
    config.add_cleanup(witness.close)
    config.pluginmanager.register(Reruns(witness.longest_s))
