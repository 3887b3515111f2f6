"""docs/docker.md keeps its word as far as that can be seen without an engine.

Its first part, the compose example, is run by tests/deploy/test_compose.py, as processes.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from sidecar.cli.main import main
from sidecar.config.load import loads
from sidecar.config.schema import Config
from tests.deploy.test_dockerfile import said
from tests.support.daemon import ROOT
from tests.support.shown import blocks_of

PAGE = (ROOT / "docs" / "docker.md").read_text()
BLOCKS = blocks_of(PAGE)
LINES = [line for block in BLOCKS if block.language == "sh" for line in block.text.splitlines()]
DOCKER = [shlex.split(line) for line in LINES if line.startswith("docker ")]
RUNS = [words[2:] for words in DOCKER if words[1] == "run"]
OURS = next(words[words.index("--tag") + 1] for words in DOCKER if words[1] == "build")
SWITCHES = {"--rm", "--detach", "--read-only"}


def options(words: list[str]) -> tuple[dict[str, str], str, list[str]]:
    """Of a `docker run`: its options, the image, and what the image is given."""
    found: dict[str, str] = {}
    rest = list(words)
    while rest[0].startswith("--"):
        name = rest.pop(0)
        found[name] = "" if name in SWITCHES else rest.pop(0)
    return found, rest[0], rest[1:]


def test_every_command_is_of_a_kind_that_is_known() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "yaml"}
    assert {words[1] for words in DOCKER} == {"build", "compose", "exec", "restart", "run", "stop"}
    others = {line.split()[0] for line in LINES} - {"docker"}
    assert others <= {"curl", "for", "sleep"}, "these are in the compose example"


def test_the_image_is_built_from_what_is_here() -> None:
    (build,) = [words for words in DOCKER if words[1] == "build"]
    assert (ROOT / build[build.index("--file") + 1]).is_file()
    assert OURS.partition(":")[0] == "service-sidecar"
    assert (ROOT / build[-1]).resolve() == ROOT


def test_the_sidecar_is_started_as_it_can_be() -> None:
    check, app, sidecar = (options(words) for words in RUNS)
    assert check[1] == sidecar[1] == OURS != app[1]
    assert sidecar[0]["--network"] == f"container:{app[0]['--name']}"
    assert check[0]["--volume"] == sidecar[0]["--volume"] == "$PWD/sidecar:/etc/sidecar:ro"
    assert said("WORKDIR", "sidecar") == ["/"], "so that the third place where it looks is the one that is there"
    assert sidecar[2] == []
    drain = loads("services: {a: {url: http://a}}", "sidecar.yaml", {}).drain
    assert drain.delay + drain.timeout < int(sidecar[0]["--stop-timeout"])
    assert f"{drain.delay + drain.timeout:.0f} s by\ndefault" in PAGE


@pytest.mark.parametrize("words", [options(words)[2] for words in RUNS if options(words)[1] == OURS] + [["status"]])
def test_what_the_image_is_given_is_a_command(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sidecar.yaml").write_text("services: {a: {url: http://a}}\n")
    name, *rest = words or ["run"]
    found = main.get_command(click.Context(main), name)
    assert found is not None, name
    found.make_context(name, rest)


def test_exec_names_a_command_in_the_sidecar_s_container() -> None:
    (execute,) = [words for words in DOCKER if words[1] == "exec"]
    assert execute[2:] == [options(RUNS[2])[0]["--name"], "sidecar", "status"]


def configurations() -> list[Config]:
    texts = [block.text for block in BLOCKS if block.language == "yaml"]
    return [loads(text, "sidecar.yaml", {}) for text in texts]


def test_its_configurations_load_and_the_variable_is_the_container_s() -> None:
    first, second = configurations()
    assert "venue" in first.services
    variable, _, _ = options(RUNS[2])[0]["--env"].partition("=")
    assert f"${{{variable}:-" in PAGE
    assert str(second.listen.admin) == "0.0.0.0:15000"
    assert second.admin.token_file is not None


def test_its_ports_are_the_defaults() -> None:
    listen = loads("services: {a: {url: http://a}}", "sidecar.yaml", {}).listen
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE)
    assert [int(port) for port, _ in rows] == [listen.proxy[0].port, listen.probe.port, listen.admin.port]
    assert str(listen.admin).startswith("127.0.0.1:"), "a published port does not reach it"


def test_what_the_image_is_said_to_be() -> None:
    (user,) = said("USER", "sidecar")
    assert f"user {user.partition(':')[0]}" in PAGE
    reference = (ROOT / "config" / "sidecar.yaml").read_text()
    assert "${VENUE_SERVICE_URL:-" in reference
    assert "${SIDECAR_LOG_LEVEL:-" in reference
    assert len(loads(reference, "sidecar.yaml", {}).services) == 19
