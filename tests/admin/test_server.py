"""The admin listener: what is answered where, and what is refused how."""

from __future__ import annotations

import gzip
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from sidecar.admin import server
from tests.admin.stage import Client, RealTime, serving


@pytest.mark.parametrize("path", ["/services", "/services/venue", "/history", "/config", "/events", "/openapi.json"])
async def test_what_is_read_is_json(path: str) -> None:
    async with serving(RealTime()) as client:
        status, headers, content = await client.ask("GET", path)
        assert (status, headers["Content-Type"]) == (200, "application/json")
        assert isinstance(content, dict)
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in headers
        assert "aiohttp" not in headers["Server"]
        if path != "/openapi.json":
            assert headers["Cache-Control"] == "no-store"
        status, _, content = await client.ask("HEAD", path)
        assert (status, content) == (200, b"")


@pytest.mark.parametrize(
    ("path", "status", "start"),
    [("/metrics", 200, "metrics 1"), ("/livez", 200, "ok"), ("/readyz", 200, "ok"), ("/health", 200, "{")],
)
async def test_what_the_probe_listener_answers_is_here_too(path: str, status: int, start: str) -> None:
    async with serving(RealTime()) as client, client.session.get(client.url + path) as response:
        assert response.status == status
        assert (await response.text()).startswith(start)


async def test_while_it_drains_it_is_not_ready_and_says_so() -> None:
    stage = RealTime()
    stage.draining = True
    async with serving(stage) as client:
        assert (await client.ask("GET", "/readyz"))[0] == 503
        assert (await client.get("/services"))[1]["draining"] is True


@pytest.mark.parametrize(
    "path", ["/services/venue/breaker", "/services/venue/endpoints/10.0.0.0:3002", "/log", "/reload", "/drain"]
)
async def test_what_changes_something_is_post_only(path: str) -> None:
    stage = RealTime()
    async with serving(stage) as client:
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
            sent = {} if method in ("GET", "HEAD") else {"Content-Type": "application/json"}
            status, headers, problem = await client.ask(method, path, b"{}" if sent else None, sent)
            assert (status, headers["Allow"]) == (405, "POST"), method
            if method != "HEAD":
                assert problem["reason"] == "method"
    assert stage.drained == 0


@pytest.mark.parametrize("path", ["/services", "/config", "/events", "/explain?target=/venue", "/metrics", "/"])
async def test_what_is_read_takes_no_post(path: str) -> None:
    async with serving(RealTime()) as client:
        status, problem = await client.post(path)
        assert (status, problem["reason"]) == (405, "method")


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/services/", "/services/venue/x", "/ui/", "/ui/../server.py", "/ui/%2e%2e/server.py", "/etc/passwd"],
)
async def test_there_is_nothing_else(path: str) -> None:
    async with serving(RealTime()) as client:
        status, problem = await client.get(path)
        assert (status, problem["status"], problem["reason"]) == (404, 404, "not_found")


async def test_events_as_json() -> None:
    stage = RealTime()
    for number in range(1005):
        stage.events.add("health", "info", 0.0, f"event {number}", {"service": "venue" if number % 2 else "auth"})
    async with serving(stage) as client:

        async def ids(query: str) -> list[int]:
            status, content = await client.get(f"/events{query}")
            assert status == 200
            return [event["id"] for event in content["events"]]

        assert len(await ids("")) == 1000
        assert await ids("?limit=2") == [1004, 1005]
        assert await ids("?limit=0") == []
        assert await ids("?since=1003") == [1004, 1005]
        assert await ids("?since=1000&service=venue") == [1002, 1004]
        assert await ids("?limit=99999999") == await ids("")
        assert await ids("?service=nowhere") == []


async def test_a_file_whose_name_is_not_utf_8() -> None:
    stage = RealTime()
    stage.path = Path(os.fsdecode(b"/etc/caf\xe9.yaml"))
    async with serving(stage) as client:
        status, found = await client.get("/config")
        assert (status, found["file"]) == (200, "/etc/caf\udce9.yaml")


async def test_an_explanation() -> None:
    async with serving(RealTime()) as client:
        status, found = await client.get("/explain?method=POST&target=%2Fvenue%2Freports%2F7%3Fa%3D1")
        assert (status, found["service"], found["route"]) == (200, "venue", "POST /reports")
        assert found["upstream_target"] == "/reports/7?a=1"
        status, found = await client.get("/explain?target=/events&host=venue-service")
        assert (found["by"], found["upstream_target"]) == ("host", "/events")
        status, problem = await client.get("/explain?target=")
        assert (status, problem["reason"]) == (400, "bad_request")


@pytest.mark.parametrize("sign", ["x", "%25"])
async def test_a_target_of_16_kib_can_be_asked_about(sign: str) -> None:
    async with serving(RealTime()) as client:
        upstream = "/" + sign * ((16 * 1024 - 7) // len(sign))
        status, found = await client.get("/explain?target=%2Fvenue" + upstream.replace("%", "%25"))
        assert (status, found["upstream_target"]) == (200, upstream)
        status, _ = await client.get("/explain?target=/" + "x" * 54_000)
        assert status == 400


@pytest.mark.parametrize(("size", "status"), [(64 * 1024, 400), (64 * 1024 + 1, 413), (1_000_000, 413)])
async def test_a_body_is_bounded(size: int, status: int) -> None:
    async with serving(RealTime()) as client:
        found, problem = await client.post("/reload", b" " * size)
        assert (found, problem["status"]) == (status, status)


async def test_a_compressed_body_is_its_senders_mistake(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(RealTime()) as client:
        for body in (b"not gzip", gzip.compress(b"{}")):
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            status, _, problem = await client.ask("POST", "/reload", body, headers)
            assert (status, problem["reason"]) == (400, "bad_request")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_request_is_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LONGEST_ANSWER_S", 0.05)
    async with serving(RealTime()) as client:

        async def slow() -> Any:
            import asyncio

            yield b"{"
            await asyncio.sleep(5)

        headers = {"Content-Type": "application/json"}
        async with client.session.post(client.url + "/reload", data=slow(), headers=headers) as response:
            assert response.status == 503
            assert (await response.json(content_type=None))["reason"] == "timeout"


async def test_a_defect_is_a_500_without_its_words_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    stage = RealTime()
    stage.live.services["venue"].endpoints = None  # type: ignore[assignment]
    with caplog.at_level(logging.ERROR):
        async with serving(stage) as client:
            status, problem = await client.get("/services/venue")
    assert (status, problem["reason"]) == (500, "internal")
    assert "NoneType" not in str(problem)
    assert "a bug in the sidecar" in caplog.text


async def test_a_listener_that_is_open_to_all_says_so() -> None:
    stage = RealTime('listen: {admin: "0.0.0.0:15000"}\nservices: {venue: {url: http://a:1}}')
    async with serving(stage, "0.0.0.0") as client:
        assert "admin.token_file is not set" in (await client.get("/config"))[1]["warnings"][0]


async def test_the_history_is_sampled_from_the_start() -> None:
    stage = RealTime()
    async with serving(stage) as client:
        stage["venue"].counters.request(200, "ok", 0.01)
        (venue, _) = (await client.get("/services"))[1]["services"]
        assert venue["rates"]["requests_per_s"] > 0


async def test_the_dashboard_is_at_the_root() -> None:
    async with serving(RealTime()) as client:
        status, headers, _ = await client.ask("GET", "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "default-src 'self'" in headers["Content-Security-Policy"]


async def test_a_token_from_a_file(tmp_path: Any) -> None:
    token = tmp_path / "token"
    token.write_text("horse")
    stage = RealTime(f"admin: {{token_file: {token}}}\nservices: {{venue: {{url: http://a:1}}}}")
    async with serving(stage) as client:
        assert (await client.get("/services"))[0] == 401
        assert (await client.get("/services", Authorization="Bearer horse"))[0] == 200
        assert (await client.post("/reload", Authorization="Bearer horse"))[0] == 200
        assert (await client.post("/reload"))[0] == 401
        assert (await client.ask("GET", "/metrics"))[0] == 200


async def test_pipelined_requests_and_what_is_not_http(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(RealTime()) as client:
        for sent in (
            b"\x16\x03\x01\x00\xff\r\n\r\n",
            b"GET /services HTTP/1.1\r\nHost localhost\r\n\r\n",
            b"GET\r\n\r\n",
        ):
            refused = await raw(client, sent)
            assert b" 400 " in refused
            assert b"\r\nContent-Type: text/plain" in refused, "docs/admin.md says so"
        one = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await raw(client, one + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))).count(
            b" 200 "
        ) == 2
        assert (await client.get("/services"))[0] == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("target", "host", "status"),
    [
        (b"http://localhost/services", b"evil.com", b"200"),
        (b"http://evil.com/services", b"localhost", b"421"),
        (b"https://localhost/services", b"localhost", b"421"),
        (b"//evil.com/services", b"localhost", b"404"),
    ],
)
async def test_a_target_in_absolute_form(target: bytes, host: bytes, status: bytes) -> None:
    async with serving(RealTime()) as client:
        answer = await raw(client, b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (target, host))
    assert answer.startswith(b"HTTP/1.1 %b " % status)


async def raw(client: Client, sent: bytes) -> bytes:
    import asyncio

    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(sent)
    async with asyncio.timeout(5):
        received = await reader.read()
    writer.close()
    return received
