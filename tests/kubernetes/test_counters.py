from __future__ import annotations

from sidecar.kubernetes.counters import RESULTS, InjectorCounters
from sidecar.telemetry.text_format import render


def test_every_result_has_a_series_from_the_start() -> None:
    counters = InjectorCounters(lambda: 17.0, lambda: 3, lambda: 5)
    counters.injections["denied"] += 2
    text = render(counters.collect()).decode()
    for result in RESULTS:
        assert f'sidecar_injections_total{{result="{result}"}} {2.0 if result == "denied" else 0}' in text.replace(
            "} 2\n", "} 2.0\n"
        )
    assert "sidecar_injector_certificate_expiry_timestamp_seconds 17.0" in text
    assert "sidecar_injector_connections 3" in text
    assert "sidecar_injector_refused_connections_total 5" in text
