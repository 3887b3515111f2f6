"""One request's life, from its head to its last byte: route, admit, pick, send, judge, retry, stream, record.

Owns the order in which policies are asked, and every decision about a request. It reads from top to bottom as one
coroutine, `_live`; how that is driven stands in `handler`, what the connections say and the clocks in `call`.
"""

from __future__ import annotations

from math import inf
from time import monotonic, time
from typing import Final

from sidecar.policy.balancers.ewma import PeakEwma
from sidecar.policy.breaker import NullBreaker
from sidecar.policy.concurrency import ConcurrencyLimit
from sidecar.policy.retry import parse_retry_after, retry_delay, wants_retry
from sidecar.policy.settings import BreakerSettings, Policy
from sidecar.policy.verdict import FAILURE, IGNORED, SUCCESS
from sidecar.proxy.exchange.call import NONE, REQUEST, Call
from sidecar.proxy.exchange.handler import Disconnected
from sidecar.proxy.exchange.hash_key import hash_key
from sidecar.proxy.exchange.location import below_prefix
from sidecar.proxy.exchange.tunnel import Tunnel
from sidecar.proxy.http1.head_syntax import BadRequest
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.upstream.http1_connection import Lost, Upstream
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute

LARGE_BODY: Final = 64 * 1024
"""Bytes of a body that may stand in the kernel's buffers unread: who refuses so large a one may close behind it."""

_CONNECT_REASONS: Final = ("connect_failure", "connect_timeout")


_TUNNELLED: Final = LiveRoute("", None, Policy(), NullBreaker(BreakerSettings(mode="off"), 0.0))


class Exchange(Call):
    """A request on its way; made by the connection it came on."""

    # Its life, from the top.

    def start(self) -> None:
        self.started = self._call_started = monotonic()
        self.request_id = self.request.request_id or self._core.new_request_id()
        tracer = self._core.tracer
        if tracer is not None:
            self._begin_trace(tracer)
        super().start()

    async def _live(self) -> None:
        """Routed it is already. Admit, cheap refusals first; make the attempts; tell the breaker one outcome."""
        request, service, breaker = self.request, self.service, self.route.breaker
        now = self._call_started
        if self._core.is_loop(request):
            self._answer("loop", f"the request came back to this sidecar for the third time, through {service.name}")
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
                if breaker.forced is None:
                    detail = f"too many calls to {service.name} failed; the next probe is let through in {wait_s:.1f} s"
                else:
                    detail = f"an operator holds the breaker of {service.name} open, for {wait_s:.0f} s more"
                self._answer("circuit_open", detail, retry_after=wait_s)
                return
            self._set_deadline(now)
            await self._attempts_until_done(now)
            if self._switched is not None:
                await self._tunnel(self._switched)
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
            self._give_back(limit)
            if permit:
                self._drop_held()
                if not self._told:
                    self._tell_at_the_end()

    def _give_back(self, limit: ConcurrencyLimit) -> None:
        """The service has nothing more to do with this request."""
        limit.release()

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
                    self._switched = response
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
                    if following is not None:
                        service.counters.retry("sent")
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
        self._queued = False
        self._endpoint = endpoint
        self._tried = (*self._tried, endpoint)
        pool = self._pool
        repeatable = self._repeatable and not self._replayed and (self.body is None or self.body.stays_whole)
        upstream = pool.take(endpoint, now, repeatable=repeatable)
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
                # Perhaps the upstream closed an idle connection just as this request was sent on it. If the connection
                # breaks later, the upstream may have been at work on the request.
                at_once = reused and lost.reason == "reset" and monotonic() - now <= upstream.stale_within_s
                if not at_once or upstream.heard or self._replayed or not self._may_repeat():
                    raise
                self._replayed = True
                self._close_upstream()
                self._note("stale_connection", None)
                self.service.counters.retry("stale_connection")
                self._attempt_number += 1
                self._attempt_started = monotonic()
                upstream = None
                continue
            self._awaiting = False
            if endpoint.health is not None and response.immediate_fail:
                self.service.fail_at_once(endpoint, monotonic())
            if endpoint.latency is not None:
                self._measure(endpoint.latency, response)
            return response

    def _measure(self, latency: PeakEwma, response: ResponseHead) -> None:
        """A quick refusal is no quick answer; one that says for how long counts as an answer that took so long."""
        now = monotonic()
        wait_s = None
        if response.status in (429, 503) and response.retry_after is not None:
            wait_s = parse_retry_after(response.retry_after, time())
        took_s = now - max(self._attempt_started, self._body_ended)
        if wait_s is not None:
            latency.penalize(wait_s, now)
        elif response.status >= 500 or response.status == 429 or response.status in self.route.failure_status:
            latency.failed(took_s, now)
        else:
            latency.observe(took_s, now)

    async def _connect(self, endpoint: Endpoint) -> Upstream:
        """A new connection to this endpoint. Raises Lost with connect_failure, connect_timeout or overloaded."""
        self._arm(REQUEST, self._request_deadline)
        connecting = self._pool.connect(endpoint, self, self.route.connect_s)
        began = monotonic()
        try:
            upstream: Upstream = await self._wait()
        except BaseException:
            self._queued = connecting.queued
            connecting.cancel()
            raise
        finally:
            self.connecting_s += monotonic() - began
        return upstream

    def _send(self, upstream: Upstream, endpoint: Endpoint, now: float) -> None:
        request, body, route = self.request, self.body, self.route
        left = min(route.attempt_s, self._request_deadline - now, self._request_s)
        if left == route.attempt_s and self._attempt_number == 1 and self._prefix is None:
            more = self._core.first_lines(route, self.service, by_path=self._by_path)
        else:
            prefix = (self._prefix or self.service.prefix) if self._by_path else None
            more = self._core.lines(prefix, self._attempt_number, left, via=route.via)
        if self._by_path and request.forwarded_prefix_at >= 0:
            request.pieces[request.forwarded_prefix_at] = b""
        if request.request_id is None:
            more += b"\r\nX-Request-Id: " + self.request_id
        trace = self.trace
        if trace is not None:
            more += trace.line(self._attempt_number)
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
        upstream, downstream, body = self._upstream, self._downstream, self.body
        if upstream is None:
            upstream = self._held
            assert upstream is not None
            self._upstream, self._held = upstream, None
        if self._by_path and response.location_at >= 0:
            at, service = response.location_at, self.service
            prefix = self._prefix or service.prefix
            own = self.request.host_sent() if self.route.preserve_host else b""
            response.pieces[at] = below_prefix(
                response.pieces[at], prefix, service.authorities, self._target, self.route.prefix_aware, own
            )
        if self._attempt_number > 1:  # Envoy: include_attempt_count_in_response
            response.pieces.append(b"\r\nx-envoy-attempt-count: %d" % self._attempt_number)
        if reason == "ok":
            self._verdict = IGNORED  # of attempts that this answer made good
            if self.route.breaker.is_probe(self._permit):
                self._succeeded(self._answer_came())  # the others wait for this verdict, however long the body lasts
        else:
            self._judge(FAILURE, reason, monotonic())
            self._tell_failure()
        early = self._cut_short or (body is not None and not upstream.has_all(body))
        held = upstream.relay(downstream if self._copy is None else self._copy)
        downstream.begin_response(self.request, response, held)
        if self._copy is not None:
            self._copy.add(held)
        if not upstream.complete:
            try:
                if upstream.broken is not None:
                    raise Lost("truncated", upstream.broken)
                if not downstream.writable:
                    upstream.pause_reading()
                now = self._answer_came()
                self._success_due = now + self.route.attempt_s
                self._arm_download(now + self.route.idle_s)
                downstream.last_activity = now
                await self._wait()
            except Lost as lost:
                self._close_upstream()
                self._note("truncated", response.status, IGNORED if lost.ours else FAILURE)
                self._tell_failure()
                self._record(response.status, "truncated", lost.detail)
                downstream.cut()
                return
            finally:
                self._success_due = inf
        downstream.end_response()
        now = monotonic()
        if not self._told and not self._answered_s:
            self._answered_s = now - max(self._attempt_started, self._body_ended)
        noted = self._attempt_number <= len(self.attempts)
        if reason == "ok" and not noted and not self._notes_all and not self._core.logs_all:
            self._endpoint.counters.attempt(reason)  # nobody will read how this attempt went
            self._judge(SUCCESS, reason, now)
        else:
            self._note(reason, response.status)
        self._upstream = None
        if early or (body is not None and response.status >= 400 and body.received > LARGE_BODY):
            upstream.close()
        else:
            self._pool.release(upstream, now)
        if reason == "ok":
            self._tell(outcome=True, now=now)
        self._record(response.status, reason, "", now)

    def _answer_came(self) -> float:
        """Now, as the head of the answer has come."""
        now = monotonic()
        self._answered_s = now - max(self._attempt_started, self._body_ended)
        return now

    async def _tunnel(self, response: ResponseHead) -> None:
        """After a 101 both sides talk past us; the concurrency permit is held until they are done."""
        upstream = self._upstream
        assert upstream is not None
        self._answer_came()
        self._note("ok", 101)
        self._tell(outcome=True)
        self._record(101, "ok")
        core, service = self._core, self.service
        self._upstream = None
        tunnel = Tunnel(self._downstream, upstream, self.route.idle_s, core.deadlines, self._tunnel_ended)
        self.route = _TUNNELLED  # a tunnel may last for days: it must not keep a configuration that long
        core.tunnels.add(tunnel)
        service.counters.tunnels += 1
        try:
            tunnel.open(response.bytes_for(b"\r\nConnection: Upgrade\r\nUpgrade: websocket"))
            await self._wait()
        finally:
            service.counters.tunnels -= 1
            core.tunnels.discard(tunnel)
            if core.logs_all:
                core.access_log.tunnel(
                    service=service.name,
                    request_id=self.request_id,
                    endpoint=self._endpoint.label,
                    seconds=monotonic() - tunnel.opened,
                    received=tunnel.received,
                    sent=tunnel.sent,
                    ended_by=tunnel.ended_by,
                )
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
        if self.request.for_repeated:
            # Whoever called the app tries again by itself: retries at each hop would multiply.
            counters.retry("denied_repeated")
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
        self._retries += 1
        return delay, None

    def _may_repeat(self) -> bool:
        """Whether the request may go out (again): its body is still whole, and it is safe to repeat or was not sent."""
        if self._interim_sent or self._downstream.responding:
            return False
        if self.body is not None and not self.body.whole:
            return False
        return self._repeatable or not self._sent

    def _hold(self, response: ResponseHead, reason: str) -> None:
        """Keep a response that a retry may replace: it goes to the app if there is no other attempt after all."""
        assert self._upstream is not None
        self._note(reason, response.status)
        self._cut_short = self.body is not None and not self._upstream.has_all(self.body)
        self._held, self._upstream = self._upstream, None

    def _drop_held(self) -> None:
        upstream, self._held = self._held, None
        if upstream is not None:
            if self._cut_short:
                upstream.close()
            else:
                self._pool.release(upstream, monotonic())  # closes it where the response was not whole

    async def _sleep(self, seconds: float) -> None:
        self._arm(NONE, inf)
        began = monotonic()
        timer = self._core.loop.call_later(seconds + 0.001, self._resume, None)  # uvloop may be 1 ms early
        try:
            await self._wait()
        finally:
            timer.cancel()
            self.backoff_s += monotonic() - began
