"""The table of the module, row by row."""

from __future__ import annotations

import time

import pytest
from hypothesis import given

from sidecar.kubernetes import annotations as module
from sidecar.kubernetes import review
from sidecar.kubernetes.annotations import KNOWN, MOST_WARNINGS, Asked, Wish, is_config_map, is_image, read, wish
from sidecar.kubernetes.quantity import Resources
from sidecar.kubernetes.settings import InjectorSettings
from tests.kubernetes.samples import some_text

DEFAULT = InjectorSettings()


def asked(name: str, text: str) -> Asked:
    return read({f"sidecar.dev/{name}": text}, DEFAULT)


def wished(text: str) -> bool | None:
    return wish({"sidecar.dev/inject": text}, {}).inject


def test_the_table_has_every_annotation() -> None:
    assert module.__doc__ is not None
    for name in KNOWN:
        assert f"\n    {name} " in module.__doc__


def test_nothing_asked_is_nothing_changed() -> None:
    texts = {"prometheus.io/scrape": "true", "sidecar.dev/injected": "0.1.0"}
    assert read(texts, DEFAULT) == Asked(settings=DEFAULT)
    assert wish(texts, {}) == Wish()


@pytest.mark.parametrize(
    ("name", "text", "field", "expected"),
    [
        ("log-level", "debug", "log_level", "debug"),
        ("http-proxy", "true", "http_proxy", True),
        ("http-proxy", "false", "http_proxy", False),
        ("http-proxy", "app, worker,app", "http_proxy", ("app", "worker")),
    ],
)
def test_good_values(name: str, text: str, field: str, expected: object) -> None:
    found = asked(name, text)
    assert getattr(found, field) == expected
    assert found.given == {name}
    assert found.warnings == ()
    assert found.denied is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("true", True), (" false ", False), ("True", True), ("FALSE", False), ("no", None), ("off", None), ("", None)],
)
def test_whether_it_is_wanted(text: str, expected: bool | None) -> None:
    assert wished(text) is expected


def test_good_values_that_change_settings() -> None:
    assert asked("config", "mine").settings.config_map == "mine"
    assert asked("config", "mine").settings.config_key == "sidecar.yaml"
    assert asked("config", "mine/a.yaml").settings.config_key == "a.yaml"
    assert asked("image", "x/y:1").settings.image == "x/y:1"
    assert asked("cpu", "1/2").settings.cpu == Resources("1", "2")
    assert asked("memory", "64Mi").settings.memory == Resources("64Mi", "64Mi")


@pytest.mark.parametrize("text", ["", "yes", "lots", "a b", "Ä", "x" * 5000, "a,,b", "true,", "-"])
@pytest.mark.parametrize("name", ["cpu", "memory", "log-level", "http-proxy"])
def test_a_bad_value_that_is_a_warning(name: str, text: str) -> None:
    if (name, text) in {("http-proxy", "yes"), ("http-proxy", "lots")}:
        return  # these may be containers
    found = asked(name, text)
    assert found.denied is None
    assert found.settings == DEFAULT
    assert (found.log_level, found.http_proxy) == ("", False)
    (warning,) = found.warnings
    assert warning.startswith(f"annotation sidecar.dev/{name} is ")
    assert warning.endswith("; ignored")
    assert len(warning) < 250


@pytest.mark.parametrize(
    "text", ["", "Mine", "a/b/c", "mine/", "mine/..", "mine/..data", "mine/.", "-a", "a-", "a" * 254, "a..b"]
)
def test_a_bad_config_is_a_denial(text: str) -> None:
    found = asked("config", text)
    assert found.denied is not None
    assert "sidecar.dev/config" in found.denied


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a b", "x:", "x@sha256:12", "http://x/y", ":1", "x" * 600, "a//b", "a\nb", "a___b", "-x/y", "a.-b/c"],
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
        "Registry.Example-Corp.com:443/a--b/c",
        "10.0.0.1/a/b@sha256:" + "f" * 64,
        "ghcr.io/a-b/c_d/e.f__g:V1@sha256:" + "0" * 64,
    ],
)
def test_images(text: str) -> None:
    assert is_image(text)


def test_the_first_denial_is_told() -> None:
    found = read({"sidecar.dev/config": "A", "sidecar.dev/image": "B"}, DEFAULT)
    assert found.denied is not None
    assert found.denied.startswith("annotation sidecar.dev/config")


@pytest.mark.parametrize(
    ("annotation", "label", "expected"),
    [
        (None, "true", True),
        (None, "false", False),
        ("false", "true", False),
        ("true", "false", False),  # the webhook's selector leaves out this one whatever the annotation says
        ("true", "x", True),
        ("x", "true", True),
        ("x", "false", False),
        ("x", None, None),
    ],
)
def test_the_label_says_the_same_and_who_refuses_wins(
    annotation: str | None, label: str | None, expected: bool | None
) -> None:
    texts, labels = ({"sidecar.dev/inject": text} if text else {} for text in (annotation, label))
    found = wish(texts, labels)
    assert found.inject is expected
    assert len(found.warnings) == [annotation, label].count("x")


def test_an_unreadable_wish_is_a_warning() -> None:
    assert wish({}, {"sidecar.dev/inject": "enabled"}).warnings == (
        "label sidecar.dev/inject is 'enabled': expected true or false; ignored",
    )


def test_an_unknown_one_is_a_warning_with_what_may_be_meant() -> None:
    assert wish({"sidecar.dev/loglevel": "debug"}, {}).warnings == (
        "annotation sidecar.dev/loglevel is unknown; did you mean sidecar.dev/log-level?",
    )
    assert wish({"sidecar.dev/zzz": ""}, {}).warnings == ("annotation sidecar.dev/zzz is unknown",)


def test_no_more_unknown_ones_are_told_than_an_answer_has_room_for() -> None:
    found = wish({f"sidecar.dev/{number}": "" for number in range(100)}, {})
    assert len(found.warnings) == MOST_WARNINGS == review.MOST_WARNINGS


PATTERNS = ("a", "a.", "a-", "-", "a_", "a__", ".", "a/", "/", "a,", ",", "1", "1.", "0m", "a:1", "a@", " ", "\n", "ä")
HOSTILE = [
    (pattern * count)[:count] + end
    for count in (16, 18, 20, 22, 24, 26, 28, 30, 32, 64, 128, 250, 500, 10_000, 100_000)
    for pattern in PATTERNS
    for end in ("", "!", "/", ":", "@sha256:", "-")
]
"""What makes an expression with two ways to match try them all, in steps: one in which time runs off is soon over."""

MOST_CPU_S = 0.5
"""For any one text. The longest takes a millisecond."""


@pytest.mark.parametrize("name", KNOWN)
def test_no_text_takes_long_to_read(name: str) -> None:
    for text in HOSTILE:
        begin = time.process_time()
        asked(name, text)
        wished(text)
        if name == "image":
            is_image(text[:512])
            is_config_map(text[:253])
        assert time.process_time() - begin < MOST_CPU_S, text[:60]


def test_no_key_takes_long_to_read() -> None:
    for texts in (
        *({f"sidecar.dev/{text}": ""} for text in HOSTILE),
        {f"sidecar.dev/inject-cpu{number}": "" for number in range(30_000)},
        {"sidecar.dev/" + "inject" * 200_000: ""},
    ):
        begin = time.process_time()
        wish(texts, {})
        assert time.process_time() - begin < MOST_CPU_S


@given(some_text, some_text)
def test_any_text_is_read(name: str, text: str) -> None:
    wish({f"sidecar.dev/{name}": text}, {"sidecar.dev/inject": text})
    for known in KNOWN:
        found = asked(known, text)
        assert all("\n" not in one for one in found.warnings)
