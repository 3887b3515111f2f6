"""The sidecar itself, as Prometheus reads it."""

from __future__ import annotations

import pytest

from sidecar.telemetry.loop_lag import LAG_BUCKETS_S
from tests.support.fake_metrics import FakeCache, FakeLag, samples, scraped, series


def test_the_version_is_in_the_labels() -> None:
    family = scraped()["sidecar_build_info"]
    assert samples(family, "sidecar_build_info") == {series(version="1.2.3", compiled="yes", python="3.11.7"): 1}


def test_the_lag_is_a_cumulative_histogram_and_its_recent_maximum() -> None:
    counts = [5, 0, 2, *[0] * (len(LAG_BUCKETS_S) - 3), 1]  # the last one is of what is above all bounds
    families = scraped(lag=FakeLag(counts, total_s=3.5, most_s=3.25))
    family = families["sidecar_loop_lag_seconds"]
    found = samples(family, "sidecar_loop_lag_seconds_bucket")
    buckets = {float(dict(labels)["le"]): value for labels, value in found.items()}
    assert list(buckets) == [*LAG_BUCKETS_S, float("inf")]
    assert (buckets[0.001], buckets[0.0025], buckets[0.005], buckets[2.5], buckets[float("inf")]) == (5, 5, 7, 7, 8)
    assert samples(family, "sidecar_loop_lag_seconds_count") == {series(): 8}
    assert samples(family, "sidecar_loop_lag_seconds_sum") == {series(): 3.5}
    assert samples(families["sidecar_loop_lag_max_seconds"], "sidecar_loop_lag_max_seconds") == {series(): 3.25}


def test_the_cache_of_last_good_responses() -> None:
    families = scraped(cache=FakeCache(bytes_used=4096, entries=3, evictions=2))
    for family, name, value in [
        ("sidecar_stale_cache_bytes", "sidecar_stale_cache_bytes", 4096),
        ("sidecar_stale_cache_entries", "sidecar_stale_cache_entries", 3),
        ("sidecar_stale_cache_evictions", "sidecar_stale_cache_evictions_total", 2),
    ]:
        assert samples(families[family], name) == {series(): value}


@pytest.mark.parametrize(("successful", "value"), [(True, 1), (False, 0)])
def test_whether_the_last_reload_succeeded(successful: bool, value: int) -> None:
    family = scraped(reload_successful=successful)["sidecar_config_last_reload_successful"]
    assert samples(family, "sidecar_config_last_reload_successful") == {series(): value}
