"""deploy/Dockerfile by its text; docs/kubernetes.md says what has really been built."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from sidecar import __version__
from tests.support.daemon import ROOT

INSTRUCTIONS = [
    (found[1], " ".join(found[2].replace("\\\n", " ").split()))
    for found in re.finditer(
        r"^([A-Z]+) ((?:.*\\\n)*.*)$",
        re.sub(r"^#.*\n", "", (ROOT / "deploy" / "Dockerfile").read_text(), flags=re.MULTILINE),
        re.MULTILINE,
    )
]
STAGES = [value for name, value in INSTRUCTIONS if name == "FROM"]
TARGETS = {"sidecar": "run", "injector": "injector"}
IN_NO_SIDECAR = {"dev", "grpc", "injector"}
"""Extras that `sidecar run` has no use for."""


def stage(name: str) -> list[tuple[str, str]]:
    """Its own instructions, without those of the stage that it is from."""
    (begin,) = [
        place for place, (one, value) in enumerate(INSTRUCTIONS) if one == "FROM" and value.endswith(f" {name}")
    ]
    rest = INSTRUCTIONS[begin + 1 :]
    end = next((place for place, (one, _) in enumerate(rest) if one == "FROM"), len(rest))
    return rest[:end]


def said(name: str, target: str) -> list[str]:
    """What the image of `target` has by instructions of this name."""
    return [value for one, value in stage("common") + stage(target) if one == name]


def copied() -> list[str]:
    """What comes from the context."""
    return [
        source
        for name, value in INSTRUCTIONS
        if name == "COPY" and not value.startswith("--from=")
        for source in value.split()[:-1]
    ]


def test_the_base_is_pinned_by_tag_and_digest_and_the_same_for_all_stages() -> None:
    (base,) = [value for name, value in INSTRUCTIONS if value.startswith("BASE=")]
    assert re.fullmatch(r"BASE=docker\.io/\S+:\d+\.\d+\.\d+-[a-z-]+@sha256:[0-9a-f]{64}", base)
    assert [value for value in STAGES if not value.startswith("common ")] == [
        "${BASE} AS build",
        "${BASE} AS bytecode",
        "${BASE} AS common",
    ]


def test_the_sidecar_is_what_is_built_where_no_target_is_given() -> None:
    assert STAGES[-2:] == ["common AS injector", "common AS sidecar"]


def test_what_a_start_imports_is_in_the_image_as_byte_code() -> None:
    """Of the level at which it runs: other byte code is not used, and each start would compile everything again."""
    (level,) = re.findall(r"PYTHONOPTIMIZE=(\d)", " ".join(value for name, value in INSTRUCTIONS if name == "ENV"))
    compiles = [value for name, value in INSTRUCTIONS if name == "RUN" and "compileall" in value]
    assert [f"compileall -q -o {level} " in run for run in compiles] == [True, True]
    (installs,) = [run for run in compiles if "pip install" in run]
    assert "--no-compile" in installs
    assert installs.rindex("pip install") < installs.index("compileall")
    assert ("COPY", "--from=bytecode /bytecode /") in stage("common")


@pytest.mark.parametrize("target", TARGETS)
def test_it_runs_as_a_numeric_user_without_a_shell(target: str) -> None:
    (user,) = said("USER", target)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert said("RUN", target) == []
    assert [json.loads(value) for value in said("ENTRYPOINT", target)] == [["sidecar"]]
    assert [json.loads(value) for value in said("CMD", target)] == [[TARGETS[target]]]
    assert said("STOPSIGNAL", target) == ["SIGTERM"]


@pytest.mark.parametrize("target", TARGETS)
def test_its_health_check_asks_a_port_that_it_has(target: str) -> None:
    from sidecar.cli.life_cycle import wait
    from sidecar.cli.probe_client import DEFAULT_PROBE

    (check,) = said("HEALTHCHECK", target)
    command = json.loads(check.partition(" CMD ")[2])
    assert command[:2] == ["sidecar", "wait"]
    asked = wait.make_context("wait", command[2:]).params
    (exposed,) = said("EXPOSE", target)
    assert (asked["probe"] or DEFAULT_PROBE).rpartition(":")[2] in exposed.split()
    given = re.search(r"--timeout=(\d+)s", check)
    assert given is not None
    assert asked["timeout"] < int(given[1]), "it says by itself that it is over"


@pytest.mark.parametrize("target", TARGETS)
def test_labels(target: str) -> None:
    labels = " ".join(said("LABEL", target))
    for name in ("title", "description", "licenses", "version", "revision"):
        assert labels.count(f"org.opencontainers.image.{name}=") == 1
    assert f"VERSION={__version__}" in said("ARG", target)


def test_each_extra_is_in_the_image_that_uses_it() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (run,) = [value for name, value in stage("build") if name == "RUN" and "SIDECAR_COMPILE=1" in value]
    everyone, injector = (
        set(found[1].split(",")) for found in re.finditer(r'pip install [^"&]*"\$own\[([a-z,]+)\]"', run)
    )
    assert injector == {"injector"}
    assert everyone == known.keys() - IN_NO_SIDECAR
    assert "install --prefix /injector" in run
    assert [value for target in TARGETS for name, value in stage(target) if name == "COPY"] == [
        "config/sidecar.yaml /etc/sidecar/sidecar.yaml",
        "--from=build /injector /opt/sidecar",
    ]


def test_nothing_of_a_build_can_be_a_secret() -> None:
    arguments = [value.partition("=")[0] for name, value in INSTRUCTIONS if name == "ARG"]
    assert arguments == ["BASE", "VERSION", "REVISION"], "an ARG is in the image's history"
    variables = [one.partition("=")[0] for name, value in INSTRUCTIONS if name == "ENV" for one in value.split()]
    assert variables == ["PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONOPTIMIZE", "PYTHONUNBUFFERED"]
    assert "." not in copied()


def test_what_it_copies_is_there() -> None:
    for source in copied():
        assert (ROOT / source).exists(), source


def test_what_it_copies_is_let_into_the_build_and_nothing_else() -> None:
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert [line for line in lines if line and line[0] not in "!#"] == ["*", "**/__pycache__"]
    assert {line[1:] for line in lines if line[:1] == "!"} == {source.removeprefix("./") for source in copied()}


def test_its_lock_has_what_it_installs_in_the_versions_that_are_tested() -> None:
    def pins(path: str) -> set[str]:
        return set(re.findall(r"^([\w.-]+==\S+)", (ROOT / path).read_text(), re.MULTILINE))

    image = pins("deploy/requirements-image.lock")
    assert image < pins("requirements.lock")
    assert pins("requirements-run.lock") < image
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        one
        for extra in {*project["optional-dependencies"]} - {"dev", "grpc"}  # no image runs an app's tests
        for one in project["optional-dependencies"][extra]
    ]
    wanted = {re.split(r"[>=<]", one)[0] for one in (*named, "mypy", "setuptools")}
    assert {name.lower().replace(".", "-") for name in wanted} <= {pin.partition("==")[0] for pin in image}
