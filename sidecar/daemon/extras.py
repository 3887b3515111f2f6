"""What a configuration needs that is installed only when asked for.

Owns the words that say so, before anything starts and before another configuration takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from sidecar.config.schema import Config
from sidecar.health.checks.make import needs_redis
from sidecar.policy.settings import DnsSettings


def missing_extra(config: Config, find: Callable[[str], object | None] = find_spec) -> str | None:
    """One line that says what has to be installed for this configuration and is not; None where nothing is missing."""
    for service in config.services.values():
        if isinstance(service.discovery, DnsSettings) and find("aiodns") is None:
            return f"services.{service.name}.discovery.dns needs aiodns: pip install 'service-sidecar[dns]'"
    for name, check in config.checks.items():
        if needs_redis(check) and find("redis") is None:
            return f"checks.{name} needs redis: pip install 'service-sidecar[redis]'"
    return None
