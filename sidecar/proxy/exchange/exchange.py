"""One request's life, from its head to its last byte: ask its service, fall back if that failed, deliver, record.

Owns that order, the answer's way to the app, and the record. It reads from top to bottom as one coroutine, `_live`; how
that is driven stands in `downstream.handler`. What a service's policies say is `service_call`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import monotonic

from sidecar.policy.breaker import NullBreaker
from sidecar.policy.settings import BreakerSettings, FallbackService, FallbackStale, Policy
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.handler import Disconnected, Handler, event
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.exchange.fallback import FIRST_PART, LocalAnswer, is_answered_for, static_answer
from sidecar.proxy.exchange.location import below_prefix
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.exchange.service_call import ServiceCall
from sidecar.proxy.exchange.stale import copy_of, stale_answer
from sidecar.proxy.exchange.tracing import begin_trace
from sidecar.proxy.exchange.tunnel import Tunnel
from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import STATUS, Attempt, Problem
from sidecar.proxy.upstream.stream import Lost
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService

_TUNNELLED = LiveRoute("", None, Policy(), NullBreaker(BreakerSettings(mode="off"), 0.0))


_NOBODY = Handler()
"""Whom the events of a request that has ended would go to."""


class Exchange(Handler):
    """A request on its way to `service`, which it was routed to, with the target that the service is asked for."""

    # Defaults stand on the class: storing each would cost every request.
    code: int = 0
    """Of the answer; 0 until it is recorded."""
    reason: str = ""
    fallback: str = ""
    """What answers in place of the service, as `x-sidecar-fallback` says it."""
    _end: float = inf
    """When the request's time with its fallbacks is over; unknown while the app is still sending."""
    _failure: ServiceCall | None = None
    """The service's own call, once that has failed and something else may answer."""
    _standing_in: bool = False
    """Another service's answer has begun to go to the app."""

    def __init__(
        self,
        core: ProxyCore,
        stream: DownstreamStream,
        head: RequestHead,
        service: LiveService,
        route: LiveRoute,
        target: bytes,
        body: RequestBody | None,
        *,
        by_path: bool,
    ) -> None:
        self._core = core
        self.stream = stream
        self.head = head
        self.service = service
        self.route = route
        self.body = body
        now = monotonic()
        request_id = head.request_id or core.outgoing.new_request_id()
        request = self.request = Request(head, body, stream, self, request_id, now, by_path)
        self._falls_back = head.method in route.fallback_methods and not head.websocket
        share = FIRST_PART if self._falls_back else 1.0
        self._call = ServiceCall(core, request, service, route, target, now, None, share)

    # Its life, from the top.

    async def _live(self) -> None:
        call, request = self._call, self.request
        if self._falls_back and request.is_complete:
            self._end = call.started + call.whole_s
        tracer = self._core.tracer
        if tracer is not None:
            begin_trace(tracer, request, self.service.name, self.route.name, call.target)
        try:
            endpoint = call.admit()
            response = await call.ask(endpoint) if endpoint is not None else None
            if self._falls_back and is_answered_for(call.reason, response):
                await self._fall_back(call, response)
            elif response is None:
                self._answer(call.reason, call.detail, call.retry_after)
            elif response.status == 101:
                await self._tunnel(call, response)
            else:
                await self._deliver(call, response)
        except Disconnected as gone:
            self._call.abandon("client_disconnect")
            self._record(499, "client_disconnect", str(gone))
            if self.stream.responding:
                self.stream.cut()
        except BadRequest as refusal:
            self._call.abandon("bad_request")
            self._refuse(refusal)
        finally:
            self._call.close()
            if self._failure is not None:
                self._failure.close()

    async def _deliver(self, call: ServiceCall, response: ResponseHead) -> None:
        """Pass the answer on. Once its head has gone to the app nothing is retried."""
        request, stream, body = self.request, self.stream, self.body
        copy = None
        if call.service.keeps_stale and call.stands_in is None:
            copy = copy_of(self._core, request, call, response)
        if call.stands_in is not None:
            response.add(b"x-sidecar-fallback", self.fallback.encode())
            self._standing_in = True
        if request.by_path and response.location_at >= 0:
            self._rewrite_location(call, response)
        if request.attempt_number > 1:  # Envoy: include_attempt_count_in_response
            response.add(b"x-envoy-attempt-count", b"%d" % request.attempt_number)
        upstream = call.answering()
        early = call.cut_short or (body is not None and not upstream.has_all(body))
        held = upstream.relay(stream if copy is None else copy)
        trailers: tuple[tuple[bytes, bytes], ...] = ()
        try:
            stream.begin_response(self.head, response, held)
            if copy is not None:
                copy.add(held)
            if not upstream.complete:
                if upstream.broken is not None:
                    raise Lost("truncated", upstream.broken)
                if not stream.writable:
                    upstream.pause_reading()
                call.answer_goes_on()
                trailers = await event()
            else:
                trailers = upstream.trailers()
            stream.end_response(trailers)
            if call.grpc is not None:
                call.status_came(trailers)
            now = call.answer_ended(response, early)
            self._record(response.status, call.reason, "", now)
            if copy is not None and call.reason == "ok":
                copy.keep(now)
        except Lost as lost:
            reason = call.answer_broke(response, lost)
            self._record(response.status, reason, lost.detail)
            stream.cut(13 if call.grpc is None else call.grpc.status, lost.detail)
        finally:
            if copy is not None:
                copy.release()

    def _rewrite_location(self, call: ServiceCall, response: ResponseHead) -> None:
        """A redirect leads the app through the sidecar again, by the prefix that it called."""
        service, route = call.service, call.route
        own = self.head.host_sent() if route.preserve_host else b""
        location = response.location() or b""
        response.relocate(
            below_prefix(
                location, call.stands_in or service.prefix, service.authorities, call.target, route.prefix_aware, own
            )
        )

    async def _tunnel(self, call: ServiceCall, response: ResponseHead) -> None:
        """After a 101 both sides talk past us; the concurrency permit is held until they are done."""
        upstream = call.switched()
        self._record(101, "ok")
        core, service = self._core, self.service
        tunnel = Tunnel(self.stream, upstream, call.route.idle_s, core.deadlines, self._tunnel_ended)
        # A tunnel may last for days: it must not keep a configuration that long.
        call.route = call.clock.route = self.route = _TUNNELLED
        core.tunnels.add(tunnel)
        service.counters.tunnels += 1
        try:
            tunnel.open(response)
            await event()
        finally:
            service.counters.tunnels -= 1
            core.tunnels.discard(tunnel)
            core.recorder.tunnel(service.name, self.request.id, call.outcome.endpoint.label, tunnel)
            upstream.tunnel_ended()

    def _tunnel_ended(self) -> None:
        self.resume(None)

    # Fallbacks.

    async def _fall_back(self, failed: ServiceCall, response: ResponseHead | None) -> None:
        """The steps in their order; where none has an answer, the failure is the app's."""
        method = self.head.method
        if response is not None:
            failed.failed_by_status(response)
        failed.settle()
        self._failure = failed
        for step in self.route.policy.fallback:
            if isinstance(step, FallbackService):
                if method in step.methods and await self._ask(step, failed):
                    return
            elif isinstance(step, FallbackStale):
                found = stale_answer(self._core, self.request, failed, step)
                if found is not None:
                    self._reply(found, failed)
                    return
            elif method in step.methods:
                self._reply(static_answer(step), failed)
                return
        self._failure = None
        self.fallback = ""
        self.service.counters.fallback("none")
        if response is None:
            self._answer(failed.reason, failed.detail, failed.retry_after)
        else:
            await self._deliver(failed, response)

    async def _ask(self, step: FallbackService, failed: ServiceCall) -> bool:
        """Make this the other service's request, through all of its own policies but its fallback. Whether the app has
        its answer."""
        core, request = self._core, self.request
        now = monotonic()
        left_s = min(self._end - now, failed.whole_s)
        service = core.live.services.get(step.service)
        if service is None or left_s <= 0 or not failed.may_repeat():
            return False
        target = failed.target if step.path is None else step.path.encode()
        route = service.route_for(self.head.method, target)
        self.fallback = f"service:{service.name}"
        request.notes_all = True
        prefix = self.service.prefix  # what the app called stays what it sees in redirects
        call = self._call = ServiceCall(core, request, service, route, target, now, prefix, 1.0, left_s)
        endpoint = call.admit()
        response = await call.ask(endpoint) if endpoint is not None else None
        answers = False
        if response is None:
            self._count_for(call, STATUS[call.reason], call.reason)
        elif is_answered_for(call.reason, response):
            call.failed_by_status(response)
            self._count_for(call, response.status, "status")
        else:
            await self._deliver(call, response)
            answers = True
        call.close()
        self._call = failed
        return answers

    def _count_for(self, call: ServiceCall, code: int, reason: str) -> None:
        """What another service's part counts as: its own."""
        call.service.counters.request(code, reason, monotonic() - call.started)

    def _reply(self, answer: LocalAnswer, failed: ServiceCall) -> None:
        """An answer of ours, out of memory or out of the file."""
        self.fallback = answer.name
        response = answer.response(self.request.id)
        with_body = bool(answer.body) and self.head.method != "HEAD"
        response.length = len(answer.body) if with_body else 0
        self.stream.begin_response(self.head, response, [answer.body] if with_body else [])
        self.stream.end_response()
        self._record(response.status, failed.reason, failed.detail)

    # Answers of our own, and the record.

    def _answer(self, reason: str, detail: str, retry_after: float | None = None) -> None:
        status = STATUS[reason]
        self._send_problem(status, reason, detail, retry_after, keep=True)
        self._record(status, reason, detail)

    def _refuse(self, refusal: BadRequest) -> None:
        responding = self.stream.responding
        if not responding:
            self._send_problem(refusal.status, "bad_request", refusal.detail, None, keep=False)
        self._record(refusal.status, "bad_request", refusal.detail)
        if responding:
            self.stream.cut()

    def _send_problem(self, status: int, reason: str, detail: str, retry_after: float | None, *, keep: bool) -> None:
        problem = Problem(
            status=status,
            reason=reason,
            detail=detail,
            service=self.service.name,
            request_id=self.request.id.decode("latin-1"),
            retry_after=retry_after,
            jitter=0.0 if retry_after is None else self._core.random(),
            attempts=tuple(self.request.attempts),
            grpc_status=-1 if self._call.grpc is None else self._call.grpc.status,
        )
        self.stream.answer(problem, self.head if keep else None, head_only=self.head.method == "HEAD")

    def _record(self, code: int, reason: str, detail: str = "", now: float | None = None) -> None:
        """Once for the service that the app called, and once for one that answered in its place."""
        if self.code:
            return
        call, failed = self._call, self._failure
        if call.stands_in is not None:
            self._count_for(call, code, reason)
        if failed is not None:
            if self._standing_in or reason == failed.reason:
                self.service.counters.fallback(self.fallback)
                self.route.breaker.counters.fallbacks += 1
            else:
                self.fallback = ""  # it was being asked, and had not answered
            if reason in ("ok", "status"):
                reason = failed.reason
            else:
                detail = f"{detail}; before that the service failed with {failed.reason}"
            detail = failed.detail if reason == failed.reason else detail
        self.code = code
        self.reason = reason
        request = self.request
        seconds = (monotonic() if now is None else now) - request.started
        terms = call.grpc
        grpc_status = -1 if terms is None else terms.status
        grpc_words = b"" if terms is None else terms.words
        self._core.recorder.request(
            self.service, self.route, self.head, request.id, request.attempts, code, reason, detail, seconds,
            request.connecting_s, request.backoff_s, self._received(), self._sent(), self.fallback,
            grpc_status, grpc_words,
        )  # fmt: skip
        if request.trace is not None:
            request.trace.finish(code, reason, self.fallback, seconds)

    def _received(self) -> int:
        """Bytes of the request's body that have come, framing included."""
        return self.body.received if self.body is not None else 0

    def _sent(self) -> int:
        """Bytes of a response's body that were written to the app."""
        return self.stream.sent if self.stream.responding else 0

    def _crashed(self, error: Exception) -> None:
        """A defect of ours. Say so; the app gets an answer if it can still have one, and never a false one."""
        self._core.recorder.crashed(self.service.name, self.request.id, error)
        if self._failure is not None:
            self._call = self._failure
        if self.stream.responding:
            self._record(self.code or 500, "internal", str(error))
            self.stream.cut()
        else:
            self._answer("internal", "a bug in the sidecar; its log has the details")
        self._ended()

    def _ended(self) -> None:
        self.request.handler = _NOBODY  # it refers to this exchange, which refers to it
        super()._ended()

    # What the app's side asks and says.

    @property
    def service_name(self) -> str:
        return self.service.name

    def attempts_so_far(self) -> tuple[Sequence[Attempt], int]:
        return self.request.attempts, self.request.attempt_number

    @property
    def client_idle_s(self) -> float:
        return self.route.client_idle_s

    @property
    def half_close(self) -> bool:
        return self.route.half_close

    def body_received(self, pieces: list[bytes]) -> None:
        now = monotonic()
        self._call.body_received(pieces, now)
        if self._falls_back and self.body is not None and self.body.complete:
            self._end = now + (self._failure or self._call).whole_s

    def pause_download(self) -> None:
        self._call.pause_download()

    def resume_download(self) -> None:
        self._call.resume_download()

    def deadline_passed(self, now: float) -> None:
        self._call.deadline_passed(now)

    def __repr__(self) -> str:
        return f"<Exchange {self.head.method} {self._call}>"
