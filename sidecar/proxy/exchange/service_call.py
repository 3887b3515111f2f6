"""One service's part in a request: attempts at its endpoints until one has an answer, or none will.

Owns the order in which a service's policies are asked (admit, pick, send, judge, retry), and what its two sides say
meanwhile. It reads from top to bottom as `admit` and `ask`. Its clocks are `clock`'s, its verdicts `outcome`'s; what
becomes of the answer or the failure is the exchange's word.
"""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Final

from sidecar.policy.grpc import format_timeout, parse_timeout
from sidecar.policy.verdict import FAILURE, IGNORED, SUCCESS
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.handler import event
from sidecar.proxy.exchange.clock import Clock, time_given
from sidecar.proxy.exchange.grpc_terms import GrpcTerms
from sidecar.proxy.exchange.hash_key import hash_key
from sidecar.proxy.exchange.outcome import Outcome
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.exchange.retrying import Retrying
from sidecar.proxy.http1.head_syntax import Trailers
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.upstream.stream import AttemptListener, Lost, UpstreamStream
from sidecar.runtime.additions import Additions
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService

BUFFER_MAX: Final = 64 * 1024
"""Bytes of a body that are read before there is a connection to send them on."""

LARGE_BODY: Final = 64 * 1024
"""Bytes of a body that may stand in the kernel's buffers unread: who refuses so large a one may close behind it."""

HEAD_HOLD_S: Final = 0.05
"""How long the head of a gRPC answer is held where a retry may follow: its status may be right behind it."""


class ServiceCall(AttemptListener):
    """Made for a request, with the route that its service has for it.

    `target` is what the service is asked for. `stands_in` is the prefix of the service that the app called, where this
    is another one. Of the request's time the call may use the part `share`, and `at_most_s`.
    """

    # Defaults stand on the class: storing each would cost every request.
    reason: str = "ok"
    """Of the answer: `ok`, or `status` where that is a failure. Without one, why there is none."""
    detail: str = ""
    retry_after: float | None = None
    grpc: GrpcTerms | None = None
    """Of a gRPC call."""
    upstream: UpstreamStream | None = None
    _held: UpstreamStream | None = None
    """It has answered, and a retry or a fallback may still replace its answer."""
    cut_short: bool = False
    """The present or held stream has not got the whole request, and will not: nothing else may be sent on it."""
    _awaiting: bool = False
    _key: bytes | None = None
    """What a hash balancer goes by."""
    _retrying: Retrying | None = None
    _replayed: bool = False
    """The one fresh connection that makes good a stale one has been spent."""
    _tried: tuple[Endpoint, ...] = ()

    def __init__(
        self,
        core: ProxyCore,
        request: Request,
        service: LiveService,
        route: LiveRoute,
        target: bytes,
        started: float,
        stands_in: bytes | None = None,
        share: float = 1.0,
        at_most_s: float = inf,
    ) -> None:
        self._core = core
        self.request = request
        self.service = service
        self.route = route
        self.target = target
        self.started = started
        self.stands_in = stands_in
        self._pool = core.pools[service.name]
        head = request.head
        self.repeatable = head.method in route.repeatable_methods or (head.idempotency_key and not route.grpc)
        whole_s = self.whole_s = time_given(request, route)
        limit_s, words = whole_s, "timeout.request" if whole_s == route.request_s else "the app's own deadline"
        if stands_in is not None:
            whole_s, words = min(whole_s, at_most_s), "the time that the first service left"
            limit_s = whole_s
        elif share < 1.0:
            limit_s, words = (
                whole_s * share,
                f"the share of {words} for the service itself (the rest is kept for the fallbacks)",
            )
        self.outcome = Outcome(request, service, route, whole_s < route.request_s)
        self.clock = Clock(request, route, self.outcome, limit_s, words)
        if route.grpc:
            self._is_grpc()

    def _is_grpc(self) -> None:
        self.grpc = GrpcTerms()
        given = self.request.head.grpc_timeout
        given_s = parse_timeout(given) if given is not None else None
        if given_s is not None:
            self.clock.ends_with_app(self.request.started + given_s)
            self.outcome.hurried = given_s < self.route.request_s

    # Its life, from the top.

    def admit(self) -> Endpoint | None:
        """Ask the policies that come before any attempt. The endpoint of the first one; None where the service is not
        asked at all, and `reason` and `detail` say why."""
        core, request, service, now = self._core, self.request, self.service, self.started
        outcome = self.outcome
        if request.is_complete:
            self.clock.begin(now)
        if core.outgoing.is_loop(request.head):
            detail = f"the request came back to this sidecar for the third time, through {service.name}"
            self._ends_with("loop", detail, None)
            return None
        if not outcome.enter():
            detail = f"limits.max_concurrent is reached: {service.limit.limit} requests to {service.name} are in flight"
            self._ends_with("overloaded", detail, 1.0)
            return None
        service.last_request = now
        service.budget.request(now)
        if service.hash is not None:
            self._key = hash_key(service.hash, request.head, request.stream)
        if not outcome.admit(now):
            self._is_refused(now)
            return None
        request.last_upload = now
        endpoint = service.pick(now, (), self._key)
        if endpoint is None:
            self._ends_with("no_endpoint", f"no address of {service.name} is known", 1.0)
        return endpoint

    async def ask(self, endpoint: Endpoint) -> ResponseHead | None:
        """The head of the service's answer, whose body is held until `relay`; None where there will be none, and
        `reason` and `detail` say why. Raises Disconnected and BadRequest.

        Retry around pick and send. Whatever ends the retrying, it is the last real attempt's answer that counts.
        """
        now = self.started
        route, service = self.route, self.service
        while True:
            self._drop_held()
            response: ResponseHead | None = None
            detail = ""
            try:
                response = await self._attempt(endpoint, now)
            except Lost as lost:  # its words are kept, not it: with its traceback it would hold all this in a cycle
                reason, detail = lost.reason, lost.detail
                unprocessed = lost.unprocessed
                status = self.grpc.lost(lost) if self.grpc is not None else 0
                self._close_upstream()
                self.outcome.note(reason, None)
            else:
                unprocessed = False
                status = response.status if self.grpc is None else self.grpc.answered(response)
                reason = "status" if status in route.failure_status else "ok"
                if status not in route.retry_statuses or status == 101:
                    return self._answered(response, reason)
            now = monotonic()
            delay, following = self._plan_retry(reason, status, unprocessed, response, now)
            if delay is not None and response is not None:
                self.hold(response, reason)
            if delay:
                await self._sleep(delay)
                now = monotonic()
            if delay is not None and following is None:
                if self.outcome.may_retry():
                    following = service.pick(now, self._tried, self._key)
                    if following is not None:
                        service.counters.retry("sent")
                else:
                    service.counters.retry("denied_breaker")
            if following is None:
                if response is not None:
                    return self._answered(response, reason)
                self._failed(reason, detail)
                return None
            endpoint = following

    def _answered(self, response: ResponseHead, reason: str) -> ResponseHead | None:
        """The answer that counts. What answers a gRPC call and is none is replaced by words that an app can read."""
        if self.grpc is None or response.grpc:
            self.reason = reason
            return response
        self.outcome.note("bad_response", response.status, FAILURE if reason == "status" else IGNORED)
        self._close_upstream()
        self._drop_held()
        self._failed("bad_response", f"the service answered {response.status}, and not as gRPC")
        return None

    async def _attempt(self, endpoint: Endpoint, now: float) -> ResponseHead:
        """Send the request to one endpoint and await the final response's head. Raises Lost."""
        outcome, body = self.outcome, self.request.body
        outcome.attempt(endpoint, now)
        self._tried = (*self._tried, endpoint)
        repeatable = self.repeatable and not self._replayed and (body is None or body.stays_whole)
        upstream: UpstreamStream | None = self._pool.take(endpoint, now, repeatable=repeatable)
        while True:
            if upstream is None:
                upstream = await self._connect(endpoint)
                now = monotonic()
            reused = upstream.served
            self.upstream = upstream
            self._send(upstream, endpoint, now)
            try:
                response: ResponseHead = await event()
            except Lost as lost:
                self._awaiting = False
                # Perhaps the upstream closed an idle connection just as this request was sent on it. If the connection
                # breaks later, the upstream may have been at work on the request.
                at_once = reused and lost.reason == "reset" and monotonic() - now <= upstream.stale_within_s
                if not at_once or upstream.heard or self._replayed or not self.may_repeat():
                    raise
                self._replayed = True
                self._close_upstream()
                outcome.note("stale_connection", None)
                self.service.counters.retry("stale_connection")
                outcome.attempt(endpoint, monotonic())
                upstream = None
                continue
            self._awaiting = False
            if endpoint.health is not None and response.immediate_fail:
                self.service.fail_at_once(endpoint, monotonic())
            if endpoint.latency is not None:
                status = response.status if self.grpc is None else response.grpc_status
                outcome.measure(endpoint.latency, response, status in self.route.failure_status)
            return response

    async def _connect(self, endpoint: Endpoint) -> UpstreamStream:
        """A new connection to this endpoint. Raises Lost with connect_failure, connect_timeout or overloaded."""
        self.clock.connecting()
        connecting = self._pool.connect(endpoint, self, self.route.connect_s)
        began = monotonic()
        try:
            upstream: UpstreamStream = await event()
        except BaseException:
            self.outcome.queued = connecting.queued
            connecting.cancel()
            raise
        finally:
            self.request.connecting_s += monotonic() - began
        return upstream

    def _send(self, upstream: UpstreamStream, endpoint: Endpoint, now: float) -> None:
        request, route = self.request, self.route
        head, body, by_path = request.head, request.body, request.by_path
        outgoing, service = self._core.outgoing, self.service
        left_s = min(route.attempt_s, self.clock.left_s(now))
        if self.grpc is not None:
            additions = self._grpc_additions(now)
            if self.repeatable:
                upstream.hold_head(HEAD_HOLD_S)
        elif left_s == route.attempt_s and request.attempt_number == 1 and self.stands_in is None:
            additions = outgoing.first(route, service, by_path)
        else:
            prefix = (self.stands_in or service.prefix) if by_path else None
            additions = Additions(
                outgoing.loop_name, prefix, request.attempt_number, int(max(left_s * 1000, 1)), route.via
            )
        trace = request.trace
        host = endpoint.authority
        if route.preserve_host and (own := head.host_sent()):
            host = own
        sent = upstream.send(
            self,
            head,
            self.target,
            host,
            additions,
            request.id if head.request_id is None else None,
            trace.traceparent(request.attempt_number) if trace is not None else None,
            body,
            request.stream.plain,
        )
        if not sent:
            raise Lost("reset", "the connection was closed as soon as it was open")
        request.sent = True
        self.cut_short = False
        self._awaiting = True
        if body is not None:
            body.sent()
            if upstream.writable:
                request.stream.resume_upload()
        self.clock.awaiting_answer(now)

    def _grpc_additions(self, now: float) -> Additions:
        """Onwards goes what is left of the app's deadline; the policy's times are the sidecar's business."""
        request, route, outgoing = self.request, self.route, self._core.outgoing
        left_s = self.clock.app_left_s(now)
        if left_s == inf and request.attempt_number == 1:
            return outgoing.first(route, self.service, request.by_path)
        prefix = self.service.prefix if request.by_path else None
        if left_s == inf:
            return Additions(outgoing.loop_name, prefix, request.attempt_number, 0, route.via)
        timeout_ms = int(max(left_s * 1000, 1))
        timeout = format_timeout(left_s)
        return Additions(outgoing.loop_name, prefix, request.attempt_number, timeout_ms, route.via, timeout)

    # Retrying.

    def _plan_retry(
        self, reason: str, status: int, unseen: bool, response: ResponseHead | None, now: float
    ) -> tuple[float | None, Endpoint | None]:
        """As `Retrying.plan` says it."""
        if not self.may_repeat() and not (unseen and self._is_whole()):
            return None, None
        retrying = self._retrying
        if retrying is None:
            retrying = self._retrying = Retrying(
                self._core, self.request, self.service, self.route, self.outcome, self.clock
            )
        return retrying.plan(reason, status, response, now, self._tried, self._key, unseen=unseen)

    def may_repeat(self) -> bool:
        """Whether the request may go out (again): its body is still whole, and it is safe to repeat or was not sent."""
        return self._is_whole() and (self.repeatable or not self.request.sent)

    def _is_whole(self) -> bool:
        """Whether all of the request could be sent (again), and the app has heard nothing of an answer."""
        request = self.request
        if request.interim_sent or request.stream.responding:
            return False
        return request.body is None or request.body.whole

    async def _sleep(self, seconds: float) -> None:
        self.clock.sleeping()
        began = monotonic()
        resume = self.request.handler.resume
        timer = self._core.loop.call_later(seconds + 0.001, resume, None)  # uvloop may be 1 ms early
        try:
            await event()
        finally:
            timer.cancel()
            self.request.backoff_s += monotonic() - began

    # Answers, as they go to the app.

    def hold(self, response: ResponseHead, reason: str) -> None:
        """Keep an answer that something may replace: it goes to the app if nothing does after all."""
        upstream, body = self.upstream, self.request.body
        assert upstream is not None
        self.outcome.note(reason, response.status)
        self.cut_short = body is not None and not upstream.has_all(body)
        self._held, self.upstream = upstream, None

    def _drop_held(self) -> None:
        upstream, self._held = self._held, None
        if upstream is not None:
            if self.cut_short:
                upstream.close()
            else:
                upstream.release(monotonic())  # closes it where the response was not whole

    def answering(self) -> UpstreamStream:
        """The stream of the answer at hand, which goes to the app now: nothing replaces it any more."""
        upstream = self.upstream
        if upstream is None:
            upstream = self._held
            assert upstream is not None
            self.upstream, self._held = upstream, None
        outcome = self.outcome
        if self.reason == "ok":
            outcome.made_good()
            if self.grpc is not None and self.grpc.status < 0:
                pass  # the verdict falls at the grpc-status
            elif outcome.is_probe():
                self._succeeded(self._answer_came())  # the others wait for this verdict, however long the body lasts
        else:
            now = monotonic()
            outcome.judge(FAILURE, self.reason, now)
            outcome.failed(now)
        return upstream

    def answer_goes_on(self) -> None:
        """Its body is still coming."""
        now = self._answer_came()
        self.clock.downloading(now)
        self.request.stream.last_activity = now

    def status_came(self, trailers: Trailers) -> None:
        """A gRPC call has ended with these."""
        if self.grpc is not None and self.grpc.ended(trailers) in self.route.failure_status:
            self.reason = "status"

    def answer_broke(self, response: ResponseHead, lost: Lost) -> str:
        """It will not be whole. Returns the reason."""
        reason = lost.reason if lost.reason == "request_timeout" else "truncated"
        if self.grpc is not None:
            self.grpc.lost(lost)
        self._close_upstream()
        self.outcome.note(reason, response.status, IGNORED if lost.ours else FAILURE)
        self.outcome.failed(monotonic())
        return reason

    def answer_ended(self, response: ResponseHead, early: bool) -> float:
        """All of it has gone to the app. `early`: it began before the whole request had left. Returns the time."""
        request, outcome, upstream, reason = self.request, self.outcome, self.upstream, self.reason
        assert upstream is not None
        body = request.body
        now = monotonic()
        if not outcome.told and not outcome.answered_s:
            outcome.answer_came(now)
        if reason == "ok" and not outcome.is_noted and not request.notes_all and not self._core.recorder.logs_all:
            outcome.went_well(now)
        else:
            outcome.note(reason, response.status)
        self.upstream = None
        if early or (body is not None and response.status >= 400 and body.received > LARGE_BODY):
            upstream.close()
        else:
            upstream.release(now)
        if reason == "ok":
            outcome.succeeded(now)
        else:
            outcome.failed(now)
        return now

    def switched(self) -> UpstreamStream:
        """The answer is a 101: both sides talk past us from here on."""
        upstream = self.upstream
        assert upstream is not None
        self._answer_came()
        self.outcome.note("ok", 101)
        self.outcome.succeeded(monotonic())
        self.upstream = None
        return upstream

    def _answer_came(self) -> float:
        """Now, as the head of the answer has come."""
        now = monotonic()
        self.outcome.answer_came(now)
        return now

    def _succeeded(self, now: float) -> None:
        """The service has served this request, whatever becomes of the rest of its body."""
        self.clock.success_due = inf
        self.outcome.judge(SUCCESS, "ok", now)
        self.outcome.succeeded(now)

    # Ends.

    def _ends_with(self, reason: str, detail: str, retry_after: float | None) -> None:
        """There is no answer of the service."""
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after

    def _is_refused(self, now: float) -> None:
        """The breaker lets nothing through."""
        breaker, name = self.route.breaker, self.service.name
        wait_s = breaker.retry_after(now)
        if breaker.forced is None:
            detail = f"too many calls to {name} failed; the breaker lets a probe through in {wait_s:.1f} s"
        else:
            detail = f"an operator holds the breaker of {name} open, for {wait_s:.0f} s more"
        self._ends_with("circuit_open", detail, wait_s)

    def _failed(self, reason: str, detail: str) -> None:
        """No attempt brought an answer: say what became of the last."""
        self.outcome.failed(monotonic())
        label = f"{self.outcome.endpoint.label}: " if reason not in ("request_timeout", "overloaded") else ""
        self._ends_with(reason, f"{label}{detail}", 1.0 if reason == "overloaded" else None)

    def abandon(self, reason: str) -> None:
        """The app's side has ended the request: nobody waits for the attempt that is under way."""
        self.outcome.note(reason, None)
        if self.grpc is not None:
            self.grpc.status = -1
        self._close_upstream()

    def failed_by_status(self, response: ResponseHead) -> None:
        """Its answer is a failure that something else may answer for."""
        if self.upstream is not None:
            self.hold(response, "status")
        self.outcome.failed(monotonic())

    def settle(self) -> None:
        """The call has failed and says so to its breaker now, whatever answers in its place."""
        self.outcome.settle(monotonic())

    def close(self) -> None:
        """Give back whatever is still held: connections, permits. May be called again."""
        now = monotonic()
        self._close_upstream()
        self._drop_held()
        self.outcome.close(now)

    def _close_upstream(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.close()

    # What the endpoint's side says.

    def connected(self, stream: UpstreamStream) -> None:
        self.request.handler.resume(stream)

    def connect_failed(self, reason: str, detail: str) -> None:
        self.request.handler.interrupt(Lost(reason, detail))

    def response_began(self, response: ResponseHead) -> None:
        self.request.handler.resume(response)

    def response_ended(self, trailers: Trailers = ()) -> None:
        self.request.handler.resume(trailers)

    def attempt_lost(self, lost: Lost) -> None:
        self.request.handler.interrupt(lost)

    def interim(self, response: ResponseHead) -> None:
        """A 1xx goes to the app, after which there is no other attempt. HTTP/1.0 knows none: RFC 9110, section 15.2."""
        request = self.request
        if request.head.minor:
            request.interim_sent = True
            request.stream.write_interim(response)
            if not request.stream.writable and self.upstream is not None:
                self.upstream.pause_reading()
            body = request.body
            if self._awaiting and body is not None and not body.received:  # told to go on, the app sends the body now
                request.last_upload = monotonic()
                self.clock.awaiting_answer(request.last_upload)

    def pause_upload(self) -> None:
        self.request.stream.pause_upload()

    def resume_upload(self) -> None:
        self.request.stream.resume_upload()

    # What the app's side says.

    def body_received(self, pieces: list[bytes], now: float) -> None:
        """More of the request's body: on to the upstream if there is one, else kept for when there will be."""
        request, upstream = self.request, self.upstream
        body = request.body
        assert body is not None
        request.last_upload = now
        if upstream is None or self.cut_short:
            if not request.stream.responding:
                body.keep(pieces)
            if body.kept_size > BUFFER_MAX and not body.complete:
                request.stream.pause_upload()
        else:
            upstream.send_body(pieces, end=body.complete)
            if body.whole:
                body.keep(pieces)
                body.sent()
        if body.complete:
            request.body_ended = now
            self.clock.begin(now)
            if self._awaiting:
                self.clock.awaiting_answer(now)
        elif self._awaiting:
            self.clock.uploading(now)

    def deadline_passed(self, now: float) -> None:
        if now >= self.clock.success_due:
            self._succeeded(now)
        end = self.clock.passed(now, self.upstream)
        if end is not None:
            self.request.handler.interrupt(end)

    def pause_download(self) -> None:
        if self.upstream is not None:
            self.upstream.pause_reading()

    def resume_download(self) -> None:
        self.clock.resumed()
        if self.upstream is not None:
            self.upstream.resume_reading()

    def __repr__(self) -> str:
        return f"<ServiceCall {self.service.name} attempt={self.request.attempt_number} {self.upstream}>"
