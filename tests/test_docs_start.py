"""The pages for beginners keep their word: each command is run in its order, and prints what the page shows."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pytest

from sidecar.config.errors import ConfigErrors
from sidecar.config.load import loads
from tests.demo.running import RunningDemo
from tests.support import wants
from tests.support.daemon import ROOT, Daemon
from tests.support.operator import Operator
from tests.support.shown import blocks_of, commands_with_output, difference, in_console, stable
from tests.support.steps import answer
from tests.support.upstream import Upstream

START = (ROOT / "docs/start.md").read_text()
INSTALL = (ROOT / "docs/install.md").read_text()
OWN = (ROOT / "docs/your-services.md").read_text()
FILE, TYPO = (block.text for block in blocks_of(OWN) if block.language == "yaml")


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    blocks = blocks_of(START)
    assert {block.language for block in blocks} == {"sh", "json", "text"}
    shown = [one for one in commands_with_output(START) if one.output is not None]
    assert len(shown) == len([block for block in blocks if block.language != "sh"])
    assert {block.language for block in blocks_of(OWN)} == {"console", "yaml"}


def without_repetition(text: str) -> str:
    """Equal lines in a row as one: how many calls open a breaker depends on how long ago the earlier ones were."""
    return "\n".join(line for line, _ in groupby(text.splitlines())) + "\n"


@wants.program("curl")
def test_the_first_five_minutes_are_as_the_page_shows_them() -> None:
    first, *others = commands_with_output(START)
    assert first.command == "make run\n"
    with RunningDemo() as demo:
        operator = demo.operator
        for command, output in others:
            printed = operator.prints(command)
            if output is None:
                assert printed.strip() or "-o /dev/null" in command, command
            elif output.startswith("{"):
                assert stable(json.loads(printed)) == stable(json.loads(output))
            else:
                unlike = difference(without_repetition(output), without_repetition(printed))
                assert unlike is None, f"$ {command}\n{unlike}"


def test_the_file_loads_and_the_other_has_two_mistakes() -> None:
    assert loads(FILE, "sidecar.yaml", {}).services["payment"].policy.breaker.mode == "observe"
    with pytest.raises(ConfigErrors) as caught:
        loads(TYPO, "typo.yaml", {})
    assert len(caught.value.errors) == 2


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """In a folder without a sidecar.yaml; the daemon runs with the page's."""
    folder = tmp_path_factory.mktemp("own")
    with Upstream(answer()) as one, Upstream(answer()) as two, Upstream(answer()) as three:
        addresses = {"venue-service:3002": one, "10.0.0.7:3005": two, "10.0.0.8:3005": three}
        operator = Operator(folder, {written: real.authority for written, real in addresses.items()}, admin="")
        with Daemon(operator.in_real(FILE)) as daemon:
            operator.addresses["localhost:15001"] = f"localhost:{daemon.ports.proxy}"
            operator.admin = f"http://127.0.0.1:{daemon.ports.admin}"
            yield operator


@wants.program("curl")
def test_your_own_services_are_called_as_the_page_shows_it(operator: Operator) -> None:
    first, *others = in_console(OWN)
    assert first.command == "sidecar init"
    assert difference(first.output or "", operator.prints(first.command)) is None
    (operator.folder / "sidecar.yaml").write_text(operator.in_real(FILE))
    (operator.folder / "typo.yaml").write_text(TYPO)
    for command, output in others:
        unlike = difference(output or "", operator.prints(command))
        assert unlike is None, f"$ {command}\n{unlike}"


def test_installing_names_what_there_is() -> None:
    """The installations themselves are tests/test_packaging.py's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = re.findall(
        r"^\| `(\w+)` \| .*$", INSTALL.partition("| extra | for |")[2].partition("## ")[0], re.MULTILINE
    )
    assert {*listed, "dev"} == set(project["optional-dependencies"])
    (bracketed,) = re.findall(r"`pip install '\.\[([\w,]+)\]'`", INSTALL)
    assert set(bracketed.split(",")) <= set(listed)
    assert f"pip uninstall {project['name']}" in INSTALL
    (oldest,) = re.findall(r"Python (3\.\d+) or newer", INSTALL)
    assert f">={oldest}" == project["requires-python"]
    commands = [line for block in blocks_of(INSTALL) if block.language == "sh" for line in block.text.splitlines()]
    assert commands == ["make run", "pip install .", "uv pip install .", "pipx install ."]


def test_the_version_is_shown_as_it_is(tmp_path: Path) -> None:
    (shown,) = in_console(INSTALL)
    printed = Operator(tmp_path, {}, admin="").prints(shown.command)
    assert difference(shown.output or "", printed.replace("(compiled)", "(interpreted)")) is None


def test_the_other_pages_show_a_file_that_loads_and_no_commands() -> None:
    for page, languages in {
        "index.md": ["text", "yaml"],
        "concepts.md": [],
        "compare.md": [],
        "move/index.md": [],
    }.items():
        blocks = blocks_of((ROOT / "docs" / page).read_text())
        assert [block.language for block in blocks] == languages
        for block in blocks:
            if block.language == "yaml":
                assert loads(block.text, page, {}).services


def test_the_figures_of_the_comparison_were_measured() -> None:
    """Costs are those of docs/performance.md, errors those of docs/reliability.md."""
    page = (ROOT / "docs/compare.md").read_text()
    costs = page.split("### What a request costs")[1].split("### ")[0]
    figures = re.findall(r"\d+(?:\.\d+)?(?= us| MiB)", costs)
    assert len(figures) == 11
    measured = (ROOT / "docs/performance.md").read_text()
    for figure in figures:
        assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.])", measured), figure
    (share,) = re.findall(r"one of two that hangs costs ([\d.]+%)", page)
    reliability = (ROOT / "docs/reliability.md").read_text()
    defaults = reliability.split("### Defaults\n")[1].split("\n### ")[0]
    rows = [[cell.strip() for cell in line.split("|")] for line in defaults.splitlines() if line.startswith("| ")]
    by_fault = {(cells[1], cells[2]): cells for cells in rows}
    assert by_fault["paused", "1 of 2"][4] == share
    assert [by_fault[fault, "1 of 2"][3] for fault in ("killed", "503")] == ["0", "0"]


def test_links_lead_somewhere() -> None:
    for page in ("index.md", "start.md", "install.md", "your-services.md", "concepts.md", "compare.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "docs" / page).read_text()):
            assert (ROOT / "docs" / target).is_file(), f"{page}: {target}"
