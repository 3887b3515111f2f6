"""From the `checks` of a configuration to what the chain asks.

Owns which scheme is checked by what. A module that needs an extra is imported only where a check asks for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from sidecar.config.schema import HealthCheck
from sidecar.health.active import Check as CheckEndpoint
from sidecar.health.chain import Check
from sidecar.health.checks.endpoint import endpoint_check
from sidecar.health.checks.names import Names


def make_checks(configured: Mapping[str, HealthCheck], names: Names, check: CheckEndpoint) -> dict[str, Check]:
    """By name, in the same order; `check` is `Checks.check`."""
    return {name: Check(_ask(one, names, check), one.required, one.timeout) for name, one in configured.items()}


def _ask(config: HealthCheck, names: Names, check: CheckEndpoint) -> Callable[[], Awaitable[str]]:
    if needs_redis(config):
        from sidecar.health.checks.redis_ping import redis_check

        return redis_check(config, names)
    return endpoint_check(config, names, check)


def needs_redis(config: HealthCheck) -> bool:
    """Whether the extra has to be installed for it."""
    return config.url.scheme in ("redis", "rediss")
