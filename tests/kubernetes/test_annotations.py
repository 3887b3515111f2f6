"""The table of the module, row by row."""

from __future__ import annotations

import pytest
from hypothesis import given

from sidecar.kubernetes import annotations as module
from sidecar.kubernetes.annotations import KNOWN, Asked, is_image, read
from sidecar.kubernetes.quantity import Resources
from sidecar.kubernetes.settings import InjectorSettings
from tests.kubernetes.samples import some_text

DEFAULT = InjectorSettings()


def asked(name: str, text: str) -> Asked:
    return read({f"sidecar.dev/{name}": text}, {}, DEFAULT)


def test_the_table_has_every_annotation() -> None:
    assert module.__doc__ is not None
    for name in KNOWN:
        assert f"\n    {name} " in module.__doc__


def test_nothing_asked_is_nothing_changed() -> None:
    assert read({"prometheus.io/scrape": "true", "sidecar.dev/injected": "0.1.0"}, {}, DEFAULT) == Asked(
        settings=DEFAULT
    )


@pytest.mark.parametrize(
    ("name", "text", "field", "expected"),
    [
        ("inject", "true", "inject", True),
        ("inject", " false ", "inject", False),
        ("log-level", "debug", "log_level", "debug"),
        ("http-proxy", "true", "http_proxy", True),
        ("http-proxy", "false", "http_proxy", False),
        ("http-proxy", "app, worker,app", "http_proxy", ("app", "worker")),
    ],
)
def test_good_values(name: str, text: str, field: str, expected: object) -> None:
    found = asked(name, text)
    assert getattr(found, field) == expected
    assert found.warnings == ()
    assert found.denied is None


def test_good_values_that_change_settings() -> None:
    assert asked("config", "mine").settings.config_map == "mine"
    assert asked("config", "mine").settings.config_key == "sidecar.yaml"
    assert asked("config", "mine/a.yaml").settings.config_key == "a.yaml"
    assert asked("image", "x/y:1").settings.image == "x/y:1"
    assert asked("cpu", "1/2").settings.cpu == Resources("1", "2")
    assert asked("memory", "64Mi").settings.memory == Resources("64Mi", "64Mi")


@pytest.mark.parametrize("text", ["", "yes", "lots", "a b", "Ä", "x" * 5000, "a,,b", "true,", "-"])
@pytest.mark.parametrize("name", ["inject", "cpu", "memory", "log-level", "http-proxy"])
def test_a_bad_value_that_is_a_warning(name: str, text: str) -> None:
    if (name, text) in {("http-proxy", "yes"), ("http-proxy", "lots")}:
        return  # these may be containers
    found = asked(name, text)
    assert found.denied is None
    assert found.settings == DEFAULT
    assert (found.inject, found.log_level, found.http_proxy) == (None, "", False)
    (warning,) = found.warnings
    assert warning.startswith(f"annotation sidecar.dev/{name} is ")
    assert warning.endswith("; ignored")
    assert len(warning) < 250


@pytest.mark.parametrize("text", ["", "Mine", "a/b/c", "mine/", "mine/..", "mine/.", "-a", "a" * 254, "a..b"])
def test_a_bad_config_is_a_denial(text: str) -> None:
    found = asked("config", text)
    assert found.denied is not None
    assert "sidecar.dev/config" in found.denied


@pytest.mark.parametrize(
    "text", ["", "UPPER", "a b", "x:", "x@sha256:12", "http://x/y", ":1", "x" * 600, "a//b", "a\nb"]
)
def test_a_bad_image_is_a_denial(text: str) -> None:
    found = asked("image", text)
    assert found.denied is not None
    assert "\n" not in found.denied


@pytest.mark.parametrize(
    "text",
    [
        "nginx",
        "nginx:1.27-alpine",
        "docker.io/library/nginx",
        "localhost:5000/a/b:1",
        "ghcr.io/a-b/c_d/e.f__g:V1@sha256:" + "0" * 64,
    ],
)
def test_images(text: str) -> None:
    assert is_image(text)


def test_the_first_denial_is_told() -> None:
    found = read({"sidecar.dev/config": "A", "sidecar.dev/image": "B"}, {}, DEFAULT)
    assert found.denied is not None
    assert found.denied.startswith("annotation sidecar.dev/config")


def test_the_label_says_the_same_and_the_annotation_has_precedence() -> None:
    label = {"sidecar.dev/inject": "true"}
    assert read({}, label, DEFAULT).inject is True
    assert read({"sidecar.dev/inject": "false"}, label, DEFAULT).inject is False
    assert read({"sidecar.dev/inject": "x"}, label, DEFAULT).inject is None
    assert read({}, {"sidecar.dev/inject": "enabled"}, DEFAULT).warnings == (
        "label sidecar.dev/inject is 'enabled': expected true or false; ignored",
    )


def test_an_unknown_one_is_a_warning_with_what_may_be_meant() -> None:
    assert asked("loglevel", "debug").warnings == (
        "annotation sidecar.dev/loglevel is not known; did you mean sidecar.dev/log-level?",
    )
    assert asked("zzz", "").warnings == ("annotation sidecar.dev/zzz is not known",)


@given(some_text, some_text)
def test_any_text_is_read(name: str, text: str) -> None:
    for known in (*KNOWN, name):
        found = asked(known, text)
        assert all("\n" not in one for one in found.warnings if known in KNOWN)
