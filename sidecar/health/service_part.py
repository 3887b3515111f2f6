"""The part of a service in the health report: its breaker, its endpoints, and their responses to `health.path`.

Owns what makes a service degraded or unhealthy. It changes nothing: a result here is shown to the reader of the report
and does not affect the balancer.

- Unhealthy: no endpoint may be used; the service's own breaker refuses all calls; every endpoint that was asked failed;
  or none was asked and no endpoint is healthy.
- Degraded: a breaker is half-open or open (the breaker of a route, one in mode observe, or one that would let the next
  request pass; otherwise a service without requests would stay unhealthy); one endpoint that was asked failed and
  another one did not; some endpoint is not healthy; or the endpoints are those of an earlier configuration.

Each run asks a healthy endpoint, in turn. If it fails, up to `MOST_ASKED` endpoints are asked. A request would be
retried on another endpoint too, so one endpoint that has just died makes a service degraded and not unhealthy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from sidecar.config.schema import Service
from sidecar.health.active import Check, CheckedEndpoint
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
from sidecar.policy.breaker import CLOSED, HALF_OPEN, OPEN, REFUSE

MOST_ASKED: Final = 3
"""As many as a request's first attempt and its two retries (the default)."""


class BreakerView(Protocol):
    """What the report reads of a breaker."""

    @property
    def state(self) -> str: ...
    def peek(self, now: float) -> str: ...


class EndpointView(CheckedEndpoint, Protocol):
    """What the report reads of an endpoint, in addition to the data for a check."""

    @property
    def available(self) -> bool: ...


class ServiceView(Protocol):
    """What the report reads of a live service."""

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> Service: ...
    @property
    def breakers(self) -> Sequence[BreakerView]:
        """The breakers, the service's own first."""

    @property
    def outdated(self) -> bool:
        """Whether the endpoints are those of an earlier configuration."""

    @property
    def present(self) -> Sequence[tuple[EndpointView, bool]]:
        """Each endpoint, and whether it is healthy and not skipped."""


class Answers(NamedTuple):
    """Responses of endpoints: whether one passed, why another one failed, and the time of the last one."""

    ok: bool
    reason: str | None
    latency_s: float


class Seen(NamedTuple):
    """What is known about a service without asking."""

    breaker: str
    refuses: bool
    """Whether the service's own breaker refuses the next request."""
    outdated: bool
    endpoints: Endpoints
    candidates: list[EndpointView]
    """Endpoints that may be asked, the healthy ones first."""


def look(service: ServiceView, run: int, now: float) -> Seen:
    """Collect what is known about a service. `run` counts the reports and decides which endpoint is asked first."""
    present = service.present
    healthy = [endpoint for endpoint, is_healthy in present if is_healthy]
    others = [endpoint for endpoint, is_healthy in present if not is_healthy and endpoint.available]
    states = {breaker.state for breaker in service.breakers}
    own = service.breakers[0]
    refuses = own.state == OPEN and own.peek(now) == REFUSE and service.config.policy.breaker.mode == "enforce"
    return Seen(
        next((state for state in (OPEN, HALF_OPEN) if state in states), CLOSED),
        refuses,
        service.outdated,
        Endpoints(len(healthy), len(present)),
        [*_rotated(healthy, run), *_rotated(others, run)],
    )


async def ask(service: ServiceView, candidates: Sequence[EndpointView], check: Check) -> Answers | None:
    """Ask endpoints for `health.path`, or by `health.grpc`, one after the other until one passes; None when there is
    nothing to ask.

    Takes up to `MOST_ASKED` times `health.timeout`; the caller sets the limit.
    """
    settings = service.config.policy.health
    if settings is None or settings.tcp or not candidates:
        return None
    reason = None
    latency_s = 0.0
    for endpoint in candidates[:MOST_ASKED]:
        ok, said, latency_s = await check(endpoint, settings, service.config.policy.tls)
        if ok:
            return Answers(True, reason, latency_s)
        reason = reason or reason_word(said)
    return Answers(False, reason, latency_s)


def part(seen: Seen, answers: Answers | None) -> ServicePart:
    """The part of the report from what is known and what was answered."""
    status, reason = _judge(seen, answers)
    latency_ms = None if answers is None else milliseconds(answers.latency_s)
    return ServicePart(
        status=status, breaker=seen.breaker, endpoints=seen.endpoints, latency_ms=latency_ms, reason=reason
    )


def _judge(seen: Seen, answers: Answers | None) -> tuple[str, str | None]:
    """Status and reason: the worst that is true, and the first of equally bad ones."""
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
        return DEGRADED, DISCOVERY  # first, because the other reasons would concern endpoints that are not configured
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
