"""Health report: the content of `GET /health`, with a status for each part and one for the whole.

Owns its shape, its words, and how the parts give the whole. `chain` and `service_part` do the checks.

    healthy    Everything works.
    degraded   It works, but not as it should. A service: some endpoints are not healthy, or they are not the configured
               ones, or the breaker is half-open. The whole: a part that is not required is degraded or unhealthy, or a
               required part is degraded.
    unhealthy  It does not work. The whole: a required part is unhealthy.

Anyone who can reach the probe listener can read this. So a reason is one of `REASONS`, and the report contains no
address and no error text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"

# Reasons of a check. Those up to `status` are also used by active checks (`sidecar.health.active`).
CONNECT_FAILURE: Final = "connect_failure"
TIMEOUT: Final = "timeout"
RESET: Final = "reset"
BAD_RESPONSE: Final = "bad_response"
IMMEDIATE_FAIL: Final = "immediate_fail"
INTERNAL: Final = "internal"
STATUS: Final = "status"
"""The response has an unexpected status, or a grpc-status."""
NOT_SERVING: Final = "not_serving"
"""The answer of gRPC's health service is another than SERVING."""
SERVICE_UNKNOWN: Final = "service_unknown"
"""gRPC's health service does not know the service that was asked about."""
NO_HEALTH_SERVICE: Final = "no_health_service"
"""The server has no health service of gRPC (UNIMPLEMENTED)."""
AUTH: Final = "auth"
"""The user name, password or permissions are wrong."""
ERROR: Final = "error"
"""The server answers that it cannot serve, for example a Redis that is still loading."""

# Reasons of a service.
NO_ENDPOINT: Final = "no_endpoint"
"""No endpoint is known, or none may be used."""
ENDPOINTS: Final = "endpoints"
"""Some or all endpoints are not healthy."""
DISCOVERY: Final = "discovery"
"""The endpoints are those of an earlier configuration, because discovery has found none yet for this one."""
CIRCUIT_OPEN: Final = "circuit_open"
CIRCUIT_HALF_OPEN: Final = "circuit_half_open"

REASONS: Final = frozenset(
    {
        *(CONNECT_FAILURE, TIMEOUT, RESET, BAD_RESPONSE, IMMEDIATE_FAIL, INTERNAL, STATUS, AUTH, ERROR),
        *(NOT_SERVING, SERVICE_UNKNOWN, NO_HEALTH_SERVICE),
        *(NO_ENDPOINT, ENDPOINTS, DISCOVERY, CIRCUIT_OPEN, CIRCUIT_HALF_OPEN),
    }
)


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check. `latency_ms` is set if something was asked, `reason` if the part is not healthy."""

    status: str
    latency_ms: float | None = None
    reason: str | None = None


class Endpoints(Struct, frozen=True):
    """The numbers of endpoints. `healthy` counts like the metric `sidecar_endpoint_healthy`."""

    healthy: int
    total: int


class ServicePart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A service. `breaker` is the worst state among its own breaker and those of its routes."""

    status: str
    breaker: str
    endpoints: Endpoints
    latency_ms: float | None = None
    reason: str | None = None


class Report(Struct, frozen=True, kw_only=True):
    """The answer to `GET /health`. Parts are in the order of the file."""

    status: str
    checks: dict[str, Part]
    services: dict[str, ServicePart]


def aggregate(parts: Iterable[tuple[str, bool]]) -> str:
    """The status of the whole, from pairs of (status, required)."""
    status = HEALTHY
    for one, required in parts:
        if one == UNHEALTHY and required:
            return UNHEALTHY
        if one != HEALTHY:
            status = DEGRADED
    return status


def milliseconds(seconds: float) -> float:
    """Milliseconds with one decimal, as reports show them; 0 for a negative time."""
    return round(max(0.0, seconds) * 1000, 1)


def reason_word(reason: str) -> str:
    """One of REASONS for the result of a check, which may be `status 503` or a word that is not public."""
    word = reason.partition(" ")[0]
    return word if word in REASONS else INTERNAL
