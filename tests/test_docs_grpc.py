"""docs/grpc.md keeps its word: its file loads, its commands print what it shows, its tables are the code's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sidecar.config.load import load_with_origins
from sidecar.config.protocols import H2_CONNECTION_AGE_S, H2_POOL_IDLE_S
from sidecar.config.warnings import warnings_of
from sidecar.policy.grpc import REASON_STATUS, STATUSES, name_of
from sidecar.policy.settings import BreakerSettings, RetrySettings
from sidecar.proxy.problem import LONGEST_PUSHBACK_S
from tests.cli.command import fine, sidecar
from tests.support.daemon import ROOT

TEXT = (ROOT / "docs" / "grpc.md").read_text()
FILE = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[0]
CONSOLE = re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)[0]
SESSIONS = [one.split("\n") for one in CONSOLE.removeprefix("$ ").rstrip("\n").split("\n$ ")]


def table(title: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    section = TEXT.partition(f"## {title}\n")[2]
    rows = re.findall(r"^\|(.*)\|$", section.partition("\n## ")[0], re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows[2:]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "sidecar.yaml"
    path.write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return path


def test_the_file_loads_without_a_warning(file: Path) -> None:
    config, origins = load_with_origins(file, {})
    assert warnings_of(config, origins) == []
    assert {name: (one.h2, one.is_grpc) for name, one in config.services.items()} == {
        "shop": (True, True),
        "menu": (True, True),
        "stock": (True, False),
        "price": (True, False),
        "venue": (False, False),
    }


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session[0])
def test_a_command_prints_what_the_page_shows(session: list[str], file: Path) -> None:
    command, *shown = session
    assert shown[-1] == "..."
    said = fine(sidecar(*command.split()[1:])).splitlines()
    assert [line for line in shown[:-1] if line not in said] == []


def test_the_statuses_that_fail_by_default() -> None:
    rows = table("Which status is a failure")
    said = {name: row[1] for row in rows for name in re.findall("`([A-Z_]+)`", row[0])}
    assert {name for name, what in said.items() if what == "a failure"} == BreakerSettings().failure_grpc_status
    assert said.keys() <= set(STATUSES)
    assert "UNAVAILABLE" in RetrySettings().on


def test_the_status_of_each_reason() -> None:
    rows = table("Answers of the sidecar itself")
    said = {reason: row[1].partition(";")[0] for row in rows for reason in re.findall("`([a-z_]+)`", row[0])}
    assert said == {reason: name_of(REASON_STATUS[reason]) for reason in said}
    assert said.keys() >= REASON_STATUS.keys() - {"stale_connection", "aggregate_failed", "client_disconnect"}


def test_the_times_of_http_2() -> None:
    assert "`timeout.pool_idle` is 5m and `limits.max_connection_age` 10m" in TEXT
    assert (H2_POOL_IDLE_S, H2_CONNECTION_AGE_S) == (300.0, 600.0)
    assert f"a wait of up to {LONGEST_PUSHBACK_S:g} s, or -1" in TEXT
