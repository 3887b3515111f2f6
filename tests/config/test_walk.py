"""Nodes against structs: types, bounds, null, variables; nothing of a value in any message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from sidecar.config.annotations import fields_of, is_group, kind_of, unwrapped
from sidecar.config.errors import Place, Reporter
from sidecar.config.merge import build
from sidecar.config.schema import Drain, EndpointSpec, Listen, Log, Match
from sidecar.config.walk import INVALID, Leaf, Walker
from sidecar.config.yaml_nodes import read
from sidecar.policy.settings import Policy

TOP = Place(1, 1)


def typed(text: str, struct: type[Struct], **environ: str) -> tuple[Any, list[str]]:
    """The struct that `text` gives (None where it is wrong), and the errors as `path: message`."""
    reporter = Reporter("a.yaml")
    node = read(text, reporter)
    assert node is not None
    tree = Walker(environ, reporter).group(struct, node, TOP, "defaults")
    errors = [f"{error.path}: {error.message}" for error in reporter.failure().errors]
    return (None if errors else build(struct, tree)), errors


def test_every_kind_of_value() -> None:
    policy, errors = typed(
        """
timeout: {connect: 250ms}
retry: {max_retries: 0, on: [reset, 502-503], methods: [GET, PURGE], max_body: 1MiB, budget: {ratio: 0.5}}
breaker: {mode: off, error_threshold_percentage: 12.5, failure_status: [500, 429]}
limits: {max_concurrent: 1}
preserve_host: true
""",
        Policy,
    )
    assert errors == []
    assert policy.timeout.connect == 0.25
    assert policy.retry.max_retries == 0
    assert policy.retry.on == {"reset", 502, 503}
    assert policy.retry.methods == {"GET", "PURGE"}
    assert policy.retry.max_body == 1 << 20
    assert policy.retry.budget.ratio == 0.5
    assert policy.breaker.mode == "off"
    assert policy.breaker.error_threshold_percentage == 12.5
    assert policy.breaker.failure_status == {500, 429}
    assert policy.limits.max_concurrent == 1
    assert policy.preserve_host is True


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("timeout: {connect: 0s}", "timeout.connect: expected more than 0"),
        ("timeout: 5s", "timeout: a mapping belongs here: expected keys such as connect, attempt, request, idle"),
        ("timeout:", "timeout: nothing is written below this key: expected keys such as connect"),
        ("timeout: {connect: ~}", "timeout.connect: nothing is written here: expected a duration"),
        ("timeout: {connect: [5s]}", "timeout.connect: a list stands here: expected a duration"),
        ("timeout: {connect: {s: 5}}", "timeout.connect: a mapping stands here: expected a duration"),
        ("retry: {max_retries: -1}", "retry.max_retries: expected 0 or more"),
        ("retry: {max_retries: 1.5}", "retry.max_retries: expected a whole number"),
        ("retry: {max_retries: 0o17}", "retry.max_retries: expected a whole number"),
        ("retry: {max_retries: 1:30}", "retry.max_retries: expected a whole number"),
        ("retry: {on: 503}", "retry.on: expected a list"),
        ("retry: {on: [503, {a: b}]}", "retry.on[1]: a mapping stands here: expected one of"),
        ("retry: {methods: [get]}", "retry.methods[0]: methods are case sensitive"),
        ("retry: {budget: {ratio: -0.1}}", "retry.budget.ratio: expected 0 or more"),
        ("breaker: {error_threshold_percentage: 0}", "breaker.error_threshold_percentage: expected more than 0"),
        ("breaker: {error_threshold_percentage: 100.1}", "breaker.error_threshold_percentage: expected at most 100"),
        ("breaker: {volume_threshold: 0}", "breaker.volume_threshold: expected 1 or more"),
        ("breaker: {mode: true}", "breaker.mode: expected one of enforce, observe, off"),
        ("balancer: random", "balancer: expected round_robin"),
        ("preserve_host: on", "preserve_host: expected true or false"),
        ("preserve_host: yes", "preserve_host: expected true or false"),
    ],
)
def test_a_bad_value_is_told_what_was_expected(text: str, error: str) -> None:
    _, errors = typed(text, Policy)
    assert len(errors) == 1
    assert errors[0].startswith(error)


@pytest.mark.parametrize(
    ("text", "error_free"),
    [
        ("breaker: {error_threshold_percentage: 100}", True),
        ("breaker: {error_threshold_percentage: 0.001}", True),
        ("breaker: {volume_threshold: 1}", True),
        ("retry: {on: [], methods: []}", True),
        ("retry: {max_body: 0}", True),
        ("timeout: {connect: 1ms}", True),
    ],
)
def test_the_ends_of_a_range_belong_to_it(text: str, error_free: bool) -> None:
    assert (typed(text, Policy)[1] == []) is error_free


def test_a_delay_may_be_zero_and_a_timeout_may_not() -> None:
    drain, errors = typed("{delay: 0s}", Drain)
    assert (drain.delay, errors) == (0.0, [])
    assert typed("{delay: 0s, timeout: 0s}", Drain)[1] == ["timeout: expected more than 0"]
    assert "needs its unit" in typed("{delay: 0}", Drain)[1][0]


def test_off_is_a_word_and_on_a_key() -> None:
    assert typed("{access: off}", Log)[0].access == "off"
    assert typed("retry: {on: [reset]}", Policy)[0].retry.on == {"reset"}


def test_the_proxys_addresses_are_a_list_or_one_string() -> None:
    one, _ = typed("proxy: 127.0.0.1:1", Listen)
    several, _ = typed('proxy: [127.0.0.1:1, "[::1]:2"]', Listen)
    assert list(map(str, one.proxy)) == ["127.0.0.1:1"]
    assert list(map(str, several.proxy)) == ["127.0.0.1:1", "[::1]:2"]


def test_a_number_may_come_from_the_environment_plain_or_quoted() -> None:
    text = "retry: {max_retries: '${N:-2}', budget: {ratio: \"${R}\"}}\npreserve_host: ${P}"
    policy, errors = typed(text, Policy, R="0.5", P="true\n")
    assert errors == []
    assert (policy.retry.max_retries, policy.retry.budget.ratio, policy.preserve_host) == (2, 0.5, True)


def test_a_variable_that_leaves_nothing_behind_is_told_so() -> None:
    _, errors = typed("preserve_host: ${P}", Policy, P="")
    assert errors == [
        "preserve_host: nothing is left of it, its variables are empty: expected true or false",
    ]


@pytest.mark.parametrize(
    "value", ["{max_retries: 1}", "[1]", "1\nmax_body: 1", "*x", "&x 1", "!!int 1", "1 # one", "<<"]
)
def test_the_environment_cannot_inject_structure(value: str) -> None:
    _, errors = typed("retry:\n  max_retries: ${N}", Policy, N=value)
    assert errors == ["retry.max_retries: expected a whole number"]


def test_keys_are_not_expanded() -> None:
    _, errors = typed('"${K}": 1', Log, K="level")
    assert len(errors) == 1
    assert "level: unknown" not in errors[0]


def test_every_wrong_value_gets_an_error_of_its_own() -> None:
    _, errors = typed("timeout: {connect: 1, attempt: 2, requst: 3s}\nretry: 1\nlimits: {max_concurrent: x}", Policy)
    assert [error.partition(":")[0] for error in errors] == [
        "timeout.connect",
        "timeout.attempt",
        "timeout.requst",
        "retry",
        "limits.max_concurrent",
    ]


def test_what_is_wrong_is_marked_in_the_tree() -> None:
    reporter = Reporter("a.yaml")
    node = read("{level: loud, access: all}", reporter)
    assert node is not None
    tree = Walker({}, reporter).group(Log, node, TOP, "defaults")
    level, access = tree["level"], tree["access"]
    assert isinstance(level, Leaf)
    assert isinstance(access, Leaf)
    assert level.value is INVALID
    assert (access.value, access.place.line, access.place.path) == ("all", 1, "access")


def keys_of(struct: type[Struct], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, hint in fields_of(struct).items():
        found += keys_of(hint, f"{prefix}{key}.") if is_group(hint) else [(prefix + key, hint)]
    return found


@pytest.mark.parametrize("struct", [Policy, Listen, Log, Drain, Match, EndpointSpec])
def test_no_message_shows_a_value(struct: type[Struct]) -> None:
    """Whatever type a key has, a secret in the wrong place stays one. A new kind of value is caught by this."""
    secret = "S3cr3t-Value"
    for key, hint in keys_of(struct):
        base, meta = unwrapped(hint)
        wraps = (
            ["{}", "[{}]"] if kind_of(meta) in ("statuses", "retry_conditions", "methods") or base is tuple else ["{}"]
        )
        for wrap in wraps:
            text = wrap.format("'${SECRET}'")
            for part in reversed(key.split(".")):
                text = f"{{{part}: {text}}}"
            _, errors = typed(text, struct, SECRET=secret)
            assert len(errors) == 1, key
            assert secret.lower() not in errors[0].lower()


VALUES = st.recursive(
    st.sampled_from(
        ["1", "5s", "~", "''", "true", "GET", "503", "64KiB", "/a", "http://a", "'${X}'", '"${Y:-1}"', "-1"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(["base", "url", "a", "on"]), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=5,
)


@given(st.data())
def test_any_value_at_any_key_is_typed_or_reported(data: st.DataObject) -> None:
    struct = data.draw(st.sampled_from([Policy, Listen, Log, Drain, Match]))
    key = data.draw(st.sampled_from([key for key, _ in keys_of(struct)]))
    text = data.draw(VALUES)
    for part in reversed(key.split(".")):
        text = f"{{{part}: {text}}}"
    typed(text, struct, X="1")
