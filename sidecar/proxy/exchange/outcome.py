"""What a service is told of one call: its permits, taken and given back once; a verdict on each attempt; one outcome.

Owns the rules of evidence (docs/architecture.md, *Verdicts*), and what is noted of an attempt. When one begins and ends
is `service_call`'s; what follows from a verdict is decided in `sidecar.policy`.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Final

from sidecar.policy.balancers.ewma import PeakEwma
from sidecar.policy.retry import parse_retry_after
from sidecar.policy.verdict import FAILURE, IGNORED, SUCCESS
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import Attempt
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService

TIMED_OUT: Final = frozenset({"connect_timeout", "attempt_timeout", "request_timeout", "client_disconnect"})
"""How an attempt ends that failed by not answering."""

ENDPOINT_FAILURES: Final = frozenset(
    {"connect_failure", "connect_timeout", "reset", "attempt_timeout", "bad_response", "truncated", "status"}
)
"""How an attempt ends that failed, whoever had been waiting for it."""

BY_IMPATIENCE: Final = frozenset({"request_timeout", "client_disconnect"})
"""How an attempt ends that the app may have given up: a failure if the app had waited for long enough."""

NO_ANSWER: Final = frozenset(
    {"connect_failure", "connect_timeout", "reset", "attempt_timeout", "request_timeout", "client_disconnect"}
    | {"bad_response"}
)
"""How an attempt ends that brought no head of an answer, so that the balancer has not learned from it yet."""


class Outcome:
    """Made with the call. `close` gives back whatever is still held, whatever happened.

    `hurried`: the app gives less time than the policy. Where that runs out, it is the app that gave up.
    """

    __slots__ = (
        "_impatient",
        "_in_limit",
        "_judged",
        "_permit",
        "_request",
        "_service",
        "_timed_out",
        "answered_s",
        "breaker",
        "endpoint",
        "forgives",
        "forgives_leaving",
        "hurried",
        "queued",
        "started",
        "told",
        "verdict",
    )

    endpoint: Endpoint
    """Of the present attempt."""
    started: float
    """When it began."""

    def __init__(self, request: Request, service: LiveService, route: LiveRoute, hurried: bool) -> None:
        self._request = request
        self._service = service
        self.hurried = hurried
        self.breaker = route.breaker
        self.forgives = route.forgives_impatience
        self.forgives_leaving = route.forgives_leaving
        self._in_limit = False
        self._permit = 0
        self._judged = 0
        """The number of the attempt that the endpoint has had its verdict for."""
        self._timed_out = False
        """The last verdict is a failure by not answering."""
        self._impatient = False
        """The app gave up sooner than its waiting could say anything about the service."""
        self.queued = False
        """The attempt ended while it waited for one of the service's connections to be given back."""
        self.told = False
        """The breaker has heard the one outcome of this call."""
        self.verdict: int = IGNORED
        """Of the last attempt that was not ignored: what the breaker hears where the very last one is."""
        self.answered_s = 0.0
        """What the present attempt took from the end of the request's body to the head of its answer."""

    # Permits.

    def enter(self) -> bool:
        """Take a permit of the concurrency limit."""
        self._in_limit = self._service.limit.acquire()
        return self._in_limit

    def admit(self, now: float) -> bool:
        """Take a permit of the breaker."""
        self._permit = self.breaker.admit(now)
        return self._permit != 0

    def is_probe(self) -> bool:
        return self.breaker.is_probe(self._permit)

    def make_room(self) -> None:
        """The others do not wait for this probe any longer."""
        self._permit = self.breaker.make_room(self._permit)

    def may_retry(self) -> bool:
        return self.breaker.may_retry(self._permit)

    def settle(self, now: float) -> None:
        """The breaker has heard nothing yet: the outcome is that of the last attempt that was not ignored, if any."""
        if self.told or not self._permit:
            return
        if self.verdict == FAILURE:
            self.failed(now)
        elif self._impatient:
            self.breaker.inconclusive(self._permit, now)
        else:
            self.breaker.ignore(self._permit, now)
        self.told = True

    def close(self, now: float) -> None:
        """The service has nothing more to do with this request."""
        if self._in_limit:
            self._in_limit = False
            self._service.limit.release()
        if not self.told:
            self.settle(now)

    # The one outcome.

    def succeeded(self, now: float) -> None:
        """Tell the breaker; what comes after the first outcome is not heard."""
        if not self.told:
            self.told = True
            breaker = self.breaker
            breaker.patience.answered(self.answered_s)
            breaker.success(self._permit, now)

    def failed(self, now: float) -> None:
        """Tell the breaker of the last attempt's failure, if it is one of the service."""
        if self.verdict == FAILURE and not self.told:
            self.told = True
            self.breaker.failure(self._permit, now, self._timed_out)

    # Attempts.

    def attempt(self, endpoint: Endpoint, now: float) -> None:
        """One begins."""
        self._request.attempt_number += 1
        self.endpoint = endpoint
        self.started = now
        self.queued = False

    def answer_came(self, now: float) -> None:
        """The head of its answer is here."""
        self.answered_s = self.waited_s(now)

    def measure(self, latency: PeakEwma, response: ResponseHead, failed: bool) -> None:
        """Teach the balancer. A quick refusal is no quick answer; one that says for how long counts as an answer that
        took so long."""
        now = monotonic()
        wait_s = None
        if response.status in (429, 503) and response.retry_after is not None:
            wait_s = parse_retry_after(response.retry_after, time())
        if wait_s is not None:
            latency.penalize(wait_s, now)
        elif response.status >= 500 or response.status == 429 or failed:
            latency.failed(self.waited_s(now), now)
        else:
            latency.observe(self.waited_s(now), now)

    def waited_s(self, now: float) -> float:
        """How long the present attempt has had the whole request."""
        return now - max(self.started, self._request.body_ended)

    @property
    def is_noted(self) -> bool:
        """Whether the present attempt has ended and been noted."""
        return self._request.attempt_number <= len(self._request.attempts)

    def note(self, reason: str, status: int | None, verdict: int | None = None) -> None:
        """Count the attempt that is under way, and remember it for the answer and the log."""
        if self.is_noted:
            return
        request, endpoint, started = self._request, self.endpoint, self.started
        endpoint.counters.attempt(reason)
        now = monotonic()
        self.judge(self._verdict_on(reason, now) if verdict is None else verdict, reason, now)
        if request.trace is not None:
            number, service = request.attempt_number, self._service.name
            request.trace.attempt(
                number, service, endpoint.address, endpoint.port, reason, status, started, now
            )  # fmt: skip
        took_ms = int((now - started) * 10_000 + 0.5) / 10  # `round` takes ten times as long
        request.attempts.append(Attempt(endpoint.label, reason, status, took_ms))

    def went_well(self, now: float) -> None:
        """The attempt has ended well, and nobody will read how it went."""
        self.endpoint.counters.attempt("ok")
        self.judge(SUCCESS, "ok", now)

    def made_good(self) -> None:
        """This answer makes good the attempts before it."""
        self.verdict = IGNORED

    def judge(self, verdict: int, reason: str, now: float) -> None:
        """The verdict on the present attempt, once: for ejection, for the balancer, and kept for the breaker."""
        number = self._request.attempt_number
        if self._judged == number:
            return
        self._judged = number
        endpoint, started = self.endpoint, self.started
        if endpoint.latency is not None and reason in NO_ANSWER and not self.queued:
            if verdict == FAILURE:
                endpoint.latency.failed(self.waited_s(now), now)
            elif self._request.is_complete:
                endpoint.latency.penalize(self.waited_s(now), now)
        if verdict == IGNORED:
            return
        failed = verdict == FAILURE
        self._service.outlier.record(endpoint, failed, now, started, by_status=reason == "status")
        if failed and endpoint.ejected and started <= self.breaker.forgiven_at:
            return  # the ejection has dealt with this; the breaker judges what the other endpoints do
        self.verdict = verdict
        self._timed_out = failed and reason in TIMED_OUT

    def _verdict_on(self, reason: str, now: float) -> int:
        """What the end of the attempt says about its endpoint."""
        if reason == "ok":
            return SUCCESS
        if reason in ENDPOINT_FAILURES:
            return FAILURE
        if reason == "request_timeout" and not self.hurried:
            return IGNORED if self.queued else FAILURE
        left = reason == "client_disconnect" and not self._request.stream.responding and not self.forgives_leaving
        if reason == "request_timeout" or left:
            if self._waited_enough(now):
                return FAILURE
            self._impatient = True
        return IGNORED

    def _waited_enough(self, now: float) -> bool:
        """Whether the app, which gave up, had waited so long that this is the service's failure."""
        if self.queued or self.forgives or not self._request.is_complete:
            return False
        return self.waited_s(now) >= self.breaker.patience.enough_s

    def __repr__(self) -> str:
        return f"<Outcome {self._service.name} permit={self._permit} told={self.told} verdict={self.verdict}>"
