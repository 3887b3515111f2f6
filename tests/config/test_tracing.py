"""The key `tracing`: what it takes, and what is said of mistakes in it."""

from __future__ import annotations

import pytest

from sidecar.config.effective import changed_keys, config_tree, flat
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import loads
from sidecar.config.schema import Config, Tracing


def read(tracing: str) -> Config:
    return loads(f"tracing: {tracing}\nservices: {{venue: {{url: 'http://venue'}}}}\n", "a.yaml", {"TOKEN": "secret"})


def problems(tracing: str) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        read(tracing)
    return [f"{error.path}: {error.message}" for error in raised.value.errors]


def test_it_is_off_by_default_and_by_word() -> None:
    assert loads("services: {}\n", "a.yaml", {}).tracing is None
    assert read("off").tracing is None


def test_an_address_is_enough() -> None:
    assert read("{otlp: 'http://collector:4318'}").tracing == Tracing(otlp="http://collector:4318", sample=0.01)


def test_all_keys() -> None:
    headers = "{Authorization: 'Bearer ${TOKEN}'}"
    assert read(
        f"{{otlp: 'https://otlp.example/base/', sample: 1, headers: {headers}, service_name: shop}}"
    ).tracing == Tracing(
        otlp="https://otlp.example/base", sample=1.0, headers={"Authorization": "Bearer secret"}, service_name="shop"
    )


@pytest.mark.parametrize(
    ("tracing", "expected"),
    [
        ("{}", "tracing: tracing needs an otlp: {otlp: http://collector:4318}"),
        ("{sample: 1}", "tracing: tracing needs an otlp: {otlp: http://collector:4318}"),
        ("{otpl: 'http://collector:4318'}", "tracing.otpl: unknown key; did you mean otlp?"),
        ("{otlp: 'collector:4318'}", "tracing.otlp: expected a server's URL such as http://collector:4318 or"),
        ("{otlp: 'http://c:4318/v1?x'}", "tracing.otlp: this URL cannot have a query"),
        ("{otlp: 'http://c:4318', sample: 1.5}", "tracing.sample: expected at most 1"),
        ("{otlp: 'http://c:4318', sample: -1}", "tracing.sample: expected 0 or more"),
        ("{otlp: 'http://c:4318', headers: {a b: c}}", "tracing.headers.'a b': not the name of a header"),
        ("on", "tracing: expected off, or keys such as otlp, sample, headers, service_name"),
        ("[]", "tracing: not a mapping"),
    ],
)
def test_mistakes(tracing: str, expected: str) -> None:
    (found,) = problems(tracing)
    assert found.startswith(expected)


def test_what_is_shown_of_it_hides_its_headers() -> None:
    shown = dict(flat(config_tree(read("{otlp: 'http://c:4318', headers: {authorization: '${TOKEN}'}}"), {})))
    assert shown["tracing.otlp"].value == "http://c:4318"
    assert shown["tracing.headers"].value == {"authorization": "***"}
    assert dict(flat(config_tree(read("off"), {})))["tracing"].value == "off"


def test_a_change_of_it_is_seen() -> None:
    off, on = read("off"), read("{otlp: 'http://c:4318'}")
    more = read("{otlp: 'http://c:4318', sample: 1}")
    assert changed_keys(off, on) == changed_keys(on, off) == ["tracing"]
    assert changed_keys(on, more) == ["tracing.sample"]
    assert changed_keys(on, read("{otlp: 'http://c:4318'}")) == []
