"""docs/commands.md keeps its word: each command prints what the page shows, numbers and times aside.

A line of `...` on the page stands for any lines.
"""

from __future__ import annotations

import http.client
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar.cli.main import SECTIONS
from tests.support.daemon import ROOT, SIDECAR, Daemon
from tests.support.steps import answer
from tests.support.upstream import RefusedPort, Upstream

PATH = ROOT / "docs" / "commands.md"
TEXT = PATH.read_text()
CONFIG, WANTED = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


class Shown(NamedTuple):
    command: str
    output: str


def shown() -> list[Shown]:
    found = []
    for block in re.findall(r"^```console\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = piece.partition("\n")
            found.append(Shown(command, output))
    return found


class Operator:
    """Types the page's commands; the page's addresses stand for the real ones."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        self.folder = folder
        self.addresses = addresses

    def prints(self, command: str) -> str:
        """Both streams of a command, with the page's addresses."""
        words = [self.addresses.get(word, word) for word in shlex.split(command)]
        assert words.pop(0) == "sidecar"
        own = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "SIDECAR_ADMIN")}
        env = own | {"SIDECAR_ADMIN": self.addresses["http://127.0.0.1:15000"], "PYTHONPATH": str(ROOT)}
        run = subprocess.run(
            [*SIDECAR, *words],
            cwd=self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )
        printed = run.stdout
        for written, real in sorted(self.addresses.items(), key=lambda pair: -len(pair[1])):
            printed = printed.replace(real, written)
        return printed


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    folder = tmp_path_factory.mktemp("commands")
    with RefusedPort() as dead, Upstream(answer()) as one, Upstream(answer()) as two:
        addresses = {"10.0.0.7:3002": one.authority, "10.0.0.8:3002": two.authority, "10.0.0.9:3005": dead.authority}
        config = CONFIG
        for written, real in addresses.items():
            config = config.replace(written, real)
        wanted = WANTED
        for written, real in addresses.items():
            wanted = wanted.replace(written, real)
        with Daemon(config) as daemon:
            listen = daemon.ports.yaml
            (folder / "sidecar.yaml").write_text(config)
            probe = f'probe: "127.0.0.1:{daemon.ports.probe}"'
            listen_wanted = listen.replace(probe, 'probe: "[::]:16021"')
            (folder / "wanted.yaml").write_text(listen_wanted + wanted.partition("\n")[2])
            addresses["http://127.0.0.1:15000"] = f"http://127.0.0.1:{daemon.ports.admin}"
            addresses["[::]:15021"] = f"127.0.0.1:{daemon.ports.probe}"
            for path, times in (("/venue/events/42", 20), ("/payment/charge", 12)):
                for _ in range(times):
                    connection = http.client.HTTPConnection("127.0.0.1", daemon.ports.proxy, timeout=10)
                    connection.request("GET", path)
                    connection.getresponse().read()
                    connection.close()
            yield Operator(folder, addresses)


def comparable(text: str) -> list[str]:
    """Lines without what differs each time: numbers, durations, widths of columns."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        line = re.sub(r"\d{4}-\d\d-\d\dT? ?\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", line.rstrip())
        line = re.sub(r"\b\d+(\.\d+)?(ms|s|m|h)\b( \d+(s|m)\b)?", "#", line)
        line = re.sub(r"\d+(\.\d+)?( ms| s)?", "#", line)
        line = line.replace("skipped for #", "available")  # a skip ends by itself, on a slow machine before it is shown
        lines.append(re.sub(r" +", " ", line))
    return lines


def test_the_page_shows_what_the_commands_print(operator: Operator) -> None:
    """In the order of the page: one command sees what another did."""
    for command, output in shown():
        printed = comparable(operator.prints(command))
        pattern = "".join(r"(?:.*\n)*?" if line == "..." else re.escape(line) + "\n" for line in comparable(output))
        text = "\n".join(printed) + "\n"
        assert re.fullmatch(pattern, text), f"$ {command}\n{text}\n--- the page has:\n{output}"


def test_each_command_is_on_the_page() -> None:
    in_a_cluster = set(SECTIONS["Kubernetes"])  # docs/kubernetes.md shows them; here they are named
    assert all(f"`sidecar {name}" in TEXT for name in in_a_cluster)
    named = {name for commands in SECTIONS.values() for name in commands} - {"run", "demo"} - in_a_cluster
    assert named <= {shlex.split(one.command)[1] for one in shown()}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", TEXT):
        assert (PATH.parent / target).is_file(), target
