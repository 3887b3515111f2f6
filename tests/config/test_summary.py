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


def test_no_services() -> None:
    assert summary(loads("services: {}", "a.yaml", {})).startswith("0 services, 0 endpoints, 0 routes")
