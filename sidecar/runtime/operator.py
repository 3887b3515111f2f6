"""What an operator may do to a running service: hold a breaker, keep requests away from an endpoint, take both back.

Owns the rules of that. Everything ends by itself at a time, nothing is written down, and nobody may take away the last
endpoint: what a mistake costs is bounded. Who asks, and that it is logged, is `sidecar.admin`'s.
"""

from __future__ import annotations

from sidecar.policy.breaker import Breaker
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService


class Refused(Exception):
    """It cannot be done: `reason` is a word for programs, `str()` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def route_named(service: LiveService, name: str) -> LiveRoute | None:
    """The route that the configuration describes so (`POST /reports`); the service's own policy is ""."""
    return next((route for route in (service.default_route, *service.routes) if route.name == name), None)


def endpoint_named(service: LiveService, label: str) -> Endpoint | None:
    """The endpoint of this address, as metrics and answers write it."""
    return next((endpoint for endpoint in service.endpoints if endpoint.label == label), None)


def force_breaker(service: LiveService, route: str, state: str | None, until: float, now: float) -> Breaker:
    """Hold it `open` or `closed` until then; None leaves it to itself again. Raises Refused."""
    found = route_named(service, route)
    if found is None:
        raise Refused("unknown_route", f"the service has no route {route!r}")
    if found is not service.default_route and found.breaker is service.default_route.breaker:
        raise Refused("no_breaker", f"the route {route!r} has no breaker of its own: it shares the service's")
    try:
        found.breaker.force(state, until, now)
    except ValueError:
        raise Refused("breaker_off", "the breaker is off (breaker.mode): there is nothing to force") from None
    return found.breaker


def drain(service: LiveService, endpoint: Endpoint, until: float, now: float) -> None:
    """No new requests until then; what is under way ends. Raises Refused."""
    _leaves_another(service, endpoint, now)
    service.drain(endpoint, until, now)


def eject(service: LiveService, endpoint: Endpoint, until: float, now: float) -> None:
    """As if it had failed too often: it counts as missing, and the other rules of ejection hold. Raises Refused."""
    if endpoint.draining:
        raise Refused("draining", "the endpoint is drained: it gets no requests as it is; restore it first")
    _leaves_another(service, endpoint, now)
    availability = service.availability
    well = availability.well - endpoint.well
    if well * 100 < availability.panic_threshold * availability.total:
        detail = (
            f"that would leave {well} of {availability.total} well, fewer than outlier.panic_threshold"
            f" ({availability.panic_threshold:g}%): ejections would be ignored; drain it instead"
        )
        raise Refused("would_panic", detail)
    service.eject(endpoint, until, now)


def restore(service: LiveService, endpoint: Endpoint, now: float) -> None:
    """End its drain, its ejection, its skip after refused connections, and that it called itself failed.

    What active checks find is theirs to say: an endpoint that fails them stays unhealthy.
    """
    service.restore(endpoint, now)


def _leaves_another(service: LiveService, endpoint: Endpoint, now: float) -> None:
    if now >= service.due:
        service.refresh(now)
    others = [one for one in service.endpoints if one is not endpoint and one.skip_until <= now]
    if not any(one.available for one in others):
        raise Refused("last_endpoint", "it is the last available endpoint: without it every request would fail")
    # In a panic those that are not well are available too, and mostly fail: they are no reason to do without this one.
    if endpoint.well and not any(one.well for one in others):
        raise Refused("last_endpoint", "it is the last healthy endpoint: without it most requests would fail")
