"""A service's part of the report: its breaker, its endpoints, and what one of them answers to `health.path`.

Owns what of that makes a service degraded or unhealthy. It changes nothing: what an endpoint answers here is told to
the reader of the report, not to the balancer.

- Unhealthy: no endpoint may be used; the service's own breaker refuses everything; every endpoint that was asked
  failed; or nothing was asked and no endpoint is well.
- Degraded: a breaker is half-open or open (one of a route, one that only observes, or one that would let the next
  request through: such a service must not stay unhealthy for want of requests); an endpoint that was asked failed and
  another did not; some endpoint is not well; or the endpoints are those of an earlier configuration.

Asked is an endpoint that is well, in turn from run to run; where it fails another one, up to `MOST_ASKED`: a request
would go elsewhere too, so one endpoint that died this moment makes a service degraded and not unhealthy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from sidecar.config.schema import Service
from sidecar.health.active import Check, Target
from sidecar.health.report import (
    CIRCUIT_HALF_OPEN,
    CIRCUIT_OPEN,
    DEGRADED,
    DISCOVERY,
    ENDPOINTS,
    HEALTHY,
    NO_ENDPOINT,
    UNHEALTHY,
    Endpoints,
    ServicePart,
    milliseconds,
    reason_word,
)
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN

MOST_ASKED: Final = 3
"""A request's first attempt and the two retries that are the default."""


class BreakerView(Protocol):
    """What is read of a breaker."""

    @property
    def state(self) -> str: ...
    def retry_after(self, now: float) -> float: ...


class EndpointView(Target, Protocol):
    """What is read of an endpoint, beside what asking it takes."""

    @property
    def available(self) -> bool: ...


class ServiceView(Protocol):
    """What is read of a live service."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Service: ...
    @property
    def breakers(self) -> Sequence[BreakerView]:
        """The service's own first."""

    @property
    def outdated(self) -> bool:
        """The endpoints are those of an earlier configuration."""

    @property
    def present(self) -> Sequence[tuple[EndpointView, bool]]:
        """Each endpoint, and whether it is well."""


class Answers(NamedTuple):
    """What endpoints said: whether one was well, why another was not, and how long the last one took."""

    ok: bool
    reason: str | None
    latency_s: float


class Seen(NamedTuple):
    """What is known of a service without asking."""

    breaker: str
    refuses: bool
    """The service's own breaker refuses the next request."""
    outdated: bool
    endpoints: Endpoints
    candidates: list[EndpointView]
    """Those that may be asked, the well ones first."""


def look(service: ServiceView, run: int, now: float) -> Seen:
    """`run` counts the reports: it says whose turn it is to be asked."""
    present = service.present
    well = [endpoint for endpoint, is_well in present if is_well]
    others = [endpoint for endpoint, is_well in present if not is_well and endpoint.available]
    states = {breaker.state for breaker in service.breakers}
    own = service.breakers[0]
    refuses = own.state == OPEN and own.retry_after(now) > 0 and service.config.policy.breaker.mode == "enforce"
    return Seen(
        next((state for state in (OPEN, HALF_OPEN) if state in states), CLOSED),
        refuses,
        service.outdated,
        Endpoints(len(well), len(present)),
        [*_rotated(well, run), *_rotated(others, run)],
    )


async def ask(service: ServiceView, candidates: Sequence[EndpointView], check: Check) -> Answers | None:
    """What endpoints answer to `health.path`, one after the other until one is well; None where nothing is to be asked.

    Takes up to `MOST_ASKED` times `health.timeout`; whoever calls sets the bound.
    """
    settings = service.config.policy.health
    if settings is None or settings.path is None or not candidates:
        return None
    reason = None
    latency_s = 0.0
    for endpoint in candidates[:MOST_ASKED]:
        ok, said, latency_s = await check(endpoint, settings)
        if ok:
            return Answers(True, reason, latency_s)
        reason = reason or reason_word(said)
    return Answers(False, reason, latency_s)


def part(seen: Seen, answers: Answers | None) -> ServicePart:
    """What is seen and what was answered, as the report has it."""
    status, reason = _judge(seen, answers)
    latency_ms = None if answers is None else milliseconds(answers.latency_s)
    return ServicePart(
        status=status, breaker=seen.breaker, endpoints=seen.endpoints, latency_ms=latency_ms, reason=reason
    )


def _judge(seen: Seen, answers: Answers | None) -> tuple[str, str | None]:
    """The worst that is true, and of equals the first."""
    healthy, total = seen.endpoints.healthy, seen.endpoints.total
    if not seen.candidates:
        return UNHEALTHY, NO_ENDPOINT
    if seen.refuses:
        return UNHEALTHY, CIRCUIT_OPEN
    if answers is not None and not answers.ok:
        return UNHEALTHY, answers.reason
    if answers is None and not healthy:
        return UNHEALTHY, ENDPOINTS
    if seen.outdated:
        return DEGRADED, DISCOVERY  # first, for whatever else is said is said of endpoints that are not wanted
    if seen.breaker != CLOSED:
        return DEGRADED, CIRCUIT_OPEN if seen.breaker == OPEN else CIRCUIT_HALF_OPEN
    if answers is not None and answers.reason is not None:
        return DEGRADED, answers.reason
    if healthy < total:
        return DEGRADED, ENDPOINTS
    return HEALTHY, None


def _rotated(endpoints: list[EndpointView], run: int) -> list[EndpointView]:
    start = run % len(endpoints) if endpoints else 0
    return endpoints[start:] + endpoints[:start]
