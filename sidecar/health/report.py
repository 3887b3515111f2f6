"""What `GET /health` says: a status for each part, and one for the whole.

Owns its shape, its words and how parts make a whole. Asking is `chain` and `service_part`.

    healthy    as it should be
    degraded   it works, but not as it should: for a service, some of its endpoints are not well or not those that are
               configured, or its breaker is half-open; for the whole, something that is not required is degraded or
               unhealthy
    unhealthy  it does not work; for the whole, something required does not

Whoever reaches the probe listener may read this, so a reason is one of `REASONS`, and nothing here is an address or
the text of an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"

# Of what was asked; the first six are those of active checks (`sidecar.health.active`).
CONNECT_FAILURE: Final = "connect_failure"
TIMEOUT: Final = "timeout"
RESET: Final = "reset"
BAD_RESPONSE: Final = "bad_response"
IMMEDIATE_FAIL: Final = "immediate_fail"
INTERNAL: Final = "internal"
STATUS: Final = "status"
"""An answer with a status that is not expected."""
AUTH: Final = "auth"
"""The user name, the password, or what that user may do."""
ERROR: Final = "error"
"""An answer that says it cannot serve: a Redis that is still loading, for example."""

# Of a service.
NO_ENDPOINT: Final = "no_endpoint"
"""None is known, or none may be used."""
ENDPOINTS: Final = "endpoints"
"""Some or all are not well."""
DISCOVERY: Final = "discovery"
"""They are those of an earlier configuration: nothing has been found yet for the one in force."""
CIRCUIT_OPEN: Final = "circuit_open"
CIRCUIT_HALF_OPEN: Final = "circuit_half_open"

REASONS: Final = frozenset(
    {
        *(CONNECT_FAILURE, TIMEOUT, RESET, BAD_RESPONSE, IMMEDIATE_FAIL, INTERNAL, STATUS, AUTH, ERROR),
        *(NO_ENDPOINT, ENDPOINTS, DISCOVERY, CIRCUIT_OPEN, CIRCUIT_HALF_OPEN),
    }
)


class Part(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check. `latency_ms` is there where something was asked, `reason` where it is not healthy."""

    status: str
    latency_ms: float | None = None
    reason: str | None = None


class Endpoints(Struct, frozen=True):
    """`healthy` counts as `sidecar_endpoint_healthy` does."""

    healthy: int
    total: int


class ServicePart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A service; `breaker` is the worst state among its own and those of its routes."""

    status: str
    breaker: str
    endpoints: Endpoints
    latency_ms: float | None = None
    reason: str | None = None


class Report(Struct, frozen=True, kw_only=True):
    """The answer to `GET /health`, parts in the order of the file."""

    status: str
    checks: dict[str, Part]
    services: dict[str, ServicePart]


def aggregate(parts: Iterable[tuple[str, bool]]) -> str:
    """The status of the whole, of pairs (status, required)."""
    status = HEALTHY
    for one, required in parts:
        if one == UNHEALTHY and required:
            return UNHEALTHY
        if one != HEALTHY:
            status = DEGRADED
    return status


def milliseconds(seconds: float) -> float:
    """As a report shows them: to a tenth, of a negative time nothing."""
    return round(max(0.0, seconds) * 1000, 1)


def reason_word(reason: str) -> str:
    """One of REASONS for what a check said, which may be `status 503`, or a word that is not for everybody."""
    word = reason.partition(" ")[0]
    return word if word in REASONS else INTERNAL
