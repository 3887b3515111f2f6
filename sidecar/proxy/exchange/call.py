"""A request to a service under way: what is known of it, its clocks, and what is told about it.

Owns what an exchange's two connections say to it, its deadlines, and its ends: the answer of our own, the breaker's one
outcome, the counts and the record. The order of things, and every decision, is `exchange`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final

from sidecar.net.under_way import bytes_under_way
from sidecar.policy.deadline import effective, parse_timeout_ms
from sidecar.policy.verdict import FAILURE, IGNORED, SUCCESS
from sidecar.proxy.exchange.body_copy import BodyCopy
from sidecar.proxy.exchange.handler import Disconnected, Handler
from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead, drop_fields, has_foreign_context
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import STATUS, Attempt, Problem
from sidecar.proxy.upstream.http1_connection import Lost, Upstream
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService
from sidecar.telemetry.trace import Trace, Tracer, parse_traceparent, traceparent

if TYPE_CHECKING:
    from sidecar.proxy.core import ProxyCore
    from sidecar.proxy.downstream.http1_connection import Downstream

BUFFER_MAX: Final = 64 * 1024
"""Bytes of a body that are read before there is a connection to send them on."""

_TIMED_OUT: Final = frozenset({"connect_timeout", "attempt_timeout", "request_timeout", "client_disconnect"})
"""How an attempt ends that failed by not answering."""
ENDPOINT_FAILURES: Final = frozenset(
    {"connect_failure", "connect_timeout", "reset", "attempt_timeout", "bad_response", "truncated", "status"}
)
"""How an attempt ends that failed, whoever had been waiting for it."""

BY_IMPATIENCE: Final = frozenset({"request_timeout", "client_disconnect"})
"""How an attempt ends that the app may have given up: a failure if the app had waited for long enough."""

_NO_ANSWER: Final = frozenset(
    {"connect_failure", "connect_timeout", "reset", "attempt_timeout", "request_timeout", "client_disconnect"}
    | {"bad_response"}
)
"""How an attempt ends that brought no head of an answer, so that the balancer has not learned from it yet."""

# What the armed deadline is of.
ATTEMPT, REQUEST, UPLOAD, DOWNLOAD, NONE = range(5)


class Call(Handler):
    """What an exchange knows and is told."""

    # Defaults stand on the class: storing each would cost every request.
    started: float
    request_id: bytes
    code: int = 0
    reason: str = ""
    fallback: str = ""
    """What answered in place of the service, as `x-sidecar-fallback` says it."""
    connecting_s: float = 0.0
    """How long it waited for new connections, or for one to be given back."""
    backoff_s: float = 0.0
    """How long it waited between attempts."""
    trace: Trace | None = None
    """Set where this request is traced."""
    _call_started: float
    """When this service's part of the request began."""
    _endpoint: Endpoint
    _permit: int
    _repeatable: bool
    _request_s: float
    _request_deadline: float
    _attempt_started: float
    _upstream: Upstream | None = None
    _held: Upstream | None = None
    """It has answered, and a retry may still replace its answer."""
    _copy: BodyCopy | None = None
    """Takes a copy of the response's body as that goes to the app."""
    _cut_short: bool = False
    """The present or held upstream has not got the whole request, and will not: nothing else may be sent to it."""
    _attempt_number: int = 0
    _awaiting: bool = False
    _interim_sent: bool = False
    _kind: int = NONE
    _key: bytes | None = None
    """What a hash balancer goes by."""
    _retries: int = 0
    _prefix: bytes | None = None
    """The first segment that the app called, where it is another service's."""
    _sent: bool = False
    _switched: ResponseHead | None = None
    """The 101 after which both sides talk past us."""
    _notes_all: bool = False
    """The log will say how each attempt went, also where the last went well."""
    _replayed: bool = False
    """The one fresh connection that makes good a stale one has been spent."""
    _told: bool = False
    """The breaker has heard the one outcome of this request."""
    _verdict: int = IGNORED
    """Of the last attempt that was not ignored: what the breaker hears where the very last one is."""
    _timed_out: bool = False
    """That verdict is a failure by not answering."""
    _impatient: bool = False
    """The app gave up sooner than its waiting could say anything about the service."""
    _judged: int = 0
    """The number of the attempt that the endpoint has had its verdict for."""
    _queued: bool = False
    """The attempt ended while it waited for one of the service's connections to be given back."""
    _body_ended: float = 0.0
    """When the request's body was complete; 0 where it was before the exchange began, or there is none."""
    _answered_s: float = 0.0
    """What the present attempt took from the end of the request's body to the head of its answer."""
    _success_due: float = inf
    """When a response that still streams counts as a success."""
    _tried: tuple[Endpoint, ...] = ()
    _unread: int = 0
    _last_upload: float = 0.0

    def __init__(
        self,
        core: ProxyCore,
        downstream: Downstream,
        request: RequestHead,
        service: LiveService,
        route: LiveRoute,
        target: bytes,
        body: RequestBody | None,
        *,
        by_path: bool,
    ) -> None:
        self._core = core
        self._downstream = downstream
        self.request = request
        self.service = service
        self.route = route
        self._target = target
        self.body = body
        self._by_path = by_path
        self._pool = core.pools[service.name]
        self.attempts: list[Attempt] = []

    # For the connection.

    @property
    def service_name(self) -> str:
        return self.service.name

    def attempts_so_far(self) -> tuple[Sequence[Attempt], int]:
        return self.attempts, self._attempt_number

    @property
    def client_idle_s(self) -> float:
        return self.route.client_idle_s

    # For the access log.

    @property
    def received(self) -> int:
        """Bytes of the request's body that have come, framing included."""
        return self.body.received if self.body is not None else 0

    @property
    def sent(self) -> int:
        """Bytes of a response's body that were written to the app."""
        downstream = self._downstream
        return downstream.sent if downstream.responding else 0

    # Deadlines.

    def _set_deadline(self, now: float) -> None:
        request, body, route = self.request, self.body, self.route
        self._repeatable = request.method in route.repeatable_methods or request.idempotency_key
        self._request_s = route.request_s
        if request.deadline_ms:
            self._request_s = effective(route.request_s, *[parse_timeout_ms(one) for one in request.deadline_ms])
        # The clock does not run while the app is still sending (Envoy: route.timeout starts at the request's end).
        self._request_deadline = now + self._request_s if body is None or body.complete else inf
        self._last_upload = now

    def _arm(self, kind: int, when: float) -> None:
        self._kind = kind
        self._core.deadlines.arm(self._downstream, when)

    def _arm_response(self, now: float) -> None:
        body = self.body
        sending = body is not None and not body.complete
        if sending and self.request.expects_continue and body is not None and not body.received:
            sending = self._interim_sent  # until the upstream says 100, it is the one that is waited for
        if sending:
            self._arm_upload(now + self.route.idle_s)
            return
        latest = now + self.route.attempt_s
        if self._request_deadline <= latest:
            self._arm(REQUEST, self._request_deadline)
        else:
            self._arm(ATTEMPT, latest)

    def deadline_passed(self, now: float) -> None:
        """Told by the connection that is watched."""
        route = self.route
        if self._kind == ATTEMPT:
            self._interrupt(Lost("attempt_timeout", f"no answer within timeout.attempt, {route.attempt_s:g} s"))
        elif self._kind == REQUEST:
            self._interrupt(Lost("request_timeout", f"no answer within {self._time_given()}, {self._request_s:g} s"))
        elif self._kind == UPLOAD:
            if now >= self._attempt_started + route.attempt_s and route.breaker.is_probe(self._permit):
                # The app may send for as long as it likes, but the others do not wait for it.
                self._permit = route.breaker.make_room(self._permit)
            latest = self._last_upload + route.idle_s
            if latest > now:
                self._arm_upload(latest)
            elif self._upstream is not None and self._upstream.drained_since_last_look():
                self._arm_upload(now + route.idle_s)
            elif self._upstream is not None and not self._upstream.writable:
                self._interrupt(Lost("attempt_timeout", f"the service took nothing of the body for {route.idle_s:g} s"))
            else:
                self._interrupt(BadRequest(408, f"nothing more of the body came for {route.idle_s:g} s"))
        elif self._kind == DOWNLOAD:
            self._download_idle(now)

    def _arm_upload(self, when: float) -> None:
        if self.route.breaker.is_probe(self._permit):
            when = min(when, self._attempt_started + self.route.attempt_s)
        self._arm(UPLOAD, when)

    def _arm_download(self, when: float) -> None:
        self._arm(DOWNLOAD, when if self._told else min(when, self._success_due))

    def _download_idle(self, now: float) -> None:
        if now >= self._success_due:
            self._succeeded(now)
        downstream, idle_s = self._downstream, self.route.idle_s
        latest = max(downstream.last_activity, self._last_upload) + idle_s
        if downstream.writable:
            if latest > now:
                self._arm_download(latest)
            else:
                detail = f"nothing more of the body came for timeout.idle, {idle_s:g} s"
                self._interrupt(Lost("truncated", detail, ours=True))
            return
        # We wait for the app: it is idle only if it has taken nothing since the last look.
        unread, self._unread = self._unread, bytes_under_way(downstream.transport)
        if unread and self._unread >= unread:
            self._interrupt(Disconnected(f"the app read nothing for timeout.idle, {idle_s:g} s"))
        else:
            self._arm_download(now + idle_s)

    # Tracing.

    def _begin_trace(self, tracer: Tracer) -> None:
        """Decide whether this request is traced. If so, each attempt's span is the upstream's parent.

        Without a traceparent, or with one that is none, a trace begins anew, and no tracestate goes on (W3C Trace
        Context, sections 3.2 and 3.3).
        """
        request = self.request
        given = request.traceparent
        parent = parse_traceparent(given) if given is not None else None
        if parent is not None and not parent.sampled:
            return
        if given is None and has_foreign_context(request):
            return
        if parent is None:
            root = tracer.root()
            request.traceparent = traceparent(root)
            drop_fields(request, {b"traceparent", b"tracestate"})
            if not root.sampled:
                request.pieces.append(b"\r\ntraceparent: " + request.traceparent)
                return
            trace = tracer.trace_root(root)
        else:
            drop_fields(request, {b"traceparent"})
            trace = tracer.trace_below(parent)
        trace.describe(
            service=self.service.name,
            route=self.route.name,
            method=request.method,
            target=self._target,
            started=self.started,
        )
        self.trace = trace
        self._notes_all = True

    # What the two connections say.

    @property
    def half_close(self) -> bool:
        return self.route.half_close

    def response_began(self, response: ResponseHead) -> None:
        self._resume(response)

    def response_ended(self) -> None:
        self._resume(None)

    def interim(self, response: ResponseHead) -> None:
        """A 1xx goes to the app, after which there is no other attempt. HTTP/1.0 knows none: RFC 9110, section 15.2."""
        if self.request.minor:
            self._interim_sent = True
            self._downstream.write_interim(response)
            if not self._downstream.writable and self._upstream is not None:
                self._upstream.pause_reading()
            body = self.body
            if self._awaiting and body is not None and not body.received:  # told to go on, the app sends the body now
                self._last_upload = monotonic()
                self._arm_response(self._last_upload)

    def attempt_lost(self, lost: Lost) -> None:
        self._interrupt(lost)

    def connected(self, upstream: Upstream) -> None:
        self._resume(upstream)

    def connect_failed(self, reason: str, detail: str) -> None:
        self._interrupt(Lost(reason, detail))

    def body_received(self, pieces: list[bytes]) -> None:
        """More of the request's body: on to the upstream if there is one, else kept for when there will be."""
        body = self.body
        assert body is not None
        now = monotonic()
        self._last_upload = now
        upstream = self._upstream
        if upstream is None or self._cut_short:
            if not self._downstream.responding:
                body.keep(pieces)
            if body.kept_size > BUFFER_MAX and not body.complete:
                self._downstream.pause_upload()
        else:
            upstream.send_body(pieces)
            if body.whole:
                body.keep(pieces)
                body.sent()
        if body.complete:
            self._body_ended = now
            self._request_deadline = now + self._request_s
            if self._awaiting:
                self._arm_response(now)
        elif self._awaiting and self._kind != UPLOAD:
            self._arm_response(now)

    def pause_upload(self) -> None:
        self._downstream.pause_upload()

    def resume_upload(self) -> None:
        self._downstream.resume_upload()

    def pause_download(self) -> None:
        if self._upstream is not None:
            self._upstream.pause_reading()

    def resume_download(self) -> None:
        self._unread = 0
        if self._upstream is not None:
            self._upstream.resume_reading()

    def _tunnel_ended(self) -> None:
        self._resume(None)

    # Ends.

    def _ended(self) -> None:
        self._upstream = self._held = None
        super()._ended()

    def _crashed(self, error: Exception) -> None:
        """A defect of ours. Say so; the app gets an answer if it can still have one, and never a false one."""
        self._core.crashed(self, error)
        self._close_upstream()
        if self._downstream.responding:
            self._record(self.code or 500, "internal", str(error))
            self._downstream.cut()
        else:
            self._answer("internal", "an error in the sidecar; its log has the details")
        self._ended()

    def _answer(self, reason: str, detail: str, *, retry_after: float | None = None) -> None:
        """An answer of our own, and its record."""
        status = STATUS[reason]
        self._send_problem(status, reason, detail, retry_after)
        self._record(status, reason, detail)

    def _fail(self, reason: str, detail: str) -> None:
        """No attempt brought an answer: say what became of the last."""
        self._tell_failure()
        label = f"{self._endpoint.label}: " if reason not in ("request_timeout", "overloaded") else ""
        self._answer(reason, f"{label}{detail}", retry_after=1.0 if reason == "overloaded" else None)

    def _time_given(self) -> str:
        """Who set `_request_s`, in words."""
        return "timeout.request" if self._request_s == self.route.request_s else "the app's own deadline"

    @property
    def _hurried(self) -> bool:
        """The app gives less time than the policy: where that runs out, it is the app that gave up."""
        return self._request_s < self.route.request_s

    def _refuse(self, refusal: BadRequest) -> None:
        responding = self._downstream.responding
        if not responding:
            self._send_problem(refusal.status, "bad_request", refusal.detail, None, keep=False)
        self._record(refusal.status, "bad_request", refusal.detail)
        if responding:
            self._downstream.cut()

    def _send_problem(
        self, status: int, reason: str, detail: str, retry_after: float | None, *, keep: bool = True
    ) -> None:
        problem = Problem(
            status=status,
            reason=reason,
            detail=detail,
            service=self.service.name,
            request_id=self.request_id.decode("latin-1"),
            retry_after=retry_after,
            jitter=self._core.random(),
            attempts=tuple(self.attempts),
        )
        head_only = self.request.method == "HEAD"
        self._downstream.answer(problem, self.request if keep else None, head_only=head_only)

    def _tell(self, *, outcome: bool, timed_out: bool = False, now: float | None = None) -> None:
        """Tell the breaker the one outcome of this request; what comes after the first is not heard."""
        if self._told:
            return
        self._told = True
        breaker = self.route.breaker
        if now is None:
            now = monotonic()
        if outcome:
            breaker.patience.answered(self._answered_s)
            breaker.success(self._permit, now)
        else:
            breaker.failure(self._permit, now, timed_out)

    def _tell_failure(self) -> None:
        """Tell the breaker of the last attempt's failure, if it is one of the service."""
        if self._verdict == FAILURE:
            self._tell(outcome=False, timed_out=self._timed_out)

    def _tell_at_the_end(self) -> None:
        """Nothing has settled the outcome: it is that of the last attempt that was not ignored, if there is one."""
        breaker, now = self.route.breaker, monotonic()
        if self._verdict == FAILURE:
            self._tell(outcome=False, timed_out=self._timed_out, now=now)
        elif self._impatient:
            breaker.inconclusive(self._permit, now)
        else:
            breaker.ignore(self._permit, now)

    def _succeeded(self, now: float) -> None:
        """The service has served this request, whatever becomes of the rest of its body."""
        self._success_due = inf
        self._judge(SUCCESS, "ok", now)
        self._tell(outcome=True, now=now)

    def _note(self, reason: str, status: int | None, verdict: int | None = None) -> None:
        """Count the attempt that is under way, and remember it for the answer and the log."""
        if self._attempt_number > len(self.attempts):
            endpoint = self._endpoint
            endpoint.counters.attempt(reason)
            now = monotonic()
            self._judge(self._verdict_on(reason, now) if verdict is None else verdict, reason, now)
            if self.trace is not None:
                address, port, number = endpoint.address, endpoint.port, self._attempt_number
                self.trace.attempt(
                    number, self.service.name, address, port, reason, status, self._attempt_started, now
                )  # fmt: skip
            took_ms = int((now - self._attempt_started) * 10_000 + 0.5) / 10  # `round` takes ten times as long
            self.attempts.append(Attempt(endpoint.label, reason, status, took_ms))

    def _verdict_on(self, reason: str, now: float) -> int:
        """What the end of the attempt says about its endpoint."""
        if reason == "ok":
            return SUCCESS
        if reason in ENDPOINT_FAILURES:
            return FAILURE
        if reason == "request_timeout" and not self._hurried:
            return IGNORED if self._queued else FAILURE
        if reason == "request_timeout" or (reason == "client_disconnect" and not self._downstream.responding):
            if self._waited_enough(now):
                return FAILURE
            self._impatient = True
        return IGNORED

    def _waited_enough(self, now: float) -> bool:
        """Whether the app, which gave up, had waited so long that this is the service's failure."""
        body = self.body
        if self._queued or self.route.forgives_impatience or (body is not None and not body.complete):
            return False
        return now - max(self._attempt_started, self._body_ended) >= self.route.breaker.patience.enough_s

    def _judge(self, verdict: int, reason: str, now: float) -> None:
        """The verdict on the present attempt, once: for ejection, for the balancer, and kept for the breaker."""
        if self._judged == self._attempt_number:
            return
        self._judged = self._attempt_number
        endpoint = self._endpoint
        if endpoint.latency is not None and reason in _NO_ANSWER and not self._queued:
            took_s = now - max(self._attempt_started, self._body_ended)
            if verdict == FAILURE:
                endpoint.latency.failed(took_s, now)
            elif self.body is None or self.body.complete:
                endpoint.latency.penalize(took_s, now)
        if verdict == IGNORED:
            return
        failed = verdict == FAILURE
        self.service.outlier.record(endpoint, failed, now, self._attempt_started, by_status=reason == "status")
        if failed and endpoint.ejected and self._attempt_started <= self.route.breaker.forgiven_at:
            return  # the ejection has dealt with this; the breaker judges what the other endpoints do
        self._verdict = verdict
        self._timed_out = failed and reason in _TIMED_OUT

    def _record(self, code: int, reason: str, detail: str = "", now: float | None = None) -> None:
        if self.code:
            return
        self.code = code
        self.reason = reason
        seconds = (monotonic() if now is None else now) - self.started
        self._core.record(self, detail, seconds)
        if self.trace is not None:
            self.trace.finish(code, reason, self.fallback, seconds)

    def _close_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method} {self.service.name} attempt={self._attempt_number} {self._upstream}>"
