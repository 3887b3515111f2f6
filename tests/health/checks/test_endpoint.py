"""`tcp://` and `http(s)://`: which addresses are tried, what is sent, and which answers pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.config.check_urls import parse_check_url
from sidecar.config.schema import HealthCheck
from sidecar.health.active import Checks, Result
from sidecar.health.checks.endpoint import endpoint_check
from sidecar.policy.settings import DEFAULT_TLS, HealthSettings, TlsSettings
from tests.support.certificate import make_certificate
from tests.support.steps import answer
from tests.support.upstream import RefusedPort, Step, Upstream


class Asker:
    """Stands for `Checks.check`: addresses answer what `says` says, the others are well."""

    def __init__(self, **says: str) -> None:
        self.says = {address.replace("_", "."): reason for address, reason in says.items()}
        self.asked: list[tuple[Any, HealthSettings]] = []

    async def __call__(self, target: Any, settings: HealthSettings, tls: TlsSettings) -> Result:
        self.asked.append((target, settings))
        reason = self.says.get(target.address, "ok")
        return Result(reason == "ok", reason, 0.001)


async def look_up(host: str, port: int) -> list[str]:
    if host == "nobody":
        raise OSError("no such name")
    return ["10.0.0.7", "10.0.0.8"]


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names have the addresses of `look_up`."""
    monkeypatch.setattr("sidecar.health.checks.each_address.look_up", look_up)


async def asked(url: str, asker: Asker) -> str:
    config = HealthCheck(url=parse_check_url(url), timeout=0.5)
    return await endpoint_check(config, asker)()


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("url", "tls", "authority", "settings"),
    [
        ("tcp://queue:5672", False, b"queue:5672", HealthSettings(tcp=True, timeout=0.5)),
        ("http://search", False, b"search", HealthSettings(path="/", timeout=0.5)),
        ("http://search:9200/a?b", False, b"search:9200", HealthSettings(path="/a?b", timeout=0.5)),
        ("https://search/a", True, b"search", HealthSettings(path="/a", timeout=0.5)),
    ],
)
async def test_what_is_asked(url: str, tls: bool, authority: bytes, settings: HealthSettings) -> None:
    asker = Asker()
    assert await asked(url, asker) == "ok"
    ((target, used),) = asker.asked
    assert (target.address, target.tls, target.authority, used) == ("10.0.0.7", tls, authority, settings)
    assert target.server_name == authority.partition(b":")[0].decode()


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize(
    ("says", "reason", "tried"),
    [
        ({"10_0_0_7": "connect_failure"}, "ok", 2),
        ({"10_0_0_7": "connect_failure", "10_0_0_8": "connect_failure"}, "connect_failure", 2),
        ({"10_0_0_7": "connect_failure", "10_0_0_8": "status 503"}, "status 503", 2),
        ({"10_0_0_7": "status 503"}, "status 503", 1),
    ],
)
async def test_addresses_are_tried_until_one_takes_a_connection(says: dict[str, str], reason: str, tried: int) -> None:
    asker = Asker(**says)
    assert await asked("http://search", asker) == reason
    assert len(asker.asked) == tried


@pytest.mark.usefixtures("names")
async def test_a_name_that_nobody_knows() -> None:
    assert await asked("tcp://nobody:1", Asker()) == "connect_failure"


async def really(url: str, timeout: float = 1.0, tls: TlsSettings = DEFAULT_TLS) -> str:
    return await endpoint_check(HealthCheck(url=parse_check_url(url), timeout=timeout, tls=tls), Checks().check)()


@asynccontextmanager
async def upstream_that(step: Step) -> AsyncIterator[Upstream]:
    upstream = Upstream(step)
    yield upstream
    await asyncio.to_thread(upstream.stop)  # which waits for connections that this loop has to close


@pytest.mark.parametrize(
    ("status", "reason"), [(200, "ok"), (204, "ok"), (302, "ok"), (404, "status 404"), (503, "status 503")]
)
async def test_a_real_server(status: int, reason: str) -> None:
    headers = [("Location", "/elsewhere")] if status == 302 else []
    async with upstream_that(answer(status, headers=headers)) as upstream:
        assert await really(f"{upstream.url}/health?deep") == reason
        (request,) = upstream.requests
        assert (request.method, request.target, request.get("host")) == ("GET", "/health?deep", upstream.authority)
        assert await really(f"tcp://{upstream.authority}") == "ok"
        assert upstream.hits == 1


async def test_localhost_is_found_on_whichever_address_it_listens() -> None:
    async with upstream_that(answer()) as upstream:
        assert await really(f"http://localhost:{upstream.port}/") == "ok"
        assert await really(f"tcp://localhost:{upstream.port}") == "ok"


@pytest.mark.parametrize("scheme", ["tcp", "http", "https"])
async def test_a_refused_connection(scheme: str) -> None:
    with RefusedPort() as dead:
        assert await really(f"{scheme}://{dead.authority}") == "connect_failure"


async def test_an_untrusted_certificate(tmp_path: Path) -> None:
    context, ca = make_certificate(tmp_path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1 << 16):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    assert await really(url) == "connect_failure"
    assert await really(url, tls=TlsSettings(ca_file=str(ca))) == "ok"
    server.close()
