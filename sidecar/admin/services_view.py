"""Builds responses about services from live objects: breakers, endpoints, budgets and rates.

It only reads; it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Final, cast

from sidecar.admin import answers
from sidecar.admin.clock import WallClock, iso
from sidecar.admin.running import Running
from sidecar.config.effective import policy_tree
from sidecar.policy.breaker import Breaker
from sidecar.policy.settings import DnsSettings, KubernetesSettings, Policy
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService
from sidecar.runtime.slices import as_it_is
from sidecar.telemetry.counters import grpc_statuses
from sidecar.telemetry.history import INTERVAL_S, RETRIES, Series, is_failure, snapshot

MOST_SHARES: Final = 8
"""How many endpoints a summary lists. The dashboard requests it every second."""


class ServicesView:
    """The services of one daemon."""

    def __init__(self, running: Running, clock: WallClock) -> None:
        self._running = running
        self._clock = clock

    def listed(self, pack: Callable[[Any], Any] = as_it_is) -> Generator[None, None, answers.Services]:
        """GET /services in steps of one service. `pack` is applied to each service."""
        live = self._running.live
        now = self._clock.monotonic()
        for service in live.services.values():
            service.expire(now)
        last = self._running.last_reload
        services: list[answers.Service] = []
        for service in live.services.values():
            summary = answers.Service(
                breaker=self.breaker(service.default_route.breaker, service.config.policy),
                endpoints=self._summary(service),
                **self._counted(service),
            )
            services.append(pack(summary))
            yield
        return answers.Services(
            generation=live.generation,
            draining=self._running.draining,
            reload=answers.ReloadBrief(
                result=last.result, at=iso(last.at), errors=len(last.errors), warnings=len(last.warnings)
            ),
            services=services,
        )

    def one(self, service: LiveService) -> answers.ServiceDetail:
        """GET /services/{name}."""
        service.expire(self._clock.monotonic())
        origins = self._running.origins
        path = f"services.{service.name}"
        shares = self._running.history.shares(service)
        return answers.ServiceDetail(
            breaker=self.breaker_detail(service.default_route.breaker, service.config.policy),
            endpoint_summary=self._summary(service),
            endpoints=[self.endpoint(endpoint, shares) for endpoint in service.endpoints],
            routes=[
                answers.Route(
                    name=route.name,
                    match=answers.RouteMatch(path=config.match.path, methods=sorted(config.match.methods)),
                    breaker=self.breaker_detail(route.breaker, config.policy) if config.own_breaker else None,
                    policy=policy_tree(config, f"{path}.routes[{at}]", origins),
                )
                for at, (config, route) in enumerate(zip(service.config.routes, service.routes, strict=True))
            ],
            policy=policy_tree(service.config, path, origins),
            discovery=self._discovery(service),
            history=self._running.history.series(service.name),
            **self._counted(service),
        )

    def histories(self, pack: Callable[[Any], Any] = as_it_is) -> Generator[None, None, answers.History]:
        """GET /history in steps of one service. `pack` is applied to each series."""
        series: dict[str, Series] = {}
        for name in self._running.live.services:
            series[name] = pack(self._running.history.series(name))
            yield
        return answers.History(interval_s=INTERVAL_S, services=series)

    def breaker(self, breaker: Breaker, policy: Policy) -> answers.Breaker:
        return answers.Breaker(**self._breaker(breaker, policy))

    def breaker_detail(self, breaker: Breaker, policy: Policy) -> answers.BreakerDetail:
        return answers.BreakerDetail(**self.breaker_members(breaker, policy))

    def breaker_members(self, breaker: Breaker, policy: Policy) -> dict[str, Any]:
        """The members of an `answers.BreakerDetail`."""
        successes, failures = breaker.window(self._clock.monotonic())
        seconds = policy.breaker.rolling_count_timeout
        return {
            **self._breaker(breaker, policy),
            "window": answers.Window(successes=successes, failures=failures, seconds=seconds),
            "opens": breaker.opens,
            "rejects": breaker.rejects,
            "next_probe": self._clock.words_or_none(breaker.probe_due),
        }

    def endpoint(self, endpoint: Endpoint, shares: Mapping[str, float]) -> answers.Endpoint:
        """`shares` come from the history."""
        now = self._clock.monotonic()
        words = self._clock.words_or_none
        attempts = endpoint.counters.attempts
        estimate_s = endpoint.latency.estimate(now) if endpoint.latency is not None else 0.0
        forced = endpoint.drained_until if endpoint.draining else None
        if endpoint.ejected and endpoint.ejected_by_operator:
            forced = endpoint.ejected_until
        return answers.Endpoint(
            address=endpoint.label,
            healthy=endpoint.passing,
            known=endpoint.health is not None and endpoint.health.known,
            ejected=endpoint.ejected,
            ejected_until=words(endpoint.ejected_until if endpoint.ejected else None),
            drained=endpoint.draining,
            forced_until=words(forced),
            available=endpoint.available,
            skipped_until=words(endpoint.skip_until if endpoint.skip_until > now else None),
            weight=endpoint.weight,
            priority=endpoint.priority,
            active=endpoint.active,
            idle=endpoint.idle,
            requests=sum(attempts.values()),
            failures=sum(count for reason, count in attempts.items() if is_failure(reason)),
            share=shares.get(endpoint.label),
            latency_ms=round(estimate_s * 1000, 3) if estimate_s > 0 else None,
            ejections=endpoint.ejections,
            reasons=dict(attempts),
        )

    def _breaker(self, breaker: Breaker, policy: Policy) -> dict[str, Any]:
        now = self._clock.monotonic()
        return {
            "state": breaker.state,
            "mode": policy.breaker.mode,
            "since": self._clock.words(breaker.since),
            "forced": breaker.forced,
            "forced_until": self._clock.words_or_none(breaker.forced_until if breaker.forced else None),
            "retry_after_s": round(breaker.retry_after(now), 3),
        }

    def _summary(self, service: LiveService) -> answers.EndpointSummary:
        present = [endpoint for endpoint, _ in service.present]
        return answers.EndpointSummary(
            total=len(present),
            available=service.availability.available,
            healthy=sum(one.passing and not one.draining for one in present),
            ejected=sum(one.ejected for one in present),
            panic=service.availability.panic,
            shares=self._shares(service, present) if len(present) <= MOST_SHARES else (),
        )

    def _shares(self, service: LiveService, present: Sequence[Endpoint]) -> tuple[answers.Share, ...]:
        shares = self._running.history.shares(service)
        return tuple(answers.Share(available=one.available, share=shares.get(one.label)) for one in present)

    def _counted(self, service: LiveService) -> dict[str, Any]:
        """The members that a service's summary and its detail have in common."""
        counters = service.counters
        now = self._clock.monotonic()
        settings = service.config.policy.retry.budget
        return {
            "name": service.name,
            "source": self._kind(service),
            "protocol": service.config.protocol,
            "grpc": service.grpc,
            "grpc_statuses": grpc_statuses(counters),
            "in_flight": service.in_flight,
            "requests": sum(counters.requests.values()),
            "failures": sum(count for (_, reason), count in counters.requests.items() if is_failure(reason)),
            "retries": sum(counters.retries.get(result, 0) for result in RETRIES),
            "fallbacks": sum(count for step, count in counters.fallbacks.items() if step != "none"),
            "reasons": snapshot(counters, now).reasons,
            "recent_reasons": self._running.history.failed(service, now).reasons,
            "last_failure": self._last_failure(service),
            "rates": self._running.history.rates(service, now),
            "budget": answers.Budget(
                balance=round(service.budget.balance(now), 1),
                ratio=settings.ratio,
                min_per_second=settings.min_per_second,
                spent=service.budget.spent,
                denied=service.budget.denied,
            ),
        }

    def _last_failure(self, service: LiveService) -> answers.LastFailure | None:
        last = service.last_failure
        if last is None:
            return None
        return answers.LastFailure(
            at=self._clock.words(last.at), reason=last.reason, detail=last.detail, request_id=last.request_id
        )

    def _kind(self, service: LiveService) -> str:
        discovery = service.config.discovery
        if isinstance(discovery, DnsSettings):
            return "dns"
        if isinstance(discovery, KubernetesSettings):
            return "kubernetes"
        return "name" if self._running.sources_of(service.name) else "static"

    def _discovery(self, service: LiveService) -> answers.Discovery:
        sources = self._running.sources_of(service.name)
        known = [one.last_success for one in sources if one.last_success is not None]
        problems = [one.problem for one in sources if one.problem]
        return answers.Discovery(
            kind=cast(Any, self._kind(service)),
            last_success=self._clock.words_or_none(min(known) if len(known) == len(sources) and known else None),
            problem="; ".join(problems) or None,
        )
