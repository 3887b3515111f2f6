"""The README keeps its word: commands run, the answer is the demo's, YAML is accepted, links lead somewhere.

Each fenced block is held by its language: `sh` is run (against a demo on free ports), `json` is the answer to the
command before it, `yaml` is loaded. A command of a kind that is not known here fails the test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

from sidecar.config.load import loads
from tests.demo.running import RunningDemo
from tests.support import wants
from tests.support.daemon import ROOT
from tests.support.operator import Operator
from tests.support.shown import blocks_of, commands_with_output, stable
from tools.docs.build import CONFIG
from tools.docs.check import navigation

TEXT = (ROOT / "README.md").read_text()
BLOCKS = blocks_of(TEXT)
LONGEST = 120
"""Lines. What does not fit is what a page of docs/ is for."""


def commands(kind: str) -> list[str]:
    lines = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
    return [line for line in lines if line.startswith(kind)]


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    with RunningDemo() as demo:
        yield demo.operator


def test_every_block_and_every_command_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "json", "yaml"}
    known = [*commands("make "), *commands("curl "), *commands(".venv/bin/sidecar ")]
    assert sorted(commands("")) == sorted(known)


def test_it_is_short() -> None:
    assert len(TEXT.splitlines()) <= LONGEST


def test_it_says_how_many_packages_running_needs() -> None:
    needed = re.findall(r"^[\w.-]+==", (ROOT / "requirements-run.lock").read_text(), re.MULTILINE)
    assert f"installs the {len(needed)} packages that running needs" in TEXT


def test_make_has_the_targets() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {*re.findall(r"`make ([a-z-]+)`", TEXT), *(command.removeprefix("make ") for command in commands("make "))}
    assert named <= targets
    assert {"run", "test", "lint", "docs"} <= named


@wants.program("curl")
def test_a_json_block_is_the_answer_to_the_curl_before_it(operator: Operator) -> None:
    shown = [one for one in commands_with_output(TEXT) if one.output is not None]
    assert [one.command.strip() for one in shown] == commands("curl ")
    for command, output in shown:
        assert stable(json.loads(operator.prints(command))) == stable(json.loads(output or ""))


@pytest.mark.parametrize("text", [block.text for block in BLOCKS if block.language == "yaml"])
def test_yaml_is_a_configuration_that_loads(text: str) -> None:
    assert loads(text, "README.md", {}).services


@pytest.mark.parametrize("command", commands(".venv/bin/sidecar "))
def test_a_sidecar_command_works_as_written(operator: Operator, command: str) -> None:
    """`run` would serve for ever, so its configuration is checked as `check` does."""
    printed = operator.prints(f"set -e; {command.replace('sidecar run', 'sidecar check')} && echo fine")
    assert printed.endswith("\nfine\n"), printed


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT)
    assert len(targets) > 10
    for target in targets:
        assert (ROOT / target).is_file(), target


def test_on_a_package_index_the_links_lead_to_pages_of_the_site() -> None:
    """An index shows the README alone: a link to a file beside it would lead nowhere."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "setup.py", "--quiet", "--long-description"],
        check=True,
        cwd=ROOT,
        env=os.environ | {"SIDECAR_COMPILE": "0"},
        stdout=subprocess.PIPE,
        text=True,
    )
    site = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Documentation"]
    pages = {page.replace("README.md", "index.md").removesuffix(".md") + ".html" for page in navigation(ROOT / CONFIG)}
    links = re.findall(r"\]\(([^)]+)\)", run.stdout)
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", TEXT)) > 10
    for link in links:
        assert link.startswith(site), link
        assert link.removeprefix(site).partition("#")[0] in pages, link
    words = [re.sub(r"\]\([^)]+\)", "]", text).strip() for text in (run.stdout, TEXT)]
    assert words[0] == words[1]
