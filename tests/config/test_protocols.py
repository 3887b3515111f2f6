"""The version of HTTP of a service, and what of its policy depends on that."""

from __future__ import annotations

import pytest

from sidecar.config.effective import flat, service_tree
from sidecar.config.errors import ConfigErrors
from sidecar.config.load import load_with_origins, loads
from sidecar.config.protocols import H2_CONNECTION_AGE_S, H2_POOL_IDLE_S, protocol_of
from sidecar.config.schema import Service

DNS = "discovery: {dns: {name: shop, port: 50051}}"


def service(body: str, before: str = "") -> Service:
    return loads(f"{before}\nservices: {{shop: {{{body}}}}}\n", "a.yaml", {}).services["shop"]


def errors(text: str) -> list[str]:
    try:
        loads(text, "a.yaml", {})
    except ConfigErrors as failure:
        return [f"{error.line} {error.path}: {error.message}" for error in failure.errors]
    return []


@pytest.mark.parametrize(
    ("body", "h2", "grpc"),
    [
        ("url: http://a", False, False),
        ("url: https://a", False, False),
        ("url: h2c://a", True, False),
        ("url: grpc://a", True, True),
        ("url: h2c://a, protocol: h2", True, False),
        ("url: http://a, protocol: h2", True, False),
        ("url: http://a, protocol: http1", False, False),
        ("url: https://a, protocol: h2", True, False),
        ("url: https://a, grpc: [shop.v1.Venue]", True, True),
        ("url: h2c://a, grpc: [shop.v1.Venue]", True, True),
        ("url: h2c://a, grpc: []", True, False),
        (DNS, False, False),
        (f"{DNS}, protocol: h2", True, False),
        (f"{DNS}, grpc: [shop.v1.*]", True, True),
        ('endpoints: ["h2c://a", "h2c://b"]', True, False),
        ("endpoints: [{url: grpc://a, weight: 2}]", True, True),
    ],
)
def test_what_says_that_a_service_speaks_http_2_and_grpc(body: str, h2: bool, grpc: bool) -> None:
    shop = service(body)
    assert (shop.h2, shop.is_grpc) == (h2, grpc)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("url: h2c://a, protocol: http1", "services.shop.protocol: this contradicts the URL"),
        ("url: grpc://a, protocol: http1", "services.shop.protocol: this contradicts the URL"),
        ("url: http://a, grpc: [a.B]", "services.shop.grpc: gRPC needs HTTP/2, and http:// means HTTP/1.1"),
        ("url: http://a, protocol: http1, grpc: [a.B]", "services.shop.protocol: gRPC needs HTTP/2, and the service"),
        (f"{DNS}, protocol: http1, grpc: [a.B]", "services.shop.protocol: gRPC needs HTTP/2, and the service"),
        ("url: http://a, protocol: h3", "services.shop.protocol: expected one of http1, h2"),
        ('endpoints: ["h2c://a", "http://b"]', "services.shop.endpoints[1]: the endpoints of a service must all have"),
        ('endpoints: ["h2c://a", "grpc://b"]', "services.shop.endpoints[1]: the endpoints of a service must all have"),
        ("url: http://a, health: {grpc: {}}", "services.shop: health.grpc needs HTTP/2"),
        ("url: h2c://a, grpc: [shop v1]", "services.shop.grpc[0]: expected the full name of a service"),
        ("url: h2c://a, grpc: [.Venue]", "services.shop.grpc[0]: expected the full name of a service"),
        ('url: h2c://a, grpc: ["*"]', "services.shop.grpc[0]: expected the full name of a service"),
        ("url: h2c://a, grpc: [a.*.B]", "services.shop.grpc[0]: expected the full name of a service"),
        ("url: h2c://a, grpc: [a/B]", "services.shop.grpc[0]: expected the full name of a service"),
    ],
)
def test_what_contradicts_itself(body: str, message: str) -> None:
    found = errors(f"services:\n  shop: {{{body}}}\n")
    assert len(found) == 1, found
    assert found[0].partition(" ")[2].startswith(message)


def test_a_claim_stands_once_in_a_file() -> None:
    text = """services:
  shop: {url: "h2c://a", grpc: [shop.v1.Venue, shop.v1.*, shop.v1.Venue]}
  other: {url: "h2c://b", grpc: [shop.v1.Menu, shop.v1.*]}
"""
    assert errors(text) == [
        "2 services.shop.grpc[2]: repeated claim: this service has it in line 2",
        "3 services.other.grpc[1]: repeated claim: another service has it in line 2",
    ]


@pytest.mark.parametrize(
    ("scheme", "written", "claims", "protocol", "wrong"),
    [
        ("", None, False, "http1", False),
        ("http", "http1", False, "http1", False),
        ("https", "http1", True, "h2", True),
        ("h2c", None, True, "h2", False),
    ],
)
def test_the_protocol_of_a_service(scheme: str, written: str, claims: bool, protocol: str, wrong: bool) -> None:
    found, problem = protocol_of(scheme, written, claims)  # type: ignore[arg-type]
    assert (found, problem is not None) == (protocol, wrong)


DEFAULTS = "defaults: {timeout: {pool_idle: 4s, attempt: 3s}, limits: {max_connection_age: 1m}}"


def pool_times(shop: Service) -> tuple[float, float | None]:
    return shop.policy.timeout.pool_idle, shop.policy.limits.max_connection_age


@pytest.mark.parametrize("before", ["", DEFAULTS])
def test_connections_of_http_2_stay_open_for_longer(before: str) -> None:
    """What `defaults` says of them is about HTTP/1.1."""
    assert pool_times(service("url: http://a", before)) == (4.0, 60.0)
    assert pool_times(service("url: h2c://a", before)) == (H2_POOL_IDLE_S, H2_CONNECTION_AGE_S) == (300.0, 600.0)
    own = "timeout: {pool_idle: 1m}, limits: {max_connection_age: off}"
    assert pool_times(service(f"url: h2c://a, {own}", before)) == (60.0, None)
    routed = service("url: h2c://a, routes: [{match: {path: /a.B}, timeout: {attempt: 1s}}]", before)
    assert routed.routes[0].policy.timeout.pool_idle == H2_POOL_IDLE_S


def test_the_times_of_http_2_are_shown_as_defaults(tmp_path: object) -> None:
    text = f"{DEFAULTS}\nservices: {{shop: {{url: 'h2c://a', timeout: {{idle: 2m}}}}}}\n"
    path = tmp_path / "a.yaml"  # type: ignore[operator]
    path.write_text(text)
    config, origins = load_with_origins(path, {})
    shown = dict(flat(service_tree(config.services["shop"], origins)))
    assert (shown["timeout.pool_idle"].value, shown["timeout.pool_idle"].origin) == ("5m", "default")
    assert (shown["limits.max_connection_age"].value, shown["limits.max_connection_age"].origin) == ("10m", "default")
    assert (shown["timeout.idle"].value, shown["timeout.idle"].origin) == ("2m", "service")
    assert (shown["timeout.attempt"].value, shown["timeout.attempt"].origin) == ("3s", "defaults")


@pytest.mark.parametrize(
    ("body", "of_service", "of_route"),
    [
        ("", set(), set()),
        ("timeout: {attempt: 1s}", {"attempt"}, {"attempt"}),
        ("routes: [{match: {path: /a}, timeout: {request: 1s}}]", set(), {"request"}),
        (
            "timeout: {idle: 1s}, routes: [{match: {path: /a}, timeout: {request: 1s, attempt: 1s}}]",
            {"idle"},
            {"idle", "request", "attempt"},
        ),
    ],
)
def test_only_a_service_and_its_routes_set_times_for_grpc(body: str, of_service: set[str], of_route: set[str]) -> None:
    routes = "" if "routes" in body else ", routes: [{match: {path: /a}}]"
    shop = service(f"url: h2c://a, {body}{routes}".replace(", ,", ","), DEFAULTS)
    assert shop.own_timeouts == of_service
    assert shop.routes[0].own_timeouts == of_route


def test_a_health_check_by_grpc() -> None:
    whole = service('url: h2c://a, health: {grpc: {service: ""}, interval: 5s}').policy.health
    assert whole is not None
    assert whole.grpc is not None
    assert whole.grpc.service == ""
    named = service("url: h2c://a, health: {grpc: {service: shop.v1.Venue}}").policy.health
    assert named is not None
    assert named.grpc is not None
    assert named.grpc.service == "shop.v1.Venue"


def test_a_service_replaces_the_health_check_of_the_defaults() -> None:
    before = "defaults: {health: {path: /health, interval: 2s}}"
    health = service("url: h2c://a, health: {grpc: {}}", before).policy.health
    assert health is not None
    assert (health.path, health.grpc is not None, health.interval) == (None, True, 2.0)
    back = service("url: http://a, health: {path: /health}", "defaults: {health: {grpc: {}}}").policy.health
    assert back is not None
    assert (back.path, back.grpc) == ("/health", None)


def test_a_health_check_by_grpc_in_the_defaults_is_for_services_of_http_2() -> None:
    text = 'defaults: {health: {grpc: {}}}\nservices:\n  shop: {url: "h2c://a"}\n  venue: {url: "http://a:1"}\n'
    assert errors(text) == [
        "4 services.venue: health.grpc needs HTTP/2: write h2c:// or protocol: h2, or give it another health check"
    ]


@pytest.mark.parametrize(
    "health", ["{grpc: {}, path: /health}", '{path: /health, grpc: {service: ""}}', "{tcp: true, grpc: {}}"]
)
def test_a_health_check_asks_one_thing(health: str) -> None:
    found = errors(f"services:\n  shop: {{url: 'h2c://a', health: {health}}}\n")
    assert len(found) == 1, found
    assert "is set as well: keep one of the two" in found[0]


def test_a_health_check_by_grpc_may_be_off() -> None:
    health = service("url: h2c://a, health: {grpc: off, tcp: true}").policy.health
    assert health is not None
    assert (health.grpc, health.tcp) == (None, True)
