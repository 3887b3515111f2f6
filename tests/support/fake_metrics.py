"""Made-up services and sources for a scrape, and what Prometheus' own parser reads from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sidecar.net.tls_contexts import Expiration, InForce
from sidecar.policy.breaker_counters import BreakerCounters
from sidecar.telemetry.counters import EndpointCounters, ServiceCounters
from sidecar.telemetry.loop_lag import LAG_BUCKETS_S
from sidecar.telemetry.metrics import SidecarCollector
from sidecar.telemetry.metrics_process import Build, process_families
from sidecar.telemetry.metrics_spans import spans_family
from sidecar.telemetry.text_format import render

Labels = frozenset[tuple[str, str]]

MONOTONIC_S, UNIX_S = 5000.0, 1_700_000_000.0
"""The same moment on both clocks of a scrape."""


@dataclass
class FakeEndpoint:
    label: str
    active: int = 0
    counters: EndpointCounters = field(default_factory=EndpointCounters)
    idle: int = 0

    def attempted(self, **reasons: int) -> FakeEndpoint:
        self.counters.attempts.update(reasons)
        return self


@dataclass
class FakeBreaker:
    state: str = "closed"
    forced: str | None = None


@dataclass
class FakeOutlier:
    ejected: int = 0
    ejections: int = 0
    returns: int = 0
    overflows: int = 0


@dataclass
class FakeAvailability:
    panic: bool = False
    panics: int = 0


@dataclass
class FakeBudget:
    """`left` at MONOTONIC_S, and one more each second."""

    left: float = 0.0

    def balance(self, now: float) -> float:
        return self.left + (now - MONOTONIC_S)


@dataclass
class FakeLag:
    buckets: Sequence[int] = (0,) * (len(LAG_BUCKETS_S) + 1)
    total_s: float = 0.0
    most_s: float = 0.0

    def largest(self) -> float:
        return self.most_s


@dataclass
class FakeCache:
    bytes_used: int = 0
    entries: int = 0
    evictions: int = 0


@dataclass
class FakeService:
    name: str
    in_flight: int = 0
    counters: ServiceCounters = field(default_factory=ServiceCounters)
    breakers: Sequence[FakeBreaker] = field(default_factory=lambda: [FakeBreaker()])
    breaker_counters: BreakerCounters = field(default_factory=BreakerCounters)
    present: Sequence[tuple[FakeEndpoint, bool]] = ()
    departed: Sequence[FakeEndpoint] = ()
    outlier: FakeOutlier = field(default_factory=FakeOutlier)
    availability: FakeAvailability = field(default_factory=FakeAvailability)
    checker: object | None = None
    budget: FakeBudget = field(default_factory=FakeBudget)
    connections: int = 0
    waiting: int = 0


@dataclass
class FakeSource:
    kind: str = "dns"
    name: str = "venue.test."
    updates: Mapping[str, int] = field(default_factory=lambda: {"success": 1, "failure": 0})
    last_success: float | None = None
    endpoints: int = 0


def asked() -> dict[str, ServiceCounters]:
    """The counters of an aggregate that was called."""
    counters = ServiceCounters()
    counters.request(200, "ok", 0.1)
    return {"venue-page": counters}


USED: Final = (("venue", InForce((Expiration("ca", "ca.pem", 2e9),), False)),)
"""Certificates of a service."""


def scraped(
    *services: FakeService,
    unrouted: ServiceCounters | None = None,
    sources: Iterable[tuple[str, FakeSource]] = (),
    aggregates: Mapping[str, ServiceCounters] | None = None,
    certificates: Iterable[tuple[str, InForce]] = (),
    lag: FakeLag | None = None,
    cache: FakeCache | None = None,
    reload_successful: bool = True,
) -> dict[str, Metric]:
    """The families of a scrape, by name without `_total`."""
    collector = SidecarCollector(
        lambda: services,
        lambda: unrouted or ServiceCounters(),
        lambda: 3,
        lambda: 7,
        sources=lambda: sources,
        aggregates=lambda: aggregates or {},
        reloads=lambda: {"ok": 2, "rejected": 1},
        certificates=lambda: certificates,
        process=lambda: [
            *process_families(
                Build("1.2.3", True, "3.11.7"),
                lag or FakeLag(),
                cache or FakeCache(),
                reload_successful=reload_successful,
            ),
            spans_family(30, 2),
        ],
        http2=lambda: (2, 5),
        clock=lambda: MONOTONIC_S,
        wall_clock=lambda: UNIX_S,
    )
    return {family.name: family for family in text_string_to_metric_families(render(collector.collect()).decode())}


def samples(family: Metric, name: str) -> dict[Labels, float]:
    found = [(frozenset(sample.labels.items()), sample.value) for sample in family.samples if sample.name == name]
    assert len(found) == len(dict(found)), "a series is there twice"
    return dict(found)


def series(**labels: str) -> Labels:
    return frozenset(labels.items())


def busy() -> FakeService:
    """A service with a series for each of its metrics."""
    service = FakeService("venue", in_flight=2)
    service.counters.request(200, "ok", 0.004)
    service.counters.request(200, "ok", 0.3)
    service.counters.request(503, "circuit_open", 0.0001)
    service.counters.grpc_call("/shop.v1.Venue/Get", 0)
    service.counters.retry("sent")
    service.counters.fallback("stale")
    service.counters.tunnels = 1
    well = FakeEndpoint("10.0.0.7:3002", active=1).attempted(ok=2)
    refusing = FakeEndpoint("[fd00::8]:3002").attempted(connect_failure=1)
    service.present = [(well, True), (refusing, False)]
    service.checker = object()
    service.counters.checks.update(success=4, failure=1)
    service.connections, service.waiting, service.budget.left = 4, 1, 12.0
    well.idle = 2
    return service
