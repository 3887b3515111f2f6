"""`sidecar check`, alone and against a running sidecar."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.cli.check import _as_json
from sidecar.config.load import load_with_origins
from tests.cli.command import fine, sidecar
from tests.cli.fake_admin import FakeAdmin

RUNS = """\
services:
  venue: {url: "http://venue-service:3002"}
  old: {url: "http://old:1"}
"""

WANTED = """\
listen: {admin: "127.0.0.1:16000"}
services:
  venue:
    url: "http://venue-service:3002"
    timeout: {attempt: 2s}
  new: {url: "http://new:1"}
"""


@pytest.fixture
def wanted(tmp_path: Path) -> str:
    path = tmp_path / "wanted.yaml"
    path.write_text(WANTED)
    return str(path)


def running(folder: Path, text: str) -> FakeAdmin:
    """One that runs with that configuration."""
    path = folder / "running.yaml"
    path.write_text(text)
    tree: Any = _as_json(*load_with_origins(path, {}))
    return FakeAdmin({"GET /config": {"config": tree}})


def test_what_a_reload_would_change_key_by_key(tmp_path: Path, wanted: str) -> None:
    with running(tmp_path, RUNS) as admin:
        lines = fine(sidecar("check", "--config", wanted, "--against", admin.url)).splitlines()
        assert lines == [
            "listen.admin: 127.0.0.1:15000 (default) -> 127.0.0.1:16000 (file, line 1); needs a restart",
            "services.new: added",
            "services.old: removed",
            "services.venue.timeout.attempt: 5s (default) -> 2s (service, line 5)",
            f"a reload would change 3 keys at {admin.url}; 1 key changes only with a restart",
        ]


def test_the_same_as_json(tmp_path: Path, wanted: str) -> None:
    with running(tmp_path, RUNS) as admin:
        found = json.loads(fine(sidecar("check", "--config", wanted, "--against", admin.url, "--json")))
    assert found["result"] == "ok"
    assert [change["key"] for change in found["changes"] if change["needs_restart"]] == ["listen.admin"]
    (attempt,) = [change for change in found["changes"] if change["key"].endswith("attempt")]
    assert attempt["new"] == {"value": "2s", "origin": "service", "line": 5}


def test_nothing_would_change(tmp_path: Path, wanted: str) -> None:
    with running(tmp_path, WANTED) as admin:
        said = fine(sidecar("check", "--config", wanted, "--against", admin.url))
        assert said == f"a reload would change nothing at {admin.url}\n"


SECRET = """\
services:
  venue: {url: "http://venue-service:3002", health: {path: "/health?key=OLD"}}
"""


@pytest.mark.parametrize("more", ["", "log: {level: debug}\n"])
def test_that_secrets_are_not_compared_is_said(tmp_path: Path, more: str) -> None:
    path = tmp_path / "secret.yaml"
    path.write_text(SECRET.replace("OLD", "NEW") + more)
    with running(tmp_path, SECRET) as admin:
        said = fine(sidecar("check", "--config", str(path), "--against", admin.url)).splitlines()
    count = "1 key" if more else "nothing"
    assert said[-1] == f"a reload would change {count} at {admin.url} (values shown as *** are not compared)"
    assert "OLD" not in str(said)
    assert "NEW" not in str(said)


def test_nobody_listens_there(wanted: str) -> None:
    result = sidecar("check", "--config", wanted, "--against", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert "nothing listens at http://127.0.0.1:1" in result.stderr


def test_a_url_that_is_none(wanted: str) -> None:
    result = sidecar("check", "--config", wanted, "--against", "ftp://x")
    assert result.exit_code == 2
    assert "--against" in result.stderr


def test_alone_as_json(wanted: str, tmp_path: Path) -> None:
    assert json.loads(fine(sidecar("check", "--config", wanted, "--json"))) == {
        "result": "ok", "file": wanted, "errors": [], "warnings": []
    }  # fmt: skip
    bad = tmp_path / "bad.yaml"
    bad.write_text("services: {venue: {url: 5}}")
    result = sidecar("check", "--config", str(bad), "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["errors"][0]["key"] == "services.venue.url"


CUT_SHORT = "services: {venue: {url: http://a:1, timeout: {attempt: 2s, request: 1s}}}"
WARNING = (
    "services.venue: timeout.attempt (2s, line 1) is longer than timeout.request (1s, line 1), which ends it first"
)


@pytest.mark.parametrize("more", [[], ["--against"], ["--json"], ["--against", "--json"]])
def test_a_warning_is_said_beside_the_answer(tmp_path: Path, more: list[str]) -> None:
    path = tmp_path / "cut-short.yaml"
    path.write_text(CUT_SHORT)
    with running(tmp_path, CUT_SHORT) as admin:
        options = ["--against", admin.url] if "--against" in more else []
        result = sidecar("check", "--config", str(path), *options, *(one for one in more if one == "--json"))
    assert (result.exit_code, result.stderr) == (0, f"warning: {WARNING}\n")
    assert "warning" not in result.stdout or "--json" in more
    if "--json" in more:
        assert json.loads(result.stdout)["warnings"] == [WARNING]
