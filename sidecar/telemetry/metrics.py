"""The counters of the data path as Prometheus metrics, read when scraped.

Owns names and labels. No label is taken from request data: services, endpoints and routes are configuration, codes and
reasons are from closed sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from sidecar.telemetry.counters import DURATION_BUCKETS_S, EndpointCounters, ServiceCounters

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BREAKER_STATES: Final = ("closed", "open", "half_open")
_BREAKER_EVENTS: Final = {
    "open": "opens",
    "half_open": "half_opens",
    "close": "closes",
    "success": "successes",
    "failure": "failures",
    "timeout": "timeouts",
    "reject": "rejects",
    "fallback": "fallbacks",
}


class EndpointView(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def counters(self) -> EndpointCounters: ...
    @property
    def active(self) -> int: ...


class BreakerView(Protocol):
    @property
    def state(self) -> str: ...


class ServiceView(Protocol):
    """What a scrape reads of a live service."""

    @property
    def name(self) -> str: ...
    @property
    def counters(self) -> ServiceCounters: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def breakers(self) -> Sequence[BreakerView]: ...
    @property
    def present(self) -> Sequence[tuple[EndpointView, bool]]: ...
    @property
    def departed(self) -> Sequence[EndpointView]: ...


class SidecarCollector(Collector):
    """Everything of ours; `services` is asked at each scrape, `unrouted` holds what reached no service."""

    def __init__(
        self,
        services: Callable[[], Iterable[ServiceView]],
        unrouted: Callable[[], ServiceCounters],
        generation: Callable[[], int],
        connections: Callable[[], int],
        lines_dropped: Callable[[], int] = lambda: 0,
    ) -> None:
        self._services = services
        self._unrouted = unrouted
        self._generation = generation
        self._connections = connections
        self._lines_dropped = lines_dropped

    def collect(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        services = list(self._services())
        yield from self._requests(services)
        yield from self._attempts(services)
        yield from self._breakers(services)
        yield GaugeMetricFamily("sidecar_config_generation", "Configurations in force so far", self._generation())
        yield GaugeMetricFamily("sidecar_app_connections", "Open connections from the app", self._connections())
        yield CounterMetricFamily(
            "sidecar_log_lines_dropped", "Log lines lost because nobody read them", self._lines_dropped()
        )

    def _requests(
        self, services: Sequence[ServiceView]
    ) -> Iterable[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        requests = CounterMetricFamily(
            "sidecar_requests",
            "Requests that ended, by what the app was told and why",
            labels=["service", "code", "reason"],
        )
        durations = HistogramMetricFamily(
            "sidecar_request_duration_seconds", "From a request's head to its response's last byte", labels=["service"]
        )
        in_flight = GaugeMetricFamily(
            "sidecar_in_flight_requests",
            "Requests that hold a concurrency permit, tunnels included",
            labels=["service"],
        )
        tunnels = GaugeMetricFamily("sidecar_tunnels", "WebSocket tunnels that are open", labels=["service"])
        retries = CounterMetricFamily(
            "sidecar_retries", "Further attempts made, and those that were refused", labels=["service", "result"]
        )
        counted = [("", self._unrouted()), *((service.name, service.counters) for service in services)]
        for name, counters in counted:
            for (code, reason), count in counters.requests.items():
                requests.add_metric([name, str(code), reason], count)
        for service in services:
            counters = service.counters
            total = 0
            buckets = []
            for bound, count in zip((*map(str, DURATION_BUCKETS_S), "+Inf"), counters.durations.buckets, strict=True):
                total += count
                buckets.append((bound, total))
            durations.add_metric([service.name], buckets, counters.durations.total_s)
            in_flight.add_metric([service.name], service.in_flight)
            tunnels.add_metric([service.name], counters.tunnels)
            for result, count in counters.retries.items():
                retries.add_metric([service.name, result], count)
        yield from (requests, durations, in_flight, tunnels, retries)

    def _attempts(self, services: Sequence[ServiceView]) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        attempts = CounterMetricFamily(
            "sidecar_attempts", "Attempts that ended, by endpoint and reason", labels=["service", "endpoint", "reason"]
        )
        healthy = GaugeMetricFamily(
            "sidecar_endpoint_healthy",
            "1 where the endpoint gets requests, 0 where it is skipped after refused connections",
            labels=["service", "endpoint"],
        )
        active = GaugeMetricFamily(
            "sidecar_endpoint_active_connections", "Connections in use", labels=["service", "endpoint"]
        )
        for service in services:
            merged: dict[tuple[str, str], int] = {}
            for endpoint, usable in service.present:
                healthy.add_metric([service.name, endpoint.label], 1 if usable else 0)
                active.add_metric([service.name, endpoint.label], endpoint.active)
            for endpoint in (*(one for one, _ in service.present), *service.departed):
                for reason, count in endpoint.counters.attempts.items():
                    key = (endpoint.label, reason)  # two that differ in what a label does not say are one series
                    merged[key] = merged.get(key, 0) + count
            for (label, reason), count in merged.items():
                attempts.add_metric([service.name, label, reason], count)
        yield from (attempts, healthy, active)

    def _breakers(self, services: Sequence[ServiceView]) -> Iterable[CounterMetricFamily | GaugeMetricFamily]:
        """A service's own breaker gives the state; events are those of its routes' breakers too."""
        state = GaugeMetricFamily(
            "sidecar_breaker_state", "1 for the state the breaker is in", labels=["service", "state"]
        )
        events = CounterMetricFamily("sidecar_breaker_events", "What breakers saw", labels=["service", "event"])
        for service in services:
            breakers = service.breakers
            for one in BREAKER_STATES:
                state.add_metric([service.name, one], 1 if breakers[0].state == one else 0)
            for event, attribute in _BREAKER_EVENTS.items():
                events.add_metric([service.name, event], sum(getattr(one, attribute) for one in breakers))
        yield from (state, events)


def registry(collector: Collector) -> CollectorRegistry:
    """A registry of ours with the process's own figures beside them."""
    made = CollectorRegistry(auto_describe=False)
    made.register(collector)
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def exposition(of: CollectorRegistry) -> bytes:
    """The text format, version 0.0.4."""
    return generate_latest(of)
