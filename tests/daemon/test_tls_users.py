"""Who opens TLS connections, and with which settings."""

from __future__ import annotations

from sidecar.config.load import loads
from sidecar.daemon.tls_users import tls_services, tls_users
from sidecar.policy.settings import TlsSettings

CONFIG = loads(
    """
services:
  plain: {url: "http://a:1"}
  safe: {url: "https://a:1", tls: {min_version: 1.3}}
  found: {discovery: {dns: {name: a, port: 80}}}
checks:
  redis: {url: "rediss://a:1", tls: {verify: off}}
  ledger: {url: "https://a:1/"}
  queue: {url: "tcp://a:1"}
""",
    "a.yaml",
    {},
)


def test_services_with_https_endpoints() -> None:
    assert list(tls_services(CONFIG)) == [("safe", TlsSettings(min_version="1.3"))]


def test_checks_over_tls_too() -> None:
    assert dict(tls_users(CONFIG)) == {
        "safe": TlsSettings(min_version="1.3"),
        "checks.redis": TlsSettings(verify="off"),
        "checks.ledger": TlsSettings(),
    }
