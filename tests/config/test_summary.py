"""What `check` says of a good file."""

from __future__ import annotations

from sidecar.config.load import loads
from sidecar.config.summary import summary


def test_services_endpoints_routes_and_listeners() -> None:
    text = """
services:
  auth: {url: "http://auth-service:3001"}
  venue:
    endpoints: ["http://a:1", "http://b:1", "http://c:1", "http://d:1"]
    hosts: [venue-service]
    breaker: {mode: observe}
    routes: [{match: {path: /reports}}]
"""
    assert summary(loads(text, "a.yaml", {})).splitlines() == [
        "2 services, 5 endpoints, 1 route",
        "listening: proxy 127.0.0.1:15001, [::1]:15001; admin 127.0.0.1:15000; probe [::]:15021",
        "  auth   http://auth-service:3001",
        "  venue  http://a:1, http://b:1, http://c:1; and 1 more; hosts venue-service; 1 route; breaker observe",
    ]


def test_where_endpoints_are_found() -> None:
    text = """
services:
  a: {discovery: {dns: {name: a-headless, port: 3002}}}
  b: {discovery: {dns: {name: _http._tcp.b, srv: true}}, hosts: [b-service]}
  c: {discovery: {kubernetes: {service: c}}}
  d: {discovery: {kubernetes: {service: d, namespace: shop, port: http, server: "https://10.0.0.1:6443"}}}
  e: {url: "http://e"}
"""
    head, _, *services = summary(loads(text, "a.yaml", {})).splitlines()
    assert head == "5 services, 1 endpoint and those of 4 discoveries, 0 routes"
    assert services == [
        "  a  dns a-headless, port 3002",
        "  b  dns _http._tcp.b (SRV); hosts b-service",
        "  c  kubernetes c",
        "  d  kubernetes shop/d, port http, at https://10.0.0.1:6443",
        "  e  http://e",
    ]
    one = loads("services: {a: {discovery: {kubernetes: {service: c, port: 80}}}}", "a.yaml", {})
    assert summary(one).splitlines()[0] == "1 service, 0 endpoints and those of 1 discovery, 0 routes"
    assert summary(one).splitlines()[2] == "  a  kubernetes c, port 80"


def test_what_a_service_falls_back_to() -> None:
    steps = "[{service: b, methods: [GET]}, {stale: 5m}, {status: 503}]"
    config = loads(f'services: {{a: {{url: "http://a", fallback: {steps}}}, b: {{url: "http://b"}}}}', "a.yaml", {})
    assert summary(config).splitlines()[2:] == [
        "  a  http://a; fallback service:b, stale 5m, static 503",
        "  b  http://b",
    ]


def test_no_services() -> None:
    assert summary(loads("services: {}", "a.yaml", {})).startswith("0 services, 0 endpoints, 0 routes")


def test_what_aggregates_ask() -> None:
    text = """
services: {a: {url: "http://a"}, b: {url: "http://b"}}
aggregates:
  page: {parts: {first: {service: a, path: /, required: true}, second: {service: b, path: /}}}
"""
    assert summary(loads(text, "a.yaml", {})).splitlines()[-1] == (
        "  /_aggregate/page  first of a (required), second of b"
    )


def test_what_speaks_http_2() -> None:
    text = """
services:
  a: {url: "h2c://a:1"}
  b: {url: "https://b", protocol: h2}
  c: {discovery: {dns: {name: c, port: 1}}, grpc: [shop.v1.*, shop.v1.Menu]}
"""
    assert summary(loads(text, "a.yaml", {})).splitlines()[2:] == [
        "  a  h2c://a:1",
        "  b  https://b; HTTP/2",
        "  c  dns c, port 1; HTTP/2; grpc shop.v1.*, shop.v1.Menu",
    ]
