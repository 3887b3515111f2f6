"""Admin commands: force a breaker, steer an endpoint, set the log, reload the configuration, shut down.

This module owns the input of each command. It logs each one with the address of the caller, so each is also an event.
The rules for breakers and endpoints are in `sidecar.runtime.operator`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from sidecar.admin import answers
from sidecar.admin.clock import WallClock
from sidecar.admin.config_view import file_errors, log_answer, reload_answer
from sidecar.admin.problem import ApiProblem
from sidecar.admin.running import Running
from sidecar.admin.services_view import ServicesView
from sidecar.config.errors import BadValueError
from sidecar.config.units import format_duration, parse_duration
from sidecar.runtime import operator
from sidecar.runtime.service import LiveService

log = logging.getLogger("sidecar.admin")

SHORTEST_S: Final = 1.0
LONGEST_S: Final = 86400.0

T = TypeVar("T")


class Commands:
    """Each method takes a request that the guard has accepted, and returns the struct to respond with."""

    def __init__(self, running: Running, view: ServicesView, clock: WallClock) -> None:
        self._running = running
        self._view = view
        self._clock = clock

    async def breaker(self, request: web.Request, service: LiveService) -> answers.BreakerDetail:
        """POST /services/{name}/breaker."""
        asked = await read(request, answers.ForceBreaker)
        seconds = for_seconds(asked.for_)
        now = self._clock.monotonic()
        state = None if asked.state == "auto" else asked.state
        try:
            breaker = operator.force_breaker(service, asked.route, state, now + seconds, now)
        except operator.Refused as refused:
            raise _conflict(refused) from None
        what = "releases the breaker" if state is None else f"forces the breaker {state} for {format_duration(seconds)}"
        self._tell(request, what, service=service.name, route=asked.route or None, state=asked.state)
        route = operator.route_named(service, asked.route)
        assert route is not None
        return self._view.breaker_detail(breaker, route.policy)

    async def endpoint(self, request: web.Request, service: LiveService, address: str) -> answers.Endpoint:
        """POST /services/{name}/endpoints/{address}."""
        asked = await read(request, answers.SteerEndpoint)
        seconds = for_seconds(asked.for_)
        endpoint = operator.endpoint_named(service, address)
        if endpoint is None:
            raise ApiProblem(404, "unknown_endpoint", "the service has no endpoint with that address")
        now = self._clock.monotonic()
        try:
            if asked.action == "drain":
                operator.drain(service, endpoint, now + seconds, now)
            elif asked.action == "eject":
                operator.eject(service, endpoint, now + seconds, now)
            else:
                operator.restore(service, endpoint, now)
        except operator.Refused as refused:
            raise _conflict(refused) from None
        how_long = "" if asked.action == "restore" else f" for {format_duration(seconds)}"
        what = f"{asked.action}s the endpoint {endpoint.label}{how_long}"
        self._tell(request, what, service=service.name, endpoint=endpoint.label, action=asked.action)
        return self._view.endpoint(endpoint, self._running.history.shares(service))

    async def set_log(self, request: web.Request) -> answers.Log:
        """POST /log."""
        asked = await read(request, answers.SetLog)
        if asked.level is None and asked.access is None:
            raise ApiProblem(400, "bad_request", "give a level, or access, or both")
        seconds = for_seconds(asked.for_)
        state = self._running.set_log(asked.level, asked.access, seconds)
        what = f"sets the log to level {state.level}, access {state.access} for {format_duration(seconds)}"
        self._tell(request, what, level_set=state.level, access=state.access)
        return log_answer(state, self._clock)

    async def reload(self, request: web.Request) -> answers.Reload:
        """POST /reload."""
        await read(request, answers.Empty)
        if self._running.path is None:
            raise ApiProblem(409, "no_file", "the sidecar was started without a file, so there is none to reload")
        self._tell(request, "asks for a reload")
        report = await asyncio.shield(self._running.reload())  # continues even if the caller disconnects
        if report.result == "rejected":
            detail = "the file was rejected; the last good configuration stays in force"
            raise ApiProblem(422, "rejected", detail, errors=file_errors(report.errors))
        return reload_answer(report)

    async def drain(self, request: web.Request) -> answers.Draining:
        """POST /drain."""
        await read(request, answers.Empty)
        self._tell(request, "starts the shutdown")
        settings = self._running.live.config.drain
        self._running.drain()
        return answers.Draining(draining=True, delay_s=settings.delay, timeout_s=settings.timeout)

    def _tell(self, request: web.Request, what: str, **fields: Any) -> None:
        found = {key: value for key, value in fields.items() if value is not None}
        extra = {"kind": "operator", "fields": {"by": request.remote, **found}}
        log.info("an operator %s", what, extra=extra)


async def read(request: web.Request, kind: type[T]) -> T:
    """The body, decoded from JSON to `kind`. Raises ApiProblem. aiohttp limits its size."""
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiProblem(400, "bad_request", f"the body does not match: {error}") from None


def for_seconds(text: str) -> float:
    """Seconds of a duration such as `5m`, from 1s to 24h. Raises ApiProblem."""
    try:
        seconds = parse_duration(text)
    except BadValueError as error:
        raise ApiProblem(400, "bad_request", f"for: {error}") from None
    if not SHORTEST_S <= seconds <= LONGEST_S:
        raise ApiProblem(400, "bad_request", "for: from 1s to 24h")
    return seconds


def _conflict(refused: operator.Refused) -> ApiProblem:
    return ApiProblem(404 if refused.reason == "unknown_route" else 409, refused.reason, str(refused))
