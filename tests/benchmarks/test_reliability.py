"""The table of docs/reliability.md: what counts as an error, and what is put into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.endpoints import EndpointProcess
from benchmarks.reliability import CLUSTERS, FAULT_S, HEADER, POLICIES, Figures, configuration
from benchmarks.steady import Sent
from sidecar.config.load import loads


def sent(latency_s: float, status: int = 200, reason: str = "", attempts: int = 1) -> Sent:
    return Sent("GET", 10.0, 10.0 + latency_s, status, reason, attempts=attempts)


def test_a_row_tells_errors_by_reason_and_latencies_of_good_answers() -> None:
    during = (
        *[sent(0.01)] * 6,
        sent(1.5, attempts=3),
        sent(0.002, 503, "circuit_open", attempts=0),
        sent(0.002, 503, "circuit_open", attempts=0),
        sent(0.004, 503, attempts=1),
    )
    row = Figures("paused", "tuned", 5, 3, during, 0.25).row()
    assert row == "| paused | 3 of 5 | 3 | 30.0% | circuit_open 2, 503 1 | 10 | 1,500 | 1.00 | 0.2 |"
    assert row.count("|") == HEADER.splitlines()[0].count("|")


def test_a_row_of_nothing_but_errors_has_no_latencies() -> None:
    row = Figures("killed", "tuned", 2, 2, (sent(0.01, 503, "connect_failure", 2),), None).row()
    assert row == "| killed | 2 of 2 | 1 | 100.0% | connect_failure 1 | - | - | 2.00 | > 8 |"


@pytest.mark.parametrize("policy", POLICIES)
def test_its_configurations_are_valid(policy: str) -> None:
    endpoints = [EndpointProcess(f"e{port}", port, Path("unused")) for port in (3001, 3002)]
    config = loads(configuration(policy, endpoints, 19250), "sidecar.yaml", {})
    service = config.services["venue"]
    assert len(service.endpoints) == 2
    assert service.policy.timeout.attempt == (5.0 if policy == "defaults" else 0.5)
    assert (service.policy.health is None) == (policy == "defaults")
    assert policy in FAULT_S


def test_each_cluster_has_as_many_as_fail() -> None:
    assert all(0 < failing <= total for total, failing in CLUSTERS)
