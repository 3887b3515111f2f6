"""The demo's upstream alone: what it answers, and that it ends with whoever holds its standard input."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer

from benchmarks.ports import free_ports
from sidecar.demo.service import Endpoint, endpoints_of, main
from tests.support.eventually import eventually
from tests.support.urls import opened

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    endpoint = Endpoint("payment", "127.0.0.1:19105", random.Random(7))
    async with TestClient(TestServer(endpoint.application())) as client:
        yield client


async def test_an_answer_describes_the_request(client: Client) -> None:
    response = await client.post(
        "/charges//a%2Fb?x=1", data=b"x" * 70_000, headers={"X-Sidecar-Loop": "abc", "Cookie": "a=b"}
    )
    assert response.status == 200
    assert response.content_type == "application/json"
    seen = await response.json()
    host = seen["headers"].pop("host")
    assert host.startswith("127.0.0.1:")
    assert seen == {
        "service": "payment",
        "endpoint": "127.0.0.1:19105",
        "method": "POST",
        "path": "/charges//a%2Fb?x=1",
        "body_bytes": 70_000,
        "headers": {"x-sidecar-loop": "abc"},
    }


async def statuses(client: Client, count: int) -> list[int]:
    return [(await client.get("/")).status for _ in range(count)]


async def test_flaky_fails_the_requested_share_until_it_is_turned_off(client: Client) -> None:
    assert (await client.post("/flaky?rate=1")).status == 200
    assert await statuses(client, 3) == [503, 503, 503]
    await client.post("/flaky?rate=1&status=500")
    assert await statuses(client, 1) == [500]
    await client.post("/flaky?rate=0.6")
    share = (await statuses(client, 200)).count(503) / 200
    assert 0.45 < share < 0.75
    await client.post("/flaky?rate=0")
    assert await statuses(client, 3) == [200, 200, 200]


async def test_slow_delays_every_answer(client: Client) -> None:
    assert await (await client.post("/slow?ms=20")).json() == {"endpoint": "127.0.0.1:19105", "delay_ms": 20}
    assert await statuses(client, 1) == [200]


@pytest.mark.parametrize(
    "switch", ["/flaky?rate=2", "/flaky?rate=-1", "/flaky?rate=nan", "/flaky?status=200", "/slow?ms=x", "/slow?ms=-1"]
)
async def test_a_switch_with_invalid_values_changes_nothing(client: Client, switch: str) -> None:
    response = await client.post(switch)
    assert response.status == 400
    assert "from" in (await response.json())["error"]
    assert await statuses(client, 1) == [200]


def test_a_seed_repeats_the_failures_and_endpoints_differ() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        draws = [[e._rng.random() for e in endpoints_of("payment", [one, two], seed)] for seed in (7, 7, 8)]
    assert draws[0] == draws[1]
    assert draws[0] != draws[2]
    assert draws[0][0] != draws[0][1]


async def test_the_process_serves_inherited_sockets_and_ends_when_its_standard_input_closes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [listener.getsockname()[1] for listener in (one, two)]
        descriptors = [one.fileno(), two.fileno()]
        command = [sys.executable, "-m", "sidecar.demo.service", "venue", *map(str, descriptors)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=descriptors)
    try:
        async with ClientSession() as session:
            for port in ports:
                async with session.get(f"http://127.0.0.1:{port}/events/42") as response:
                    assert (await response.json())["endpoint"] == f"127.0.0.1:{port}"
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            code = process.wait(10)
        finally:
            process.kill()
    assert code == 0


def asked(port: int) -> tuple[int, dict[str, str]]:
    try:
        with opened(f"http://127.0.0.1:{port}/cards") as answer:
            return answer.status, json.load(answer)
    except OSError as error:
        raise AssertionError(f"no answer yet: {error}") from error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_opens_an_address_of_its_own_and_ends_at_a_signal(number: signal.Signals) -> None:
    (port,) = free_ports(1)
    arguments = ["payment", "--listen", f"127.0.0.1:{port}", "--flaky", "1"]
    process = subprocess.Popen([sys.executable, "-m", "sidecar.demo.service", *arguments], stdin=subprocess.DEVNULL)
    try:
        status, answer = eventually(lambda: asked(port), timeout=20)
        process.send_signal(number)
        code = process.wait(10)
    finally:
        process.kill()
        process.wait()
    assert status == 503
    assert answer["endpoint"] == f"{socket.gethostname()}:{port}"
    assert code == 0


@pytest.mark.parametrize(
    "arguments", [[], ["4", "--listen", "127.0.0.1:0"], ["--listen", "127.0.0.1:0", "--flaky", "2"]]
)
def test_a_call_that_makes_no_sense_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["payment", *arguments])
    assert refused.value.code == 2
