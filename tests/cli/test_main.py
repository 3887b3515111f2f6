"""The commands from outside: exit codes, and what is said on which stream."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import sidecar
from sidecar.cli import main as cli
from sidecar.config.schema import Config

GOOD = """\
services:
  venue: {url: "http://venue-service:3002"}
"""

BAD = """\
defaults:
  timeout: {conect: 1s}
services:
  venue: {url: "http://venue-service:3002", balancer: randomly}
"""


def sidecar_command(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, list(arguments), prog_name="sidecar")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    path = tmp_path / "bad.yaml"
    path.write_text(BAD)
    return path


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory is empty, and the second default is looked for in it as well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "DEFAULT_CONFIGS", (Path("config/sidecar.yaml"), tmp_path / "etc/sidecar.yaml"))
    return tmp_path


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """What the daemon was asked to serve; it returns at once, with 0."""
    configs: list[Config] = []

    def run(config: Config, *_: object) -> int:
        configs.append(config)
        return 0

    monkeypatch.setattr("sidecar.daemon.run", run)
    return configs


def test_check_of_a_good_configuration_prints_a_summary(good: Path) -> None:
    result = sidecar_command("check", "--config", str(good))
    assert result.exit_code == 0
    assert "venue" in result.stdout
    assert result.stderr == ""


def test_check_of_a_bad_one_prints_every_error_with_its_line_on_stderr(bad: Path) -> None:
    result = sidecar_command("check", "--config", str(bad))
    assert result.exit_code == 2
    assert result.stdout == ""
    first, second, last = result.stderr.splitlines()
    assert first.startswith(f"{bad}:2: ")
    assert "conect" in first
    assert second.startswith(f"{bad}:4: ")
    assert "balancer" in second
    assert last == f"{bad}: 2 errors, so it cannot be used"


def test_check_reads_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text('services: {venue: {url: "${VENUE_SERVICE_URL}"}}\n')
    monkeypatch.delenv("VENUE_SERVICE_URL", raising=False)
    assert sidecar_command("check", "--config", str(path)).exit_code == 2
    monkeypatch.setenv("VENUE_SERVICE_URL", "http://10.0.0.7:3002")
    assert sidecar_command("check", "--config", str(path)).exit_code == 0


def test_run_hands_the_configuration_to_the_daemon_and_returns_its_exit_code(
    good: Path, served: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sidecar_command("run", "--config", str(good)).exit_code == 0
    assert [list(config.services) for config in served] == [["venue"]]
    monkeypatch.setattr("sidecar.daemon.run", lambda *_: 1)
    assert sidecar_command("run", "--config", str(good)).exit_code == 1


def test_run_does_not_start_with_a_bad_configuration(bad: Path, served: list[Config]) -> None:
    result = sidecar_command("run", "--config", str(bad))
    assert result.exit_code == 2
    assert served == []
    assert f"{bad}:2: " in result.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_the_first_default_that_is_there_is_used(command: str, in_empty_folder: Path, served: list[Config]) -> None:
    result = sidecar_command(command)
    assert result.exit_code == 2
    assert "there is neither config/sidecar.yaml nor" in result.stderr
    assert "--config FILE" in result.stderr
    (in_empty_folder / "etc").mkdir()
    (in_empty_folder / "etc/sidecar.yaml").write_text(GOOD)
    assert sidecar_command(command).exit_code == 0
    (in_empty_folder / "config").mkdir()
    (in_empty_folder / "config/sidecar.yaml").write_text(BAD)
    assert "config/sidecar.yaml:2: " in sidecar_command(command).stderr


def test_the_defaults_are_a_checkouts_file_then_a_pods() -> None:
    assert cli.DEFAULT_CONFIGS == (Path("config/sidecar.yaml"), Path("/etc/sidecar/sidecar.yaml"))


@pytest.mark.parametrize("arguments", [["check", "--config", "nowhere.yaml"], ["check", "--config", "."], ["serve"]])
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(arguments: list[str], in_empty_folder: Path) -> None:
    result = sidecar_command(*arguments)
    assert result.exit_code == 2
    assert arguments[-1] in result.stderr


def test_version() -> None:
    assert sidecar_command("--version").stdout.startswith(f"sidecar {sidecar.__version__} (interpreted), Python 3.")


def test_help_of_each_command_names_its_exit_codes_or_its_options() -> None:
    assert {"run", "check", "demo"} <= set(cli.main.commands)
    for name in cli.main.commands:
        result = sidecar_command(name, "--help")
        assert result.exit_code == 0
        assert "Options:" in result.stdout


def test_check_stays_light(good: Path) -> None:
    """It runs in init containers and hooks; what only serving needs is not even imported."""
    script = """
import sys
from sidecar.cli.main import main
try:
    main(["check", "--config", sys.argv[1]])
finally:
    heavy = {"aiohttp", "asyncio", "uvloop", "httptools", "prometheus_client", "sidecar.daemon"}
    print(sorted(heavy & set(sys.modules)))
"""
    run = subprocess.run([sys.executable, "-c", script, str(good)], capture_output=True, text=True, timeout=20)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "[]"


def test_the_module_runs_as_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "sidecar", "--help"], capture_output=True, text=True, timeout=20)
    assert run.returncode == 0
    assert run.stdout.startswith("Usage: sidecar ")
