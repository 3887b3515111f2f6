"""The HTTP server of the admin listener: its paths, handlers and limits. `sidecar.admin.listener` loads it.

This module owns the application. Every response except pages and metrics is JSON. Errors are
problem+json; unexpected errors are also logged.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import Any, Final

import msgspec
from aiohttp import web

from sidecar.admin import answers, openapi
from sidecar.admin.clock import WallClock
from sidecar.admin.commands import Commands
from sidecar.admin.config_view import config_steps
from sidecar.admin.explain import BadQuestion, explain, explain_grpc
from sidecar.admin.guard import Guard
from sidecar.admin.page import Page
from sidecar.admin.pieces import send
from sidecar.admin.probe_answers import ProbeAnswers
from sidecar.admin.problem import ApiProblem
from sidecar.admin.route_state import RouteState
from sidecar.admin.running import Running
from sidecar.admin.services_view import ServicesView
from sidecar.admin.stream import stream
from sidecar.config.schema import Address
from sidecar.net.aiohttp_log import http_logger
from sidecar.net.http_listener import IDLE_S, HttpListener, Server
from sidecar.net.threads import in_thread
from sidecar.runtime.service import LiveService
from sidecar.telemetry.events import KEPT

log = logging.getLogger("sidecar.admin")

MOST_BODY_BYTES: Final = 64 * 1024
LONGEST_LINE_BYTES: Final = 52 * 1024
"""The longest request line in bytes. `/explain` takes a target of 16 KiB in which every byte may be percent-encoded."""
LONGEST_ANSWER_S: Final = 30.0
"""How many seconds a request may take, including its body. A stream of events lasts as long as its reader wants."""
PROBES: Final = ("/livez", "/readyz", "/health", "/metrics")

_ENCODER: Final = msgspec.json.Encoder(enc_hook=str)
_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Server": "sidecar",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Answers requests on the connections of `listener`, whose address is `bound`."""

    def __init__(self, running: Running, probes: ProbeAnswers, bound: Address, listener: HttpListener) -> None:
        self._running = running
        self._probes = probes
        self._clock = WallClock(running.loop.time)
        self._view = ServicesView(running, self._clock)
        self._state_of = partial(RouteState, running, self._view, self._clock)
        self._commands = Commands(running, self._view, self._clock)
        self._guard = Guard(bound)
        self._page = Page()
        self._document: bytes | None = None
        self._listener = listener
        application = web.Application(middlewares=[self._bounded], client_max_size=MOST_BODY_BYTES)
        application.add_routes(self._routes())
        application.on_response_prepare.append(_dress)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=http_logger("sidecar.admin.http"),
            keepalive_timeout=IDLE_S,
            handle_signals=False,
            handler_cancellation=True,  # when a reader of events disconnects, its place is free at once
            shutdown_timeout=1.0,
            max_line_size=LONGEST_LINE_BYTES,
            auto_decompress=False,  # a compressed body is not accepted as JSON, so decompressing it is only a risk
        )

    async def started(self) -> Server:
        """What serves connections from now on."""
        await self._runner.setup()
        assert self._runner.server is not None
        return self._runner.server

    async def close(self) -> None:
        """End all connections, after the responses under way."""
        await self._runner.cleanup()

    def _routes(self) -> list[web.RouteDef]:
        found = [
            web.get("/services", self._services),
            web.get("/services/{name}", self._service),
            web.get("/history", self._history),
            web.get("/config", self._config),
            web.get("/events", self._events),
            web.get("/explain", self._explain),
            web.get("/openapi.json", self._openapi),
            web.get("/", self._index),
            web.get("/ui/{name:.+}", self._file),
            web.post("/services/{name}/breaker", self._breaker),
            web.post("/services/{name}/endpoints/{address}", self._endpoint),
            web.post("/log", self._log),
            web.post("/reload", self._reload),
            web.post("/drain", self._drain),
        ]
        return found + [web.get(path, self._probe) for path in PROBES]

    @web.middleware
    async def _bounded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Wraps every request: checks access, limits the time, and makes sure that there is a response."""
        with self._listener.under_way(request.protocol):
            return await self._answered(request, handler)

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            await self._guard.check(request, self._running.live.config.admin)
            if request.path == "/events" and _wants_stream(request):
                return await stream(request, self._running.events, request.query.get("service"))
            async with asyncio.timeout(LONGEST_ANSWER_S):
                return await handler(request)
        except ApiProblem as problem:
            return problem.response()
        except web.HTTPException as refusal:
            return _refused(refusal)
        except TimeoutError:
            return ApiProblem(503, "timeout", f"the request took longer than {LONGEST_ANSWER_S:g} s").response()
        except ConnectionError:
            raise
        except Exception:
            log.exception("an admin request failed because of a bug in the sidecar")
            return ApiProblem(500, "internal", "this is a bug of the sidecar; its log says more").response()

    def _found(self, request: web.Request) -> LiveService:
        service = self._running.live.services.get(request.match_info["name"])
        if service is None:
            raise ApiProblem(404, "unknown_service", "no service of that name is configured")
        return service

    # Reading.

    async def _services(self, request: web.Request) -> web.StreamResponse:
        return await self._long(request, self._view.listed(_packed))

    async def _service(self, request: web.Request) -> web.Response:
        return _json(self._view.one(self._found(request)))

    async def _history(self, request: web.Request) -> web.StreamResponse:
        return await self._long(request, self._view.histories(_packed))

    async def _config(self, request: web.Request) -> web.StreamResponse:
        return await self._long(request, config_steps(self._running, self._clock, _packed))

    async def _events(self, request: web.Request) -> web.Response:
        query = request.query
        limit, since = _number(query.get("limit"), KEPT, "limit"), _number(query.get("since"), 0, "since")
        found = list(self._running.events.since(since, query.get("service")))
        return _json(answers.Events(events=found[-limit:] if limit else []))

    async def _explain(self, request: web.Request) -> web.Response:
        query = request.query
        live, origins = self._running.live, self._running.origins
        target, host = query.get("target", ""), query.get("host", "")
        try:
            if query.get("grpc") == "true":
                return _json(explain_grpc(live, origins, target, host, query.get("service", ""), self._state_of))
            return _json(explain(live, origins, query.get("method", "GET"), target, host, self._state_of))
        except BadQuestion as problem:
            raise ApiProblem(400, "bad_request", str(problem)) from None

    async def _openapi(self, request: web.Request) -> web.Response:
        if self._document is None:
            self._document = await in_thread(lambda: _ENCODER.encode(openapi.document()) + b"\n")
        return web.Response(body=self._document, content_type="application/json")

    async def _index(self, request: web.Request) -> web.Response:
        return self._page.answer(request, "index.html")

    async def _file(self, request: web.Request) -> web.Response:
        return self._page.answer(request, request.match_info["name"])

    async def _probe(self, request: web.Request) -> web.StreamResponse:
        method, path = request.method, request.path
        answer = self._probes.at_once(method, path) or await self._probes.in_time(path)
        return await send(request, answer.body, answer.headers, answer.status)

    async def _long(self, request: web.Request, work: Generator[None, None, Any]) -> web.StreamResponse:
        """The response to a request about all services: made in slices, and sent in pieces."""
        content = await self._running.slices.run(work)
        return await send(request, [_encoded(content), b"\n"], _JSON)

    # Changing.

    async def _breaker(self, request: web.Request) -> web.Response:
        return _json(await self._commands.breaker(request, self._found(request)))

    async def _endpoint(self, request: web.Request) -> web.Response:
        service, address = self._found(request), request.match_info["address"]
        return _json(await self._commands.endpoint(request, service, address))

    async def _log(self, request: web.Request) -> web.Response:
        return _json(await self._commands.set_log(request))

    async def _reload(self, request: web.Request) -> web.Response:
        return _json(await self._commands.reload(request))

    async def _drain(self, request: web.Request) -> web.Response:
        return _json(await self._commands.drain(request), 202)


async def _dress(request: web.Request, response: web.StreamResponse) -> None:
    """Adds headers before any response head is sent, also that of a stream."""
    response.headers.update(_HEADERS)


def _json(content: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=_encoded(content) + b"\n", headers=_JSON)


def _packed(content: Any) -> msgspec.Raw:
    """A part of a response, encoded. So the encoding of the whole only copies it."""
    return msgspec.Raw(_encoded(content))


def _encoded(content: Any) -> bytes:
    try:
        return _ENCODER.encode(content)
    except UnicodeEncodeError:  # a lone surrogate, for example of a file name that is not UTF-8
        return json.dumps(msgspec.to_builtins(content, enc_hook=str)).encode()


def _refused(refusal: web.HTTPException) -> web.Response:
    """The response to a request that aiohttp refuses, with this API's message."""
    details = {
        404: "there is nothing at this path; /openapi.json lists all paths",
        405: "this path has other methods; changes are POST only",
        413: f"the body has more than {MOST_BODY_BYTES // 1024} KiB",
    }
    reasons = {404: "not_found", 405: "method", 413: "too_large"}
    status = refusal.status
    headers = {"Allow": refusal.headers["Allow"]} if "Allow" in refusal.headers else {}
    detail = details.get(status, refusal.reason)
    return ApiProblem(status, reasons.get(status, "bad_request"), detail, headers=headers).response()


def _wants_stream(request: web.Request) -> bool:
    return request.method == "GET" and (
        request.query.get("follow") == "true" or "text/event-stream" in request.headers.get("Accept", "")
    )


def _number(given: str | None, default: int, name: str) -> int:
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) <= 15):
        raise ApiProblem(400, "bad_request", f"{name} must be a whole number")
    return int(given)
