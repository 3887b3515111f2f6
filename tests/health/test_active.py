"""Active checks: when endpoints are checked (in simulated time), and which answers pass (on real sockets)."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from sidecar import __version__
from sidecar.health.active import ActiveChecker, Checks, Result
from sidecar.health.http_check import BODY_MAX
from sidecar.policy.settings import HealthSettings, TlsSettings
from tests.support import wants
from tests.support.daemon import has_ipv6

Drive = Callable[[Coroutine[Any, Any, None]], None]
START = 1000.0


@dataclass(eq=False)
class Endpoint:
    """What a check knows of one; compared by identity, as live ones are."""

    address: str = "127.0.0.1"
    port: int = 80
    tls: bool = False
    h2: bool = False
    server_name: str = "venue-service"
    authority: bytes = b"venue-service:3002"


def seconds() -> float:
    return round(asyncio.get_running_loop().time() - START, 3)


class Service:
    """A checker on a stage: checks answer as `answers` says after `takes_s`, results and times are noted."""

    def __init__(self, random: float = 0.0, **options: Any) -> None:
        self.idle = False
        self.takes_s = 0.0
        self.answers: dict[Endpoint, bool] = {}
        self.asked: list[tuple[float, Endpoint]] = []
        self.results: list[tuple[float, Endpoint, bool, str, float]] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.checker: ActiveChecker[Endpoint] = ActiveChecker(
            "venue",
            HealthSettings(path="/health", **options),
            check=self.check,
            start=self.start,
            on_result=lambda *what: self.results.append((seconds(), *what)),
            idle=lambda: self.idle,
            random=lambda: random,
        )

    def start(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)  # noqa: TID251 - stands for the helper
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def check(self, target: Any, settings: HealthSettings) -> Result:
        self.asked.append((seconds(), target))
        await asyncio.sleep(self.takes_s)
        ok = self.answers.get(target, True)
        return Result(ok, "ok" if ok else "timeout", self.takes_s)

    def times(self, endpoint: Endpoint) -> list[float]:
        return [at for at, asked in self.asked if asked is endpoint]

    async def ended(self) -> None:
        self.checker.close()
        if self.tasks:
            await asyncio.wait(self.tasks)


# When.


@pytest.mark.parametrize(("random", "times"), [(0.0, [0, 5, 10, 15]), (0.5, [0.25, 4.75, 9.25, 13.75]), (1.0, [0.5])])
def test_a_check_begins_an_interval_after_the_last_began_or_up_to_a_fifth_sooner(
    drive: Drive, random: float, times: list[float]
) -> None:
    async def scenario() -> None:
        service, endpoint = Service(random, interval=5.0), Endpoint()
        service.takes_s = 0.7
        service.checker.update([endpoint])
        await asyncio.sleep(17.0)
        assert service.times(endpoint)[: len(times)] == times
        if random == 1.0:
            assert service.times(endpoint) == [0.5, 4.5, 8.5, 12.5, 16.5]
        await service.ended()

    drive(scenario())


def test_every_result_is_reported_with_reason_and_latency(drive: Drive) -> None:
    async def scenario() -> None:
        service, good, bad = Service(interval=5.0), Endpoint(), Endpoint()
        service.answers[bad] = False
        service.takes_s = 0.25
        service.checker.update([good, bad])
        await asyncio.sleep(5.5)
        assert service.results == [
            (0.25, good, True, "ok", 0.25),
            (0.25, bad, False, "timeout", 0.25),
            (5.25, good, True, "ok", 0.25),
            (5.25, bad, False, "timeout", 0.25),
        ]
        await service.ended()

    drive(scenario())


def test_a_check_that_takes_longer_than_the_interval_is_followed_at_once(drive: Drive) -> None:
    async def scenario() -> None:
        service, endpoint = Service(interval=1.0, timeout=3.0), Endpoint()
        service.takes_s = 3.0
        service.checker.update([endpoint])
        await asyncio.sleep(10.0)
        assert service.times(endpoint) == [0, 3, 6, 9]
        await service.ended()

    drive(scenario())


def test_without_traffic_the_idle_interval_counts_and_traffic_is_seen_within_an_interval(drive: Drive) -> None:
    async def scenario() -> None:
        service, endpoint = Service(interval=5.0, idle_interval=60.0), Endpoint()
        service.idle = True
        service.checker.update([endpoint])
        await asyncio.sleep(121.0)
        assert service.times(endpoint) == [0, 60, 120]
        service.idle = False  # at 121; it looks at 125, 130, ...
        await asyncio.sleep(10.0)
        assert service.times(endpoint) == [0, 60, 120, 125, 130]
        service.idle = True
        await asyncio.sleep(70.0)
        assert service.times(endpoint)[5:] == [190]
        await service.ended()

    drive(scenario())


def test_an_idle_interval_below_the_interval_changes_nothing(drive: Drive) -> None:
    async def scenario() -> None:
        service, endpoint = Service(interval=5.0, idle_interval=1.0), Endpoint()
        service.idle = True
        service.checker.update([endpoint])
        await asyncio.sleep(11.0)
        assert service.times(endpoint) == [0, 5, 10]
        await service.ended()

    drive(scenario())


def test_the_set_may_change_at_any_time(drive: Drive) -> None:
    async def scenario() -> None:
        service = Service(interval=5.0)
        first, second, third = Endpoint(), Endpoint(), Endpoint()
        service.takes_s = 1.0
        service.checker.update([first, second])
        await asyncio.sleep(2.0)
        service.checker.update([second, third, third])
        await asyncio.sleep(3.5)
        assert repr(service.checker) == "<ActiveChecker venue 2 endpoints>"
        service.checker.update([third])  # while the second is asked for the second time
        await asyncio.sleep(10.0)
        assert service.times(first) == [0]
        assert service.times(second) == [0, 5]
        assert [at for at, endpoint, *_ in service.results if endpoint is second] == [1]
        assert service.times(third) == [2, 7, 12]
        await service.ended()
        assert not service.tasks

    drive(scenario())


def test_a_result_of_an_endpoint_that_left_is_not_reported(drive: Drive) -> None:
    async def scenario() -> None:
        service, endpoint = Service(), Endpoint()
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        async def check(target: Any, settings: HealthSettings) -> Result:
            return await answer

        service.checker._check = check
        service.checker.update([endpoint])
        await asyncio.sleep(1.0)
        answer.set_result(Result(True, "ok", 1.0))
        service.checker.update([])
        await asyncio.sleep(1.0)
        assert service.results == []

    drive(scenario())


def test_an_endpoint_may_leave_during_the_report_of_its_result(drive: Drive) -> None:
    async def scenario() -> None:
        service, endpoint = Service(), Endpoint()
        told: list[str] = []

        def on_result(endpoint: Endpoint, ok: bool, reason: str, latency_s: float) -> None:
            told.append(reason)
            service.checker.update([])

        service.checker._on_result = on_result
        service.checker.update([endpoint])
        await asyncio.sleep(60.0)
        assert told == ["ok"]
        assert not service.tasks

    drive(scenario())


def test_an_error_in_the_receiver_does_not_end_the_checks(drive: Drive, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        service, endpoint = Service(interval=5.0), Endpoint()

        def on_result(*what: object) -> None:
            raise LookupError("told wrongly")

        service.checker._on_result = on_result
        service.checker.update([endpoint])
        await asyncio.sleep(6.0)
        assert service.times(endpoint) == [0, 5]
        await service.ended()

    with caplog.at_level(logging.ERROR, "sidecar.health"):
        drive(scenario())
    assert [record.message for record in caplog.records] == [
        "the result of a health check of venue could not be applied"
    ] * 2


def test_new_settings_count_from_the_next_check(drive: Drive) -> None:
    async def scenario() -> None:
        service, endpoint = Service(interval=5.0), Endpoint()
        service.checker.update([endpoint])
        await asyncio.sleep(1.0)
        service.checker.settings = HealthSettings(path="/health", interval=2.0)
        await asyncio.sleep(8.5)
        assert service.times(endpoint) == [0, 5, 7, 9]
        await service.ended()

    drive(scenario())


# What an answer is worth.


@dataclass
class Upstream:
    """Answers each connection with `answer` and closes it; where it `holds`, it waits for the other side to close."""

    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    holds: bool = False
    heads: list[str] = field(default_factory=list)
    ended: int = 0
    at_once: int = 0
    most_at_once: int = 0
    endpoint: Endpoint = field(default_factory=Endpoint)
    came: asyncio.Event = field(default_factory=asyncio.Event)
    """A whole request head did."""
    alone: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
            self.came.set()
            writer.write(self.answer)
            await writer.drain()
            if not self.holds:
                writer.write_eof()
            await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.at_once -= 1
            self.ended += 1
            writer.close()
            async with self.alone:
                self.alone.notify_all()


async def ask(upstream: Upstream, **options: Any) -> Result:
    """One check of it, with what a daemon would do before and after."""
    checks = Checks()
    return await listening(upstream, lambda: checks.check(upstream.endpoint, HealthSettings(**options)))


async def listening(
    upstream: Upstream, then: Callable[[], Awaitable[Any]], host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Any:
    server = await asyncio.start_server(upstream.serve, host, 0, ssl=tls)
    upstream.endpoint.address, upstream.endpoint.port = server.sockets[0].getsockname()[:2]
    try:
        return await then()
    finally:
        server.close()
        async with upstream.alone:
            await upstream.alone.wait_for(lambda: upstream.at_once == 0)


def status_line(status: int, *fields: str, body: bytes = b"") -> bytes:
    head = [f"HTTP/1.1 {status} What", *fields, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status_line(200, body=b"ok"), "ok"),
        (status_line(204), "ok"),
        (status_line(302, "Location: http://127.0.0.1:1/"), "ok"),
        (status_line(399), "ok"),
        (status_line(400), "status 400"),
        (status_line(503, body=b"not now"), "status 503"),
        (b"HTTP/1.1 200 OK\r\n\r\nuntil the connection ends", "ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nplain", "ok"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", "reset"),
        (b"", "reset"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "bad_response"),
        (status_line(200, "X-Envoy-Immediate-Health-Check-Fail: true"), "immediate_fail"),
        (status_line(503, "x-envoy-immediate-health-check-fail: "), "immediate_fail"),
    ],
)
async def test_which_answers_pass(answer: bytes, reason: str) -> None:
    upstream = Upstream(answer)
    result = await ask(upstream, path="/health")
    assert (result.ok, result.reason) == (reason == "ok", reason)
    assert 0 < result.latency_s < 4
    assert len(upstream.heads) == 1, "nothing is sent twice, and no redirect is followed"


@pytest.mark.parametrize(("status", "ok"), [(200, False), (204, True), (418, True)])
async def test_expect_says_which_statuses_are_good(status: int, ok: bool) -> None:
    result = await ask(Upstream(status_line(status)), path="/", expect=frozenset({204, 418}))
    assert result.ok is ok


async def test_what_is_sent() -> None:
    upstream = Upstream()
    await ask(upstream, path="/health?deep=%2F", headers={"X-Token": "a"})
    lines = upstream.heads[0].split("\r\n")
    assert lines[0] == "GET /health?deep=%2F HTTP/1.1"
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    connection = fields.pop("connection")
    assert connection == "close"
    assert fields == {"host": "venue-service:3002", "user-agent": f"sidecar-health/{__version__}", "x-token": "a"}


async def test_configured_headers_replace_the_default_ones() -> None:
    upstream = Upstream()
    await ask(upstream, path="/", headers={"Host": "other", "User-Agent": "kube-probe"})
    head = upstream.heads[0].lower()
    assert "host: other\r\n" in head
    assert "user-agent: kube-probe\r\n" in head
    assert (head.count("host:"), head.count("user-agent:")) == (1, 1)


async def test_only_the_first_part_of_a_large_body_is_read() -> None:
    endless = Upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * BODY_MAX, holds=True)
    assert (await ask(endless, path="/")).ok
    short = Upstream(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * (BODY_MAX - 1), holds=True)
    assert (await ask(short, path="/", timeout=0.2)).reason == "timeout"


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome"])
async def test_an_incomplete_answer_is_a_timeout(answer: bytes) -> None:
    result = await ask(Upstream(answer, holds=True), path="/", timeout=0.1)
    assert (result.ok, result.reason) == (False, "timeout")
    assert 0.09 < result.latency_s < 4


@contextmanager
def refusing_port() -> Iterator[int]:
    """Bound, so that nobody else gets it, and not listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("options", [{"path": "/"}, {"tcp": True}])
async def test_a_refused_connection(options: dict[str, Any]) -> None:
    checks = Checks()
    with refusing_port() as port:
        result = await checks.check(Endpoint(port=port), HealthSettings(**options))
    assert (result.ok, result.reason) == (False, "connect_failure")


async def test_tcp_only_opens_a_connection() -> None:
    upstream = Upstream()
    assert (await ask(upstream, tcp=True)).reason == "ok"
    assert upstream.heads == []


@wants.of_the_machine("IPv6", there=has_ipv6())
@pytest.mark.parametrize("options", [{"path": "/"}, {"tcp": True}])
async def test_ipv6(options: dict[str, Any]) -> None:
    upstream, checks = Upstream(), Checks()
    result = await listening(upstream, lambda: checks.check(upstream.endpoint, HealthSettings(**options)), host="::1")
    assert result.ok


async def test_every_check_has_a_connection_of_its_own() -> None:
    upstream, checks = Upstream(holds=True), Checks()

    async def thrice() -> None:
        for _ in range(3):
            assert (await checks.check(upstream.endpoint, HealthSettings(path="/"))).ok

    await listening(upstream, thrice)
    assert (len(upstream.heads), upstream.ended) == (3, 3)


async def test_checks_at_once_are_limited_and_waiting_is_not_latency() -> None:
    upstream, checks = Upstream(b"", holds=True), Checks(at_once=3)
    settings = HealthSettings(path="/", timeout=0.05)

    async def many() -> None:
        began = monotonic()
        results = await asyncio.gather(*[checks.check(upstream.endpoint, settings) for _ in range(30)])
        took = monotonic() - began
        assert {result.reason for result in results} == {"timeout"}
        # Three at a time are ten rounds. With the waiting, the one in the middle would take half of the whole time.
        assert sorted(result.latency_s for result in results)[15] < took / 4

    await listening(upstream, many)
    assert upstream.most_at_once == 3


async def test_a_cancelled_check_releases_its_turn_and_its_connection() -> None:
    upstream, checks = Upstream(holds=True, answer=b""), Checks(at_once=1)

    async def cancelled() -> None:
        work = asyncio.gather(checks.check(upstream.endpoint, HealthSettings(path="/", timeout=60.0)))
        await upstream.came.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert (await checks.check(upstream.endpoint, HealthSettings(tcp=True))).ok

    await listening(upstream, cancelled)


async def test_an_internal_error_is_a_failed_check(caplog: pytest.LogCaptureFixture) -> None:
    checks = Checks()
    result = await checks.check(Endpoint(authority=b"\xff"), HealthSettings(path="/"))
    assert (result.ok, result.reason) == (False, "internal")
    assert "because of an internal error" in caplog.text


# TLS.


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of venue-service, signed by itself."""
    wants.skip_without("openssl")
    folder = tmp_path_factory.mktemp("tls")
    made, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=venue-service", "-addext", "subjectAltName=DNS:venue-service"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(made)], check=True, capture_output=True, timeout=30)
    return made, key


@pytest.mark.parametrize(
    ("server_name", "trusted", "reason"),
    [
        ("venue-service", True, "ok"),
        ("other-service", True, "connect_failure"),
        ("venue-service", False, "connect_failure"),
    ],
)
async def test_tls_is_verified_by_the_name_of_the_endpoint(
    certificate: tuple[Path, Path], server_name: str, trusted: bool, reason: str
) -> None:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(*certificate)
    checks, tls = Checks(), TlsSettings(ca_file=str(certificate[0])) if trusted else TlsSettings()
    upstream = Upstream(endpoint=Endpoint(tls=True, server_name=server_name))
    upstream.answer = status_line(200)
    # Closing a TLS connection has no half: the upstream leaves that to the check.
    upstream.holds = True
    settings = HealthSettings(path="/")
    result = await listening(upstream, lambda: checks.check(upstream.endpoint, settings, tls), tls=serving)
    assert result.reason == reason
