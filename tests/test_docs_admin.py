"""docs/admin.md keeps its word: each of its commands is run against a daemon, in the order in which it stands there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sidecar.admin.commands import LONGEST_S, SHORTEST_S
from sidecar.admin.server import LONGEST_ANSWER_S, MOST_BODY_BYTES
from sidecar.config.load import loads
from sidecar.net.http_listener import IDLE_S, MOST
from sidecar.telemetry.events import KEPT, MOST_FOLLOWERS, MOST_WAITING
from sidecar.telemetry.history import INTERVAL_S, POINTS
from tests.support import wants
from tests.support.daemon import ROOT, Daemon
from tests.support.steps import answer
from tests.support.upstream import Upstream

PATH = ROOT / "docs" / "admin.md"
TEXT = PATH.read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
COMMANDS = [
    line.partition("   #")[0].strip()
    for language, text in BLOCKS
    if language == "sh"
    for line in text.splitlines()
    if line and not line.startswith("#")
]
(CONFIG,) = [text for language, text in BLOCKS if language == "yaml"]
LAST = ("/log", "/reload", "/drain")


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert len(re.findall("^```", TEXT, re.MULTILINE)) == 2 * len(BLOCKS)
    assert {language for language, _ in BLOCKS} == {"sh", "yaml"}
    assert all(command.startswith("curl -s") for command in COMMANDS)


def test_the_configuration_loads() -> None:
    admin = loads(f"{CONFIG}services: {{venue: {{url: http://a:1}}}}", "admin.md", {}).admin
    assert (admin.token_file, admin.hosts) == ("/etc/sidecar/admin-token", ("sidecar.example.com",))


def test_the_bounds_are_those_of_the_code() -> None:
    assert (MOST, IDLE_S, MOST_BODY_BYTES, LONGEST_ANSWER_S) == (256, 15.0, 64 * 1024, 30.0)
    assert (KEPT, MOST_FOLLOWERS, MOST_WAITING, INTERVAL_S, POINTS) == (1000, 32, 256, 5, 120)
    assert (SHORTEST_S, LONGEST_S) == (1.0, 24 * 3600.0)


class Stage:
    def __init__(self, daemon: Daemon, endpoint: str, token: Path) -> None:
        self.daemon = daemon
        self._values = {"localhost:15000": f"localhost:{daemon.ports.admin}", "10.0.0.7:3002": endpoint}
        self._values["/etc/sidecar/admin-token"] = str(token)

    def run(self, command: str) -> str:
        for written, real in self._values.items():
            command = command.replace(written, real)
        follows = "-sN" in command
        command = command.replace("curl -s", f"curl --max-time {1 if follows else 5} -f -s")
        wants.skip_without("curl")
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=10)
        assert ran.returncode == (28 if follows else 0), (command, ran)
        return ran.stdout


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    token = tmp_path_factory.mktemp("admin") / "token"
    token.write_text("horse\n")
    with Upstream(answer()) as a, Upstream(answer()) as b:
        config = f"""
services:
  venue:
    endpoints: ["{a.url}", "{b.url}"]
    hosts: [venue-service]
    routes: [{{match: {{path: /reports, methods: [POST]}}, breaker: {{volume_threshold: 5}}}}]
"""
        with Daemon(config) as daemon:
            yield Stage(daemon, a.authority, token)


def test_every_command_does_what_it_says(stage: Stage) -> None:
    for command in COMMANDS:
        said = stage.run(command)
        if "-sN" in command:
            assert said.startswith("retry: ")
        else:
            assert isinstance(json.loads(said), dict)
    assert [command for command in COMMANDS if "/drain -H" in command]
    assert stage.daemon.wait(10) == 0
