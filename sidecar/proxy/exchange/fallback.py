"""A request whose failure something else may answer: another service, the last good response, or words of the file.

Owns when a fallback may answer, in which order, and what is told of it. It is outermost: it sees what would have gone
to the app, after retries, breaker and limits have had their say. Requests that no fallback is for are a plain
`Exchange`.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from math import inf
from time import monotonic
from typing import Final

from sidecar.policy.concurrency import ConcurrencyLimit
from sidecar.policy.settings import FALLBACK_METHODS, FallbackService, FallbackStale, FallbackStatic
from sidecar.policy.verdict import IGNORED
from sidecar.proxy.exchange.exchange import Exchange
from sidecar.proxy.exchange.handler import Disconnected
from sidecar.proxy.exchange.stale import StaleExchange
from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import STATUS
from sidecar.proxy.upstream.http1_connection import Upstream
from sidecar.proxy.upstream.pool import Pool
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService

FALLEN_BACK: Final = frozenset(
    {"connect_failure", "connect_timeout", "reset", "attempt_timeout", "request_timeout", "bad_response"}
    | {"circuit_open", "no_endpoint", "overloaded"}
)
"""What a fallback answers for, beside an upstream's own 5xx where that is a failure to the breaker. Never for what the
app has to know: `rate_limited`, `unknown_service`, `bad_request`, `loop`."""

FIRST_PART: Final = 0.8
"""The part of a request's time that the service itself gets; the rest is kept for its fallbacks."""


class _Failure:
    """What the app would have been told: an answer of ours, or the service's own."""

    __slots__ = ("cut_short", "detail", "reason", "response", "retry_after", "upstream")

    def __init__(
        self,
        reason: str,
        detail: str,
        retry_after: float | None,
        response: ResponseHead | None,
        upstream: Upstream | None,
        cut_short: bool,
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.response = response
        self.upstream = upstream
        """Holds the rest of `response`, in case no step has an answer."""
        self.cut_short = cut_short


class _Home:
    """The service that the app called, for the time that another one is asked in its place."""

    __slots__ = ("permit", "pool", "repeatable", "route", "service", "target")

    def __init__(
        self, service: LiveService, route: LiveRoute, pool: Pool, target: bytes, permit: int, repeatable: bool
    ) -> None:
        self.service = service
        self.route = route
        self.pool = pool
        self.target = target
        self.permit = permit
        self.repeatable = repeatable
        """By the rule of the route that the app called: it decides between steps, a step's own within it."""


class FallbackExchange(StaleExchange):
    """An exchange of a route that has a fallback for its method."""

    _whole_s: float = inf
    """What the app's request may take with its fallbacks."""
    _end: float = inf
    """When that is over; unknown while the app is still sending."""
    _left_s: float = inf
    """What is left of that for the step at hand."""
    _limit: ConcurrencyLimit | None = None
    """Of the service that failed: its permit is held until the app has its answer."""
    _standing_in: bool = False
    """Another service's answer has begun to go to the app."""
    _failure: _Failure | None = None
    _home: _Home | None = None
    """Set while another service is asked."""
    _given_up: bool = False
    """No step had an answer: the failure goes to the app after all."""

    async def _live(self) -> None:
        self._set_deadline(self._call_started)
        await Exchange._live(self)
        failure = self._failure
        if failure is None or self.code:
            return
        try:
            await self._fall_back(failure)
        except Disconnected as gone:
            self._record(499, "client_disconnect", str(gone))
            if self._downstream.responding:
                self._downstream.cut()
        except BadRequest as refusal:
            self._refuse(refusal)
        finally:
            if self._limit is not None:
                self._limit.release()
            kept, failure.upstream = failure.upstream, None
            if kept is not None and failure.cut_short:
                kept.close()
            elif kept is not None:
                self._pool.release(kept, monotonic())  # closes it where the response was not whole

    async def _fall_back(self, failure: _Failure) -> None:
        """The steps in their order; where none has an answer, the failure is the app's."""
        method = self.request.method
        for step in self.route.policy.fallback:
            if isinstance(step, FallbackService):
                if method in step.methods:
                    await self._ask(step, min(self._end - monotonic(), self._whole_s))
                    if self.code:
                        return
            elif isinstance(step, FallbackStale):
                if self._answer_stale(step, failure):
                    return
            elif method in step.methods:
                self._answer_static(step, failure)
                return
        self._given_up = True
        self.fallback = ""
        self.service.counters.fallback("none")
        if failure.response is None:
            Exchange._answer(self, failure.reason, failure.detail, retry_after=failure.retry_after)
            return
        self._upstream, failure.upstream = failure.upstream, None
        self._cut_short = failure.cut_short
        await Exchange._stream(self, failure.response, failure.reason)

    # Another service.

    async def _ask(self, step: FallbackService, left_s: float) -> None:
        """Make this the other service's request, through all of its own policies but its fallback. `code` is set after
        it if the app has an answer."""
        service = self._core.live.services.get(step.service)
        if service is None or left_s <= 0 or not self._may_repeat():
            return
        self._home = home = _Home(
            self.service, self.route, self._pool, self._target, self._permit, self._repeatable
        )  # fmt: skip
        self._prefix = home.service.prefix  # what the app called stays what it sees in redirects
        if step.path is not None:
            self._target = step.path.encode()
        self.service = service
        self.route = service.route_for(self.request.method, self._target)
        self._pool = self._core.pools[service.name]
        self.fallback = f"service:{service.name}"
        self._call_started = monotonic()
        self._left_s = left_s
        self._told = self._cut_short = self._replayed = self._impatient = False
        self._verdict = IGNORED
        self._answered_s = 0.0
        self._notes_all = True
        self._tried = ()
        self._retries = 0
        self._key = None
        try:
            await Exchange._live(self)
        finally:
            self._go_home(home)

    def _go_home(self, home: _Home) -> None:
        self._home = None
        self.service, self.route, self._pool, self._target = home.service, home.route, home.pool, home.target
        self._permit = home.permit
        self._repeatable = home.repeatable
        self._prefix = None
        self._told = True

    def _failed_too(self, code: int, reason: str) -> None:
        """What another service's failure counts as: its own."""
        self.service.counters.request(code, reason, monotonic() - self._call_started)

    # Answers out of memory.

    def _answer_stale(self, step: FallbackStale, failure: _Failure) -> bool:
        request = self.request
        if request.method not in FALLBACK_METHODS:
            return False
        now = monotonic()
        stale = self._core.stale
        stored = stale.find(self.service.name, self._stale_key(), self._field, now, step.stale, step.keys)
        if stored is None:
            return False
        age = b"\r\nAge: %d" % stored.age(now)
        self._reply(stored.status_line, [stored.fields, age], stored.body, "stale", failure)
        return True

    def _answer_static(self, step: FallbackStatic, failure: _Failure) -> None:
        try:
            phrase = HTTPStatus(step.status).phrase
        except ValueError:
            phrase = ""
        fields = [f"\r\n{name}: {value}".encode() for name, value in step.headers.items()]
        fields.append(b"\r\nDate: " + formatdate(usegmt=True).encode())
        self._reply(f" {step.status} {phrase}".encode(), fields, step.body, "static", failure)

    def _reply(self, status_line: bytes, fields: list[bytes], body: bytes, name: str, failure: _Failure) -> None:
        """A whole answer of ours. `status_line` as in ResponseHead."""
        self.fallback = name
        response = ResponseHead()
        response.status = int(status_line[1:4])
        response.status_line = status_line
        response.pieces = fields
        if response.status not in (204, 304):
            response.pieces.append(b"\r\nContent-Length: %d" % len(body))
        response.pieces.append(b"\r\nX-Request-Id: " + self.request_id)
        response.pieces.append(b"\r\nx-sidecar-fallback: " + name.encode())
        with_body = bool(body) and self.request.method != "HEAD"
        response.length = len(body) if with_body else 0
        self._downstream.begin_response(self.request, response, [body] if with_body else [])
        self._downstream.end_response()
        self._record(response.status, failure.reason, failure.detail)

    # What an exchange does otherwise.

    def _set_deadline(self, now: float) -> None:
        Exchange._set_deadline(self, now)
        if self._home is None:
            self._whole_s = self._request_s
            self._request_s *= FIRST_PART
            self._end = now + self._whole_s if self._request_deadline < inf else inf
        else:
            self._request_s = min(self._request_s, self._left_s)
        if self._request_deadline < inf:
            self._request_deadline = now + self._request_s

    def body_received(self, pieces: list[bytes]) -> None:
        StaleExchange.body_received(self, pieces)
        if self.body is not None and self.body.complete:
            self._end = monotonic() + self._whole_s

    def _give_back(self, limit: ConcurrencyLimit) -> None:
        if self._failure is not None and self._home is None:
            self._limit = limit
        else:
            limit.release()

    @property
    def _hurried(self) -> bool:
        given = self._whole_s if self._home is None else self._request_s
        return given < self.route.request_s

    def _time_given(self) -> str:
        if self._home is not None:
            return "what the first service left of the request's time"
        words = "timeout.request" if self._whole_s == self.route.request_s else "the app's own deadline"
        return f"the part of {words} that is not kept for the fallbacks"

    def _answer(self, reason: str, detail: str, *, retry_after: float | None = None) -> None:
        if reason == "internal":
            Exchange._answer(self, reason, detail, retry_after=retry_after)
        elif self._home is not None:
            self._failed_too(STATUS[reason], reason)
        elif reason in FALLEN_BACK:
            self._failure = _Failure(reason, detail, retry_after, None, None, False)
        else:
            Exchange._answer(self, reason, detail, retry_after=retry_after)

    async def _stream(self, response: ResponseHead, reason: str) -> None:
        if reason == "status" and response.status >= 500 and not response.loop:
            self._fail_by_status(response)
        elif self._home is not None:
            response.pieces.append(b"\r\nx-sidecar-fallback: " + self.fallback.encode())
            self._standing_in = True
            await Exchange._stream(self, response, reason)
        else:
            await StaleExchange._stream(self, response, reason)

    def _fail_by_status(self, response: ResponseHead) -> None:
        if self._upstream is not None:
            self._hold(response, "status")
        self._tell_failure()
        if self._home is not None:
            self._failed_too(response.status, "status")
            self._drop_held()
            return
        kept, self._held = self._held, None
        self._failure = _Failure("status", "", None, response, kept, self._cut_short)

    def _record(self, code: int, reason: str, detail: str = "", now: float | None = None) -> None:
        """Once for the service that the app called, and once for one that answered in its place."""
        home, failure = self._home, self._failure
        if self.code:
            return
        if home is not None:
            self._failed_too(code, reason)
            self.service, self.route = home.service, home.route
        if failure is not None and not self._given_up:
            if self._standing_in or reason == failure.reason:
                self.service.counters.fallback(self.fallback)
                self.route.breaker.counters.fallbacks += 1
            else:
                self.fallback = ""  # it was being asked, and had not answered
            if reason in ("ok", "status"):
                reason = failure.reason
            else:
                detail = f"{detail}; it had failed with {failure.reason} before"
            detail = failure.detail if reason == failure.reason else detail
        Exchange._record(self, code, reason, detail, now)
