"""Prometheus metrics of the sidecar process: version, event loop lag, stale cache, last reload.

Owns the names and labels of `sidecar_build_info`, `sidecar_loop_lag_*`, `sidecar_stale_cache_*` and
`sidecar_config_last_reload_successful`. `metrics_runtime` owns memory, CPU and descriptors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

from sidecar.telemetry.families import CounterFamily, Family, GaugeFamily, HistogramFamily
from sidecar.telemetry.loop_lag import LAG_BUCKETS_S


class Build(NamedTuple):
    """The running version. `compiled` says whether the data path is machine code."""

    version: str
    compiled: bool
    python: str


class LagView(Protocol):
    @property
    def buckets(self) -> Sequence[int]:
        """Samples by lag, not cumulative: one for each of LAG_BUCKETS_S and one more."""

    @property
    def total_s(self) -> float: ...
    def largest(self) -> float: ...


class CacheView(Protocol):
    @property
    def bytes_used(self) -> int: ...
    @property
    def entries(self) -> int: ...
    @property
    def evictions(self) -> int: ...


def process_families(build: Build, lag: LagView, cache: CacheView, *, reload_successful: bool) -> Iterable[Family]:
    info = GaugeFamily("sidecar_build_info", "The running version, as labels; always 1", labels=Build._fields)
    info.add_metric([build.version, "yes" if build.compiled else "no", build.python], 1)
    yield info
    yield GaugeFamily(
        "sidecar_config_last_reload_successful",
        "0 while the configuration file is rejected and the last good configuration stays in force, else 1",
        1 if reload_successful else 0,
    )
    lags = HistogramFamily("sidecar_loop_lag_seconds", "How late the event loop ran a timer, sampled twice a second")
    bounds = (*map(str, LAG_BUCKETS_S), "+Inf")
    lags.add_metric([], list(zip(bounds, accumulate(lag.buckets), strict=True)), lag.total_s)
    yield lags
    yield GaugeFamily(
        "sidecar_loop_lag_max_seconds", "The largest event loop lag of the last one to two minutes", lag.largest()
    )
    yield GaugeFamily(
        "sidecar_stale_cache_bytes", "Memory of the responses that are kept for a stale fallback", cache.bytes_used
    )
    yield GaugeFamily("sidecar_stale_cache_entries", "Responses that are kept for a stale fallback", cache.entries)
    yield CounterFamily(
        "sidecar_stale_cache_evictions", "Kept responses removed to make room for others", cache.evictions
    )
