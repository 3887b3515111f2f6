"""The effective configuration in words: every key once, who set it, no secret; and what two of them differ in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from sidecar.config.annotations import fields_of, is_group
from sidecar.config.effective import HIDDEN, Setting, changed_keys, config_tree, flat, policy_tree, shown_target
from sidecar.config.load import Origins, load_with_origins, loads
from sidecar.config.schema import (
    Address,
    Aggregate,
    CheckUrl,
    Config,
    EndpointSpec,
    HealthCheck,
    Listen,
    Match,
    Route,
    Service,
    Tracing,
    Url,
)
from sidecar.policy.settings import (
    BreakerSettings,
    DnsSettings,
    FallbackStatic,
    HashSettings,
    HealthSettings,
    KubernetesSettings,
    OutlierSettings,
    Policy,
    Timeouts,
)

REFERENCE = Path(__file__).resolve().parents[2] / "config" / "sidecar.yaml"

TEXT = """\
listen: {proxy: ["127.0.0.1:15001"]}
log: {level: debug}
tracing: {otlp: "http://collector:4318/s3cret", headers: {X-Key: s3cret}}
defaults:
  timeout: {connect: 500ms}
  breaker: {error_threshold_percentage: 40%, failure_status: [500-599, 429]}
  health: {path: /health, headers: {X-Key: s3cret, Accept: text/plain}}
services:
  venue:
    endpoints: ["http://10.0.0.7:3002", {url: "http://10.0.0.8:3002", weight: 2}]
    hosts: [venues]
    timeout: {attempt: 2s}
    outlier: {error_rate: 50}
    balancer: {hash: {header: X-User}}
    fallback:
      - {service: auth, path: /x?s3cret}
      - {stale: 60s, key_headers: [authorization]}
      - {status: 200, headers: {Content-Type: text/plain, X-Token: s3cret}, body: s3cret}
    routes:
      - match: {path: /reports, methods: [POST, GET]}
        timeout: {request: 60s}
        retry: {on: [reset, 502-504]}
  auth: {url: "http://auth:1", health: off, slow_start: 5s}
  named: {discovery: {dns: {name: x.y., port: 80}}}
  probed: {url: "http://probed:1", health: {path: /h?key=s3cret}}
  kube: {discovery: {kubernetes: {service: a, token_file: /var/run/token}}}
checks:
  redis: {url: "redis://user:s3cret@redis:6379/2", required: true}
  web: {url: "http://web:80/health?token=s3cret", timeout: 2s}
  tcp: {url: "tcp://db:5432"}
aggregates:
  page: {parts: {one: {service: venue, path: "/v/{query.id}?l={query.l}"}, two: {service: auth, path: /a?s3cret}}}
"""


def loaded(text: str, tmp_path: Path) -> tuple[Config, Origins]:
    path = tmp_path / "sidecar.yaml"
    path.write_text(text)
    return load_with_origins(path, {})


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)


@pytest.fixture
def shown(tmp_path: Path) -> dict[str, Setting]:
    return dict(flat(config_tree(*loaded(TEXT, tmp_path))))


# Every key, and who set it.


def test_every_key_of_the_reference_is_there_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = config_tree(*load_with_origins(REFERENCE, {}))
    paths = Counter(path for path, _ in flat(tree))
    assert set(paths.values()) == {1}
    for group, struct in (
        ("listen", Listen),
        ("services.venue.timeout", Timeouts),
        ("defaults.breaker", BreakerSettings),
    ):
        assert {path for path in paths if path.startswith(f"{group}.")} == {
            f"{group}.{key}" for key in fields_of(struct)
        }
    assert set(tree) == set(fields_of(Config))
    assert list(tree["services"]) == list(load_with_origins(REFERENCE, {})[0].services)
    assert all(f"services.{name}.breaker.mode" in paths for name in tree["services"])


def test_each_value_of_the_reference_is_as_the_file_has_it_and_names_its_line() -> None:
    """A setting with a line is found again in that line, by its key."""
    lines = REFERENCE.read_text().splitlines()
    for path, setting in flat(config_tree(*load_with_origins(REFERENCE, {}))):
        if setting.line is not None:
            key = path.rpartition(".")[2]
            assert any(key in line for line in lines[setting.line - 1 : setting.line + 2]), (path, setting)
            assert setting.origin != "default"


@pytest.mark.parametrize(
    ("path", "value", "origin", "words"),
    [
        ("listen.proxy", ["127.0.0.1:15001"], "file", "listen:"),
        ("listen.admin", "127.0.0.1:15000", "default", None),
        ("log.level", "debug", "file", "log:"),
        ("log.access", "errors", "default", None),
        ("defaults.timeout.connect", "500ms", "defaults", "connect: 500ms"),
        ("defaults.timeout.attempt", "5s", "default", None),
        ("services.venue.timeout.connect", "500ms", "defaults", "connect: 500ms"),
        ("services.venue.timeout.attempt", "2s", "service", "attempt: 2s"),
        ("services.venue.timeout.request", "15s", "default", None),
        ("services.venue.breaker.error_threshold_percentage", "40%", "defaults", "percentage: 40%"),
        ("services.venue.breaker.failure_status", [429, "500-599"], "defaults", "failure_status"),
        ("services.venue.retry.on", None, "default", None),
        ("services.venue.retry.max_body", "64KiB", "default", None),
        ("services.venue.retry.budget.ratio", 0.2, "default", None),
        ("services.venue.retry.budget.min_per_second", 10, "default", None),
        ("services.venue.outlier.error_rate", "50%", "service", "error_rate"),
        ("services.venue.outlier.interval", "10s", "default", None),
        ("services.venue.balancer.hash.header", "X-User", "service", "balancer"),
        ("services.venue.balancer.hash.source", False, "default", None),
        ("services.venue.slow_start", "off", "default", None),
        ("services.venue.hosts", ["venues"], "service", None),
        ("services.venue.required", False, "default", None),
        ("services.venue.routes[0].match", {"path": "/reports", "methods": ["GET", "POST"]}, "route", None),
        ("services.venue.routes[0].timeout.connect", "500ms", "defaults", "connect: 500ms"),
        ("services.venue.routes[0].timeout.attempt", "2s", "service", "attempt: 2s"),
        ("services.venue.routes[0].timeout.request", "1m", "route", "request: 60s"),
        ("services.venue.routes[0].retry.on", ["reset", "502-504"], "route", "retry:"),
        ("services.auth.health", "off", "service", "health: off"),
        ("services.auth.slow_start", "5s", "service", "slow_start"),
        ("services.auth.endpoints", [{"url": "http://auth:1", "weight": 1, "priority": 0}], "service", None),
        ("services.named.discovery.dns.name", "x.y.", "service", None),
        ("services.named.discovery.dns.refresh", "30s", "default", None),
        ("services.kube.discovery.kubernetes.token_file", "/var/run/token", "service", None),
        ("checks.web.timeout", "2s", "file", None),
        ("checks.redis.timeout", "1s", "default", None),
        ("aggregates.page.parts.one.path", "/v/{query.id}?***", "file", "page: {parts"),
        ("aggregates.page.timeout", "2s", "default", None),
        ("tracing.otlp", "http://collector:4318/***", "file", None),
    ],
)
def test_a_value_is_in_the_file_s_words_with_its_origin(
    shown: dict[str, Setting], path: str, value: object, origin: str, words: str | None
) -> None:
    setting = shown[path]
    assert setting.origin == origin
    assert setting.line == (line_of(TEXT, words) if words else None)
    if value is not None:
        assert setting.value == value


def test_a_policy_tree_is_the_service_s_part_of_it(tmp_path: Path) -> None:
    config, origins = loaded(TEXT, tmp_path)
    route = config.services["venue"].routes[0]
    tree = policy_tree(route, "services.venue.routes[0]", origins)
    assert set(tree) == set(fields_of(Policy))
    assert tree["timeout"]["request"] == Setting("1m", "route", line_of(TEXT, "request: 60s"))


def test_all_of_it_is_json(shown: dict[str, Setting]) -> None:
    assert msgspec.json.decode(msgspec.json.encode(shown))["log.level"] == {
        "value": "debug",
        "origin": "file",
        "line": 2,
    }


def test_what_is_shown_can_be_read_again(tmp_path: Path) -> None:
    """The words are the file's: a policy of nothing but them is the same policy."""
    config, origins = loaded(TEXT.replace("headers: {X-Key: s3cret, Accept: text/plain}", "tcp: false"), tmp_path)
    for name in ("auth", "named"):
        tree = policy_tree(config.services[name], f"services.{name}", origins)
        words = {path: setting.value for path, setting in flat(tree) if setting.value not in ("off", {}, [])}
        nested: dict[str, Any] = {}
        for path, value in words.items():
            at = nested
            *groups, key = path.split(".")
            for group in groups:
                at = at.setdefault(group, {})
            at[key] = value
        text = msgspec.json.encode({"services": {name: {"url": "http://auth:1", **nested}}}).decode()
        assert loads(text, "again.yaml", {}).services[name].policy == config.services[name].policy


# Secrets.


def test_no_secret_is_shown_and_that_there_is_one_is(shown: dict[str, Setting]) -> None:
    assert "s3cret" in TEXT
    assert "s3cret" not in repr(shown)
    assert shown["defaults.health.headers"].value == {"X-Key": HIDDEN, "Accept": "text/plain"}
    assert shown["tracing.headers"].value == {"X-Key": HIDDEN}
    static = shown["services.venue.fallback"].value[2]
    assert static["body"] == HIDDEN
    assert static["headers"] == {"Content-Type": "text/plain", "X-Token": HIDDEN}
    assert shown["checks.redis.url"].value == "redis://redis:6379/***"
    assert shown["checks.web.url"].value == "http://web:80/***"
    assert shown["checks.tcp.url"].value == "tcp://db:5432"
    assert shown["services.probed.health.path"].value == "/h?***"
    assert shown["services.venue.fallback"].value[0]["path"] == "/x?***"
    assert shown["aggregates.page.parts.two.path"].value == "/a?***"
    assert shown["tracing.otlp"].value == "http://collector:4318/***"


@pytest.mark.parametrize(("target", "said"), [("/", "/"), ("/a?", "/a?"), ("/a?b", "/a?***"), ("/a?b?c", "/a?***")])
def test_a_target_is_shown_without_its_query(target: str, said: str) -> None:
    assert shown_target(target) == said


# What differs.

AUTH = Service(name="auth", endpoints=(EndpointSpec(url=Url("http", "auth", 1)),), policy=Policy())
VENUE = Service(
    name="venue",
    endpoints=(EndpointSpec(url=Url("http", "venue", 1)),),
    policy=Policy(health=HealthSettings(path="/h"), outlier=OutlierSettings(), balancer=HashSettings(header="X")),
    routes=(Route(match=Match(path="/r"), policy=Policy()), Route(match=Match(path="/s"), policy=Policy())),
)
CONFIG = Config(
    services={
        "auth": AUTH,
        "venue": VENUE,
        "named": Service(name="named", discovery=DnsSettings(name="x"), policy=Policy()),
    },
    checks={"redis": HealthCheck(url=CheckUrl("redis", "r", 6379))},
    aggregates={"page": Aggregate(parts={})},
    tracing=Tracing(otlp="http://c:1"),
)


def changed(of: Any) -> Any:
    """Another value of the same type."""
    if of is None:
        return 1.5
    if isinstance(of, bool):
        return not of
    if isinstance(of, int | float):
        return of + 1
    if isinstance(of, bytes):
        return of + b"x"
    if isinstance(of, str):
        return of + "x"
    if isinstance(of, tuple):
        return (*of, "x")
    if isinstance(of, frozenset):
        return of | {"X"}
    if isinstance(of, dict):
        return {**of, "x": "y"}
    assert isinstance(of, Struct), of
    return replace(of, **{key: changed(getattr(of, key)) for key in list(fields_of(type(of)))[:1]})


def edits(of: Struct, path: str) -> list[tuple[str, Struct]]:
    """Each key path at or below this struct, and the struct with that one value changed."""
    found: list[tuple[str, Struct]] = []
    for key in fields_of(type(of)):
        value = getattr(of, key)
        here = f"{path}.{key}" if path else key
        if isinstance(value, Struct) and is_group(type(value)):
            found += [(at, replace(of, **{key: below})) for at, below in edits(value, here)]
        else:
            found.append((here, replace(of, **{key: changed(value)})))
    return found


def all_edits() -> list[tuple[str, Config]]:
    found: list[tuple[str, Config]] = []
    for key in ("listen", "admin", "log", "drain", "tracing", "defaults"):
        found += [(path, replace(CONFIG, **{key: one})) for path, one in edits(getattr(CONFIG, key), key)]
    for name, check in CONFIG.checks.items():
        found += [(at, replace(CONFIG, checks={name: one})) for at, one in edits(check, f"checks.{name}")]
    for name, page in CONFIG.aggregates.items():
        found += [(at, replace(CONFIG, aggregates={name: one})) for at, one in edits(page, f"aggregates.{name}")]
    for name, service in CONFIG.services.items():
        path = f"services.{name}"

        def put(one: Service, name: str = name) -> Config:
            return replace(CONFIG, services={**CONFIG.services, name: one})

        found += [(at, put(replace(service, policy=one))) for at, one in edits(service.policy, path)]
        for key in ("endpoints", "protocol", "hosts", "grpc", "required"):
            found.append((f"{path}.{key}", put(replace(service, **{key: changed(getattr(service, key))}))))
        for at, route in enumerate(service.routes):
            below = f"{path}.routes[{at}]"
            for key, policy in edits(route.policy, below):
                routes = [*service.routes]
                routes[at] = replace(route, policy=policy)
                found.append((key, put(replace(service, routes=tuple(routes)))))
    return found


EDITS = all_edits()


def test_equal_configurations_differ_in_nothing(tmp_path: Path) -> None:
    assert changed_keys(loaded(TEXT, tmp_path)[0], loaded(TEXT, tmp_path)[0]) == []


@given(st.sampled_from(EDITS))
def test_one_changed_value_is_exactly_its_key(edit: tuple[str, Config]) -> None:
    path, config = edit
    assert changed_keys(CONFIG, config) == [path]
    assert changed_keys(config, CONFIG) == [path]


def test_the_changes_that_are_tried_are_all_there_are() -> None:
    """Each key of the tree has its change, unless it stands for a whole list or form."""
    words = {path for path, _ in flat(config_tree(CONFIG, {}))}
    paths = {path.replace(".balancer.header", ".balancer.hash.header") for path, _ in EDITS}
    left = {one for one in words - paths if ".balancer.hash." not in one and ".discovery." not in one}
    assert left == {"services.venue.routes[0].match", "services.venue.routes[1].match"}


def with_service(name: str, **more: Any) -> dict[str, Any]:
    return {"services": {**CONFIG.services, name: replace(CONFIG.services[name], **more)}}


def with_policy(**more: Any) -> dict[str, Any]:
    return with_service("venue", policy=replace(VENUE.policy, **more))


FIRST, SECOND = VENUE.routes


@pytest.mark.parametrize(
    ("path", "more"),
    [
        ("services.fresh", {"services": {**CONFIG.services, "fresh": replace(AUTH, name="fresh")}}),
        ("services.auth", {"services": {"venue": VENUE, "named": CONFIG.services["named"]}}),
        ("checks.redis", {"checks": {}}),
        ("aggregates.page", {"aggregates": {}}),
        ("tracing", {"tracing": None}),
        ("services.named.discovery.port", with_service("named", discovery=DnsSettings(name="x", port=2))),
        ("services.named.discovery", with_service("named", discovery=KubernetesSettings(service="x"))),
        ("services.venue.health", with_policy(health=None)),
        ("services.venue.balancer", with_policy(balancer="random")),
        ("services.venue.routes", with_service("venue", routes=(SECOND, FIRST))),
        ("services.venue.routes", with_service("venue", routes=(FIRST,))),
        ("services.venue.timeout.idle", with_service("venue", own_timeouts=frozenset({"idle"}))),
        (
            "services.venue.routes[0].timeout.idle",
            with_service("venue", routes=(replace(FIRST, own_timeouts=frozenset({"idle"})), SECOND)),
        ),
        ("services.venue.routes[1].breaker", with_service("venue", routes=(FIRST, replace(SECOND, own_breaker=True)))),
        ("listen.admin", {"listen": Listen(admin=Address("127.0.0.1", 1))}),
    ],
)
def test_what_is_added_or_removed_or_changes_its_form_is_one_key(path: str, more: dict[str, Any]) -> None:
    other = replace(CONFIG, **more)
    assert changed_keys(CONFIG, other) == [path]
    assert changed_keys(other, CONFIG) == [path]


def test_services_in_another_order_are_the_same() -> None:
    assert changed_keys(CONFIG, replace(CONFIG, services=dict(reversed(CONFIG.services.items())))) == []


def test_a_secret_that_changes_is_a_change() -> None:
    static = [replace(AUTH, policy=Policy(fallback=(FallbackStatic(status=200, body=body),))) for body in (b"a", b"b")]
    configs = [replace(CONFIG, services={"auth": one}) for one in static]
    assert changed_keys(*configs) == ["services.auth.fallback"]
