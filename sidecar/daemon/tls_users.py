"""Who opens TLS connections: the services and checks whose certificate files are watched and shown in metrics."""

from __future__ import annotations

from collections.abc import Iterator

from sidecar.config.schema import Config
from sidecar.policy.settings import TlsSettings


def tls_services(config: Config) -> Iterator[tuple[str, TlsSettings]]:
    """The name and the settings of each service with https endpoints."""
    for name, service in config.services.items():
        if any(spec.url.scheme == "https" for spec in service.endpoints):
            yield name, service.policy.tls


def tls_users(config: Config) -> Iterator[tuple[str, TlsSettings]]:
    """Those of the checks too, as `checks.redis`."""
    yield from tls_services(config)
    for name, check in config.checks.items():
        if check.url.scheme in ("https", "rediss"):
            yield f"checks.{name}", check.tls
