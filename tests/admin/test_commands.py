"""What changes something: what each command takes, what it does, and that it is logged with who asked."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from sidecar.admin.commands import for_seconds
from sidecar.admin.problem import ApiProblem
from sidecar.runtime.reload_report import ReloadReport
from tests.admin.stage import RealTime, serving

VENUE = "/services/venue"
ENDPOINT = f"{VENUE}/endpoints/10.0.0.0:3002"


async def posted(stage: RealTime, path: str, body: bytes | str) -> tuple[int, Any]:
    async with serving(stage) as client:
        return await client.post(path, body)


async def test_forcing_a_breaker_and_letting_it_go() -> None:
    stage = RealTime()
    async with serving(stage) as client:
        status, breaker = await client.post(f"{VENUE}/breaker", '{"state": "open", "for": "90s"}')
        assert (status, breaker["state"], breaker["forced"]) == (200, "open", "open")
        assert 89 < stage["venue"].default_route.breaker.forced_until - stage.loop.time() <= 90
        status, breaker = await client.post(f"{VENUE}/breaker", '{"state": "closed"}')
        assert (breaker["state"], breaker["forced"]) == ("closed", "closed")
        assert 299 < stage["venue"].default_route.breaker.forced_until - stage.loop.time() <= 300
        status, breaker = await client.post(f"{VENUE}/breaker", '{"state": "auto"}')
        assert (status, breaker["forced"], breaker["forced_until"]) == (200, None, None)


async def test_forcing_the_breaker_of_a_route() -> None:
    stage = RealTime()
    status, _ = await posted(stage, f"{VENUE}/breaker", '{"state": "open", "route": "POST /reports"}')
    assert status == 200
    assert [one.state for one in stage["venue"].breakers] == ["closed", "open"]


@pytest.mark.parametrize(
    ("path", "body", "status", "reason"),
    [
        ("/services/nowhere/breaker", '{"state": "open"}', 404, "unknown_service"),
        (f"{VENUE}/breaker", '{"state": "open", "route": "/none"}', 404, "unknown_route"),
        (f"{VENUE}/breaker", '{"state": "open", "route": "/slow"}', 409, "no_breaker"),
        (f"{VENUE}/breaker", '{"state": "ajar"}', 400, "bad_request"),
        (f"{VENUE}/breaker", "{}", 400, "bad_request"),
        (f"{VENUE}/breaker", '{"state": "open", "fro": "5m"}', 400, "bad_request"),
        (f"{VENUE}/breaker", '{"state": "open", "for": 5}', 400, "bad_request"),
        (f"{VENUE}/breaker", '{"state": "open", "for": "25h"}', 400, "bad_request"),
        (f"{VENUE}/breaker", '{"state": "open", "for": "0s"}', 400, "bad_request"),
        (f"{VENUE}/breaker", "", 400, "bad_request"),
        (f"{VENUE}/breaker", "[]", 400, "bad_request"),
        (f"{VENUE}/breaker", "null", 400, "bad_request"),
        (f"{VENUE}/breaker", b"\xff", 400, "bad_request"),
        (f"{VENUE}/breaker", b'{"state": "op\xff"}', 400, "bad_request"),
        (f"{VENUE}/breaker", "[" * 10_000, 400, "bad_request"),
        (f"{VENUE}/endpoints/10.9.9.9:1", '{"action": "drain"}', 404, "unknown_endpoint"),
        ("/services/auth/endpoints/10.0.0.0:3002", '{"action": "drain"}', 404, "unknown_endpoint"),
        (ENDPOINT, '{"action": "delete"}', 400, "bad_request"),
        (ENDPOINT, '{"action": "drain", "for": "5"}', 400, "bad_request"),
        ("/log", "{}", 400, "bad_request"),
        ("/log", '{"level": "loud"}', 400, "bad_request"),
        ("/reload", '{"now": true}', 400, "bad_request"),
        ("/drain", '{"exit": true}', 400, "bad_request"),
        ("/drain", "", 400, "bad_request"),
    ],
)
async def test_what_cannot_be_done_is_a_problem_and_changes_nothing(
    path: str, body: str | bytes, status: int, reason: str
) -> None:
    stage = RealTime()
    found, problem = await posted(stage, path, body)
    assert (found, problem["status"], problem["reason"]) == (status, status, reason)
    assert all(breaker.forced is None for breaker in stage["venue"].breakers)
    assert all(one.available for one in stage["venue"].endpoints)
    assert stage.drained == 0
    assert stage.log_state.until is None


async def test_an_endpoint_is_drained_ejected_and_restored() -> None:
    stage = RealTime()
    async with serving(stage) as client:
        status, endpoint = await client.post(ENDPOINT, '{"action": "drain"}')
        assert (status, endpoint["drained"], endpoint["available"]) == (200, True, False)
        assert 599 < stage["venue"].endpoints[0].drained_until - stage.loop.time() <= 600
        status, problem = await client.post(f"{VENUE}/endpoints/10.0.0.1%3A3002", '{"action": "eject"}')
        assert (status, problem["reason"]) == (409, "last_endpoint")
        status, endpoint = await client.post(ENDPOINT, '{"action": "restore"}')
        assert (status, endpoint["drained"], endpoint["available"]) == (200, False, True)
        status, endpoint = await client.post(ENDPOINT, '{"action": "eject", "for": "1m"}')
        assert (status, endpoint["ejected"], endpoint["available"]) == (200, True, False)


async def test_the_last_endpoint_stays() -> None:
    status, problem = await posted(RealTime(endpoints=1), ENDPOINT, '{"action": "drain"}')
    assert (status, problem["reason"]) == (409, "last_endpoint")


async def test_the_log() -> None:
    stage = RealTime()
    status, log = await posted(stage, "/log", '{"level": "debug", "for": "30s"}')
    assert (status, log["level"], log["access"]) == (200, "debug", "errors")
    assert log["until"] is not None


async def test_a_reload_that_is_taken_and_one_that_is_not() -> None:
    stage = RealTime()
    status, report = await posted(stage, "/reload", "{}")
    assert (status, report["result"], report["changed"]) == (200, "ok", ["services.venue.timeout.attempt"])
    stage.reload_as = "rejected"
    status, problem = await posted(stage, "/reload", "{}")
    assert (status, problem["reason"]) == (422, "rejected")
    assert problem["errors"] == [
        {"file": "sidecar.yaml", "line": 3, "column": 5, "key": "services.venue.tiemout", "message": "unknown key"}
    ]


async def test_a_reload_goes_on_when_whoever_asked_has_left() -> None:
    gate, done = asyncio.Event(), asyncio.Event()

    class Slow(RealTime):
        async def reload(self) -> ReloadReport:
            began.set()
            await gate.wait()
            done.set()
            return await super().reload()

    began = asyncio.Event()
    async with serving(Slow()) as client, asyncio.timeout(5):
        _, asking = await asyncio.open_connection("127.0.0.1", client.port)
        head = (
            b"POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        asking.write(head + b"{}")
        await began.wait()
        asking.close()
        await client.get("/services")  # by now the server knows that the other one has gone
        gate.set()
        await done.wait()


async def test_a_reload_where_there_is_no_file(caplog: pytest.LogCaptureFixture) -> None:
    stage = RealTime()
    stage.path = None
    with caplog.at_level(logging.INFO, logger="sidecar.admin"):
        status, problem = await posted(stage, "/reload", "{}")
    assert (status, problem["reason"]) == (409, "no_file")
    assert stage.last_reload.trigger == "start"
    assert not [record for record in caplog.records if getattr(record, "kind", "") == "operator"]


async def test_the_end_begins() -> None:
    stage = RealTime()
    status, answer = await posted(stage, "/drain", "{}")
    assert (status, answer) == (202, {"draining": True, "delay_s": 1.0, "timeout_s": 20.0})
    assert stage.drained == 1


async def test_every_change_is_logged_with_who_asked(caplog: pytest.LogCaptureFixture) -> None:
    stage = RealTime()
    with caplog.at_level(logging.INFO, logger="sidecar.admin"):
        async with serving(stage) as client:
            for path, body in (
                (f"{VENUE}/breaker", '{"state": "open", "for": "5m"}'),
                (ENDPOINT, '{"action": "drain", "for": "10m"}'),
                ("/log", '{"level": "debug", "for": "1h"}'),
                ("/reload", "{}"),
                ("/drain", "{}"),
            ):
                status, _ = await client.post(path, body)
                assert status in (200, 202)
            await client.post(f"{VENUE}/breaker", '{"state": "ajar"}')
            await client.post(f"{VENUE}/breaker", '{"state": "open"}', Origin="http://evil.com")
    records: list[Any] = [record for record in caplog.records if getattr(record, "kind", "") == "operator"]
    assert [record.getMessage() for record in records] == [
        "an operator forces the breaker open for 5m",
        "an operator drains the endpoint 10.0.0.0:3002 for 10m",
        "an operator sets the log to level debug, access errors for 1h",
        "an operator asks for a reload",
        "an operator starts the shutdown",
    ]
    assert {record.fields["by"] for record in records} == {"127.0.0.1"}
    assert records[0].fields["service"] == "venue"


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1.0), ("24h", 86400.0), ("1.5m", 90.0), ("1000ms", 1.0)])
def test_how_long(text: str, seconds: float) -> None:
    assert for_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "999ms", "24.01h", "-5m", "5 m", "forever", "1e9s", "\u0665m"])
def test_how_long_not(text: str) -> None:
    with pytest.raises(ApiProblem):
        for_seconds(text)
