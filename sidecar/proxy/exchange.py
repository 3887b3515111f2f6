"""One request's life, from its head to its last byte: route, admit, pick, send, judge, retry, stream, record.

Owns the order in which policies are asked, and every decision about a request. It reads from top to bottom as one
coroutine, `_live`; how that is driven stands in `handler`.
"""

from __future__ import annotations

from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Final

from sidecar.policy.balancers.ewma import PeakEwma
from sidecar.policy.deadline import effective, parse_timeout_ms
from sidecar.policy.retry import parse_retry_after, retry_delay, wants_retry
from sidecar.proxy.body import RequestBody
from sidecar.proxy.handler import Disconnected, Handler
from sidecar.proxy.hash_key import hash_key
from sidecar.proxy.head import BadRequest, RequestHead, ResponseHead
from sidecar.proxy.location import below_prefix
from sidecar.proxy.problem import STATUS, Attempt, Problem
from sidecar.proxy.tunnel import Tunnel
from sidecar.proxy.under_way import bytes_under_way
from sidecar.proxy.upstream import Lost, Upstream
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveRoute, LiveService

if TYPE_CHECKING:
    from sidecar.proxy.core import ProxyCore
    from sidecar.proxy.downstream import Downstream

BUFFER_MAX: Final = 64 * 1024
"""Bytes of a body that are read before there is a connection to send them on."""

LARGE_BODY: Final = 64 * 1024
"""Bytes of a body that may stand in the kernel's buffers unread: who refuses so large a one may close behind it."""

_CONNECT_REASONS: Final = ("connect_failure", "connect_timeout")
_TIMEOUTS: Final = frozenset({"connect_timeout", "attempt_timeout", "request_timeout"})
_ENDPOINT_FAILURES: Final = frozenset(
    {"connect_failure", "connect_timeout", "reset", "attempt_timeout", "request_timeout", "bad_response", "truncated"}
    | {"status"}
)
"""How an attempt ends that counts against its endpoint."""

_IGNORED: Final = frozenset({"overloaded", "no_endpoint"})

# What the armed deadline is of.
_ATTEMPT, _REQUEST, _UPLOAD, _DOWNLOAD, _NONE = range(5)


class Exchange(Handler):
    """A request on its way; made by the connection it came on."""

    # Defaults stand on the class: storing each would cost every request.
    started: float
    request_id: bytes
    code: int = 0
    reason: str = ""
    _endpoint: Endpoint
    _permit: int
    _repeatable: bool
    _request_s: float
    _request_deadline: float
    _attempt_started: float
    _upstream: Upstream | None = None
    _held: Upstream | None = None
    """It has answered, and a retry may still replace its answer."""
    _cut_short: bool = False
    """The present or held upstream has not got the whole request, and will not: nothing else may be sent to it."""
    _attempt_number: int = 0
    _awaiting: bool = False
    _interim_sent: bool = False
    _kind: int = _NONE
    _key: bytes | None = None
    """What a hash balancer goes by."""
    _retries: int = 0
    _sent: bool = False
    _replayed: bool = False
    """The one fresh connection that makes good a stale one has been spent."""
    _told: bool = False
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
        self._body = body
        self._by_path = by_path
        self._pool = core.pools[service.name]
        self.attempts: list[Attempt] = []

    # Its life, from the top.

    async def _live(self) -> None:
        """Routed it is already. Admit, cheap refusals first; make the attempts; tell the breaker one outcome."""
        request, service, breaker = self.request, self.service, self.route.breaker
        self.started = now = monotonic()
        self.request_id = request.request_id or self._core.new_request_id()
        if request.via is not None and self._core.via_name in request.via:
            self._answer("loop", f"the request bears this sidecar's own Via: {service.name} leads back to it")
            return
        limit = service.limit
        if not limit.acquire():
            detail = f"{limit.limit} requests to {service.name} are in flight, which is limits.max_concurrent"
            self._answer("overloaded", detail, retry_after=1.0)
            return
        permit = 0
        try:
            service.last_request = now
            service.budget.request(now)
            if service.hash is not None:
                self._key = hash_key(service.hash, request, self._downstream)
            permit = self._permit = breaker.admit(now)
            if not permit:
                wait_s = breaker.retry_after(now)
                detail = f"too many calls to {service.name} failed; the next probe is let through in {wait_s:.1f} s"
                self._answer("circuit_open", detail, retry_after=wait_s)
                return
            self._set_deadline(now)
            await self._attempts_until_done(now)
        except Disconnected as gone:
            self._note("client_disconnect", None)
            self._close_upstream()
            self._record(499, "client_disconnect", str(gone))
            if self._downstream.responding:
                self._downstream.cut()
        except BadRequest as refusal:
            self._note("bad_request", None)
            self._close_upstream()
            self._refuse(refusal)
        finally:
            limit.release()
            if permit:
                self._drop_held()
                if not self._told:
                    breaker.ignore(permit, monotonic())

    async def _attempts_until_done(self, now: float) -> None:
        """Retry around pick and send. Whatever ends the retrying, the last real attempt's answer goes to the app."""
        route, service = self.route, self.service
        endpoint = service.pick(now, (), self._key)
        if endpoint is None:
            self._answer("no_endpoint", f"no address of {service.name} is known", retry_after=1.0)
            return
        while True:
            self._drop_held()
            response: ResponseHead | None = None
            detail = ""
            try:
                response = await self._attempt(endpoint, now)
            except Lost as lost:  # its words are kept, not it: with its traceback it would hold all this in a cycle
                reason, detail = lost.reason, lost.detail
                self._close_upstream()
                self._note(reason, None)
            else:
                status = response.status
                reason = "status" if status in route.failure_status else "ok"
                if status == 101:
                    await self._tunnel(response)
                    return
                if status not in route.retry_statuses:
                    await self._stream(response, reason)
                    return
            now = monotonic()
            delay, following = self._plan_retry(reason, response, endpoint, now)
            if delay is not None and response is not None:
                self._hold(response, reason)
            if delay:
                await self._sleep(delay)
                now = monotonic()
            if delay is not None and following is None:
                if route.breaker.may_retry(self._permit):
                    following = service.pick(now, self._tried, self._key)
                else:
                    service.counters.retry("denied_breaker")
            if following is None:
                if response is not None:
                    await self._stream(response, reason)
                else:
                    self._fail(reason, detail)
                return
            endpoint = following

    async def _attempt(self, endpoint: Endpoint, now: float) -> ResponseHead:
        """Send the request to one endpoint and await the final response's head. Raises Lost."""
        self._attempt_number += 1
        self._attempt_started = now
        self._endpoint = endpoint
        self._tried = (*self._tried, endpoint)
        pool = self._pool
        upstream = pool.take(endpoint, now, repeatable=self._repeatable)
        while True:
            if upstream is None:
                upstream = await self._connect(endpoint)
                now = monotonic()
            reused = upstream.served
            self._upstream = upstream
            self._send(upstream, endpoint, now)
            try:
                response: ResponseHead = await self._wait()
            except Lost as lost:
                self._awaiting = False
                stale = reused and lost.reason == "reset" and not upstream.heard and self._may_repeat()
                if not stale or self._replayed:
                    raise
                # The upstream closed a connection that had been idle, just as this request was sent on it.
                self._replayed = True
                self._close_upstream()
                self.service.counters.retry("stale_connection")
                upstream = None
                continue
            self._awaiting = False
            if endpoint.health is not None and response.immediate_fail:
                self.service.failed_by_its_own_word(endpoint, monotonic())
            if endpoint.latency is not None:
                self._measure(endpoint.latency, response)
            return response

    def _measure(self, latency: PeakEwma, response: ResponseHead) -> None:
        """A quick refusal is no quick answer; one that says for how long counts as an answer that took so long."""
        now = monotonic()
        wait_s = None
        if response.status in (429, 503) and response.retry_after is not None:
            wait_s = parse_retry_after(response.retry_after, time())
        if wait_s is not None:
            latency.penalize(wait_s, now)
        elif response.status < 500:
            latency.observe(now - self._attempt_started, now)

    async def _connect(self, endpoint: Endpoint) -> Upstream:
        """A new connection to this endpoint. Raises Lost with connect_failure, connect_timeout or overloaded."""
        self._arm(_REQUEST, self._request_deadline)
        connecting = self._pool.connect(endpoint, self, self.route.connect_s)
        try:
            upstream: Upstream = await self._wait()
        except BaseException:
            connecting.cancel()
            raise
        return upstream

    def _send(self, upstream: Upstream, endpoint: Endpoint, now: float) -> None:
        request, body, route = self.request, self._body, self.route
        left = min(route.attempt_s, self._request_deadline - now, self._request_s)
        if left == route.attempt_s and self._attempt_number == 1:
            more = self._core.first_lines(route, self.service, by_path=self._by_path)
        else:
            more = self._core.lines(self.service, self._attempt_number, left, by_path=self._by_path)
        if self._by_path and request.forwarded_prefix_at >= 0:
            request.pieces[request.forwarded_prefix_at] = b""
        if request.request_id is None:
            more += b"\r\nX-Request-Id: " + self.request_id
        if request.traceparent is None:
            request.traceparent = self._core.new_traceparent()
            request.pieces.append(b"\r\ntraceparent: " + request.traceparent)
        if request.websocket:
            more += b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
        host = endpoint.authority
        if route.preserve_host and (own := request.host_sent()):
            host = own
        head = request.bytes_for(self._target, host, more)
        pieces = [head]
        if body is not None and body.kept:
            pieces += body.kept
        sent = upstream.send(
            self, pieces, request.method, decode=request.minor == 0, websocket=request.websocket
        )  # fmt: skip
        if not sent:
            raise Lost("reset", "the connection was closed as soon as it was open")
        self._sent = True
        self._cut_short = False
        self._awaiting = True
        if body is not None:
            body.sent()
            if upstream.writable:
                self._downstream.resume_upload()
        self._arm_response(now)

    async def _stream(self, response: ResponseHead, reason: str) -> None:
        """Pass the response on. Once its head has gone to the app nothing is retried."""
        upstream, downstream, body = self._upstream, self._downstream, self._body
        if upstream is None:
            upstream = self._held
            assert upstream is not None
            self._upstream, self._held = upstream, None
        if self._by_path and response.location_at >= 0:
            at, service = response.location_at, self.service
            response.pieces[at] = below_prefix(response.pieces[at], service.prefix, service.authorities)
        early = self._cut_short or (body is not None and not upstream.has_all(body))
        held = upstream.relay(downstream)
        downstream.begin_response(self.request, response, held)
        if not upstream.complete:
            try:
                if upstream.broken is not None:
                    raise Lost("truncated", upstream.broken)
                if not downstream.writable:
                    upstream.pause_reading()
                self._arm(_DOWNLOAD, monotonic() + self.route.idle_s)
                downstream.last_activity = monotonic()
                await self._wait()
            except Lost as lost:
                self._close_upstream()
                self._note("truncated", response.status)
                self._tell(outcome=False)
                self._record(response.status, "truncated", lost.detail)
                downstream.cut()
                return
        downstream.end_response()
        now = monotonic()
        noted = self._attempt_number <= len(self.attempts)
        if reason == "ok" and not noted and not self._core.logs_all:
            self._endpoint.counters.attempt(reason)  # nobody will read how this attempt went
            if self.service.ejects:
                self.service.outlier.record(self._endpoint, False, now)
        else:
            self._note(reason, response.status)
        self._upstream = None
        if early or (body is not None and response.status >= 400 and body.received > LARGE_BODY):
            upstream.close()
        else:
            self._pool.release(upstream, now)
        self._tell(outcome=reason == "ok", now=now)
        self._record(response.status, reason, "", now)

    async def _tunnel(self, response: ResponseHead) -> None:
        """After a 101 both sides talk past us; the concurrency permit is held until they are done."""
        upstream = self._upstream
        assert upstream is not None
        self._note("ok", 101)
        self._tell(outcome=True)
        self._record(101, "ok")
        core, service = self._core, self.service
        self._upstream = None
        tunnel = Tunnel(self._downstream, upstream, self.route.idle_s, core.deadlines, self._tunnel_ended)
        core.tunnels.add(tunnel)
        service.counters.tunnels += 1
        try:
            tunnel.open(response.bytes_for(b"\r\nConnection: Upgrade\r\nUpgrade: websocket"))
            await self._wait()
        finally:
            service.counters.tunnels -= 1
            core.tunnels.discard(tunnel)
            upstream.tunnel_ended()

    # Retrying.

    def _plan_retry(
        self, reason: str, response: ResponseHead | None, endpoint: Endpoint, now: float
    ) -> tuple[float | None, Endpoint | None]:
        """Whether and when there is another attempt: the wait in seconds (None: there is none), and where, if settled.

        What could not be connected to moves on at once and at no cost, whatever the method: nothing was sent.
        """
        route, service = self.route, self.service
        breaker, retry, counters = route.breaker, route.retry, service.counters
        if not self._may_repeat():
            return None, None
        if reason in _CONNECT_REASONS:
            following = service.pick_untried(now, self._tried, self._key)
            if following is not None and now < self._request_deadline:
                if breaker.may_retry(self._permit) or breaker.is_probe(self._permit):
                    counters.retry("failover")
                    return 0.0, following
                counters.retry("denied_breaker")
                return None, None
        status = response.status if response is not None else 0
        if self._retries >= retry.max_retries or not wants_retry(retry, reason, status):
            return None, None
        if not breaker.may_retry(self._permit):
            counters.retry("denied_breaker")
            return None, None
        retry_after = None
        if response is not None and response.retry_after is not None:
            retry_after = parse_retry_after(response.retry_after, time())
        remaining = min(self._request_deadline - now, self._request_s)
        if response is not None:
            remaining -= now - self._attempt_started  # another try takes as long as this one did
        delay = retry_delay(retry, self._retries, self._core.random, retry_after, remaining)
        if delay is None:
            counters.retry("denied_deadline")
            return None, None
        if not service.budget.withdraw(now):
            counters.retry("denied_budget")
            return None, None
        counters.retry("sent")
        self._retries += 1
        return delay, None

    def _may_repeat(self) -> bool:
        """Whether the request may go out (again): its body is still whole, and it is safe to repeat or was not sent."""
        if self._interim_sent or self._downstream.responding:
            return False
        if self._body is not None and not self._body.whole:
            return False
        return self._repeatable or not self._sent

    def _hold(self, response: ResponseHead, reason: str) -> None:
        """Keep a response that a retry may replace: it goes to the app if there is no other attempt after all."""
        assert self._upstream is not None
        self._note(reason, response.status)
        self._cut_short = self._body is not None and not self._upstream.has_all(self._body)
        self._held, self._upstream = self._upstream, None

    def _drop_held(self) -> None:
        upstream, self._held = self._held, None
        if upstream is not None:
            if self._cut_short:
                upstream.close()
            else:
                self._pool.release(upstream, monotonic())  # closes it where the response was not whole

    async def _sleep(self, seconds: float) -> None:
        self._arm(_NONE, inf)
        timer = self._core.loop.call_later(seconds + 0.001, self._resume, None)  # uvloop may be 1 ms early
        try:
            await self._wait()
        finally:
            timer.cancel()

    # Deadlines.

    def _set_deadline(self, now: float) -> None:
        request, body, route = self.request, self._body, self.route
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
        body = self._body
        sending = body is not None and not body.complete
        if sending and self.request.expects_continue and body is not None and not body.received:
            sending = self._interim_sent  # until the upstream says 100, it is the one that is waited for
        if sending:
            self._arm(_UPLOAD, now + self.route.idle_s)
            return
        latest = now + self.route.attempt_s
        if self._request_deadline <= latest:
            self._arm(_REQUEST, self._request_deadline)
        else:
            self._arm(_ATTEMPT, latest)

    def deadline_passed(self, now: float) -> None:
        """Told by the connection that is watched."""
        route = self.route
        if self._kind == _ATTEMPT:
            self._interrupt(Lost("attempt_timeout", f"no answer within timeout.attempt, {route.attempt_s:g} s"))
        elif self._kind == _REQUEST:
            words = "timeout.request" if self._request_s == route.request_s else "the app's own deadline"
            self._interrupt(Lost("request_timeout", f"no answer within {words}, {self._request_s:g} s"))
        elif self._kind == _UPLOAD:
            latest = self._last_upload + route.idle_s
            if latest > now:
                self._arm(_UPLOAD, latest)
            elif self._upstream is not None and self._upstream.drained_since_last_look():
                self._arm(_UPLOAD, now + route.idle_s)
            elif self._upstream is not None and not self._upstream.writable:
                self._interrupt(Lost("attempt_timeout", f"the service took nothing of the body for {route.idle_s:g} s"))
            else:
                self._interrupt(BadRequest(408, f"nothing more of the body came for {route.idle_s:g} s"))
        elif self._kind == _DOWNLOAD:
            self._download_idle(now)

    def _download_idle(self, now: float) -> None:
        downstream, idle_s = self._downstream, self.route.idle_s
        latest = max(downstream.last_activity, self._last_upload) + idle_s
        if downstream.writable:
            if latest > now:
                self._arm(_DOWNLOAD, latest)
            else:
                self._interrupt(Lost("truncated", f"nothing more of the body came for timeout.idle, {idle_s:g} s"))
            return
        # We wait for the app: it is idle only if it has taken nothing since the last look.
        unread, self._unread = self._unread, bytes_under_way(downstream.transport)
        if unread and self._unread >= unread:
            self._interrupt(Disconnected(f"the app read nothing for timeout.idle, {idle_s:g} s"))
        else:
            self._arm(_DOWNLOAD, now + idle_s)

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
            body = self._body
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
        body = self._body
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
            self._request_deadline = now + self._request_s
            if self._awaiting:
                self._arm_response(now)
        elif self._awaiting and self._kind != _UPLOAD:
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
        self._record(status, reason, detail)
        self._send_problem(status, reason, detail, retry_after)

    def _fail(self, reason: str, detail: str) -> None:
        """No attempt brought an answer: say what became of the last."""
        if reason in _IGNORED or (reason == "request_timeout" and self._hurried):
            pass  # the app gave less time than the service is allowed: no verdict about the service
        else:
            self._tell(outcome=False, timed_out=reason in _TIMEOUTS)
        label = f"{self._endpoint.label}: " if reason not in ("request_timeout", "overloaded") else ""
        self._answer(reason, f"{label}{detail}", retry_after=1.0 if reason == "overloaded" else None)

    @property
    def _hurried(self) -> bool:
        """The app gives less time than an attempt may take, so running out of it says nothing of the service."""
        return self._request_s < min(self.route.request_s, self.route.attempt_s)

    def _refuse(self, refusal: BadRequest) -> None:
        self._record(refusal.status, "bad_request", refusal.detail)
        if self._downstream.responding:
            self._downstream.cut()
        else:
            self._send_problem(refusal.status, "bad_request", refusal.detail, None, keep=False)

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
            attempts=tuple(self.attempts),
        )
        head_only = self.request.method == "HEAD"
        self._downstream.answer(problem, self.request if keep else None, head_only=head_only)

    def _tell(self, *, outcome: bool, timed_out: bool = False, now: float | None = None) -> None:
        """Tell the breaker the one outcome of this request."""
        self._told = True
        breaker = self.route.breaker
        if outcome:
            breaker.success(self._permit, monotonic() if now is None else now)
        else:
            breaker.failure(self._permit, monotonic() if now is None else now, timed_out)

    def _note(self, reason: str, status: int | None) -> None:
        """Count the attempt that is under way, and remember it for the answer and the log."""
        if self._attempt_number > len(self.attempts):
            endpoint = self._endpoint
            endpoint.counters.attempt(reason)
            now = monotonic()
            if reason == "ok" or (reason in _ENDPOINT_FAILURES and not (reason == "request_timeout" and self._hurried)):
                self.service.outlier.record(endpoint, reason != "ok", now)
            took_ms = round((now - self._attempt_started) * 1000, 1)
            self.attempts.append(Attempt(endpoint.label, reason, status, took_ms))

    def _record(self, code: int, reason: str, detail: str = "", now: float | None = None) -> None:
        if self.code:
            return
        self.code = code
        self.reason = reason
        self._core.record(self, detail, (monotonic() if now is None else now) - self.started)

    def _close_upstream(self) -> None:
        upstream, self._upstream = self._upstream, None
        if upstream is not None:
            upstream.close()

    def __repr__(self) -> str:
        return f"<Exchange {self.request.method} {self.service.name} attempt={self._attempt_number} {self._upstream}>"
