"""Nodes against structs: types, bounds, null, variables; nothing of a value in any message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from sidecar.config.annotations import fields_of, forms_of, group_of, kind_of, scalar_hint, unwrapped
from sidecar.config.errors import Place, Reporter
from sidecar.config.merge import build
from sidecar.config.schema import Drain, EndpointSpec, Listen, Log, Match, Service
from sidecar.config.tree import INVALID, Leaf
from sidecar.config.walk import Walker
from sidecar.config.yaml_nodes import read
from sidecar.policy.settings import (
    DnsSettings,
    HashSettings,
    HealthSettings,
    KubernetesSettings,
    OutlierSettings,
    Policy,
)

TOP = Place(1, 1)
LABEL_EXPECTED = "expected a Kubernetes name: up to 63 lower-case letters, digits and '-', and no '-' at either end"
SERVER_EXPECTED = (
    "expected a server's URL such as http://collector:4318 or https://10.0.0.1:6443, beginning with http:// or https://"
)


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
        ("timeout: 5s", "timeout: not a mapping: expected keys such as connect, attempt, request, idle"),
        ("timeout:", "timeout: no value: expected keys such as connect"),
        ("timeout: {connect: ~}", "timeout.connect: no value: expected a duration"),
        ("timeout: {connect: [5s]}", "timeout.connect: this is a list: expected a duration"),
        ("timeout: {connect: {s: 5}}", "timeout.connect: this is a mapping: expected a duration"),
        ("retry: {max_retries: -1}", "retry.max_retries: expected 0 or more"),
        ("retry: {max_retries: 1.5}", "retry.max_retries: expected a whole number"),
        ("retry: {max_retries: 0o17}", "retry.max_retries: expected a whole number"),
        ("retry: {max_retries: 1:30}", "retry.max_retries: expected a whole number"),
        ("retry: {on: 503}", "retry.on: expected a list"),
        ("retry: {on: [503, {a: b}]}", "retry.on[1]: this is a mapping: expected one of"),
        ("retry: {methods: [get]}", "retry.methods[0]: methods are case-sensitive"),
        ("retry: {budget: {ratio: -0.1}}", "retry.budget.ratio: expected 0 or more"),
        ("breaker: {error_threshold_percentage: 0}", "breaker.error_threshold_percentage: expected more than 0"),
        ("breaker: {error_threshold_percentage: 100.1}", "breaker.error_threshold_percentage: expected at most 100"),
        ("breaker: {volume_threshold: 0}", "breaker.volume_threshold: expected 1 or more"),
        ("breaker: {mode: true}", "breaker.mode: expected one of enforce, observe, off"),
        (
            "balancer: fastest",
            "balancer: expected one of round_robin, least_request, peak_ewma, random, or a mapping with hash",
        ),
        ("balancer: hash", "balancer: expected one of round_robin"),
        ("balancer: [random]", "balancer: this is a list: expected one of round_robin"),
        ("balancer: {}", "balancer: expected hash"),
        ("balancer: {random: true}", "balancer.random: unknown key; expected one of hash"),
        ("balancer: {header: a}", "balancer.header: unknown key; did you mean hash.header?"),
        ("balancer: {hash: X-User}", "balancer.hash: not a mapping: expected keys such as header, cookie"),
        ("balancer: {hash: {}}", "balancer.hash: expected exactly one of header, cookie, query, source: true"),
        ("balancer: {hash: {source: false}}", "balancer.hash: expected exactly one of header"),
        ("balancer: {hash: {headr: a}}", "balancer.hash.headr: unknown key; did you mean header?"),
        ("balancer: {hash: {header: a, query: b}}", "balancer.hash.query: header is set as well: keep one"),
        ("balancer: {hash: {header: a b}}", "balancer.hash.header: expected a name"),
        ("balancer: {hash: {query: a=b}}", "balancer.hash.query: expected the name of a query parameter"),
        ("slow_start: 30", "slow_start: a duration needs a unit: 250ms, 5s, 2m or 1h, or off"),
        ("slow_start: 0s", "slow_start: expected more than 0, or off"),
        ("slow_start: ~", "slow_start: no value: expected a duration such as 250ms, 5s, 2m or 1h, or"),
        ("health: on", "health: expected off, or keys such as path, tcp, grpc, interval"),
        ("health:", "health: no value: expected off, or keys such as path"),
        ("health: [off]", "health: not a mapping: expected keys such as path"),
        ("health: {path: health}", "health.path: a path must begin with /"),
        ("health: {path: off}", "health.path: a path must begin with /"),
        ("health: {expect: 200}", "health.expect: expected a list"),
        ("health: {timeout: off}", "health.timeout: expected a duration such as 250ms, 5s, 2m or 1h"),
        ("health: {headers: [a]}", "health.headers: expected a mapping of headers"),
        ("health: {headers: {a b: c}}", "health.headers.'a b': not the name of a header"),
        ("health: {headers: {Connection: close}}", "health.headers.Connection: this header belongs to the connection"),
        ("health: {headers: {a: [b]}}", "health.headers.a: this is a list: expected the value of a header"),
        (
            'health: {headers: {a: "b\\r\\nc: d"}}',
            "health.headers.a: expected the value of a header, which is not empty and has no",
        ),
        ("health: {headers: {a: b, A: c}}", "health.headers.A: repeated: already in line 1, only the case differs"),
        ("outlier: off!", "outlier: expected off, or keys such as consecutive_failures"),
        ("outlier: {error_rate: 0%}", "outlier.error_rate: expected more than 0, or off"),
        ("outlier: {error_rate: half}", "outlier.error_rate: expected a percentage such as 50 or 50%, or off"),
        ("outlier: {panic_threshold: -1%}", "outlier.panic_threshold: expected 0 or more"),
        ("limits: {max_head: 1023}", "limits.max_head: expected 1KiB or more"),
        ("limits: {max_head: 257KiB}", "limits.max_head: expected at most 256KiB"),
        ("limits: {max_header_fields: 15}", "limits.max_header_fields: expected 16 or more"),
        ("limits: {max_header_fields: 1001}", "limits.max_header_fields: expected at most 1000"),
        ("outlier: {panic_threshold: 100.5%}", "outlier.panic_threshold: expected at most 100"),
        ("outlier: {max_ejection_percent: off}", "outlier.max_ejection_percent: expected a percentage such as 50 or"),
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
        ("outlier: {panic_threshold: 0%, max_ejection_percent: 100%, error_rate: 100}", True),
    ],
)
def test_the_ends_of_a_range_belong_to_it(text: str, error_free: bool) -> None:
    assert (typed(text, Policy)[1] == []) is error_free


def test_a_delay_may_be_zero_and_a_timeout_may_not() -> None:
    drain, errors = typed("{delay: 0s}", Drain)
    assert (drain.delay, errors) == (0.0, [])
    assert typed("{delay: 0s, timeout: 0s}", Drain)[1] == ["timeout: expected more than 0"]
    assert "needs a unit" in typed("{delay: 0}", Drain)[1][0]


def test_off_is_a_word_and_on_a_key() -> None:
    assert typed("{access: off}", Log)[0].access == "off"
    assert typed("retry: {on: [reset]}", Policy)[0].retry.on == {"reset"}


def test_a_balancer_is_a_word_or_a_hash() -> None:
    for word in ("round_robin", "least_request", "peak_ewma", "random"):
        assert typed(f"balancer: {word}", Policy)[0].balancer == word
    for text, hashed in [
        ("{header: X-User}", HashSettings(header="X-User")),
        ("{cookie: sid}", HashSettings(cookie="sid")),
        ("{query: user, source: false}", HashSettings(query="user")),
        ("{source: true}", HashSettings(source=True)),
    ]:
        assert typed(f"balancer: {{hash: {text}}}", Policy)[0].balancer == hashed


def test_percentages_are_written_with_their_sign_or_without() -> None:
    text = "breaker: {error_threshold_percentage: 25%}\noutlier: {error_rate: 50%, panic_threshold: 30}"
    policy, errors = typed(text, Policy)
    assert errors == []
    assert policy.breaker.error_threshold_percentage == 25.0
    assert policy.outlier == OutlierSettings(error_rate=50.0, panic_threshold=30.0)


def test_what_may_be_off_is_off_an_empty_mapping_is_on() -> None:
    policy, errors = typed("{health: off, outlier: 'off', slow_start: off}", Policy)
    assert errors == []
    assert policy == Policy(outlier=None)
    assert typed("outlier: {}", Policy)[0].outlier == OutlierSettings()
    assert typed("outlier: {error_rate: off}", Policy)[0].outlier == OutlierSettings()
    assert typed("outlier: ${OUTLIER}", Policy, OUTLIER="off\n")[0].outlier is None
    assert typed("slow_start: 30s", Policy)[0].slow_start == 30.0


def test_headers_keep_their_names_and_take_variables() -> None:
    text = 'health: {path: /health?full=1, expect: [200, 204], headers: {Host: a.b, X-Key: "k ${KEY}"}}'
    policy, errors = typed(text, Policy, KEY="v")
    assert errors == []
    headers = {"Host": "a.b", "X-Key": "k v"}
    assert policy.health == HealthSettings(path="/health?full=1", expect=frozenset({200, 204}), headers=headers)


def discovery_of(text: str) -> tuple[Any, list[str]]:
    """What `discovery` comes to, and the errors."""
    reporter = Reporter("a.yaml")
    node = read(text, reporter)
    assert node is not None
    found = Walker({}, reporter).value(node, fields_of(Service)["discovery"], TOP)
    return found, [f"{error.path}: {error.message}" for error in reporter.failure().errors]


@pytest.mark.parametrize(
    ("text", "discovery"),
    [
        ("{dns: {name: Venue.prod., port: 3002}}", DnsSettings(name="venue.prod.", port=3002)),
        ("{dns: {name: venue, srv: true, refresh: 5s}}", DnsSettings(name="venue", srv=True, refresh=5.0)),
        ("{kubernetes: {service: venue}}", KubernetesSettings(service="venue")),
        (
            "{kubernetes: {service: v, namespace: n, port: http, server: 'https://a/b/', token_file: t, ca_file: /c}}",
            KubernetesSettings(
                service="v", namespace="n", port="http", server="https://a/b", token_file="t", ca_file="/c"
            ),
        ),
        ("{kubernetes: {service: venue, port: 8080}}", KubernetesSettings(service="venue", port=8080)),
    ],
)
def test_one_of_several_forms(text: str, discovery: object) -> None:
    assert discovery_of(text) == (discovery, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dns", [": not a mapping: expected keys such as dns, kubernetes"]),
        ("~", [": no value: expected keys such as dns, kubernetes"]),
        ("{}", [": expected exactly one of dns, kubernetes"]),
        (
            "{dns: {name: a, port: 1}, kubernetes: {service: b}}",
            ["kubernetes: dns is set as well: keep one of the two"],
        ),
        ("{dsn: {}}", ["dsn: unknown key; did you mean dns?"]),
        (
            "{dns: {name: a, port: 1}, scheme: https}",
            ["scheme: unknown key; expected one of dns, kubernetes"],
        ),
        ("{dns: {}}", ["dns: needs a name", "dns: expected exactly one of port, srv: true"]),
        ("{dns: {name: a, srv: false}}", ["dns: expected exactly one of port, srv: true"]),
        ("{dns: {name: a, srv: true, port: 1}}", ["dns.port: srv is set as well: keep one of the two"]),
        ("{dns: {nme: a, port: 1}}", ["dns.nme: unknown key; did you mean name?"]),
        ("{dns: {name: a, port: 0}}", ["dns.port: expected 1 or more"]),
        ("{dns: {name: a, port: 65536}}", ["dns.port: expected at most 65535"]),
        ("{dns: {name: a, port: http}}", ["dns.port: expected a whole number"]),
        ("{kubernetes: {port: 1}}", ["kubernetes: needs a service"]),
        (
            "{kubernetes: {service: A, port: 0}}",
            [
                f"kubernetes.service: {LABEL_EXPECTED}",
                "kubernetes.port: expected a port: a number from 1 to 65535, or the name that the Service gives it",
            ],
        ),
        (
            "{kubernetes: {service: a, server: 'ftp://b', token_file: ''}}",
            [
                f"kubernetes.server: {SERVER_EXPECTED}",
                "kubernetes.token_file: expected the path of a file, without control characters, or off",
            ],
        ),
    ],
)
def test_no_form(text: str, expected: list[str]) -> None:
    found, errors = discovery_of(text)
    assert sorted(errors) == sorted(expected)
    assert found is INVALID


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
        "preserve_host: no value, because its variables are empty: expected true or false",
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
        if group := group_of(hint):
            found += keys_of(group, f"{prefix}{key}.")
            continue
        for tag, struct in forms_of(hint).items():
            found += keys_of(struct, f"{prefix}{key}.{tag}.")
        if scalar_hint(hint) is not None:
            found.append((prefix + key, hint))
    return found


@pytest.mark.parametrize(
    "struct", [Policy, Listen, Log, Drain, Match, EndpointSpec, HashSettings, DnsSettings, KubernetesSettings]
)
def test_no_message_shows_a_value(struct: type[Struct]) -> None:
    """Whatever type a key has, a secret in the wrong place stays one. A new kind of value is caught by this."""
    secret = "S3cr3t-Välue\n2"
    for key, hint in keys_of(struct):
        base, meta = unwrapped(scalar_hint(hint))
        wraps = (
            ["{}", "[{}]"] if kind_of(meta) in ("statuses", "retry_conditions", "methods") or base is tuple else ["{}"]
        )
        if kind_of(meta) == "headers":
            wraps.append("{{a: {}}}")
        for wrap in wraps:
            text = wrap.format("'${SECRET}'")
            for part in reversed(key.split(".")):
                text = f"{{{part}: {text}}}"
            _, errors = typed(text, struct, SECRET=secret)
            assert len(errors) == 1, key
            assert "s3cr3t" not in errors[0].lower()


DISCOVERY_KEYS = [*fields_of(DnsSettings), *fields_of(KubernetesSettings)]
VALUES = st.recursive(
    st.sampled_from(
        [
            "1",
            "5s",
            "off",
            "50%",
            "~",
            "''",
            "true",
            "GET",
            "503",
            "64KiB",
            "/a",
            "http://a",
            "'${X}'",
            '"${Y:-1}"',
            "-1",
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(
            st.sampled_from(["base", "url", "a", "on", "hash", "header", "path", "tcp", "name", "port"]),
            inner,
            max_size=3,
        ).map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}")
    ),
    max_leaves=5,
)


@given(st.data())
def test_any_value_at_any_key_is_typed_or_reported(data: st.DataObject) -> None:
    struct = data.draw(st.sampled_from([Policy, Listen, Log, Drain, Match, HashSettings]))
    key = data.draw(st.sampled_from([key for key, _ in keys_of(struct)]))
    key = data.draw(st.sampled_from([key, *([key.rpartition(".")[0]] if "." in key else [])]))
    text = data.draw(VALUES)
    for part in reversed(key.split(".")):
        text = f"{{{part}: {text}}}"
    typed(text, struct, X="1")


@given(
    st.dictionaries(st.sampled_from(["dns", "kubernetes"]), st.dictionaries(st.sampled_from(DISCOVERY_KEYS), VALUES))
)
def test_any_discovery_is_built_or_reported(forms: dict[str, dict[str, str]]) -> None:
    parts = (f"{tag}: {{{', '.join(f'{key}: {value}' for key, value in keys.items())}}}" for tag, keys in forms.items())
    found, errors = discovery_of(f"{{{', '.join(parts)}}}")
    assert isinstance(found, (DnsSettings, KubernetesSettings)) is (errors == [])
