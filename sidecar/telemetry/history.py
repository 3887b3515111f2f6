"""History: rates and latencies of each service, now and over the last ten minutes, from counters that only grow.

Owns the sampling and the calculation. `is_failure` defines which reasons are failures. Memory is bounded: each service
has 120 points of plain floats for each series, and eleven snapshots of its counters.

    now      the last 10 s, from one snapshot a second; for a person who watches
    history  one point for every 5 s, 120 of them; for a chart
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Generator, Iterable, Mapping, Sequence
from math import isnan, nan
from typing import Final, NamedTuple, Protocol

from msgspec import Struct

from sidecar.telemetry.counters import DURATION_BUCKETS_S, EndpointCounters, ServiceCounters

SAMPLE_S: Final = 1.0
NOW_S: Final = 10
INTERVAL_S: Final = 5
POINTS: Final = 120

NO_ANSWER_WANTED: Final = frozenset({"client_disconnect", "bad_request", "loop", "unknown_service", "stale_connection"})
"""Reasons that say nothing about the service: the app went away, its request was invalid, or a kept connection was
closed before the request arrived."""

RETRIES: Final = ("sent", "failover", "stale_connection")
"""Results in `ServiceCounters.retries` that led to another attempt."""


class Rates(Struct, frozen=True, kw_only=True):
    """Rates of the last 10 s; None if no request ended in that time. `success_rate` is in percent."""

    requests_per_s: float
    success_rate: float | None
    p50_ms: float | None
    p99_ms: float | None
    retries_per_s: float


class Series(Struct, frozen=True, kw_only=True):
    """Points of the last ten minutes, oldest first. `t` is in Unix seconds. None means that no request ended."""

    t: list[int]
    requests_per_s: list[float]
    success_rate: list[float | None]
    p50_ms: list[float | None]
    p99_ms: list[float | None]
    retries_per_s: list[float]
    in_flight: list[int]


class CountedEndpoint(Protocol):
    @property
    def label(self) -> str: ...
    @property
    def counters(self) -> EndpointCounters: ...


class CountedService(Protocol):
    """What the history reads of a live service."""

    @property
    def name(self) -> str: ...
    @property
    def counters(self) -> ServiceCounters: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def endpoints(self) -> Sequence[CountedEndpoint]: ...


class Snapshot(NamedTuple):
    """A service's counters at one moment."""

    at: float
    ended: int
    judged: int
    failed: int
    retries: int
    buckets: list[int]
    reasons: dict[str, int]
    """Failures by reason."""


class Failed(NamedTuple):
    """How many of `judged` requests failed, by reason."""

    judged: int
    reasons: dict[str, int]


def is_failure(reason: str) -> bool:
    """Whether a request or an attempt with this reason failed."""
    return reason != "ok" and reason not in NO_ANSWER_WANTED


def snapshot(counters: ServiceCounters, at: float) -> Snapshot:
    ended = unjudged = failed = 0
    reasons: dict[str, int] = {}
    for (_, reason), count in counters.requests.items():
        ended += count
        if reason in NO_ANSWER_WANTED:
            unjudged += count
        elif reason != "ok":
            failed += count
            reasons[reason] = reasons.get(reason, 0) + count
    retries = sum(counters.retries.get(result, 0) for result in RETRIES)
    return Snapshot(at, ended, ended - unjudged, failed, retries, list(counters.durations.buckets), reasons)


def quantile_ms(buckets: Sequence[int], share: float) -> float | None:
    """A quantile in milliseconds, interpolated like Prometheus' histogram_quantile; the last bound for longer
    durations.
    """
    total = sum(buckets)
    if not total:
        return None
    rank, below, lower_s = share * total, 0, 0.0
    for bound_s, count in zip(DURATION_BUCKETS_S, buckets, strict=False):
        if count and below + count >= rank:
            return round((lower_s + (bound_s - lower_s) * (rank - below) / count) * 1000, 3)
        below += count
        lower_s = bound_s
    return DURATION_BUCKETS_S[-1] * 1000


def failed_since(before: Snapshot, after: Snapshot) -> Failed:
    """The failures between two snapshots of one service."""
    gained = {reason: count - before.reasons.get(reason, 0) for reason, count in after.reasons.items()}
    return Failed(after.judged - before.judged, {reason: count for reason, count in gained.items() if count > 0})


def rates(before: Snapshot, after: Snapshot) -> Rates:
    """The rates between two snapshots of one service."""
    seconds = max(after.at - before.at, 1e-3)
    judged = after.judged - before.judged
    buckets = [new - old for old, new in zip(before.buckets, after.buckets, strict=True)]
    return Rates(
        requests_per_s=round((after.ended - before.ended) / seconds, 3),
        success_rate=round(100 * (1 - (after.failed - before.failed) / judged), 3) if judged > 0 else None,
        p50_ms=quantile_ms(buckets, 0.5),
        p99_ms=quantile_ms(buckets, 0.99),
        retries_per_s=round((after.retries - before.retries) / seconds, 3),
    )


class _Points:
    """The series of one service, in 8 bytes for each number; NaN means None."""

    def __init__(self) -> None:
        self.times = array("q")
        self.in_flight = array("q")
        self.columns = {key: array("d") for key in Rates.__struct_fields__}

    def add(self, unix_s: float, in_flight: int, of: Rates) -> None:
        self.times.append(round(unix_s))
        self.in_flight.append(in_flight)
        for key, column in self.columns.items():
            value = getattr(of, key)
            column.append(nan if value is None else value)
        if len(self.times) > POINTS:
            del self.times[0], self.in_flight[0]
            for column in self.columns.values():
                del column[0]

    def series(self) -> Series:
        columns = {key: [None if isnan(value) else value for value in column] for key, column in self.columns.items()}
        return Series(t=list(self.times), in_flight=list(self.in_flight), **columns)  # type: ignore[arg-type]


class _Watched:
    """The kept data of one service."""

    def __init__(self, first: Snapshot) -> None:
        self.recent: deque[Snapshot] = deque([first], maxlen=NOW_S + 1)
        self.last_point = first
        self.points = _Points()
        self.attempts_before: Mapping[str, int] = {}
        self.attempts: Mapping[str, int] = {}
        """Attempts by endpoint, at the last two points."""


class History:
    """Call `sample` once a second. Times are monotonic seconds; the points have Unix time."""

    def __init__(self) -> None:
        self._watched: dict[str, _Watched] = {}
        self._samples = 0

    def sample(self, services: Iterable[CountedService], now: float, unix_s: float) -> None:
        """Take a snapshot of each service. Services that are gone are forgotten."""
        for _ in self.sampling(services, now, unix_s):
            pass

    def sampling(self, services: Iterable[CountedService], now: float, unix_s: float) -> Generator[None, None, None]:
        """As `sample`, in steps of one service."""
        self._samples += 1
        point = self._samples % INTERVAL_S == 0
        watched: dict[str, _Watched] = {}
        for service in services:
            yield
            taken = snapshot(service.counters, now)
            known = self._watched.get(service.name)
            if known is None or taken.ended < known.recent[-1].ended:  # new, or a different service with the same name
                watched[service.name] = _Watched(taken)
                continue
            watched[service.name] = known
            known.recent.append(taken)
            if point:
                known.points.add(unix_s, service.in_flight, rates(known.last_point, taken))
                known.last_point = taken
                known.attempts_before, known.attempts = known.attempts, _attempts(service.endpoints)
        self._watched = watched

    def rates(self, service: CountedService, now: float) -> Rates:
        """The rates of the last 10 s, until now."""
        taken = snapshot(service.counters, now)
        known = self._watched.get(service.name)
        return rates(known.recent[0] if known is not None else taken, taken)

    def failed(self, service: CountedService, now: float) -> Failed:
        """The failures of the last 10 s, until now."""
        taken = snapshot(service.counters, now)
        known = self._watched.get(service.name)
        return failed_since(known.recent[0] if known is not None else taken, taken)

    def shares(self, service: CountedService) -> Mapping[str, float]:
        """Percent of the attempts of the last 5 to 10 s, by endpoint; empty if there were none."""
        known = self._watched.get(service.name)
        before = known.attempts_before if known is not None else {}
        gained = {key: count - before.get(key, 0) for key, count in _attempts(service.endpoints).items()}
        total = sum(gained.values())
        return {key: round(100 * count / total, 1) for key, count in gained.items()} if total > 0 else {}

    def series(self, service: str) -> Series:
        known = self._watched.get(service)
        return (known.points if known is not None else _Points()).series()


def _attempts(endpoints: Iterable[CountedEndpoint]) -> dict[str, int]:
    return {one.label: sum(one.counters.attempts.values()) for one in endpoints}
