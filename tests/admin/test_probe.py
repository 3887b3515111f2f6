"""The probe listener as kubelet, load balancers and Prometheus see it: real requests on a loopback socket.

And what it does while the event loop of the requests does something else.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sidecar.admin import probe
from sidecar.admin.probe import Probes
from sidecar.admin.probe_answers import STUCK_S, ProbeAnswers
from sidecar.daemon.serve import SWITCH_S
from sidecar.health.report import Endpoints, Part, Report, ServicePart
from sidecar.net.http_listener import MOST
from sidecar.telemetry.counters import ServiceCounters
from sidecar.telemetry.metrics import SidecarCollector, exposition
from tests.support.kubernetes_api import until

SECRET = "connection to 10.0.0.7:3002 refused"


class Sidecar:
    """What the probes ask."""

    def __init__(self) -> None:
        self.ready = True
        self.error: Exception | None = None
        self.scrapes = 0
        self.age_s = 0
        self.status = "healthy"
        self.reports = 0
        self.late_s = 0.0
        self._collector = SidecarCollector(list, ServiceCounters, lambda: 1, lambda: 0)

    def answers(self) -> ProbeAnswers:
        return ProbeAnswers(lambda: self.ready, self.metrics, self.health, lambda: self.late_s)

    async def metrics(self) -> tuple[list[bytes], int]:
        self.scrapes += 1
        if self.error is not None:
            raise self.error
        return [exposition(self._collector)], self.age_s

    async def health(self) -> Report:
        self.reports += 1
        if self.error is not None:
            raise self.error
        venue = ServicePart(status="healthy", breaker="closed", endpoints=Endpoints(2, 2))
        redis = Part(status="healthy", latency_ms=0.4)
        return Report(status=self.status, checks={"redis": redis}, services={"venue": venue})


def loopback() -> socket.socket:
    one = socket.create_server(("127.0.0.1", 0))
    one.setblocking(False)
    return one


class Probed:
    """Probes that serve, and a client of theirs."""

    def __init__(self, sidecar: Sidecar, client: aiohttp.ClientSession, probe_port: int) -> None:
        self.sidecar = sidecar
        self.client = client
        self.probe_port = probe_port

    async def ask(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        """Status, content type and text."""
        async with self.client.request(method, f"http://127.0.0.1:{self.probe_port}{path}") as response:
            return response.status, response.headers.get("Content-Type", ""), await response.text()


@pytest.fixture
async def probed() -> AsyncIterator[Probed]:
    bound = loopback()
    port = bound.getsockname()[1]
    sidecar = Sidecar()
    probes = Probes(sidecar.answers())
    await probes.start([bound])
    async with aiohttp.ClientSession() as client:
        yield Probed(sidecar, client, port)
    await probes.close()


async def test_it_is_alive_and_ready(probed: Probed) -> None:
    assert await probed.ask("/livez") == (200, "text/plain; charset=utf-8", "ok\n")
    assert await probed.ask("/readyz") == (200, "text/plain; charset=utf-8", "ok\n")


async def test_versions_of_what_it_is_built_on_are_nobodys_business(probed: Probed) -> None:
    for path in ("/livez", "/metrics", "/nothing"):
        async with probed.client.get(f"http://127.0.0.1:{probed.probe_port}{path}") as answer:
            assert answer.headers["Server"] == "sidecar"


async def test_while_it_drains_it_is_alive_and_not_ready(probed: Probed) -> None:
    assert (await probed.ask("/readyz"))[0] == 200
    probed.sidecar.ready = False
    assert await probed.ask("/readyz") == (503, "text/plain; charset=utf-8", "draining\n")
    assert (await probed.ask("/livez"))[0] == 200
    assert (await probed.ask("/metrics"))[0] == 200


async def test_an_older_text_says_its_age(probed: Probed) -> None:
    for age_s, said in ((0, None), (3, "3")):
        probed.sidecar.age_s = age_s
        async with probed.client.get(f"http://127.0.0.1:{probed.probe_port}/metrics") as response:
            assert response.headers.get("Age") == said


async def test_metrics_are_made_for_each_scrape_in_the_text_format(probed: Probed) -> None:
    for scrape in (1, 2):
        status, content_type, text = await probed.ask("/metrics")
        assert (status, content_type) == (200, "text/plain; version=0.0.4; charset=utf-8")
        families = {family.name for family in text_string_to_metric_families(text)}
        assert "sidecar_config_generation" in families
        assert probed.sidecar.scrapes == scrape


@pytest.mark.parametrize(("status", "code"), [("healthy", 200), ("degraded", 200), ("unhealthy", 503)])
async def test_the_health_chain(probed: Probed, status: str, code: int) -> None:
    probed.sidecar.status = status
    found, content_type, text = await probed.ask("/health")
    assert (found, content_type) == (code, "application/json")
    assert json.loads(text) == {
        "status": status,
        "checks": {"redis": {"status": "healthy", "latency_ms": 0.4}},
        "services": {"venue": {"status": "healthy", "breaker": "closed", "endpoints": {"healthy": 2, "total": 2}}},
    }
    assert (await probed.ask("/health", "HEAD"))[::2] == (code, "")


async def test_health_is_not_to_be_kept(probed: Probed) -> None:
    async with probed.client.get(f"http://127.0.0.1:{probed.probe_port}/health") as response:
        assert response.headers["Cache-Control"] == "no-store"


async def test_health_does_not_feed_readiness(probed: Probed) -> None:
    probed.sidecar.status = "unhealthy"
    assert (await probed.ask("/readyz"))[0] == 200
    assert (await probed.ask("/livez"))[0] == 200
    assert probed.sidecar.reports == 0


async def test_a_query_changes_nothing(probed: Probed) -> None:
    assert (await probed.ask("/readyz?verbose"))[0] == 200


async def test_head_is_answered_without_a_body(probed: Probed) -> None:
    probed.sidecar.ready = False
    assert (await probed.ask("/livez", "HEAD"))[::2] == (200, "")
    assert (await probed.ask("/readyz", "HEAD"))[::2] == (503, "")
    assert (await probed.ask("/metrics", "HEAD"))[::2] == (200, "")


@pytest.mark.parametrize(
    "path", ["/", "/livez/", "/Livez", "//livez", "/ready", "/metrics/x", "/health/", "/healthz", "/config"]
)
async def test_there_is_nothing_else(probed: Probed, path: str) -> None:
    status, _, text = await probed.ask(path)
    assert (status, text) == (404, "this listener has /livez, /readyz, /health and /metrics\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/livez", "/health", "/metrics", "/nothing"])
async def test_it_is_read_only(probed: Probed, method: str, path: str) -> None:
    port = probed.probe_port
    async with probed.client.request(method, f"http://127.0.0.1:{port}{path}", data=b"x") as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    assert (probed.sidecar.scrapes, probed.sidecar.reports) == (0, 0)


async def test_no_answer_bears_an_address_or_an_error(probed: Probed, caplog: pytest.LogCaptureFixture) -> None:
    probed.sidecar.error = OSError(SECRET)
    for path in ("/metrics", "/health"):
        status, _, text = await probed.ask(path)
        assert status == 500
        assert "10.0.0.7" not in text
        assert "OSError" not in text
    assert SECRET in caplog.text  # it is for whoever reads the log
    for ready in (True, False):
        probed.sidecar.ready = ready
        for path in ("/livez", "/readyz"):
            assert (await probed.ask(path))[2] in ("ok\n", "draining\n")


async def test_what_is_not_http_is_refused_and_the_next_probe_served(probed: Probed) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", probed.probe_port)
    writer.write(b"\x16\x03\x01\x00\xff garbage\r\n\r\n")
    assert (await reader.read(64)).startswith(b"HTTP/1.")
    writer.close()
    await writer.wait_closed()
    assert (await probed.ask("/livez"))[0] == 200


async def test_a_body_is_not_unpacked(probed: Probed, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", probed.probe_port)
    async with asyncio.timeout(5):
        for _ in range(2):  # the connection is fit for the next probe
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnot!")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
    writer.close()
    await writer.wait_closed()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_idle_connections_keep_no_probe_out(probed: Probed) -> None:
    held = [await asyncio.open_connection("127.0.0.1", probed.probe_port) for _ in range(MOST + 20)]
    async with asyncio.timeout(5):
        assert (await probed.ask("/readyz"))[0] == 200
        for reader, _ in held[:20]:
            assert await reader.read() == b""
    for _, writer in held:
        writer.close()


async def test_an_answered_probe_is_idle_again(probed: Probed) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", probed.probe_port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"ok\n")
    held = [await asyncio.open_connection("127.0.0.1", probed.probe_port) for _ in range(MOST)]
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    for _, other in [*held, (reader, writer)]:
        other.close()


async def test_once_closed_it_takes_no_connection() -> None:
    bound = loopback()
    port = bound.getsockname()[1]
    sidecar = Sidecar()
    probes = Probes(sidecar.answers())
    await probes.start([bound])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    await probes.close()
    await reader.read()  # the idle connection is closed
    writer.close()
    await writer.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_what_never_started_can_be_closed() -> None:
    await Probes(Sidecar().answers()).close()


async def test_it_cannot_start_on_a_socket_that_is_closed() -> None:
    bound = loopback()
    bound.close()
    probes = Probes(Sidecar().answers())
    with pytest.raises((OSError, ValueError)):
        await probes.start([bound])
    await probes.close()


# While the event loop of the requests is busy.


def ask_by_hand(port: int, path: str, seconds: float = 2.0) -> tuple[str, float]:
    """The response, and how many seconds it took. Blocks: the test's own event loop is the one of the requests."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        got = b""
        while piece := connection.recv(65536):
            got += piece
    return got.decode(), time.monotonic() - began


async def test_a_blocked_event_loop_delays_no_probe(probed: Probed) -> None:
    """No await in here: the event loop does not run until the end of the test."""
    took = []
    for path in ("/livez", "/readyz") * 10:
        answer, took_s = ask_by_hand(probed.probe_port, path)
        assert answer.startswith("HTTP/1.1 200 OK\r\n")
        took.append(took_s)
    assert sorted(took)[len(took) // 2] < 0.1  # not the slowest: the machine may have no time for the test itself
    probed.sidecar.ready = False
    assert ask_by_hand(probed.probe_port, "/readyz")[0].endswith("draining\n")


async def test_a_thread_that_computes_delays_no_probe(probed: Probed) -> None:
    """As a big configuration that is read, with the switch interval of the daemon."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_S)
    ended = threading.Event()

    def compute() -> None:
        while not ended.is_set():
            sum(range(1000))

    computing = threading.Thread(target=compute)
    computing.start()
    try:
        took = sorted(ask_by_hand(probed.probe_port, "/livez")[1] for _ in range(20))
    finally:
        ended.set()
        computing.join()
        sys.setswitchinterval(before)
    assert took[len(took) // 2] < 0.1


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
async def test_an_event_loop_that_never_runs_again_is_told(probed: Probed, path: str) -> None:
    for late_s, status in ((STUCK_S, 200), (STUCK_S + 0.1, 503), (0.0, 200)):
        probed.sidecar.late_s = late_s
        found, _, text = await probed.ask(path)
        assert found == status
        assert text == ("ok\n" if status == 200 else "the event loop does not run\n")


async def test_metrics_wait_for_the_event_loop_but_not_for_ever(
    probed: Probed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "LONGEST_ANSWER_S", 0.1)
    answer, _ = ask_by_hand(probed.probe_port, "/metrics")
    assert answer.startswith("HTTP/1.1 503 Service Unavailable\r\n")
    assert answer.endswith("the sidecar could not answer in time\n")
    assert probed.sidecar.scrapes == 0  # it has not run yet
    monkeypatch.setattr(probe, "LONGEST_ANSWER_S", 5.0)
    assert (await probed.ask("/metrics"))[0] == 200


async def test_questions_that_wait_are_one_question(probed: Probed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks again and again while the event loop does not run leaves no heap of work."""
    monkeypatch.setattr(probe, "LONGEST_ANSWER_S", 0.02)
    for _ in range(5):
        assert ask_by_hand(probed.probe_port, "/health")[0].startswith("HTTP/1.1 503")
    await until(lambda: probed.sidecar.reports == 1)
    monkeypatch.setattr(probe, "LONGEST_ANSWER_S", 5.0)
    await probed.ask("/health")
    assert probed.sidecar.reports == 2


async def test_at_the_end_a_question_that_waits_is_answered() -> None:
    sidecar, bound = Sidecar(), loopback()
    port = bound.getsockname()[1]
    gate = asyncio.Event()

    async def metrics() -> tuple[list[bytes], int]:
        sidecar.scrapes += 1
        await gate.wait()
        return [b"metrics 1\n"], 0

    probes = Probes(ProbeAnswers(lambda: True, metrics, sidecar.health))
    await probes.start([bound])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: sidecar.scrapes == 1)
    asyncio.get_running_loop().call_later(0.1, gate.set)
    async with asyncio.timeout(5):
        await probes.close()
        got = await reader.read()
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert got.endswith(b"\r\n\r\nmetrics 1\n")
    writer.close()


async def test_the_end_waits_for_no_question_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "END_S", 0.1)
    sidecar, bound = Sidecar(), loopback()
    port = bound.getsockname()[1]

    async def metrics() -> tuple[list[bytes], int]:
        sidecar.scrapes += 1
        await asyncio.Event().wait()
        raise AssertionError

    probes = Probes(ProbeAnswers(lambda: True, metrics, sidecar.health))
    await probes.start([bound])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    await until(lambda: sidecar.scrapes == 1)
    async with asyncio.timeout(5):
        await probes.close()
        assert await reader.read() == b""
    writer.close()
