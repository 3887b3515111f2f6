"""A whole file: the reference, several errors at once, what is no configuration at all, and arbitrary input."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.annotations import fields_of, forms_of, group_of
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import MAX_BYTES, Origin, load, load_with_origins, loads
from sidecar.config.schema import Address, Aggregate, AggregatePart, CheckUrl, Config, HealthCheck, PathTemplate
from sidecar.config.services import SERVICE_KEYS
from sidecar.policy.settings import DnsSettings, HealthSettings, KubernetesSettings, Policy, TlsSettings

REFERENCE = Path(__file__).resolve().parents[2] / "config" / "sidecar.yaml"
NO_SCHEME = "the scheme of this URL must be http, https, h2c (HTTP/2 without TLS) or grpc (the same)"

PORTS = {
    "auth": 3001,
    "venue": 3002,
    "event": 3003,
    "ticket": 3004,
    "payment": 3005,
    "marketplace": 3006,
    "analytics": 3007,
    "notification": 3008,
    "integration": 3009,
    "compliance": 3010,
    "queue": 3011,
    "search": 3012,
    "file": 3013,
    "monitoring": 3014,
    "blockchain": 3015,
    "order": 3016,
    "minting": 3018,
    "transfer": 3019,
    "scanning": 3020,
}


def failure(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        loads(text, "a.yaml", environ)
    return str(raised.value).splitlines()


def test_the_reference_has_the_nineteen_services() -> None:
    services = load(REFERENCE, {}).services
    assert {name: str(service.endpoints[0].url) for name, service in services.items()} == {
        name: f"http://{name}-service:{port}" for name, port in PORTS.items()
    }


@pytest.mark.parametrize("name", PORTS)
def test_each_service_url_can_be_set_by_environment(name: str) -> None:
    before = load(REFERENCE, {}).services
    after = load(REFERENCE, {f"{name.upper()}_SERVICE_URL": "https://elsewhere.example:8443"}).services
    changed = [one for one in after if after[one] != before[one]]
    assert changed == [name]
    assert str(after[name].endpoints[0].url) == "https://elsewhere.example:8443"


def test_the_reference_states_the_defaults() -> None:
    config = load(REFERENCE, {})
    assert config == Config(services=config.services)
    assert {service.policy for service in config.services.values()} == {Policy()}


def test_the_reference_shows_every_key() -> None:
    """A key that a later change adds to the structs has to be explained there too."""
    lines = [line.strip(" #") for line in REFERENCE.read_text().splitlines()]
    wanted: list[str] = []

    def collect(keys: Mapping[str, object]) -> None:
        for key, hint in keys.items():
            wanted.append(key)
            for tag, struct in {None: group_of(hint), **forms_of(hint)}.items():
                wanted.extend([tag] if tag else [])
                collect(fields_of(struct) if struct else {})

    collect(fields_of(Config))
    collect(SERVICE_KEYS)
    # Those of `balancer` are explained in a table, each with an example.
    wanted = [key for key in wanted if key not in ("hash", "header", "cookie", "query", "source")]
    missing = [key for key in wanted if not any(line.startswith(f"{key}:") for line in lines)]
    assert missing == []


def test_the_commented_examples_of_the_reference_are_right() -> None:
    """With the comment signs taken away; `endpoints` stands in for `url`."""
    text = REFERENCE.read_text()
    start, end = text.index("    # endpoints:\n"), text.index("  event:\n")
    example = [line.replace("# ", "", 1) for line in text[start:end].splitlines()]
    kept = [line for line in example if line.startswith(("    endpoints", "    hosts", "    routes", "      "))]
    config = loads("services:\n  venue:\n" + "\n".join(kept), "a.yaml", {})
    venue = config.services["venue"]
    assert [(one.weight, one.priority) for one in venue.endpoints] == [(1, 0), (2, 0), (1, 1)]
    assert venue.hosts == ("venue-service", "venue.prod.svc.cluster.local:3002")
    assert [route.own_breaker for route in venue.routes] == [True, False]
    assert [route.policy.unary for route in venue.routes] == [False, True]


def commented(key: str, after: str) -> str:
    """The block of that key in the comments of the reference, without its comment signs, from line `after` on."""
    lines = REFERENCE.read_text().splitlines()
    lines = lines[lines.index(after) :]
    start = next(number for number, line in enumerate(lines) if line.strip() == f"# {key}:")
    indent = lines[start].index("#")
    block = [f"{key}:"]
    for line in lines[start + 1 :]:
        text = line[indent + 2 :]
        if not line.lstrip().startswith("#"):
            break
        if text.startswith("  "):
            block.append(text)
    return "\n".join(block)


def test_what_is_off_by_default_is_shown_with_the_defaults_that_it_has_once_on() -> None:
    text = commented("health", "defaults:").replace("\n", "\n  ")
    policy = loads(f"services: {{}}\ndefaults:\n  {text}\n", "a.yaml", {}).defaults
    assert policy.health == HealthSettings(path="/health")


def test_the_example_of_checks_is_right() -> None:
    block = commented("checks", "checks: {}          # Default {}: none.")
    check = HealthCheck(url=CheckUrl("redis", "localhost", 6379), required=True, tls=TlsSettings(ca_file="ca.pem"))
    assert loads(f"services: {{}}\n{block}\n", "a.yaml", {}).checks == {"redis": check}
    assert all(f"#     {key}: " in REFERENCE.read_text() for key in fields_of(HealthCheck))


def test_the_example_of_an_aggregate_is_right() -> None:
    block = commented("aggregates", "aggregates: {}      # Default {}: none.")
    services = "services: {venue: {url: 'http://a'}, event: {url: 'http://b'}}"
    page = loads(f"{services}\n{block}\n", "a.yaml", {}).aggregates["venue-page"]
    assert page == Aggregate(
        parts={
            "venue": AggregatePart(
                service="venue",
                path=PathTemplate(("/venues/", ""), ("id",)),
                required=True,
                pass_status=frozenset({401, 404}),
            ),
            "events": AggregatePart(service="event", path=PathTemplate(("/events?venue=", ""), ("id",))),
        }
    )


def test_the_examples_of_discovery_are_right() -> None:
    services = ""
    for name in ("event", "ticket"):
        block = commented("discovery", f"  {name}:").replace("\n", "\n    ")
        services += f"  {name}:\n    {block}\n"
    found = loads(f"services:\n{services}", "a.yaml", {}).services
    assert found["event"].discovery == DnsSettings(name="event-headless", port=3003)
    assert found["ticket"].discovery == KubernetesSettings(
        service="ticket-service",
        namespace="shop",
        port="http",
        server="https://10.0.0.1:6443",
        token_file="/etc/sidecar/token",
        ca_file="/etc/sidecar/ca.crt",
    )


def test_only_services_is_needed() -> None:
    config = loads("services: {venue: {url: http://venue-service:3002}}", "a.yaml", {})
    assert config == Config(services=config.services)
    assert failure("{}") == ["a.yaml:1: services is missing: it is the only key that is required"]


def test_all_errors_come_at_once_in_the_order_of_the_lines() -> None:
    text = """\
listen: {admin: nonsense}
services:
  venue:
    url: ftp://venue-service:3002
    breaker: {modus: observe}
    breaker: {mode: observe}
  event: {url: "${URL}"}
defaults:
  timeout: {connect: 5, attempt: 1s}
  auth: on
  health:
    interval: 2s
    tpc: true
  outlier: {panic_threshold: 101%, base_ejection_time: 5s, max_ejection_time: 1s}
  balancer:
    hash:
      header: X User
      cookie: sid
"""
    name_expected = "expected a name of letters, digits and '-' (RFC 9110 allows !#$%&'*+.^_`|~ too)"
    too_short = "must not be shorter than outlier.base_ejection_time, set in line 14"
    assert failure(text) == [
        "a.yaml:1: listen.admin: expected an address and a port, such as 127.0.0.1:15001 or [::1]:15001",
        f"a.yaml:4: services.venue.url: {NO_SCHEME}",
        "a.yaml:5: services.venue.breaker.modus: unknown key; did you mean mode?",
        "a.yaml:6: services.venue.breaker: repeated key: already in line 5",
        "a.yaml:7: services.event.url: the environment variable URL is not set; set it, or give a default: ${URL:-...}",
        "a.yaml:9: defaults.timeout.connect: a duration needs a unit: 250ms, 5s, 2m or 1h",
        "a.yaml:10: defaults.auth: this version does not support this key yet",
        "a.yaml:13: defaults.health.tpc: unknown key; did you mean tcp?",
        "a.yaml:14: defaults.outlier.panic_threshold: expected at most 100",
        f"a.yaml:14: defaults.outlier.max_ejection_time: {too_short}",
        f"a.yaml:17: defaults.balancer.hash.header: {name_expected}",
        "a.yaml:18: defaults.balancer.hash.cookie: header is set as well: keep one of the two",
    ]


def test_no_value_appears_in_an_error() -> None:
    text = "services: {a: {url: '${URL}'}, b: {url: '${URL}', hosts: ['${URL}'], timeout: {idle: '${URL}'}}}"
    for secret in ("http://user:hunter2@host", "hunter2", "ftp://hunter2", "http://host/hunter2", "HUNTER2 x"):
        assert not [line for line in failure(text, URL=secret) if "hunter2" in line.lower()]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("# nothing\n", 1),
        ("- a\n", 1),
        ("word", 1),
        ("~", 1),
        ("a: 1\n---\na: 1\n", 2),
        ("services: *x\n", 1),
        ("services:\n\tvenue: {}\n", 2),
        ("services: {\n", 2),
        ("services:\n", 1),
        ("services: []\n", 1),
    ],
)
def test_what_is_no_configuration(text: str, line: int) -> None:
    (error,) = failure(text)
    assert error.startswith(f"a.yaml:{line}: ")


def test_listeners_from_the_file() -> None:
    text = 'listen: {proxy: "127.0.0.1:0", admin: "127.0.0.1:0", probe: "[::]:0"}\nservices: {}\n'
    listen = loads(text, "a.yaml", {}).listen
    assert (listen.proxy, listen.admin, listen.probe) == (
        (Address("127.0.0.1", 0),),
        Address("127.0.0.1", 0),
        Address("::", 0),
    )


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"services:\n  a: {url: http://a} # caf\xe9\n")
    utf16 = tmp_path / "utf16.yaml"
    utf16.write_bytes("services: {}".encode("utf-16"))
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    for path, message in [
        (tmp_path / "absent.yaml", ": cannot be read: No such file or directory"),
        (tmp_path, ": cannot be read: Is a directory"),
        (tmp_path / "nul\0", ": cannot be read: not a valid file name"),
        (latin, ":2: not valid UTF-8 from here on"),
        (utf16, ":1: not valid UTF-8 from here on"),
        (large, ": is larger than 4 MiB"),
    ]:
        with pytest.raises(ConfigErrors) as raised:
            load(path, {})
        assert str(raised.value) == f"{path}{message}"


def test_origins_say_who_set_a_value(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("""\
defaults:
  timeout: {connect: 2s, idle: 9s}
services:
  venue:
    url: http://a
    timeout: {idle: 8s}
    routes:
      - match: {path: /reports}
        timeout: {request: 60s}
aggregates:
  page:
    timeout: 3s
    parts:
      venue: {service: venue, path: /}
""")
    _, origins = load_with_origins(path, {})
    venue = "services.venue"
    assert origins["defaults.timeout.connect"] == Origin("defaults", 2)
    assert origins[f"{venue}.timeout.connect"] == Origin("defaults", 2)
    assert origins[f"{venue}.timeout.idle"] == Origin("service", 6)
    assert origins[f"{venue}.routes[0].timeout.idle"] == Origin("service", 6)
    assert origins[f"{venue}.routes[0].timeout.request"] == Origin("route", 9)
    assert f"{venue}.timeout.request" not in origins
    assert origins["services"] == Origin("file", 3)
    assert origins["aggregates.page.timeout"] == Origin("file", 12)
    assert origins["aggregates.page.parts.venue.path"] == Origin("file", 14)
    assert "aggregates.page.parts.venue.timeout" not in origins


def test_the_real_environment_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTH_SERVICE_URL", "http://elsewhere")
    assert load(REFERENCE, {}).services["auth"].endpoints[0].url.host == "auth-service"
    assert load(REFERENCE, os.environ).services["auth"].endpoints[0].url.host == "elsewhere"


RICH = """\
listen: {proxy: ["127.0.0.1:0", "[::1]:0"], probe: "[::]:15021"}
log: {level: info, access: off}
drain: {delay: 0s, timeout: "${DRAIN:-20s}"}
defaults: &defaults
  timeout: &t {connect: 1s, attempt: 5s}
  retry:
    on: [connect_failure, 502-504]
    backoff: {base: 25ms, max: "${MAX}"}
  breaker: {mode: observe, failure_status: [500-599, 429]}
  balancer: {hash: {header: X-User}}
  slow_start: 30s
  health: &h {path: /health, expect: [200, 204], headers: {Host: venue.internal}}
  outlier: {error_rate: 50%, panic_threshold: 0}
services:
  auth: &auth {url: "${AUTH_SERVICE_URL:-http://auth-service:3001}", hosts: [auth-service]}
  venue:
    endpoints: ["http://10.0.0.7:3002", {url: "http://10.0.0.8:3002", weight: 2, priority: 1}]
    timeout: *t
    health: off
    routes:
      - match: {path: /reports, methods: [POST]}
        timeout: {<<: *t, request: 60s}
  other: {<<: *auth, hosts: [], limits: {max_concurrent: 1}, health: {<<: *h, interval: 1s}, outlier: off}
  found: {discovery: {dns: {name: found.prod., srv: true}}, balancer: peak_ewma, slow_start: off}
  slices:
    required: true
    discovery:
      kubernetes: {service: slices, port: http, server: "https://10.0.0.1:6443/k8s"}
checks:
  redis: {url: "rediss://app:${SECRET:-secret}@cache:6380/1", required: true, timeout: 500ms}
  queue: {url: "tcp://queue:5672"}
"""
ENVIRON = {"MAX": "250ms"}
PIECES = [
    "\n",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "&t ",
    "*t",
    "<<: ",
    "~",
    "'",
    '"',
    "${",
    "$${",
    "|\n",
    "#",
]
PIECES += [
    "!!int ",
    "0",
    "1s",
    "\ufeff",
    "\x00",
    "\ud800",
    "\u00e9",
    "---\n",
    "services",
    "url: ",
    "null",
    "<<: *defaults\n",
]


def test_the_document_that_is_mutated_is_right() -> None:
    assert loads(RICH, "a.yaml", ENVIRON).services["venue"].routes[0].policy.timeout.request == 60.0


@st.composite
def mutated(draw: st.DrawFn) -> str:
    text = RICH
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 30)))
        kind = draw(st.sampled_from(["cut", "insert", "replace", "copy", "swap"]))
        if kind == "cut":
            text = text[:start] + text[end:]
        elif kind == "copy":
            at = draw(st.integers(0, len(text)))
            text = text[:at] + text[start:end] + text[at:]
        elif kind == "swap":
            lines = text.split("\n")
            first, second = (draw(st.integers(0, len(lines) - 1)) for _ in range(2))
            lines[first], lines[second] = lines[second], lines[first]
            text = "\n".join(lines)
        else:
            text = text[:start] + draw(st.sampled_from(PIECES)) + text[start if kind == "insert" else end :]
    return text


@given(
    st.one_of(mutated(), st.text()), st.dictionaries(st.sampled_from(["MAX", "DRAIN", "AUTH_SERVICE_URL"]), st.text())
)
def test_any_text_is_a_configuration_or_errors(text: str, environ: dict[str, str]) -> None:
    for name in (ENVIRON, environ):
        with suppress(ConfigErrors):
            loads(text, "a.yaml", name)


@given(data=st.binary())
def test_any_bytes_are_a_configuration_or_errors(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with suppress(ConfigErrors):
        load(path, {})


@given(mutated())
def test_errors_have_lines_of_the_file_and_come_in_order(text: str) -> None:
    try:
        loads(text, "a.yaml", ENVIRON)
    except ConfigErrors as raised:
        places = [(error.line, error.column) for error in raised.errors]
    else:
        places = []
    assert places == sorted(places)
    # YAML knows more line ends than the newline, so lines are counted as it does.
    assert all(1 <= line <= len(text.splitlines()) + 1 for line, _ in places)


@pytest.mark.parametrize(("written", "read"), [("off", None), ("./off", "./off"), ("/etc/token", "/etc/token")])
def test_no_token_file_is_written_as_off(written: str, read: str | None) -> None:
    text = f"admin: {{token_file: {written}, hosts: [sidecar.example.com]}}\nservices: {{venue: {{url: http://a:1}}}}"
    admin = loads(text, "a.yaml", {}).admin
    assert (admin.token_file, admin.hosts) == (read, ("sidecar.example.com",))
