"""The README keeps its word: its commands run, its answers are the demo's, its YAML is accepted, its paths are there.

Each fenced block is held by its language: `sh` is run (against a demo on free ports), `json` is the answer to the
command before it, `yaml` is loaded, `text` is a map of the tree. A command of a kind not known here fails the test.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from sidecar.config.load import loads
from tests.demo.running import RunningDemo, shell
from tests.support import wants
from tests.support.daemon import ROOT

TEXT = (ROOT / "README.md").read_text()
DIFFERS_EACH_TIME = {"via", "x-request-id", "traceparent", "x-envoy-expected-rq-timeout-ms"}


class Block(NamedTuple):
    language: str
    text: str


BLOCKS = [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)]


def commands(kind: str) -> list[str]:
    lines = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
    return [line for line in lines if line.startswith(kind)]


@pytest.fixture(scope="module")
def demo() -> Iterator[RunningDemo]:
    with RunningDemo() as running:
        yield running


def run_on(demo: RunningDemo, command: str) -> str:
    """What the command prints, with the README's ports in place of the demo's."""
    own = {"15001": demo.ports.proxy, "15000": demo.ports.admin, "15021": demo.ports.probe}
    upstreams = [port for service in ("auth", "venue", "payment") for port in demo.endpoints[service]]
    own |= {str(19101 + place): port for place, port in enumerate(upstreams)}
    for written, port in own.items():
        command = command.replace(f"localhost:{written}", f"localhost:{port}")
    printed = shell(command)
    for written, port in own.items():
        printed = printed.replace(f":{port}", f":{written}")
    return printed


def test_every_block_and_every_command_is_of_a_kind_that_is_tested() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "json", "yaml", "text"}
    known = [*commands("make "), *commands("curl "), *commands(".venv/bin/sidecar ")]
    assert sorted(commands("")) == sorted(known)


def test_make_has_the_targets() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {command.removeprefix("make ") for command in commands("make ")} <= targets
    assert {"run", "test"} <= targets


@wants.program("curl")
@pytest.mark.parametrize("command", commands("curl "))
def test_a_curl_gets_an_answer(demo: RunningDemo, command: str) -> None:
    printed = run_on(demo, command)
    if "/nobody/" in command:
        assert re.search(r"^x-sidecar-reason: unknown_service\r?$", printed, re.IGNORECASE | re.MULTILINE)
    elif "/events/" in command:
        assert json.loads(printed)["path"] == "/events/42"
    elif "/metrics" in command:
        assert "sidecar_requests_total" in printed
    else:
        assert printed
        assert "problem" not in printed


def stable(answer: dict[str, object]) -> dict[str, object]:
    """The answer without what differs each time; which of the two endpoints answered is such a thing too."""
    text = json.dumps(answer).replace(":19104", ":19103")
    found: dict[str, object] = json.loads(text)
    headers = found["headers"]
    assert isinstance(headers, dict)
    return found | {"headers": {name: None if name in DIFFERS_EACH_TIME else headers[name] for name in headers}}


@wants.program("curl")
def test_a_json_block_is_the_answer_to_the_curl_before_it(demo: RunningDemo) -> None:
    pairs = [(BLOCKS[place - 1], block) for place, block in enumerate(BLOCKS) if block.language == "json"]
    assert pairs
    for before, answer in pairs:
        assert before.language == "sh"
        assert stable(json.loads(run_on(demo, before.text))) == stable(json.loads(answer.text))


@pytest.mark.parametrize("text", [block.text for block in BLOCKS if block.language == "yaml"])
def test_yaml_is_a_configuration_that_loads(text: str) -> None:
    assert loads(text, "README.md", {}).services


@pytest.mark.parametrize("command", commands(".venv/bin/sidecar "))
def test_a_sidecar_command_works_as_written(demo: RunningDemo, command: str) -> None:
    """`run` would serve for ever, so its configuration is checked as `check` does."""
    _, name, *arguments = command.replace("localhost:15000", f"localhost:{demo.ports.admin}").split()
    run = subprocess.run(
        [sys.executable, "-m", "sidecar", "check" if name == "run" else name, *arguments],
        cwd=ROOT,
        env=os.environ | {"SIDECAR_ADMIN": f"http://localhost:{demo.ports.admin}"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout


def test_the_map_of_the_tree_names_what_is_there() -> None:
    (tree,) = [block.text for block in BLOCKS if block.language == "text"]
    folder = ""
    for line in tree.splitlines():
        name = line.split()[0]
        if not line.startswith(" "):
            folder = name
        path = ROOT / name if name == folder else ROOT / folder / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), f"{path.relative_to(ROOT)} is not there"


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT):
        assert (ROOT / target).is_file(), target
