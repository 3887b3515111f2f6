"""The commands from outside: exit codes, and what is said on which stream."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import sidecar
from sidecar.cli import config_file
from sidecar.cli import main as cli
from sidecar.config.schema import Config
from tests.cli.fake_admin import FakeAdmin

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
    """The working directory is empty, and no file of the machine is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config_file, "DEFAULT_CONFIGS", (Path("sidecar.yaml"), tmp_path / "etc/sidecar.yaml"))
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
def test_without_a_file_the_message_says_what_to_do(command: str, in_empty_folder: Path, served: list[Config]) -> None:
    result = sidecar_command(command)
    assert (result.exit_code, result.stdout, served) == (2, "", [])
    assert result.stderr.startswith("Error: there is no configuration file. These places were searched:\n")
    assert str(in_empty_folder / "sidecar.yaml") in result.stderr
    assert "`sidecar init`" in result.stderr


@pytest.mark.parametrize("command", ["run", "check"])
def test_the_first_place_that_has_a_file_is_used(command: str, in_empty_folder: Path, served: list[Config]) -> None:
    (in_empty_folder / "etc").mkdir()
    (in_empty_folder / "etc/sidecar.yaml").write_text(GOOD)
    assert sidecar_command(command).exit_code == 0
    (in_empty_folder / "sidecar.yaml").write_text(BAD)
    assert "sidecar.yaml:2: " in sidecar_command(command).stderr


def test_check_says_on_stderr_which_file_it_took(in_empty_folder: Path) -> None:
    (in_empty_folder / "sidecar.yaml").write_text(GOOD)
    for result in (sidecar_command("check"), sidecar_command("check", "--json")):
        assert result.stderr == "configuration: sidecar.yaml\n"
    assert json.loads(result.stdout)["file"] == "sidecar.yaml"
    assert sidecar_command("check", "--config", "sidecar.yaml").stderr == ""


def test_run_leaves_stderr_to_failures_and_names_the_file_in_the_log(
    in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tests/system/test_life_cycle.py reads it there."""
    paths: list[Path] = []
    monkeypatch.setattr("sidecar.daemon.run", lambda _config, path, _origins: paths.append(path) or 0)
    (in_empty_folder / "sidecar.yaml").write_text(GOOD)
    assert sidecar_command("run").stderr == ""
    assert paths == [Path("sidecar.yaml")]


@pytest.mark.parametrize("arguments", [["check", "--config", "nowhere.yaml"], ["check", "--config", "."], ["serve"]])
def test_wrong_usage_is_exit_code_2_and_says_what_is_wrong(arguments: list[str], in_empty_folder: Path) -> None:
    result = sidecar_command(*arguments)
    assert result.exit_code == 2
    assert arguments[-1] in result.stderr


def test_without_arguments_the_help_shows_the_first_steps() -> None:
    result = sidecar_command()
    assert result.exit_code == 2
    steps = result.stderr.partition("First steps:\n")[2].partition("\n\n")[0].splitlines()
    names = [line.split()[1] for line in steps]
    assert names == ["demo", "init", "check", "run", "status"]
    assert set(names) <= set(COMMANDS)


def test_version() -> None:
    assert sidecar_command("--version").stdout.startswith(f"sidecar {sidecar.__version__} (interpreted), Python 3.")


COMMANDS = cli.main.list_commands(click.Context(cli.main))


def test_the_commands_of_the_design_are_there() -> None:
    assert {"run", "check", "demo", "explain", "status", "breaker", "events", "reload", "schema"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_teaches(name: str) -> None:
    result = sidecar_command(name, "--help")
    assert result.exit_code == 0
    assert "Options:" in result.stdout
    assert name in ("demo", "injector", "wait") or "Examples:" in result.stdout
    command = cli.main.get_command(click.Context(cli.main), name)
    assert command is not None
    assert not command.get_short_help_str(60).endswith("..."), "cut off in the list of commands at 80 columns"


def examples() -> list[str]:
    """The lines below `Examples:` in every help."""
    found = []
    for name in COMMANDS:
        after = sidecar_command(name, "--help").stdout.partition("Examples:\n")[2].partition("\n\n")[0]
        found += [line.strip() for line in after.splitlines()]
    return found


@pytest.mark.parametrize("line", examples())
def test_the_examples_of_help_run(
    line: str, good: Path, in_empty_folder: Path, served: list[Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a sidecar that answers; what would never end is ended by it, what is redirected is not written."""
    if "init" not in line:
        (in_empty_folder / "sidecar.yaml").write_text(GOOD)
    words = shlex.split(line.partition(">")[0])
    assert words.pop(0) == "sidecar"
    follows = bool({"--follow", "--watch"} & set(words))
    with FakeAdmin() as admin:
        monkeypatch.setenv("SIDECAR_ADMIN", admin.url)
        if "--watch" in words:
            monkeypatch.setattr("sidecar.cli.status.time.sleep", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        known = {"sidecar.yaml": str(good), "config/sidecar.yaml": str(good), "http://127.0.0.1:15000": admin.url}
        result = sidecar_command(*(known.get(word, word) for word in words))
    if follows and "events" in words:
        assert "closed the stream" in result.stderr
    else:
        assert result.exit_code == 0, result.output


HEAVY = {"aiohttp", "asyncio", "uvloop", "httptools", "prometheus_client", "sidecar.daemon"}


def loaded_by(*arguments: str, admin: str = "") -> set[str]:
    """The modules that a command loads, which has to go well."""
    script = """
import sys
from sidecar.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print(*sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "SIDECAR_ADMIN": admin},
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split())


def test_check_stays_light(good: Path) -> None:
    """It runs in init containers and hooks; what only serving needs is not even imported."""
    loaded = loaded_by("check", "--config", str(good))
    assert loaded & HEAVY == set()
    assert loaded & {"rich", "http.client"} == set()


def test_status_stays_light() -> None:
    """It is typed again and again: it starts in under 150 ms because it loads neither the configuration nor a loop."""
    with FakeAdmin() as admin:
        loaded = loaded_by("status", admin=admin.url)
    assert loaded & (HEAVY | {"yaml", "msgspec", "sidecar.config"}) == set()


def test_what_only_the_other_commands_need_is_not_in_the_daemons_memory() -> None:
    script = "import sys, sidecar.cli.main as cli; cli.main.get_command(None, 'run'); print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True)
    loaded = set(run.stdout.split())
    assert loaded & {"rich", "http.client", "json", "sidecar.cli.admin_client", "sidecar.cli.status"} == set()


def test_the_module_runs_as_the_command() -> None:
    run = subprocess.run([sys.executable, "-m", "sidecar", "--help"], capture_output=True, text=True, timeout=20)
    assert run.returncode == 0
    assert run.stdout.startswith("Usage: sidecar ")
