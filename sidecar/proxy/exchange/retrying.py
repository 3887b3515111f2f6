"""Whether there is another attempt at a service, when, and where.

Owns the order in which that is asked: what was never seen moves on, then `retry.on`, then what forbids it (who called
the app retries, the breaker, the service's own word, the deadline, the budget). The rules are `sidecar.policy`'s.
"""

from __future__ import annotations

from time import time
from typing import Final

from sidecar.policy.grpc import parse_pushback
from sidecar.policy.retry import parse_retry_after, retry_delay, wants_retry
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.exchange.clock import Clock
from sidecar.proxy.exchange.outcome import Outcome
from sidecar.proxy.exchange.request import Request
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService

MOST_UNSEEN: Final = 3
"""How often a request that a service has certainly not seen is sent again at once. After that it is a retry."""

_CONNECT_REASONS: Final = ("connect_failure", "connect_timeout")


class Retrying:
    """Of one call, made when its first attempt has failed."""

    __slots__ = ("_clock", "_core", "_outcome", "_request", "_retries", "_route", "_service", "_unseen")

    def __init__(
        self, core: ProxyCore, request: Request, service: LiveService, route: LiveRoute, outcome: Outcome, clock: Clock
    ) -> None:
        self._core = core
        self._request = request
        self._service = service
        self._route = route
        self._outcome = outcome
        self._clock = clock
        self._retries = 0
        self._unseen = 0
        """How often the service said that it had not looked at the request."""

    def plan(
        self,
        reason: str,
        status: int,
        response: ResponseHead | None,
        now: float,
        tried: tuple[Endpoint, ...],
        key: bytes | None,
        *,
        unseen: bool,
    ) -> tuple[float | None, Endpoint | None]:
        """The wait in seconds (None: there is no other attempt), and the endpoint, if that is settled. The request
        could be sent again. `status` is that of HTTP, or of gRPC; `unseen`: the service has not looked at it.

        What could not be connected to moves on at once and at no cost, whatever the method: nothing was sent. So does
        what the service has not seen, as often as that may be an accident.
        """
        route, service = self._route, self._service
        outcome, retry, counters = self._outcome, route.retry, service.counters
        if reason in _CONNECT_REASONS:
            following = service.pick_untried(now, tried, key)
            if following is not None and not self._clock.is_over(now):
                if outcome.may_retry() or outcome.is_probe():
                    counters.retry("failover")
                    return 0.0, following
                counters.retry("denied_breaker")
                return None, None
        if unseen and self._unseen < MOST_UNSEEN and not self._clock.is_over(now):
            self._unseen += 1
            following = service.pick_untried(now, tried, key)
            if following is not None:
                counters.retry("failover")
            return 0.0, following
        wants = wants_retry(retry, reason, status) or (route.grpc and status in route.retry_statuses)
        if self._retries >= retry.max_retries or not wants:
            return None, None
        if self._request.head.for_repeated:
            # Whoever called the app tries again by itself: retries at each hop would multiply.
            counters.retry("denied_repeated")
            return None, None
        if not outcome.may_retry():
            counters.retry("denied_breaker")
            return None, None
        retry_after = None
        if response is not None and response.pushback is not None:
            retry_after = parse_pushback(response.pushback)
            if retry_after is None:
                counters.retry("denied_pushback")
                return None, None
        elif response is not None and response.retry_after is not None:
            retry_after = parse_retry_after(response.retry_after, time())
        remaining = self._clock.left_s(now)
        if response is not None:
            remaining -= now - outcome.started  # another try takes as long as this one did
        delay = retry_delay(retry, self._retries, self._core.random, retry_after, remaining)
        if delay is None:
            counters.retry("denied_deadline")
            return None, None
        if not service.budget.withdraw(now):
            counters.retry("denied_budget")
            return None, None
        self._retries += 1
        return delay, None

    def __repr__(self) -> str:
        return f"<Retrying {self._retries} of {self._route.retry.max_retries}>"
