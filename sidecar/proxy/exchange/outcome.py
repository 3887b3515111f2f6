"""What a service is told of one call: its permits, taken and given back once; a verdict on each attempt; one outcome.

Owns the rules of evidence (docs/architecture.md, *Verdicts*). What an attempt is, and when it ends, is
`service_call`'s; what follows from a verdict is decided in `sidecar.policy`.
"""

from __future__ import annotations

from typing import Final

from sidecar.policy.breaker import Breaker
from sidecar.policy.verdict import FAILURE, IGNORED
from sidecar.runtime.endpoint import Endpoint
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
    """Made with the call. `close` gives back whatever is still held, whatever happened."""

    __slots__ = (
        "_in_limit",
        "_judged",
        "_permit",
        "_timed_out",
        "answered_s",
        "breaker",
        "impatient",
        "service",
        "told",
        "verdict",
    )

    def __init__(self, service: LiveService, breaker: Breaker) -> None:
        self.service = service
        self.breaker = breaker
        self._in_limit = False
        self._permit = 0
        self._judged = 0
        """The number of the attempt that the endpoint has had its verdict for."""
        self._timed_out = False
        """The last verdict is a failure by not answering."""
        self.told = False
        """The breaker has heard the one outcome of this call."""
        self.verdict: int = IGNORED
        """Of the last attempt that was not ignored: what the breaker hears where the very last one is."""
        self.impatient = False
        """The app gave up sooner than its waiting could say anything about the service."""
        self.answered_s = 0.0
        """What the present attempt took from the end of the request's body to the head of its answer."""

    # Permits.

    def enter(self) -> bool:
        """Take a permit of the concurrency limit."""
        self._in_limit = self.service.limit.acquire()
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
        elif self.impatient:
            self.breaker.inconclusive(self._permit, now)
        else:
            self.breaker.ignore(self._permit, now)
        self.told = True

    def close(self, now: float) -> None:
        """The service has nothing more to do with this request."""
        if self._in_limit:
            self._in_limit = False
            self.service.limit.release()
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

    # Verdicts on attempts.

    def judge(
        self,
        verdict: int,
        endpoint: Endpoint,
        number: int,
        started: float,
        reason: str,
        now: float,
        waited_s: float,
        asked: bool,
        queued: bool,
    ) -> None:
        """The verdict on an attempt, once: for ejection, for the balancer, and kept for the breaker.

        `waited_s` is the time since the request's body had ended, if it had (`asked`). `queued`: nothing was opened.
        """
        if self._judged == number:
            return
        self._judged = number
        if endpoint.latency is not None and reason in NO_ANSWER and not queued:
            if verdict == FAILURE:
                endpoint.latency.failed(waited_s, now)
            elif asked:
                endpoint.latency.penalize(waited_s, now)
        if verdict == IGNORED:
            return
        failed = verdict == FAILURE
        self.service.outlier.record(endpoint, failed, now, started, by_status=reason == "status")
        if failed and endpoint.ejected and started <= self.breaker.forgiven_at:
            return  # the ejection has dealt with this; the breaker judges what the other endpoints do
        self.verdict = verdict
        self._timed_out = failed and reason in TIMED_OUT

    def made_good(self) -> None:
        """This answer makes good the attempts before it."""
        self.verdict = IGNORED

    def __repr__(self) -> str:
        return f"<Outcome {self.service.name} permit={self._permit} told={self.told} verdict={self.verdict}>"
