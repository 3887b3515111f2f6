"""Where a configuration is looked for, and what is said of a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sidecar.cli import config_file
from sidecar.cli.config_file import default_config, load_or_exit


def test_the_defaults_are_a_checkouts_file_then_a_pods() -> None:
    assert config_file.DEFAULT_CONFIGS == (Path("config/sidecar.yaml"), Path("/etc/sidecar/sidecar.yaml"))


def test_the_first_default_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    monkeypatch.setattr(config_file, "DEFAULT_CONFIGS", (first, second))
    assert default_config() is None
    second.touch()
    assert default_config() == second
    first.touch()
    assert default_config() == first


def test_a_bad_one_as_json_has_every_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("services:\n  venue: {ulr: x}\n")
    with pytest.raises(SystemExit) as ended:
        load_or_exit(path, as_json=True)
    assert ended.value.code == 2
    said = capsys.readouterr()
    found = json.loads(said.out)
    assert found["result"] == "rejected"
    assert (found["errors"][0]["line"], found["errors"][0]["key"]) == (2, "services.venue")
    assert said.err.splitlines()[-1] == f"{path}: 2 errors, so it cannot be used"
