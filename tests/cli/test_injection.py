"""The commands that inject, from outside: exit codes, and what is said on which stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from click.testing import CliRunner, Result
from msgspec.structs import fields

from sidecar.cli import injection as commands
from sidecar.kubernetes.settings import InjectorSettings

POD = "kind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: b}]}  # an app\n"


def run(command: click.Command, *arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(command, list(arguments), **options)


@pytest.fixture
def pod(tmp_path: Path) -> Path:
    path = tmp_path / "pod.yaml"
    path.write_text(POD)
    return path


def test_inject_prints_yaml_on_stdout_and_the_rest_on_stderr(pod: Path) -> None:
    result = run(commands.inject, "-f", str(pod))
    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["spec"]["initContainers"][0]["name"] == "sidecar"
    assert "# an app" in result.stdout
    assert result.stderr == f"{pod}: Pod a: injected\n"


def test_inject_reads_stdin_and_several_files(pod: Path) -> None:
    result = run(commands.inject, "-f", "-", "-f", str(pod), input=POD)
    assert [one["kind"] for one in yaml.safe_load_all(result.stdout)] == ["Pod", "Pod"]
    assert "stdin: Pod a: injected" in result.stderr


def test_options_and_environment_say_what_is_injected(pod: Path) -> None:
    options = ["--image", "x/y:1", "--ordinary", "--memory", "96Mi", "--user", "any", "--kubernetes-discovery"]
    result = run(commands.inject, "-f", str(pod), *options, env={"SIDECAR_INJECTOR_CPU": "1/2"})
    container = yaml.safe_load(result.stdout)["spec"]["containers"][0]
    assert container["image"] == "x/y:1"
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "96Mi"}
    assert "runAsUser" not in container["securityContext"]
    assert len(container["volumeMounts"]) == 2
    assert container["lifecycle"]["preStop"]["exec"]["command"][:2] == ["sidecar", "prestop"]


def test_the_defaults_of_the_options_are_those_of_the_settings(monkeypatch: pytest.MonkeyPatch, pod: Path) -> None:
    seen: list[InjectorSettings] = []
    monkeypatch.setattr("sidecar.kubernetes.files.inject", lambda _, settings: seen.append(settings))
    run(commands.inject, "-f", str(pod))
    assert seen == [InjectorSettings()]
    without = {"config_key", "fail_closed"}  # the annotation's; of the injector alone
    assert {field.name for field in fields(InjectorSettings)} - without == set(commands.CHOSEN)


def test_no_proxy_adds_names(pod: Path) -> None:
    text = POD.replace("name: a}", 'name: a, annotations: {sidecar.dev/http-proxy: "true"}}', 1)
    for options, env in (
        (["--no-proxy", ".corp, localhost,10.0.0.0/8,"], {}),
        ([], {"SIDECAR_INJECTOR_NO_PROXY": ".corp,10.0.0.0/8"}),
    ):
        result = run(commands.inject, "-f", "-", *options, input=text, env=env)
        (app,) = yaml.safe_load(result.stdout)["spec"]["containers"]
        (value,) = [one["value"] for one in app["env"] if one["name"] == "NO_PROXY"]
        assert value == ",".join((*InjectorSettings().no_proxy, ".corp", "10.0.0.0/8"))


@pytest.mark.parametrize(
    ("options", "env", "expected"),
    [
        ([], {}, False),
        (["--fail-closed"], {}, True),
        ([], {"SIDECAR_INJECTOR_FAIL_CLOSED": "true"}, True),
        ([], {"SIDECAR_INJECTOR_FAIL_CLOSED": "false"}, False),
    ],
)
def test_the_injector_may_fail_closed(
    options: list[str], env: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[InjectorSettings] = []
    monkeypatch.setattr("sidecar.kubernetes.injector.run", lambda settings, _: seen.append(settings))
    run(commands.injector, *options, env=env)
    assert [one.fail_closed for one in seen] == [expected]


@pytest.mark.parametrize("text", [POD, POD.rstrip(), "a: 1", "# none\n\n\na:   1\n\n"])
@pytest.mark.parametrize("breaks", [b"\n", b"\r\n"])
def test_line_ends_stay_what_they_are(text: str, breaks: bytes, tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_bytes(text.encode().replace(b"\n", breaks))
    for result in (run(commands.inject, "-f", str(path)), run(commands.inject, "-f", "-", input=path.read_bytes())):
        made = result.stdout_bytes
        assert made.count(breaks) == made.count(b"\n")
        assert b"kind: Pod" in made or made == path.read_bytes()


def test_of_several_files_one_stream_is_made(tmp_path: Path) -> None:
    texts = {"a": '{"kind": "Service"}', "b": "a: 1", "c": "---\nb: 1\n", "d": "", "e": "# e\nc: 1\n"}
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    result = run(commands.inject, *(word for name in texts for word in ("-f", str(tmp_path / name))))
    assert result.stdout.startswith("---\n"), "else kubectl takes all of it for JSON"
    found = [one for one in yaml.safe_load_all(result.stdout) if one is not None]
    assert found == [{"kind": "Service"}, {"a": 1}, {"b": 1}, {"c": 1}]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xef\xbb\xbfkind: Pod\n", "byte order mark"),
        ("kind: Pod\n".encode("utf-16"), "not valid UTF-8"),
        (b"kind: Pod\nspec: {containers: [{name: a, image: {{ .Values.image }}}]}\n", "line 2: this is a template"),
    ],
)
def test_what_is_no_manifest_is_refused_in_words(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_bytes(content)
    result = run(commands.inject, "-f", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert words in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image", "UPPER"], "expected an image"),
        (["--memory", "1"], "expected memory"),
        (["--cpu", "x"], "expected CPU"),
        (["--user", "0"], "expected a number above 0"),
        (["--no-proxy", "a b"], "expected host names"),
        (["--config-map", "A"], "expected the name of a ConfigMap"),
        ([], "No such file|does not exist"),
    ],
)
def test_wrong_usage_is_exit_code_2(options: list[str], words: str, pod: Path) -> None:
    result = run(commands.inject, "-f", str(pod) if options else "nowhere.yaml", *options)
    assert result.exit_code == 2
    assert any(word in result.stderr for word in words.split("|"))


def test_a_file_that_cannot_be_injected_is_exit_code_1_and_prints_nothing(tmp_path: Path, pod: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: Pod\nspec: {containers: [{name: sidecar}]}\n")
    result = run(commands.inject, "-f", str(pod), "-f", str(bad))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"{bad}: Pod (without a name): the sidecar cannot be injected" in result.stderr


def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, pod: Path) -> None:
    monkeypatch.setattr(commands, "find_spec", lambda _: None)
    for result in (run(commands.inject, "-f", str(pod)), run(commands.injector)):
        assert result.exit_code == 2
        assert "service-sidecar[injector]" in result.stderr
