"""`redis://` and `rediss://` against a real Redis, and against servers with invalid answers."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from sidecar.config.check_urls import parse_check_url
from sidecar.config.schema import HealthCheck
from sidecar.health.checks.redis_ping import redis_check
from sidecar.net.tls_contexts import TlsContexts
from tests.support.certificate import make_certificate
from tests.support.eventually import eventually
from tests.support.kubernetes_api import until
from tests.support.redis_server import RedisServer
from tests.support.upstream import RefusedPort

PASSWORD = "hunter2/@:%"
ENCODED = "hunter2%2F%40%3A%25"


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """A user `default` with a password, one that may do nothing, and one that may only PING."""
    users = ("user nobody on nopass -@all", "user pinger on >pinging -@all +ping")
    with RedisServer(*users, password=PASSWORD) as server:
        yield server


async def asked(url: str, timeout: float = 2.0) -> str:
    before = sockets()
    found = await redis_check(HealthCheck(url=parse_check_url(url), timeout=timeout), TlsContexts())()
    # TLS says goodbye and waits for the peer's, which the check does not wait for; but this loop ends soon.
    await until(lambda: sockets() <= before)
    return found


def sockets() -> int:
    """How many this process has open."""
    found = 0
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # closed since, as that of the listing itself
            found += one.readlink().name.startswith("socket:")
    return found


@pytest.mark.parametrize(
    ("credentials", "database", "reason"),
    [
        (f":{ENCODED}@", "", "ok"),
        (f":{ENCODED}@", "/3", "ok"),
        (f"default:{ENCODED}@", "/0", "ok"),
        ("pinger:pinging@", "/0", "ok"),
        ("", "", "auth"),
        (":wrong@", "", "auth"),
        (f"stranger:{ENCODED}@", "", "auth"),
        ("nobody:any@", "", "auth"),
        ("pinger:pinging@", "/1", "auth"),
        (f":{ENCODED}@", "/999", "error"),
    ],
)
async def test_a_real_redis(redis: RedisServer, credentials: str, database: str, reason: str) -> None:
    assert await asked(f"redis://{credentials}127.0.0.1:{redis.port}{database}") == reason
    assert await asked(f"redis://{credentials}localhost:{redis.port}{database}") == reason


def connections(redis: RedisServer) -> tuple[int, int]:
    """Ever taken, and open now; the one that asks is in both."""
    info = redis.ask("INFO")
    found = [
        re.search(rf"^{key}:(\d+)", info, re.MULTILINE) for key in ("total_connections_received", "connected_clients")
    ]
    return tuple(int(one[1]) for one in found if one is not None)  # type: ignore[return-value]


async def test_each_check_has_a_connection_of_its_own_and_leaves_none_behind(redis: RedisServer) -> None:
    check = HealthCheck(url=parse_check_url(f"redis://:{ENCODED}@127.0.0.1:{redis.port}"))
    ask = redis_check(check, TlsContexts())
    before = connections(redis)[0]
    for _ in range(3):
        assert await ask() == "ok"
    assert connections(redis)[0] - before == 4
    await asyncio.to_thread(eventually, lambda: connections(redis)[1] == 1)


async def test_a_redis_that_ends_and_comes_back() -> None:
    with RedisServer() as redis:
        ask = redis_check(HealthCheck(url=parse_check_url(f"redis://127.0.0.1:{redis.port}")), TlsContexts())
        assert await ask() == "ok"
        redis.stop()
        assert await ask() == "connect_failure"
        redis.start()
        assert await ask() == "ok"


async def test_a_refused_connection_and_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    with RefusedPort() as dead:
        assert await asked(f"redis://{dead.authority}") == "connect_failure"

    async def look_up(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    monkeypatch.setattr("sidecar.health.checks.each_address.look_up", look_up)
    assert await asked("redis://localhost") == "connect_failure"


async def test_the_addresses_of_a_name_are_tried_until_one_takes_a_connection(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def look_up(host: str, port: int) -> list[str]:
        return ["127.0.0.9", "127.0.0.1"]  # the server listens at the second one alone

    monkeypatch.setattr("sidecar.health.checks.each_address.look_up", look_up)
    assert await asked(f"redis://:{ENCODED}@cache:{redis.port}") == "ok"


# TLS.


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1, trusted by itself; its key is beside it."""
    return make_certificate(tmp_path_factory.mktemp("tls"), name="cache")[1]


@pytest.fixture(scope="module")
def tls_redis(ca: Path) -> Iterator[RedisServer]:
    with RedisServer(password="hunter2", certificate=(ca, ca.with_name("tls.key"))) as server:
        yield server


@pytest.mark.parametrize(
    ("url", "trusted", "reason"),
    [
        ("rediss://:hunter2@127.0.0.1:{}", True, "ok"),
        ("rediss://:wrong@127.0.0.1:{}", True, "auth"),
        ("rediss://:hunter2@127.0.0.1:{}", False, "connect_failure"),
        ("rediss://:hunter2@localhost:{}", True, "connect_failure"),  # not the certificate's name
        ("redis://:hunter2@127.0.0.1:{}", True, "connect_failure"),
    ],
)
async def test_tls(
    tls_redis: RedisServer,
    ca: Path,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    trusted: bool,
    reason: str,
) -> None:
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(ca))
    assert await asked(url.format(tls_redis.port)) == reason


# What is no Redis, or not one that serves.


@asynccontextmanager
async def server_that_says(*answers: bytes, ends: bool = False) -> AsyncIterator[int]:
    """Each command, one after the other, gets the next of these; then it hangs, or ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for said in answers:
            if not await reader.read(1 << 16):
                break
            writer.write(said)
        if not ends:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"-LOADING Redis is loading the dataset in memory\r\n", "error"),
        (b"-MISCONF Redis is configured to save RDB snapshots\r\n", "error"),
        (b"-ERR unknown command\r\n", "error"),
        (b"-NOAUTH Authentication required.\r\n", "auth"),
        (b"-NOPERM this user has no permissions\r\n", "auth"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "bad_response"),
        (b"+OK\r\n", "bad_response"),
        (b"+PONG\n", "connect_failure"),
        (b":1\r\n", "bad_response"),
        (b":one\r\n", "bad_response"),
        (b"$4\r\nPONG\r\n", "bad_response"),
        (b"$-1\r\n", "bad_response"),
        (b"*1\r\n" * 10_000 + b"+PONG\r\n", "bad_response"),
        (b"+" + b"x" * 200_000, "bad_response"),
        (b"-ERR " + b"x" * 200_000 + b"\r\n", "bad_response"),
        (b"\r\n", "bad_response"),
    ],
)
async def test_other_answers(answer: bytes, reason: str) -> None:
    async with server_that_says(*[answer] * 4) as port:
        assert await asked(f"redis://127.0.0.1:{port}") == reason


async def test_a_connection_that_ends_without_an_answer() -> None:
    async with server_that_says(ends=True) as port:
        assert await asked(f"redis://127.0.0.1:{port}") == "connect_failure"


async def test_a_silent_server() -> None:
    async with server_that_says() as port:
        assert await asked(f"redis://127.0.0.1:{port}", timeout=0.1) == "timeout"


async def test_a_check_that_is_cancelled_can_be_made_again() -> None:
    async with server_that_says() as port:
        before = sockets()
        ask = redis_check(HealthCheck(url=parse_check_url(f"redis://127.0.0.1:{port}"), timeout=5.0), TlsContexts())
        for _ in range(2):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await ask()
        await until(lambda: sockets() <= before)


@pytest.mark.parametrize(
    ("echo", "reason"),
    [
        (b"-ERR unknown command `AUTH`, with args beginning with: `app` `hunter2`\r\n", "error"),
        (b"+hunter2\r\n", "auth"),
        (b":hunter2\r\n", "bad_response"),
        (b"$hunter2\r\n", "bad_response"),
        (b"*hunter2\r\n", "bad_response"),
        (b"hunter2\r\n", "bad_response"),
        (b"+" + b"hunter2" * 20_000, "bad_response"),
    ],
)
async def test_no_secret_is_logged_even_where_a_server_repeats_it(
    caplog: pytest.LogCaptureFixture, echo: bytes, reason: str
) -> None:
    caplog.set_level(logging.DEBUG)
    async with server_that_says(echo) as port:
        assert await asked(f"redis://app:hunter2@127.0.0.1:{port}") == reason
    assert "127.0.0.1" in caplog.text
    assert "hunter2" not in caplog.text


async def test_an_unknown_error_is_a_bad_response(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def raises(*_: object, **__: object) -> None:
        raise RecursionError("hunter2")

    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr("sidecar.health.checks.redis_ping._command", raises)
    async with server_that_says(b"+OK\r\n") as port:
        assert await asked(f"redis://app:hunter2@127.0.0.1:{port}") == "bad_response"
    assert "RecursionError" in caplog.text
    assert "hunter2" not in caplog.text


async def test_only_one_line_of_a_long_answer_is_read() -> None:
    said = 0

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal said
        await reader.read(1 << 16)
        writer.write(b"$500000000\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                said += 65536
        except OSError:
            writer.close()

    server = await asyncio.start_server(floods, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await asked(f"redis://127.0.0.1:{port}", timeout=10.0) == "bad_response"
    server.close()
    assert said < 50_000_000  # what fits between two sockets
