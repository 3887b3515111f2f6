"""deploy/systemd/sidecar.service by systemd's own checker, and docs/systemd.md by the unit and its tools.

No systemd runs here; the page says what was run with one. That the daemon tells systemd when it is ready is in
tests/daemon/test_notify.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sidecar.cli.main import main
from sidecar.config.load import loads
from tests.support import wants
from tests.support.daemon import ROOT
from tests.support.shown import blocks_of

UNIT = ROOT / "deploy" / "systemd" / "sidecar.service"
LINES = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
PAGE = (ROOT / "docs" / "systemd.md").read_text()
BLOCKS = blocks_of(PAGE)
SHELL = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
PROGRAM = "/opt/sidecar/bin/sidecar"
MOST_EXPOSURE = 1.5
"""Of 10. systemd 252 rates the unit 1.1; later ones have more questions."""


def values(key: str) -> list[str]:
    return [line.partition("=")[2] for line in LINES if line.partition("=")[0] == key]


def value(key: str) -> str:
    (found,) = values(key)
    return found


def analyze(*arguments: str | Path) -> str:
    """What it says. Fails where it does."""
    command = ["systemd-analyze", *map(str, arguments)]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    assert run.returncode == 0, run.stdout
    return run.stdout


def installed(folder: Path, *drop_ins: str) -> Path:
    """The unit as it is on a machine that has the program; here that is the Python that runs the tests."""
    unit = folder / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, sys.executable))
    (folder / f"{UNIT.name}.d").mkdir()
    for place, text in enumerate(drop_ins):
        (folder / f"{UNIT.name}.d" / f"{place}.conf").write_text(text)
    return unit


def ini() -> tuple[str, list[str]]:
    """The page's unit of an app, and its drop-ins."""
    found = [block.text for block in BLOCKS if block.language == "ini"]
    (app,) = [text for text in found if "[Unit]" in text]
    return app, [text for text in found if text != app]


@wants.program("systemd-analyze")
def test_systemd_finds_nothing_wrong_with_it_nor_with_what_the_page_adds(tmp_path: Path) -> None:
    app, drop_ins = ini()
    assert len(drop_ins) == 2
    unit = installed(tmp_path, *drop_ins)
    (tmp_path / "app.service").write_text(app)
    assert analyze("verify", "--man=no", unit, tmp_path / "app.service") == ""


@wants.program("systemd-analyze")
def test_systemd_does_find_what_is_wrong(tmp_path: Path) -> None:
    unit = installed(tmp_path, "[Service]\nProtectSystm=strict\n")
    assert "'ProtectSystm'" in analyze("verify", "--man=no", unit)


@wants.program("systemd-analyze")
def test_its_exposure_is_low(tmp_path: Path) -> None:
    security = ("security", "--offline=true", "--no-pager", f"--threshold={MOST_EXPOSURE * 10:.0f}")
    said = analyze(*security, UNIT)
    rated = re.search(r"Overall exposure level for sidecar\.service: ([\d.]+)", said)
    assert rated is not None
    open_unit = tmp_path / "open.service"
    open_unit.write_text("[Service]\nExecStart=/bin/true\n")
    with pytest.raises(AssertionError, match="UNSAFE"):
        analyze(*security, open_unit)


def test_its_commands_are_commands_of_the_sidecar() -> None:
    started = values("ExecStart") + [command for command in values("ExecReload") if command.startswith(PROGRAM)]
    assert len(started) == 2
    for command in started:
        _, name, *words = shlex.split(command.replace("/etc/sidecar", str(ROOT / "config")))
        found = main.get_command(click.Context(main), name)
        assert found is not None, name
        read = found.make_context(name, words).params.values()
        assert str(ROOT / "config" / "sidecar.yaml") in map(str, read)


def test_it_is_told_when_the_sidecar_is_ready() -> None:
    assert value("Type") == "notify"


def test_it_may_drain_before_it_is_killed() -> None:
    drain = loads("services: {a: {url: http://a}}", "sidecar.yaml", {}).drain
    assert drain.delay + drain.timeout < float(value("TimeoutStopSec").removesuffix("s"))
    assert f"{drain.delay:.0f} s and {drain.timeout:.0f} s, are within" in PAGE


def test_a_bad_file_is_not_tried_again() -> None:
    bad = subprocess.run(
        [sys.executable, "-m", "sidecar", "run", "--config", "/dev/null"], cwd=ROOT, capture_output=True, timeout=30
    )
    assert str(bad.returncode) == value("RestartPreventExitStatus")


def test_the_page_puts_things_where_the_unit_looks_for_them(tmp_path: Path) -> None:
    """Its `install` lines are run, into a folder in place of /."""
    lines = [line for line in SHELL if line.startswith("install ")]
    for line in lines:
        words = shlex.split(line)
        subprocess.run([*words[:-1], f"{tmp_path}{words[-1]}"], cwd=ROOT, check=True)
    (config,) = re.findall(r"--config (\S+)", value("ExecStart"))
    assert (tmp_path / config.lstrip("/")).read_bytes() == (ROOT / "config" / "sidecar.yaml").read_bytes()
    assert (tmp_path / "etc/systemd/system/sidecar.service").read_bytes() == UNIT.read_bytes()
    assert value("EnvironmentFile").removeprefix("-") in PAGE


def test_every_command_of_the_page_is_of_a_kind_that_is_known() -> None:
    known = ("install ", "systemctl ", "journalctl --unit sidecar ")
    others = [line for line in SHELL if not line.startswith(known)]
    assert others == [
        "python3 -m venv /opt/sidecar",
        "/opt/sidecar/bin/pip install .",
        f"{PROGRAM} status",
    ]
    verbs = {line.split()[1] for line in SHELL if line.startswith("systemctl ")}
    assert verbs == {"daemon-reload", "enable", "status", "reload"}
    assert {block.language for block in BLOCKS} == {"sh", "ini", "yaml"}


def test_its_yaml_takes_the_credential(tmp_path: Path) -> None:
    (text,) = [block.text for block in BLOCKS if block.language == "yaml"]
    for environ, folder in (
        ({"CREDENTIALS_DIRECTORY": "/run/credentials"}, "/run/credentials"),
        ({}, "/etc/sidecar-secrets"),
    ):
        assert str(loads(text, "sidecar.yaml", environ).admin.token_file) == f"{folder}/admin-token"
    assert "LoadCredential=admin-token:/etc/sidecar-secrets/admin-token" in PAGE
