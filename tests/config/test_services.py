"""`services`: endpoints, names, hosts, routes, and the policy that each gets in the end."""

from __future__ import annotations

import pytest

from sidecar.config.load import loads
from sidecar.config.schema import EndpointSpec, Match, Service, Url
from sidecar.config.services import ROUTE_KEYS, SERVICE_KEYS, SERVICE_WIDE
from sidecar.policy.settings import DnsSettings, HashSettings, HealthSettings, OutlierSettings, Policy
from tests.config.mistakes import errors


def service(body: str, before: str = "") -> Service:
    return loads(f"{before}\nservices: {{venue: {body}}}\n", "a.yaml", {}).services["venue"]


def only_error(body: str) -> str:
    found = errors(f"services:\n  venue: {body}\n")
    assert len(found) == 1, found
    return found[0]


def test_the_keys_are_those_of_the_structs() -> None:
    assert list(SERVICE_KEYS)[:5] == ["url", "endpoints", "discovery", "protocol", "hosts"]
    assert set(SERVICE_KEYS) - set(ROUTE_KEYS) == {
        *("url", "endpoints", "discovery", "protocol", "hosts", "grpc", "routes", "required"),
    }
    assert set(ROUTE_KEYS) - set(SERVICE_KEYS) == {"match"}


def test_service_wide_keys_are_keys_of_a_policy() -> None:
    for key in SERVICE_WIDE:
        value: object = Policy()
        for part in key.split("."):
            value = getattr(value, part)


def test_a_url_is_one_endpoint_and_endpoints_have_weights() -> None:
    assert service("{url: http://a:1}").endpoints == (EndpointSpec(url=Url("http", "a", 1)),)
    assert service('{endpoints: ["http://a:1", {url: http://b:2, weight: 3}, {url: http://c}]}').endpoints == (
        EndpointSpec(url=Url("http", "a", 1)),
        EndpointSpec(url=Url("http", "b", 2), weight=3),
        EndpointSpec(url=Url("http", "c", 80)),
    )


def test_endpoints_have_priorities() -> None:
    venue = service('{endpoints: ["http://a:1", {url: http://b:2, priority: 1}]}')
    assert [endpoint.priority for endpoint in venue.endpoints] == [0, 1]


def test_a_service_with_discovery_has_no_endpoints_of_its_own() -> None:
    venue = service("{discovery: {dns: {name: venue-headless, port: 3002}}, hosts: [venue-service]}")
    assert venue.discovery == DnsSettings(name="venue-headless", port=3002)
    assert (venue.endpoints, venue.hosts) == ((), ("venue-service",))
    assert service("{url: http://a}").discovery is None


def test_each_source_of_endpoints_beyond_the_first_is_reported() -> None:
    text = "services:\n  a:\n    discovery: {kubernetes: {service: a}}\n    endpoints: [http://a]\n    url: http://a\n"
    assert [line.partition(":")[0] for line in errors(text)] == ["3 services.a.discovery", "4 services.a.endpoints"]


@pytest.mark.parametrize(
    ("defaults", "own", "health"),
    [
        ("off", "{tcp: true}", HealthSettings(tcp=True)),
        ("{path: /health, interval: 2s}", "{interval: 1s}", HealthSettings(path="/health", interval=1.0)),
        ("{path: /health, interval: 2s}", "{}", HealthSettings(path="/health", interval=2.0)),
        ("{path: /health, interval: 2s}", "{tcp: true}", HealthSettings(tcp=True, interval=2.0)),
        ("{tcp: true, interval: 2s}", "{path: /a}", HealthSettings(path="/a", interval=2.0)),
        ("{path: /health, interval: 2s}", "off", None),
    ],
)
def test_health_is_merged_key_by_key_and_may_be_off(defaults: str, own: str, health: HealthSettings | None) -> None:
    before = f"defaults: {{health: {defaults}}}"
    assert service(f"{{url: http://a, health: {own}}}", before).policy.health == health


def test_outlier_is_merged_key_by_key_and_may_be_off() -> None:
    before = "defaults: {outlier: {interval: 20s, consecutive_failures: 3}, slow_start: 30s}"
    venue = service("{url: http://a, outlier: {interval: 5s}}", before)
    assert venue.policy.outlier == OutlierSettings(interval=5.0, consecutive_failures=3)
    assert venue.policy.slow_start == 30.0
    off = service("{url: http://a, outlier: off, slow_start: off}", before)
    assert (off.policy.outlier, off.policy.slow_start) == (None, None)
    inherited = service("{url: http://a, routes: [{match: {path: /a}}]}", before)
    assert inherited.policy.outlier == OutlierSettings(interval=20.0, consecutive_failures=3)
    assert inherited.routes[0].policy == inherited.policy


def test_a_balancer_is_not_merged_but_replaced() -> None:
    before = "defaults: {balancer: {hash: {header: X-User}}}"
    assert service("{url: http://a}", before).policy.balancer == HashSettings(header="X-User")
    assert service("{url: http://a, balancer: {hash: {cookie: sid}}}", before).policy.balancer == HashSettings(
        cookie="sid"
    )
    assert service("{url: http://a, balancer: random}", before).policy.balancer == "random"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "2 services.venue: a service needs a url, endpoints or discovery"),
        ("", "2 services.venue: no value"),
        ("~", "2 services.venue: no value"),
        ("http://a", "2 services.venue: not a mapping"),
        ("[]", "2 services.venue: not a mapping"),
        ('{url: http://a, endpoints: ["http://b"]}', "2 services.venue.endpoints: the service has a url as well"),
        ("{endpoints: []}", "2 services.venue.endpoints: expected at least one endpoint"),
        ("{endpoints: http://a}", "2 services.venue.endpoints: expected a list"),
        ("{endpoints: [{weight: 1}]}", "2 services.venue.endpoints[0]: an endpoint needs a url"),
        (
            '{endpoints: ["http://a", {url: http://b, weight: 0}]}',
            "2 services.venue.endpoints[1].weight: expected 1 or",
        ),
        (
            '{endpoints: ["http://a", {url: http://b, wieght: 1}]}',
            "2 services.venue.endpoints[1].wieght: unknown key; did you",
        ),
        (
            '{endpoints: ["http://a", "https://b"]}',
            "2 services.venue.endpoints[1]: the endpoints of a service must all have the same scheme",
        ),
        ('{endpoints: ["http://a", "http://A.:80/"]}', "2 services.venue.endpoints[1]: repeated endpoint"),
        ('{endpoints: ["http://a", ["http://b"]]}', "2 services.venue.endpoints[1]: not a mapping"),
        ("{url: http://a/path}", "2 services.venue.url: this URL cannot have a path"),
        ("{url: http://a, hosts: venue}", "2 services.venue.hosts: expected a list"),
        (
            "{url: http://a, hosts: [a, A.]}",
            "2 services.venue.hosts[1]: repeated host name: this service has it in line 2",
        ),
        (
            '{url: http://a, hosts: ["a:port"]}',
            "2 services.venue.hosts[0]: expected a host name such as",
        ),
        ('{url: http://a, hosts: ["b:80", "B:080"]}', "2 services.venue.hosts[1]: repeated host name: this service"),
        ("{url: http://a, hosts: [127.0.0.1]}", "2 services.venue.hosts[0]: localhost and loopback"),
        ("{url: http://a, routes: {}}", "2 services.venue.routes: expected a list"),
        ("{url: http://a, routes: [x]}", "2 services.venue.routes[0]: not a mapping"),
        (
            "{discovery: dns}",
            "2 services.venue.discovery: not a mapping: expected keys such as dns, kubernetes",
        ),
        (
            "{url: http://a, discovery: {dns: {name: a, port: 1}}}",
            "2 services.venue.discovery: the service has a url as well: keep one of the two",
        ),
        (
            '{endpoints: ["http://a"], discovery: {kubernetes: {service: a}}}',
            "2 services.venue.discovery: the service has endpoints as well: keep one of the two",
        ),
        ("{dns: {name: a, port: 1}, url: http://a}", "2 services.venue.dns: unknown key; did you mean discovery.dns?"),
        (
            "{endpoints: [{url: http://b, priority: -1}]}",
            "2 services.venue.endpoints[0].priority: expected 0 or more",
        ),
        ("{url: http://a, health: {}}", "2 services.venue.health: expected exactly one of path, tcp: true"),
        ("{url: http://a, mirror: []}", "2 services.venue.mirror: this version does not support this key yet"),
        ("{uri: http://a, url: http://a}", "2 services.venue.uri: unknown key; did you mean url?"),
    ],
)
def test_what_a_service_cannot_be(body: str, message: str) -> None:
    assert only_error(body).startswith(message)


def test_names() -> None:
    text = 'services: {_own: {url: http://a}, "a/b": {url: http://a}, Venue: {url: http://a}, venue: {url: http://a}}'
    first, second, third = errors(text)
    assert first == "1 services._own: names that begin with _ are reserved for the sidecar"
    assert second.startswith("1 services.'a/b': a service name begins with a letter or digit")
    assert third.startswith("1 services.venue: differs only in case")


def test_words_that_other_yaml_readers_take_for_something_else_are_names() -> None:
    text = "services: {on: {url: http://a}, null: {url: http://a}, 1: {url: http://a}, true: {url: http://a}}"
    assert list(loads(text, "a.yaml", {}).services) == ["on", "null", "1", "true"]


def test_hosts_get_their_normal_form_and_a_service_may_name_itself() -> None:
    assert service("{url: http://a, hosts: [Venue-Service., venue, 10.0.0.7]}").hosts == (
        "venue-service",
        "venue",
        "10.0.0.7",
    )


def test_a_host_has_one_owner() -> None:
    text = "services:\n  a: {url: http://x, hosts: [same, B]}\n  b: {url: http://y, hosts: [SAME]}\n"
    assert errors(text) == [
        "2 services.a.hosts[1]: this is the name of another service (line 3)",
        "3 services.b.hosts[0]: repeated host name: another service has it in line 2",
    ]


def test_defaults_then_service_then_route_key_by_key() -> None:
    venue = service(
        """{url: http://a, timeout: {attempt: 2s}, retry: {on: [reset], backoff: {max: 9s}}, routes: [
             {match: {path: /reports, methods: [POST]}, timeout: {request: 60s}, retry: {backoff: {base: 2s}}},
             {match: {methods: [GET]}}]}""",
        "defaults: {timeout: {attempt: 1s, connect: 100ms}, retry: {max_retries: 7}, limits: {max_concurrent: 5}}",
    )
    assert (venue.policy.timeout.connect, venue.policy.timeout.attempt, venue.policy.timeout.request) == (
        0.1,
        2.0,
        15.0,
    )
    assert (venue.policy.retry.max_retries, venue.policy.retry.on) == (7, {"reset"})
    assert venue.policy.limits.max_concurrent == 5
    reports, gets = venue.routes
    assert reports.match == Match(path="/reports", methods=frozenset({"POST"}))
    assert (reports.policy.timeout.attempt, reports.policy.timeout.request) == (2.0, 60.0)
    assert (reports.policy.retry.backoff.base, reports.policy.retry.backoff.max) == (2.0, 9.0)
    assert gets.match == Match(path="/", methods=frozenset({"GET"}))
    assert gets.policy == venue.policy


def test_a_route_has_a_breaker_of_its_own_only_where_it_says_so() -> None:
    venue = service(
        "{url: http://a, breaker: {volume_threshold: 3}, routes: ["
        "{match: {path: /a}, breaker: {mode: observe}}, {match: {path: /b}, timeout: {idle: 1s}}]}"
    )
    assert [route.own_breaker for route in venue.routes] == [True, False]
    assert [route.policy.breaker.volume_threshold for route in venue.routes] == [3, 3]


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("{timeout: {request: 1s}}", "routes[0]: a route needs a match"),
        ("{match: }", "routes[0].match: no value"),
        ("{match: {}}", "routes[0].match: expected a path, methods, or both"),
        ("{match: {path: reports}}", "routes[0].match.path: a path must begin with /"),
        ("{match: {methods: []}}", "routes[0].match.methods: expected at least one method"),
        ("{match: {methods: [post]}}", "routes[0].match.methods[0]: methods are case-sensitive"),
        ("{match: {prefix: /a, path: /a}}", "routes[0].match.prefix: unknown key"),
        ("{match: {path: /a}, limits: {}}", "routes[0].limits: a route cannot set this key"),
        ("{match: {path: /a}, balancer: round_robin}", "routes[0].balancer: a route cannot set this key"),
        ("{match: {path: /a}, slow_start: 1s}", "routes[0].slow_start: a route cannot set this key"),
        ("{match: {path: /a}, health: {interval: 1s}}", "routes[0].health: a route cannot set this key"),
        ("{match: {path: /a}, outlier: off}", "routes[0].outlier: a route cannot set this key"),
        ("{match: {path: /a}, discovery: {}}", "routes[0].discovery: unknown key"),
        ("{match: {path: /a}, timeout: {pool_idle: 1s}}", "routes[0].timeout.pool_idle: a route cannot set this key"),
        (
            "{match: {path: /a}, timeout: {client_idle: 1s}}",
            "routes[0].timeout.client_idle: a route cannot set this key",
        ),
        ("{match: {path: /a}, retry: {budget: {ratio: 1}}}", "routes[0].retry.budget: a route cannot set this key"),
        ("{match: {path: /a}, hosts: [b]}", "routes[0].hosts: unknown key"),
    ],
)
def test_what_a_route_cannot_be(route: str, message: str) -> None:
    assert only_error(f"{{url: http://a, routes: [{route}]}}").startswith(f"2 services.venue.{message}")


@pytest.mark.parametrize(
    ("earlier", "later", "dead"),
    [
        ("{path: /a}", "{path: /a}", True),
        ("{path: /a, methods: [GET, PUT]}", "{methods: [PUT, GET], path: /a}", True),
        ("{path: /a}", "{path: /a/b}", True),
        ("{path: /}", "{path: /a, methods: [GET]}", True),
        ("{methods: [GET]}", "{path: /a, methods: [GET]}", True),
        ("{path: /a}", "{path: /ab}", False),
        ("{path: /a/b}", "{path: /a}", False),
        ("{path: /a, methods: [GET]}", "{path: /a}", False),
        ("{path: /a, methods: [GET]}", "{path: /a, methods: [GET, PUT]}", False),
        ("{methods: [GET]}", "{path: /a}", False),
    ],
)
def test_a_route_that_can_never_match_is_an_error(earlier: str, later: str, dead: bool) -> None:
    text = f"services:\n  a:\n    url: http://a\n    routes:\n    - match: {earlier}\n    - match: {later}\n"
    expected = "6 services.a.routes[1]: never matches: the route in line 5 matches all of its requests"
    assert errors(text) == ([expected] if dead else [])


def test_a_merge_key_shares_a_policy_between_services() -> None:
    text = """
services:
  a: &a {url: http://a, timeout: &slow {request: 60s}, breaker: {mode: observe}}
  b: {<<: *a, url: http://b}
  c: {url: http://c, timeout: *slow}
"""
    services = loads(text, "a.yaml", {}).services
    assert [str(one.endpoints[0].url) for one in services.values()] == ["http://a", "http://b", "http://c"]
    assert [one.policy.timeout.request for one in services.values()] == [60.0, 60.0, 60.0]
    assert [one.policy.breaker.mode for one in services.values()] == ["observe", "observe", "enforce"]
