"""docs/kubernetes.md keeps its word: its annotations, defaults, commands, folders and metrics are those of the code."""

from __future__ import annotations

import re

import click
import pytest

from sidecar.cli import injection, life_cycle
from sidecar.cli.main import main
from sidecar.kubernetes.annotations import KNOWN
from sidecar.kubernetes.containers import container
from sidecar.kubernetes.counters import RESULTS, InjectorCounters
from sidecar.kubernetes.patch import MESHES
from sidecar.kubernetes.settings import InjectorSettings
from tests.support.daemon import ROOT
from tests.support.kubernetes_schema import NATIVE_OLDEST, NEWEST, OLDEST

TEXT = (ROOT / "docs" / "kubernetes.md").read_text()
ROWS = dict(re.findall(r"^\| `sidecar\.dev/([a-z-]+)` \|(.*)\|$", TEXT, re.MULTILINE))
SHELL = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


def test_the_table_has_every_annotation() -> None:
    assert tuple(ROWS) == KNOWN


def test_what_is_denied_and_what_is_a_warning() -> None:
    denied = {name for name, row in ROWS.items() if row.endswith("the pod is denied ")}
    assert denied == {"config", "image"}
    assert all("| warning" in row for name, row in ROWS.items() if name not in denied)


def test_the_defaults() -> None:
    settings = InjectorSettings()
    assert f"`{settings.config_map}/{settings.config_key}`" in ROWS["config"]
    assert f"`{settings.cpu.request}`, no limit" in ROWS["cpu"]
    assert f"`{settings.memory.request}/{settings.memory.limit}`" in ROWS["memory"]


def test_the_meshes_that_it_does_not_go_with() -> None:
    rows = re.findall(r"^\| ([A-Z][a-z]+) \| (150[^|]*) \|(.*)\|$", TEXT, re.MULTILINE)
    assert len(rows) == len(MESHES)
    for (name, ports, row), mesh in zip(rows, MESHES, strict=True):
        assert mesh.proxy.startswith(f"{name}'s")
        assert re.findall(r"\d+", mesh.ports) == re.findall(r"\d+", ports)
        signs = {sign for sign in (mesh.container, mesh.annotation) if sign is not None}
        assert signs <= set(re.findall(r"`([^`]+)`", row))
        assert mesh.without in row.replace('"', "'")


def test_folders_are_there() -> None:
    for path in re.findall(r"(?:-k |`)(deploy/[a-zA-Z0-9/._-]+)", TEXT):
        assert (ROOT / path).exists(), path
    for overlay in re.findall(r"`(overlays/[a-z-]+)`", TEXT):
        assert (ROOT / "deploy" / "k8s" / overlay / "kustomization.yaml").is_file()


@pytest.mark.parametrize("name", ["wait", "prestop", "quit", "inject", "injector"])
def test_commands_are_there(name: str) -> None:
    module = injection if name.startswith("inject") else life_cycle
    assert getattr(module, "quit_" if name == "quit" else name).name == name
    assert f"sidecar {name}" in TEXT or name == "injector"


def test_what_is_run_in_a_pod_is_there() -> None:
    """Each `kubectl exec ... -- sidecar ...` is a command, with options that it has."""
    shown = re.findall(r"-c sidecar -- sidecar ([^`\n]+)", TEXT)
    assert {line.split()[0] for line in shown} >= {"status", "events", "explain", "breaker"}
    for line in shown:
        name, *words = line.split()
        command = main.get_command(click.Context(main), name)
        assert command is not None, name
        command.make_context(name, words)


def test_ports_and_their_names() -> None:
    (port,) = container(InjectorSettings(), log_level="", grace_s=30, config_volume="x", token_volume="")["ports"]
    assert f"probe, {port['containerPort']}" in TEXT
    assert f"`{port['name']}`" in TEXT


def test_variables_are_the_injectors() -> None:
    known = {getattr(option, "envvar", None) for option in injection.injector.params}
    assert set(re.findall(r"SIDECAR_INJECTOR_[A-Z_]+", TEXT)) <= known


def test_metrics() -> None:
    families = {family.name + ("_total" if family.type == "counter" else "") for family in InjectorCounters().collect()}
    assert {
        found.partition("{")[0] for found in re.findall(r"^\| `(sidecar_inj[^`]+)`", TEXT, re.MULTILINE)
    } == families
    assert all(f"`{result}`" in TEXT for result in RESULTS)


def test_versions() -> None:
    assert f"Kubernetes {OLDEST} and {NEWEST}" in TEXT
    assert f"native ones from {NATIVE_OLDEST} on" in TEXT


def test_installing_takes_three_commands() -> None:
    install, _ = TEXT.split("## The first injection")
    block = re.findall(r"^```sh\n(.*?)^```$", install, re.DOTALL | re.MULTILINE)[0]
    assert len(block.splitlines()) == 3
    assert SHELL[0] == "kubectl apply -k deploy/k8s/base"
    assert "label namespace" not in install


def test_a_namespace_has_its_policy_before_its_label() -> None:
    """Else its new pods hang."""
    order = ["apply -n shop -k deploy/k8s/policy", "label namespace shop sidecar.dev/inject=true", "rollout restart"]
    places = [next(number for number, line in enumerate(SHELL) if one in line) for one in order]
    assert places == sorted(places)
