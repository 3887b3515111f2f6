"""How `sidecar status` looks: words for each state, and 80 columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.cli.output import show
from sidecar.cli.status_tables import NO_FAILURES, all_services, one_service
from sidecar.telemetry.history import NO_ANSWER_WANTED
from tests.cli.fake_admin import (
    BREAKER,
    BREAKER_DETAIL,
    ENDPOINT,
    RATES,
    SUMMARY,
    detail,
    reload_report,
    service,
    services,
)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("COLUMNS", "80")

    def shown(parts: Any) -> list[str]:
        show(*parts)
        found = capsys.readouterr().out.splitlines()
        assert max(map(len, found)) <= 80
        return found

    return shown


def in_seconds(seconds: float) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=seconds - 0.3)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def test_all_services(lines: Any) -> None:
    assert lines(all_services(services())) == [
        "2 services, generation 3",
        "service  breaker     ok  req/s     p50      p99  active  endpoints",
        "venue    closed   99.5%   12.3  3.1 ms  12.0 ms       4  2 of 3, 1 ejected",
        "payment  closed   99.5%   12.3  3.1 ms  12.0 ms       4  2 of 3, 1 ejected",
    ]


def test_nothing_measured_yet(lines: Any) -> None:
    rates = dict.fromkeys(RATES) | {"requests_per_s": 0.0}
    quiet = {"total": 1, "available": 1, "healthy": 1, "ejected": 0, "panic": False}
    assert lines(all_services(services(service(rates=rates, endpoints=quiet))))[-1].split() == [
        *("venue", "closed", "-", "0", "-", "-", "4", "1")
    ]


def test_long_names_and_large_numbers_stay_within_the_columns(lines: Any) -> None:
    rates = {"requests_per_s": 12345.6, "success_rate": 99.9, "p50_ms": 61000.0, "p99_ms": 61000.0}
    breaker = BREAKER | {"state": "open", "forced": "open", "forced_until": in_seconds(86390)}
    found = lines(all_services(services(service("s" * 63, rates=rates, breaker=breaker))))
    assert "…" in found[-1]
    assert "23h 59m" in found[-1]


def test_that_it_drains_and_that_the_file_was_rejected(lines: Any) -> None:
    reload = {"result": "rejected", "at": "2026-11-23T01:02:03.456Z", "errors": 2}
    text = " ".join(lines(all_services(services(draining=True, reload=reload))))
    assert "draining" in text
    assert "the file was rejected at 2026-11-23 01:02:03Z" in text


@pytest.mark.parametrize(
    ("breaker", "words"),
    [
        ({}, "closed"),
        ({"state": "open", "retry_after_s": 12.4}, "open, probe in 13s"),
        ({"state": "open"}, "open, probe next"),
        ({"state": "half_open"}, "half-open"),
        ({"state": "open", "forced": "open", "forced_until": "LATER"}, "open, forced for 1m 40s"),
        ({"forced": "closed", "forced_until": None}, "closed, forced"),
        ({"state": "open", "mode": "observe"}, "open, probe next (observe)"),
        ({"mode": "off"}, "off"),
    ],
)
def test_a_breaker_in_words(lines: Any, breaker: dict[str, Any], words: str) -> None:
    given = {key: in_seconds(100) if value == "LATER" else value for key, value in breaker.items()}
    found = lines(one_service(detail(breaker=BREAKER_DETAIL | given)))
    assert f"breaker       {words}" in found


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ({}, "healthy"),
        ({"known": False}, "available"),
        ({"healthy": False}, "unhealthy"),
        ({"ejected": True, "ejected_until": "LATER"}, "ejected for 1m 40s"),
        ({"drained": True, "forced_until": "LATER"}, "drained for 1m 40s"),
        ({"skipped_until": "LATER"}, "skipped for 1m 40s"),
    ],
)
def test_an_endpoint_in_words(lines: Any, endpoint: dict[str, Any], words: str) -> None:
    given = {key: in_seconds(100) if value == "LATER" else value for key, value in endpoint.items()}
    well = given | {"reasons": {"ok": 400}}
    assert f"10.0.0.7:3002  {words}  " in lines(one_service(detail(endpoints=[ENDPOINT | well])))[-1]


def test_one_that_is_idle(lines: Any) -> None:
    rates = dict.fromkeys(RATES) | {"requests_per_s": 0.0}
    assert "requests      none in the last ten seconds" in lines(one_service(detail(rates=rates)))


def test_one_service(lines: Any) -> None:
    found = lines(one_service(detail()))
    assert found[:7] == [
        "service       venue",
        "endpoints     listed in the configuration",
        "breaker       closed",
        "window        10 successes, 2 failures in 10 s",
        "requests      12.3/s, 99.5% ok, p50 3.1 ms, p99 12.0 ms",
        "in flight     4",
        "since start   1234 requests, 5 failures, 7 retries",
    ]
    assert found[-5:] == [
        "endpoint       state    active  attempts  failed  share  latency",
        "10.0.0.7:3002  healthy       2       400       3  33.3%   3.2 ms",
        "",
        "endpoint       failures",
        "10.0.0.7:3002  reset 3",
    ]


def test_one_of_a_kind_is_not_several(lines: Any) -> None:
    found = lines(one_service(detail() | {"requests": 1, "failures": 0, "retries": 1}))
    assert "since start   1 request, 0 failures, 1 retry" in found


def test_why_calls_fail(lines: Any) -> None:
    last = {"at": in_seconds(-3.5), "reason": "connect_failure", "detail": "10.0.0.7:1: connection refused\x1b"}
    reasons = {"status": 25, "circuit_open": 112}
    found = lines(one_service(detail(reasons=reasons, last_failure=last | {"request_id": "id"})))
    assert "failures      circuit_open 112, status 25" in found
    assert "last failure  4s ago: connect_failure, 10.0.0.7:1: connection refused?" in found
    found = lines(one_service(detail(reasons={}, last_failure=None, endpoints=[])))
    assert not [line for line in found if line.startswith(("failures", "last failure"))]


def test_what_is_no_failure_is_so_everywhere() -> None:
    assert set(NO_FAILURES) == {"ok", *NO_ANSWER_WANTED}


def test_a_failing_service_is_shown_with_what_it_mostly_fails_by(lines: Any) -> None:
    reasons = {"circuit_open": 90, "reset": 2, "connect_failure": 7}
    refused = service("payment", recent_reasons={"circuit_open": 90})
    found = lines(all_services(services(service(recent_reasons=reasons), refused, service("auth"))))
    text = "\n".join(found)
    assert "endpoints; failures" in text
    assert "connect_failure" in text
    assert "circuit_open" in text
    assert "reset" not in text


def test_where_there_is_little_room_numbers_go_sooner_than_words_are_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    few = {"total": 1, "available": 1, "healthy": 1, "ejected": 0, "panic": False}
    failing = service("payment", recent_reasons={"connect_failure": 7}, endpoints=few)
    show(*all_services(services(failing)))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "service  breaker     ok  req/s      p99  endpoints; failures",
        "payment  closed   99.5%   12.3  12.0 ms  1; connect_failure",
    ]


def test_an_address_is_never_cut(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    address = "[2001:db8:85a3::8a2e:370:7334]:3002"
    columns = {}
    for width in (100, 80, 70, 60, 40):
        monkeypatch.setenv("COLUMNS", str(width))
        show(*one_service(detail(endpoints=[ENDPOINT | {"address": address, "reasons": {}}])))
        header, row = capsys.readouterr().out.splitlines()[-2:]
        assert address in row
        columns[width] = header.split()[1:]
    everything = ["state", "active", "attempts", "failed", "share", "latency"]
    assert columns[100] == everything
    assert columns[80] == [name for name in everything if name != "share"]
    assert columns[70] == [name for name in everything if name not in ("share", "failed", "latency")]


def test_the_mistakes_of_a_rejected_file_and_what_needs_a_restart(lines: Any) -> None:
    errors = [
        {"file": "a.yaml", "line": number, "column": 1, "key": "services.x", "message": "unknown key"}
        for number in range(5)
    ]
    report = reload_report(result="rejected", errors=errors, warnings=["listen.admin needs a restart"])
    assert lines(all_services(services(reload=report)))[:7] == [
        "2 services, generation 3",
        "the file was rejected at 2026-11-23 01:02:03Z; the last good one stays in force:",
        "  a.yaml: services.x: unknown key",
        "  a.yaml:1: services.x: unknown key",
        "  a.yaml:2: services.x: unknown key",
        "  and 2 more: sidecar check",
        "warning: listen.admin needs a restart",
    ]


def test_a_route_with_its_own_breaker_and_what_is_wrong(lines: Any) -> None:
    routes = [
        {"name": "POST /reports", "match": {}, "breaker": BREAKER_DETAIL | {"state": "half_open"}, "policy": {}},
        {"name": "/plain", "match": {}, "breaker": None, "policy": {}},
    ]
    discovery = {"kind": "dns", "last_success": None, "problem": "the name does not exist"}
    summary = SUMMARY | {"panic": True}
    found = lines(one_service(detail(routes=routes, discovery=discovery, endpoint_summary=summary, source="dns")))
    text = "\n".join(found)
    assert "breaker of POST /reports  half-open" in text
    assert "/plain" not in text
    assert "the name does not exist" in text
    assert "too few endpoints are healthy" in text


@pytest.mark.parametrize(
    ("changed", "protocol", "statuses"),
    [
        ({}, "", ""),
        ({"protocol": "h2"}, "HTTP/2", ""),
        (
            {"protocol": "h2", "grpc": True, "grpc_statuses": {"OK": 5, "UNAVAILABLE": 1}},
            "HTTP/2, gRPC",
            "OK 5, UNAVAILABLE 1",
        ),
    ],
)
def test_a_service_of_grpc(lines: Any, changed: dict[str, Any], protocol: str, statuses: str) -> None:
    facts = dict(line.split("  ", 1) for line in lines(one_service(detail(**changed))) if "  " in line)
    assert facts.get("protocol", "").strip() == protocol
    assert facts.get("grpc-status", "").strip() == statuses
