"""Operator actions on a running service: force a breaker, drain or eject an endpoint, and undo that.

Owns the rules, which limit the cost of a mistake: every action ends by itself at a time, nothing is stored on disk, and
nobody may take away the last endpoint. `sidecar.admin` receives the actions and logs them.
"""

from __future__ import annotations

from sidecar.policy.breaker import Breaker
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService


class Refused(Exception):
    """The action is refused: `reason` is a word for programs, `str()` a sentence for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def route_named(service: LiveService, name: str) -> LiveRoute | None:
    """The route with this name in the configuration (`POST /reports`). "" is the service's own policy."""
    return next((route for route in (service.default_route, *service.routes) if route.name == name), None)


def endpoint_named(service: LiveService, label: str) -> Endpoint | None:
    """The endpoint with this address, as metrics and responses write it."""
    return next((endpoint for endpoint in service.endpoints if endpoint.label == label), None)


def force_breaker(service: LiveService, route: str, state: str | None, until: float, now: float) -> Breaker:
    """Hold a breaker `open` or `closed` until a time; None ends that. Raises Refused."""
    found = route_named(service, route)
    if found is None:
        raise Refused("unknown_route", f"the service has no route {route!r}")
    if found is not service.default_route and found.breaker is service.default_route.breaker:
        raise Refused(
            "no_breaker", f"the route {route!r} has no breaker of its own; it shares the breaker of the service"
        )
    try:
        found.breaker.force(state, until, now)
    except ValueError:
        raise Refused("breaker_off", "the breaker is off (breaker.mode) and cannot be forced") from None
    found.breaker.tick(now)  # one that is open no longer by force lets its next call through: show that
    return found.breaker


def drain(service: LiveService, endpoint: Endpoint, until: float, now: float) -> None:
    """Send the endpoint no new requests until a time; requests in flight finish. Raises Refused."""
    _leaves_another(service, endpoint, now)
    service.drain(endpoint, until, now)


def eject(service: LiveService, endpoint: Endpoint, until: float, now: float) -> None:
    """Eject the endpoint as if it had failed too often: percentages count it as missing. Raises Refused."""
    if endpoint.draining:
        raise Refused("draining", "the endpoint is drained and gets no requests already; restore it first")
    _leaves_another(service, endpoint, now)
    availability = service.availability
    healthy = availability.healthy - endpoint.healthy
    if healthy * 100 < availability.panic_threshold * availability.total:
        detail = (
            f"this would leave {healthy} of {availability.total} endpoints healthy, fewer than outlier.panic_threshold"
            f" ({availability.panic_threshold:g}%), so ejections would be ignored; drain the endpoint instead"
        )
        raise Refused("would_panic", detail)
    service.eject(endpoint, until, now)


def restore(service: LiveService, endpoint: Endpoint, now: float) -> None:
    """End the endpoint's drain, ejection, skip after refused connections, and its own declaration that it failed.

    It does not change the result of active checks: an endpoint that fails them stays unhealthy.
    """
    service.restore(endpoint, now)


def _leaves_another(service: LiveService, endpoint: Endpoint, now: float) -> None:
    if now >= service.due:
        service.refresh(now)
    others = [one for one in service.endpoints if one is not endpoint and one.skip_until <= now]
    if not any(one.available for one in others):
        raise Refused("last_endpoint", "it is the last available endpoint: without it every request would fail")
    # In a panic, unhealthy endpoints are available too. Most requests to them fail, so they cannot replace this
    # one.
    if endpoint.healthy and not any(one.healthy for one in others):
        raise Refused("last_endpoint", "it is the last healthy endpoint: without it most requests would fail")
