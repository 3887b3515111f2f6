"""Prometheus metrics: the counters of the data path, read at each scrape.

Owns the collector, and the names and labels for requests, breakers and the configuration. The modules `metrics_*` own
all others. No label comes from request data: services, endpoints and routes come from the configuration, codes and
reasons from closed lists. docs/metrics.md lists every metric.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from time import monotonic, time
from typing import Final, Protocol, TypeVar

from sidecar.policy.breaker import STATES
from sidecar.telemetry.counters import DURATION_BUCKETS_S, ServiceCounters
from sidecar.telemetry.families import Collector, CounterFamily, Family, GaugeFamily, HistogramFamily
from sidecar.telemetry.metrics_aggregates import aggregates_family
from sidecar.telemetry.metrics_discovery import SourceView, discovery_families
from sidecar.telemetry.metrics_endpoints import EndpointsView, EndpointView, endpoint_families
from sidecar.telemetry.metrics_grpc import grpc_families
from sidecar.telemetry.metrics_limits import IdleView, LimitsView, limit_families
from sidecar.telemetry.metrics_runtime import runtime_families
from sidecar.telemetry.metrics_tls import TlsView, tls_families
from sidecar.telemetry.text_format import render, rendering

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

BREAKER_EVENTS: Final = {
    "open": "opens",
    "half_open": "half_opens",
    "close": "closes",
    "success": "successes",
    "failure": "failures",
    "timeout": "timeouts",
    "reject": "rejects",
    "fallback": "fallbacks",
}


SERVICES_EACH: Final = 4
"""Services in a step of a scrape. With ten endpoints each, the step takes about a millisecond."""

Batched = TypeVar("Batched")


class BreakerView(Protocol):
    @property
    def state(self) -> str: ...
    @property
    def forced(self) -> str | None: ...


class PresentView(EndpointView, IdleView, Protocol):
    """An endpoint, with everything that the metrics modules read."""


class ServiceView(EndpointsView, LimitsView, Protocol):
    """What a scrape reads of a live service."""

    @property
    def present(self) -> Sequence[tuple[PresentView, bool]]: ...
    @property
    def departed(self) -> Sequence[PresentView]: ...
    @property
    def counters(self) -> ServiceCounters: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def breakers(self) -> Sequence[BreakerView]: ...
    @property
    def breaker_counters(self) -> object:
        """With the attributes in `BREAKER_EVENTS`."""


class SidecarCollector:
    """Collects all metrics of the sidecar. `services` is called at each scrape; `unrouted` counts requests without a
    service.

    `sources` gives pairs of (service, discovery source); their times are times of `clock`. `certificates` gives pairs
    of (service, its TLS files). `process` gives the metrics of the process (`metrics_process`), `http2` the apps'
    connections that speak HTTP/2 and their streams.
    """

    def __init__(
        self,
        services: Callable[[], Iterable[ServiceView]],
        unrouted: Callable[[], ServiceCounters],
        generation: Callable[[], int],
        connections: Callable[[], int],
        lines_dropped: Callable[[], int] = lambda: 0,
        sources: Callable[[], Iterable[tuple[str, SourceView]]] = tuple,
        aggregates: Callable[[], Mapping[str, ServiceCounters]] = dict,
        reloads: Callable[[], Mapping[str, int]] = dict,
        certificates: Callable[[], Iterable[tuple[str, TlsView]]] = tuple,
        process: Callable[[], Iterable[Family]] = tuple,
        http2: Callable[[], tuple[int, int]] = lambda: (0, 0),
        clock: Callable[[], float] = monotonic,
        wall_clock: Callable[[], float] = time,
    ) -> None:
        self._services = services
        self._unrouted = unrouted
        self._generation = generation
        self._connections = connections
        self._lines_dropped = lines_dropped
        self._sources = sources
        self._aggregates = aggregates
        self._reloads = reloads
        self._certificates = certificates
        self._process = process
        self._http2 = http2
        self._clock = clock
        self._wall_clock = wall_clock

    def collect(self) -> Iterable[Family]:
        for part in self.parts(sys.maxsize):
            yield from part

    def parts(self, services_each: int = SERVICES_EACH) -> Iterator[Iterable[Family]]:
        """All metrics, in parts of a few services each; several parts have samples of one family."""
        unrouted = [("", self._unrouted())]
        for services in _batches(list(self._services()), services_each):
            yield self._of_services(services, unrouted)
            unrouted = []
        for sources in _batches(list(self._sources()), services_each):
            yield discovery_families(sources, self._clock(), self._wall_clock())
        for certificates in _batches(list(self._certificates()), services_each):
            yield tls_families(certificates)
        yield self._of_all()

    def _of_services(
        self, services: Sequence[ServiceView], unrouted: Sequence[tuple[str, ServiceCounters]]
    ) -> Iterable[Family]:
        yield from self._requests(services, unrouted)
        yield from endpoint_families(services)
        yield from limit_families(services, self._clock())
        yield from self._breakers(services)

    def _of_all(self) -> Iterable[Family]:
        """What belongs to no service."""
        yield aggregates_family(self._aggregates())
        yield GaugeFamily("sidecar_config_generation", "Configurations applied since the start", self._generation())
        reloads = CounterFamily(
            "sidecar_config_reloads", "Times that the configuration file was read again, by result", labels=["result"]
        )
        for result, count in self._reloads().items():
            reloads.add_metric([result], count)
        yield reloads
        yield GaugeFamily("sidecar_app_connections", "Open connections from the app", self._connections())
        connections, streams = self._http2()
        yield GaugeFamily("sidecar_app_http2_connections", "Open connections from the app over HTTP/2", connections)
        yield GaugeFamily("sidecar_app_http2_streams", "Open streams on HTTP/2 connections from the app", streams)
        yield CounterFamily(
            "sidecar_log_lines_dropped",
            "Log lines lost because nobody read them or they could not be written",
            self._lines_dropped(),
        )
        yield from self._process()

    def _requests(
        self, services: Sequence[ServiceView], unrouted: Sequence[tuple[str, ServiceCounters]]
    ) -> Iterable[Family]:
        requests = CounterFamily(
            "sidecar_requests",
            "Requests that ended, by status code sent to the app and reason",
            labels=["service", "code", "reason"],
        )
        durations = HistogramFamily(
            "sidecar_request_duration_seconds",
            "Time from a request's head to its response's last byte",
            labels=["service"],
        )
        in_flight = GaugeFamily(
            "sidecar_in_flight_requests",
            "Requests in flight, including tunnels",
            labels=["service"],
        )
        tunnels = GaugeFamily("sidecar_tunnels", "Open WebSocket tunnels", labels=["service"])
        retries = CounterFamily(
            "sidecar_retries", "Retries, and refusals to retry, by result", labels=["service", "result"]
        )
        fallbacks = CounterFamily(
            "sidecar_fallbacks",
            "Failures with a fallback configured, by the fallback step that answered, or none",
            labels=["service", "step"],
        )
        counted = [*unrouted, *((service.name, service.counters) for service in services)]
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
            for step, count in counters.fallbacks.items():
                fallbacks.add_metric([service.name, step], count)
        yield from (requests, durations, in_flight, tunnels, retries, fallbacks, *grpc_families(counted))

    def _breakers(self, services: Sequence[ServiceView]) -> Iterable[Family]:
        """The state is that of the service's own breaker. All other metrics include the breakers of its routes."""
        state = GaugeFamily(
            "sidecar_breaker_state", "1 for the current state of the breaker, else 0", labels=["service", "state"]
        )
        forced = GaugeFamily(
            "sidecar_breaker_forced", "Breakers that an operator has forced open or closed", labels=["service"]
        )
        events = CounterFamily(
            "sidecar_breaker_events", "Events of the breakers of a service", labels=["service", "event"]
        )
        for service in services:
            breakers = service.breakers
            for one in STATES:
                state.add_metric([service.name, one], 1 if breakers[0].state == one else 0)
            forced.add_metric([service.name], sum(one.forced is not None for one in breakers))
            for event, attribute in BREAKER_EVENTS.items():
                events.add_metric([service.name, event], getattr(service.breaker_counters, attribute))
        yield from (state, forced, events)


def _batches(of: Sequence[Batched], size: int) -> Iterator[Sequence[Batched]]:
    """Consecutive parts of a sequence; one empty part if it is empty, for the families have their headers then too."""
    for start in range(0, max(len(of), 1), size):
        yield of[start : start + size]


def exposition(collector: Collector) -> bytes:
    """The metrics of a collector and of the process, in the text format, version 0.0.4."""
    return render(chain(collector.collect(), runtime_families()))


def exposing(collector: SidecarCollector) -> Generator[None, None, list[bytes]]:
    """As `exposition`, in steps of a few services. Returns the text in pieces."""
    return rendering(chain(collector.parts(), [runtime_families()]))
