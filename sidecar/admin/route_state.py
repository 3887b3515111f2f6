"""The state of a service and route at this moment, as `explain` shows it, with its sentences.

It only reads breaker, balancer, budget and limits: no turn moves on, no probe is taken, nothing is counted.
"""

from __future__ import annotations

from typing import Final

from sidecar.admin import answers
from sidecar.admin.clock import WallClock
from sidecar.admin.running import Running
from sidecar.admin.services_view import ServicesView
from sidecar.config.effective import set_as_written
from sidecar.policy.grpc import NUMBERS, REASON_STATUS, name_of
from sidecar.policy.settings import HashSettings
from sidecar.proxy.problem import STATUS
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.service import LiveService
from sidecar.telemetry.history import NOW_S

_MOST_NAMED: Final = 10


class RouteState:
    """What would happen to a request with this method now: `breaker`, `balancer`, `retry`, and all that in `words`."""

    def __init__(
        self,
        running: Running,
        view: ServicesView,
        clock: WallClock,
        service: LiveService,
        route: LiveRoute,
        method: str,
        grpc: bool = False,
    ) -> None:
        self._running = running
        self._view = view
        self._clock = clock
        self._now = clock.monotonic()
        self._service = service
        self._route = route
        self._method = method
        self._grpc = grpc
        self._policy = route.policy
        service.expire(self._now)
        self._present = service.present  # read first, because reading it updates what ends by the clock
        self.breaker = self._breaker()
        self.balancer = self._balancer()
        self.retry = answers.ExplainedRetry(
            max_retries=self._policy.retry.max_retries,
            replayable=route.idempotent if grpc else method in route.repeatable_methods,
            on=sorted(self._retried_on(), key=str),
            budget_left=round(service.budget.balance(self._now), 1),
        )
        self.words = [
            *self._limit_words(),
            self._breaker_words(self.breaker),
            *self._failure_words(),
            *self._endpoint_words(self.balancer),
            self._retry_words(self.retry),
        ]

    def _breaker(self) -> answers.ExplainedBreaker:
        breaker = self._route.breaker
        shared = breaker is self._service.default_route.breaker
        return answers.ExplainedBreaker(
            route="" if shared else self._route.name,
            would=breaker.peek(self._now),
            **self._view.breaker_members(breaker, self._service.config.policy if shared else self._policy),
        )

    def _balancer(self) -> answers.ExplainedBalancer:
        balancer = self._policy.balancer if self._route.match is None else self._service.config.policy.balancer
        picked = self._service.peek()
        return answers.ExplainedBalancer(
            kind="hash" if isinstance(balancer, HashSettings) else balancer,
            would_pick=picked.label if picked is not None else None,
            candidates=[
                answers.Candidate(address=one.label, available=one.available, why=self._why(one))
                for one, _ in self._present
            ],
        )

    def _why(self, endpoint: Endpoint) -> str:
        """Why an endpoint gets requests, or why it does not."""
        clock, found = self._clock, []
        if endpoint.draining:
            found.append(f"drained by an operator until {clock.words_or_none(endpoint.drained_until)}")
        if not endpoint.passing:
            found.append("unhealthy")
        if endpoint.ejected:
            who = "by an operator" if endpoint.ejected_by_operator else "for failing requests"
            found.append(f"ejected {who} until {clock.words_or_none(endpoint.ejected_until)}")
        if endpoint.skip_until > self._now:
            found.append(f"skipped after a refused connection until {clock.words_or_none(endpoint.skip_until)}")
        if endpoint.available:
            return f"used nevertheless: {', '.join(found)}" if found else "available"
        return ", ".join(found) or "unavailable"

    def _limit_words(self) -> list[str]:
        """What is checked before the breaker: the drain, and the concurrency limit."""
        limit = self._service.limit
        words: list[str] = []
        if self._running.draining:
            words.append(
                "The sidecar is draining: it closes each connection after its next response, and accepts new"
                " connections until drain.delay is over."
            )
        used = f"{limit.in_flight} of at most {limit.limit} requests are in flight (limits.max_concurrent)"
        if limit.in_flight >= limit.limit:
            words.append(f"{used}: this request would be refused ({self._answer('overloaded')}).")
        else:
            words.append(f"{used}.")
        return words

    def _breaker_words(self, breaker: answers.ExplainedBreaker) -> str:
        settings = self._policy.breaker
        whose = f"The breaker of the route {breaker.route!r}" if breaker.route else "The service's breaker"
        if breaker.mode == "off":
            return f"{whose} is off."
        if breaker.forced is not None:
            effect = "refuses every request" if breaker.forced == "open" else "lets every request through"
            return f"{whose} is forced {breaker.forced} by an operator until {breaker.forced_until} and {effect}."
        if breaker.state == "closed":
            window = breaker.window
            calls = window.successes + window.failures
            return (
                f"{whose} is closed: {window.failures} of {calls} calls failed in the last {window.seconds:g} s."
                f" It opens when {settings.error_threshold_percentage:g}% of at least {settings.volume_threshold} calls"
                " fail."
            )
        state = f"{whose} is {breaker.state} since {breaker.since}"
        if breaker.would == "probe":
            return f"{state}. This request would be its probe: a single attempt, which decides whether it closes."
        until = f" until {breaker.next_probe}" if breaker.state == "open" else " while its probe is in progress"
        if breaker.mode == "observe":
            return f"{state}. It would refuse{until}, but in mode observe it lets the request through."
        return f"{state}. It refuses requests{until} ({self._answer('circuit_open')})."

    def _failure_words(self) -> list[str]:
        """Why requests failed recently, if any did."""
        failed = self._running.history.failed(self._service, self._now)
        count = sum(failed.reasons.values())
        if not count:
            return []
        by_reason = sorted(failed.reasons.items(), key=lambda one: -one[1])
        each = ", ".join(f"{number} {reason}" for reason, number in by_reason)
        last = self._service.last_failure
        why = f" (last: {last.detail})" if last is not None and last.detail else ""
        return [f"In the last {NOW_S} s, {count} of its {failed.judged} requests failed: {each}{why}."]

    def _endpoint_words(self, balancer: answers.ExplainedBalancer) -> list[str]:
        total = len(balancer.candidates)
        no_endpoint = f"The request would fail ({self._answer('no_endpoint')})."
        if not total:
            problems = [one.problem for one in self._running.sources_of(self._service.name) if one.problem]
            why = f": {'; '.join(problems)}" if problems else ""
            return [f"No endpoint is known{why}. {no_endpoint}"]
        available = sum(one.available for one in balancer.candidates)
        next_one = f"; {balancer.would_pick} is next" if balancer.would_pick else ""
        found = [f"{available} of {total} endpoints are available; the balancer is {balancer.kind}{next_one}."]
        if self._service.availability.panic:
            found.append("So few are healthy that health and ejections are ignored (outlier.panic_threshold).")
        odd = [one for one in balancer.candidates if one.why != "available"]
        found += [f"{one.address} is {one.why}." for one in odd[:_MOST_NAMED]]
        if len(odd) > _MOST_NAMED:
            found.append(f"{len(odd) - _MOST_NAMED} more are listed below.")
        if not available:
            found.append(no_endpoint)
        return found

    def _retried_on(self) -> frozenset[str | int]:
        """What of `retry.on` counts for such a request: statuses of HTTP or of gRPC, not both."""
        return frozenset(
            one for one in self._policy.retry.on if not (isinstance(one, int) if self._grpc else one in NUMBERS)
        )

    def _answer(self, reason: str) -> str:
        """What the app would get, as an answer of ours."""
        status = REASON_STATUS[reason]
        return f"{f'{status} {name_of(status)}' if self._grpc else STATUS[reason]}, x-sidecar-reason: {reason}"

    def _retry_words(self, retry: answers.ExplainedRetry) -> str:
        if not retry.max_retries:
            return "It is not retried: retry.max_retries is 0."
        if self._grpc and not retry.replayable:
            return (
                "It is not sent again once the service may have seen it: neither the route nor the service says"
                " idempotent: true. A call that the service has not seen goes to another endpoint."
            )
        if not retry.replayable:
            return (
                f"{self._method} is not in retry.methods, so it is never sent twice, unless it has Idempotency-Key."
                " A request that could not be sent at all goes to another endpoint."
            )
        causes = ", ".join(map(str, set_as_written(self._retried_on())))
        return (
            f"It is retried up to {retry.max_retries} times, after {causes}."
            f" The budget has {retry.budget_left:g} retries left."
        )
