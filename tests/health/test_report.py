"""The health report: how the parts give the whole, and its JSON."""

from __future__ import annotations

import msgspec
import pytest

from sidecar.health import active, http_check
from sidecar.health.report import (
    REASONS,
    Endpoints,
    Part,
    Report,
    ServicePart,
    aggregate,
    milliseconds,
    reason_word,
)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], "healthy"),
        ([("healthy", True), ("healthy", False)], "healthy"),
        ([("healthy", True), ("unhealthy", False)], "degraded"),
        ([("degraded", False)], "degraded"),
        ([("degraded", True)], "degraded"),
        ([("unhealthy", True)], "unhealthy"),
        ([("unhealthy", False), ("unhealthy", True), ("degraded", True)], "unhealthy"),
    ],
)
def test_the_whole(parts: list[tuple[str, bool]], status: str) -> None:
    assert aggregate(parts) == status
    assert aggregate(reversed(parts)) == status


def test_the_answer_in_json() -> None:
    venue = ServicePart(status="healthy", breaker="closed", endpoints=Endpoints(2, 2))
    event = ServicePart(
        status="unhealthy", breaker="open", endpoints=Endpoints(0, 1), latency_ms=1.5, reason="circuit_open"
    )
    checks = {"redis": Part(status="healthy", latency_ms=0.4), "queue": Part(status="unhealthy", reason="timeout")}
    report = Report(status="degraded", checks=checks, services={"venue": venue, "event": event})
    assert msgspec.json.encode(report) == (
        b'{"status":"degraded","checks":{"redis":{"status":"healthy","latency_ms":0.4},'
        b'"queue":{"status":"unhealthy","reason":"timeout"}},'
        b'"services":{"venue":{"status":"healthy","breaker":"closed","endpoints":{"healthy":2,"total":2}},'
        b'"event":{"status":"unhealthy","breaker":"open","endpoints":{"healthy":0,"total":1},'
        b'"latency_ms":1.5,"reason":"circuit_open"}}}'
    )


def test_every_reason_of_an_active_check_is_a_word_of_the_report() -> None:
    told = (http_check.CONNECT_FAILURE, http_check.RESET, http_check.BAD_RESPONSE, http_check.IMMEDIATE_FAIL)
    for word in (active.TIMEOUT, *told):
        assert reason_word(word) == word
    assert reason_word(active.INTERNAL) == "internal"
    assert reason_word("status 503") == "status"


@pytest.mark.parametrize("reason", ["", "10.0.0.7:3002 refused", "WRONGPASS hunter2"])
def test_unknown_reasons_are_not_shown(reason: str) -> None:
    assert reason_word(reason) == "internal"
    assert "internal" in REASONS


@pytest.mark.parametrize(("seconds", "shown"), [(0.0004, 0.4), (1.23456, 1234.6), (0.0, 0.0), (-0.001, 0.0)])
def test_milliseconds(seconds: float, shown: float) -> None:
    assert milliseconds(seconds) == shown
