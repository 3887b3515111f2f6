"""Answers `GET /explain`: which policy a request would get, and what would happen to it now, without sending it.

This module owns that response and its sentences. It uses the same parser, table and routes as the data path. It only
reads breaker, balancer and budget: no turn moves on, no probe is taken, nothing is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from sidecar.admin import answers
from sidecar.admin.clock import WallClock
from sidecar.admin.running import Running
from sidecar.admin.services_view import ServicesView
from sidecar.config.effective import policy_tree, shown_target
from sidecar.config.units import format_duration
from sidecar.policy.settings import FallbackService, FallbackStale, FallbackStep, HashSettings
from sidecar.proxy.exchange.fallback import FIRST_PART
from sidecar.proxy.exchange.head_asked import aggregate_refusal, head_asked, route_asked
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.near_name import near_name
from sidecar.runtime.route import LiveRoute
from sidecar.runtime.routing import NotRouted
from sidecar.runtime.service import LiveService
from sidecar.telemetry.history import NOW_S

_AGGREGATES: Final = b"/_aggregate/"


class BadQuestion(Exception):
    """The question has no valid target; the message says why."""


def explain(
    running: Running, view: ServicesView, clock: WallClock, method: str, target: str, host: str
) -> answers.Explanation:
    """`target` is written as in a request line, `host` as in Host ("" for none). Raises BadQuestion for no valid
    target.
    """
    if not target:
        raise BadQuestion("write target as in a request line: /venue/events/42, or http://venue-service:3002/x")
    try:
        head = head_asked(method, target, host, running.live.config.listen.max_head)
        service, upstream_target, by_path = running.live.table.find(head.method, head.target, head.host)
        route = route_asked(head, service, upstream_target)
    except NotRouted as problem:
        return _not_routed(running, problem, method, target)
    by: Literal["path", "host", "absolute"] = "path" if by_path else "host" if target[0] in "/*" else "absolute"
    return _Story(running, view, clock, service, route, method).told(by, upstream_target.decode("latin-1"))


class _Story:
    """The explanation of one request: a service, its route, and their state at this moment."""

    def __init__(
        self,
        running: Running,
        view: ServicesView,
        clock: WallClock,
        service: LiveService,
        route: LiveRoute,
        method: str,
    ) -> None:
        self._running = running
        self._view = view
        self._clock = clock
        self._now = clock.monotonic()
        self._service = service
        self._route = route
        self._method = method
        self._policy = route.policy
        service.expire(self._now)
        self._present = service.present  # read first, because reading it updates what ends by the clock

    def told(self, by: Literal["path", "host", "absolute"], upstream_target: str) -> answers.Explanation:
        service, route, policy = self._service, self._route, self._policy
        breaker = self._breaker()
        balancer = self._balancer()
        fallback = [_step(step) for step in policy.fallback if self._is_for(step)]
        retry = answers.ExplainedRetry(
            max_retries=policy.retry.max_retries,
            replayable=self._method in policy.retry.methods,
            on=sorted(policy.retry.on, key=str),
            budget_left=round(service.budget.balance(self._now), 1),
        )
        words = [
            _FOUND_BY[by].format(service.name, upstream_target),
            self._route_words(),
            *self._limit_words(),
            self._breaker_words(breaker),
            *self._failure_words(),
            *self._endpoint_words(balancer),
            self._retry_words(retry),
            self._deadline_words(fallback),
            self._fallback_words(fallback),
        ]
        return answers.Explanation(
            service=service.name,
            route=route.name,
            by=by,
            upstream_target=upstream_target,
            problem=None,
            policy=self._policy_tree(),
            breaker=breaker,
            balancer=balancer,
            retry=retry,
            fallback=fallback,
            deadline_s=route.request_s,
            words=words,
        )

    def _policy_tree(self) -> dict[str, Any]:
        service, origins = self._service, self._running.origins
        path = f"services.{service.name}"
        for at, route in enumerate(service.routes):
            if route is self._route:
                return policy_tree(service.config.routes[at], f"{path}.routes[{at}]", origins)
        return policy_tree(service.config, path, origins)

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
        picked = self._service.peek(self._now)
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

    def _is_for(self, step: FallbackStep) -> bool:
        return self._method in (("GET", "HEAD") if isinstance(step, FallbackStale) else step.methods)

    def _route_words(self) -> str:
        if self._route.match is None:
            routes = len(self._service.routes)
            none = "It has no routes" if not routes else "Its route does not match"
            none = f"None of its {routes} routes matches" if routes > 1 else none
            return f"{none}, so the service's own policy applies."
        return f"The route {self._route.name!r} matches, so its policy applies."

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
            words.append(f"{used}: this request would be refused (503, x-sidecar-reason: overloaded).")
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
        return f"{state}. It refuses requests{until} (503, x-sidecar-reason: circuit_open)."

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

    def _deadline_words(self, fallback: Sequence[str]) -> str:
        whole, each = format_duration(self._route.request_s), format_duration(self._route.attempt_s)
        kept = f" Because there is a fallback, the service itself gets {FIRST_PART:.0%} of it." if fallback else ""
        return (
            f"Until the response begins, it has {whole} in total and {each} for each attempt."
            f" An app's own deadline can only shorten that.{kept}"
        )

    def _fallback_words(self, fallback: Sequence[str]) -> str:
        if fallback:
            return f"If all attempts fail: {', then '.join(fallback)}."
        return f"There is no fallback for {self._method}: the app gets the error."

    def _endpoint_words(self, balancer: answers.ExplainedBalancer) -> list[str]:
        total = len(balancer.candidates)
        if not total:
            problems = [one.problem for one in self._running.sources_of(self._service.name) if one.problem]
            why = f": {'; '.join(problems)}" if problems else ""
            return [f"No endpoint is known{why}. {_NO_ENDPOINT}"]
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
            found.append(_NO_ENDPOINT)
        return found

    def _retry_words(self, retry: answers.ExplainedRetry) -> str:
        if not retry.max_retries:
            return "It is not retried: retry.max_retries is 0."
        if not retry.replayable:
            return (
                f"{self._method} is not in retry.methods, so it is never sent twice, unless it has Idempotency-Key."
                " A request that could not be sent at all goes to another endpoint."
            )
        return (
            f"It is retried up to {retry.max_retries} times, after {', '.join(map(str, _ranges(retry.on)))}."
            f" The budget has {retry.budget_left:g} retries left."
        )


_MOST_NAMED: Final = 10
_NO_ENDPOINT: Final = "The request would fail (503, x-sidecar-reason: no_endpoint)."
_FOUND_BY: Final = {
    "path": "The first path segment selects {0!r}, which gets {1}.",
    "host": "The Host header selects {0!r}, which gets {1}.",
    "absolute": "The host in the target selects {0!r}, which gets {1}.",
}


def _ranges(on: Sequence[str | int]) -> list[str]:
    """Names, and statuses; three or more consecutive statuses become a range."""
    names = [one for one in on if isinstance(one, str)]
    numbers = sorted(one for one in on if isinstance(one, int))
    found: list[str] = []
    for start in [one for one in numbers if one - 1 not in numbers]:
        end = start
        while end + 1 in numbers:
            end += 1
        found += [f"{start}-{end}"] if end - start > 1 else list(map(str, range(start, end + 1)))
    return names + found


def _step(step: FallbackStep) -> str:
    if isinstance(step, FallbackService):
        return f"the service {step.service!r}" + (
            f" is called with {shown_target(step.path)}" if step.path else " is called"
        )
    if isinstance(step, FallbackStale):
        return f"the last good response, at most {format_duration(step.stale)} old"
    return f"the file's own response with status {step.status}"


def _not_routed(running: Running, problem: NotRouted, method: str, target: str) -> answers.Explanation:
    name = problem.reserved.partition(b"?")[0].removeprefix(_AGGREGATES).decode("latin-1")
    aggregate = running.live.config.aggregates.get(name) if problem.reserved.startswith(_AGGREGATES) else None
    refused = aggregate_refusal(name, aggregate, method, problem.reserved) if aggregate is not None else None
    if refused is not None:
        problem, aggregate = refused, None
    if aggregate is not None:
        parts = ", ".join(f"{key} (GET /{part.service}...)" for key, part in aggregate.parts.items())
        words = [f"It is for the aggregate {name!r}: the sidecar calls {parts} and returns one JSON object."]
    else:
        words = [
            f"No service gets it: {problem.detail}.",
            f"The app gets {problem.status} (x-sidecar-reason: {problem.reason}).",
        ]
        if problem.reason == "unknown_service":
            near = near_name(target, running.live.services)
            words += [f"Did you mean {near!r}?"] if near else []
            words.append(f"Known services: {', '.join(running.live.services) or 'none'}.")
    return answers.Explanation(
        service=None,
        route="",
        by="aggregate" if aggregate is not None else None,
        upstream_target=None,
        problem=None
        if aggregate is not None
        else answers.NotRouted(status=problem.status, reason=problem.reason, detail=problem.detail),
        policy=None,
        breaker=None,
        balancer=None,
        retry=None,
        fallback=[],
        deadline_s=aggregate.timeout if aggregate is not None else None,
        words=words,
    )
