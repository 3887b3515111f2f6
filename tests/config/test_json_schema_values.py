"""Single values: the schema is never stricter than the parser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from msgspec import Struct

from sidecar.config.annotations import fields_of, forms_of, group_of, kind_of, scalar_hint, unwrapped
from sidecar.config.errors import Place, Reporter
from sidecar.config.json_schema_values import VARIABLE_DEFINITION, default_as_written, value_schema
from sidecar.config.schema import AggregatePart, Config, EndpointSpec, HealthCheck, Listen, Match, Service
from sidecar.config.tree import INVALID
from sidecar.config.walk import Walker
from sidecar.config.yaml_nodes import Scalar
from sidecar.policy.settings import (
    BreakerSettings,
    FallbackService,
    FallbackStale,
    FallbackStatic,
    Policy,
    RetrySettings,
    Timeouts,
)
from tests.config.yaml_values import scalar_value

ROOTS = (
    Config,
    Service,
    Match,
    EndpointSpec,
    HealthCheck,
    AggregatePart,
    FallbackService,
    FallbackStale,
    FallbackStatic,
)


def scalars(struct: type[Struct]) -> Iterator[tuple[str, Any]]:
    """Each key that is written as one word, or as a list of such, with the type of the word."""
    for key, hint in fields_of(struct).items():
        for inner in [group_of(hint), *forms_of(hint).values()]:
            if inner is not None:
                yield from scalars(inner)
        words = scalar_hint(hint)
        base = unwrapped(words)[0]
        if group_of(hint) or words is None or get_origin(base) in (dict, frozenset):
            continue
        if get_origin(base) is tuple:
            item = get_args(base)[0]
            if kind_of(unwrapped(item)[1]):
                yield f"{struct.__name__}.{key}", item
            continue
        yield f"{struct.__name__}.{key}", hint


HINTS = {name: hint for root in ROOTS for name, hint in scalars(root) if name != "Service.name"}


def accepted_by_check(text: str, hint: Any) -> bool:
    reporter = Reporter("a.yaml")
    node = Scalar(1, 1, text=text, plain=True)
    return Walker({"A": "5"}, reporter).value(node, hint, Place(1, 1)) is not INVALID and not reporter


def validator(hint: Any) -> Draft7Validator:
    return Draft7Validator({**value_schema(hint), "definitions": {"variable": {**VARIABLE_DEFINITION}}})


PIECES = st.lists(
    st.sampled_from([
        *("0", "1", "5", "17", "100", "200", "599", "-", "+", ".", ".5", "%", "ms", "s", "m", "h", "B", "KiB", "MiB"),
        *("[::1]", "127.0.0.1", "http://", "https", "://"),
        *("redis://", "rediss://", "tcp://", "a", "venue", "A", "_", ":", ":80", "/", "?x=1"),
        *("off", "true", "false", "open", "info", "{query.id}", "GET", "#", " ", "é", "${A}"),
        *("${B:-5s}", "enforce", "round_robin", "1e3", "0x1f", "@", "user:pass@"),
    ]),
    min_size=1,
    max_size=5,
).map("".join)  # fmt: skip


@pytest.mark.parametrize("name", sorted(HINTS))
@given(text=st.one_of(PIECES, st.text(min_size=1, max_size=8)))
@settings(max_examples=60, deadline=None)
def test_what_check_accepts_the_schema_accepts(name: str, text: str) -> None:
    hint = HINTS[name]
    if text.strip() != text or not accepted_by_check(text, hint):
        return
    assert validator(hint).is_valid(scalar_value(text)), text
    assert validator(hint).is_valid(text), f"{text!r} in quotes"


ACCEPTED = [
    ("Timeouts.connect", ["250ms", "1.5s", "2m", "1h", "${X}", "${X:-5s}"]),
    ("RetrySettings.max_body", ["512", "64KiB", "1.5MiB"]),
    ("BreakerSettings.error_threshold_percentage", ["50", "50%", "12.5"]),
    ("Policy.slow_start", ["off", "30s"]),
    ("DnsSettings.port", ["80", "${PORT}"]),
    ("KubernetesSettings.port", ["80", "http"]),
    ("Listen.admin", ["127.0.0.1:0", "[::1]:15000"]),
    ("HealthCheck.url", ["redis://:pw@redis:6379/0", "tcp://queue:5672"]),
]
REFUSED = [
    ("Timeouts.connect", ["5", "5 s", "soon", "off", "5d", "1e3s"]),
    ("RetrySettings.max_body", ["64KB", "-1", "lots"]),
    ("RetrySettings.max_retries", ["-1", "1.5", "many"]),
    ("BreakerSettings.error_threshold_percentage", ["0", "101", "half"]),
    ("BreakerSettings.mode", ["on", "Enforce", "5"]),
    ("Policy.slow_start", ["on", "5"]),
    ("Policy.preserve_host", ["yes", "1", "off"]),
    ("DnsSettings.port", ["0", "65536", "off"]),
    ("EndpointSpec.url", ["venue:80", "ftp://x", "http://x/path", "http://u@x"]),
    ("HealthCheck.url", ["mysql://x"]),
]


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in ACCEPTED for text in texts])
def test_spellings(name: str, text: str) -> None:
    assert "${X}" in text or "${PORT}" in text or accepted_by_check(text, HINTS[name])
    assert validator(HINTS[name]).is_valid(scalar_value(text))


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in REFUSED for text in texts])
def test_mistakes(name: str, text: str) -> None:
    assert not accepted_by_check(text, HINTS[name])
    assert not validator(HINTS[name]).is_valid(scalar_value(text))


def test_one_address_needs_no_list_and_a_list_needs_one() -> None:
    check = validator(fields_of(Listen)["proxy"])
    assert check.is_valid("127.0.0.1:15001")
    assert check.is_valid(["127.0.0.1:15001", "[::1]:15001"])
    assert not check.is_valid([])
    assert not check.is_valid(["nowhere"])


def test_sets() -> None:
    on = validator(fields_of(RetrySettings)["on"])
    assert on.is_valid(["reset", 503, "502-504", "${MORE}"])
    assert not on.is_valid(["never"])
    assert not on.is_valid([99])
    assert not on.is_valid("reset")


def test_headers() -> None:
    check = validator(fields_of(FallbackStatic)["headers"])
    assert check.is_valid({"x-a": 5, "x-b": "b"})
    assert not check.is_valid({"x a": "b"})
    assert not check.is_valid({"x-a": ["b"]})


def test_defaults_in_the_words_of_a_file() -> None:
    def word(struct: type[Struct], key: str) -> Any:
        return default_as_written(getattr(struct(), key), fields_of(struct)[key])

    assert word(Timeouts, "connect") == "1s"
    assert word(RetrySettings, "max_body") == "64KiB"
    assert word(RetrySettings, "on")[-1] == "502-504"
    assert word(BreakerSettings, "error_threshold_percentage") == 50
    assert word(BreakerSettings, "failure_status") == ["500-599"]
    assert word(Policy, "slow_start") == "off"
    assert word(Policy, "fallback") == "off"
    assert word(Listen, "proxy") == ["127.0.0.1:15001", "[::1]:15001"]
