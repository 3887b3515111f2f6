"""Optional packages: checks that the packages which a configuration needs are installed.

Owns the message. The check runs before the start and before a reload.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from sidecar.config.schema import Config
from sidecar.policy.settings import DnsSettings


def missing_extra(config: Config, find: Callable[[str], object | None] = find_spec) -> str | None:
    """One line that names the missing package and how to install it; None when nothing is missing."""
    for service in config.services.values():
        if isinstance(service.discovery, DnsSettings) and find("aiodns") is None:
            return f"services.{service.name}.discovery.dns needs aiodns: pip install 'service-sidecar[dns]'"
    if config.tracing is not None and not _finds(find, "opentelemetry.exporter.otlp.proto.http"):
        return "tracing needs OpenTelemetry: pip install 'service-sidecar[otel]'"
    return None


def _finds(find: Callable[[str], object | None], name: str) -> bool:
    """Like `find`, for a module inside packages that may be missing."""
    try:
        return find(name) is not None
    except ModuleNotFoundError:
        return False
