"""Creates the checks of the health chain from the `checks` of a configuration.

Owns which check belongs to which URL scheme.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from sidecar.config.schema import HealthCheck
from sidecar.health.active import Check as CheckEndpoint
from sidecar.health.chain import Check
from sidecar.health.checks.endpoint import endpoint_check
from sidecar.health.checks.redis_ping import redis_check
from sidecar.net.tls_contexts import TlsContexts


def make_checks(configured: Mapping[str, HealthCheck], check: CheckEndpoint, contexts: TlsContexts) -> dict[str, Check]:
    """Checks by name, in the order of the file. `check` is `Checks.check`, and `contexts` those of its TLS."""
    return {name: Check(_ask(one, check, contexts), one.required, one.timeout) for name, one in configured.items()}


def _ask(config: HealthCheck, check: CheckEndpoint, contexts: TlsContexts) -> Callable[[], Awaitable[str]]:
    if config.url.scheme in ("redis", "rediss"):
        return redis_check(config, contexts)
    return endpoint_check(config, check)
