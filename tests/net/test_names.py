"""Look-ups of names: how many run, who waits for whom, and what becomes of late answers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator

import pytest

from sidecar.net import names as names_module
from sidecar.net.addresses import is_ip
from sidecar.net.names import Names, ask_system, look_up
from tests.support.eventually import eventually
from tests.support.kubernetes_api import until

pytestmark = pytest.mark.usefixtures("ends")


class Server:
    """What the threads ask. Names that begin with `silent` hang until `gate` opens."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.answers: dict[str, list[str] | Exception] = {}

    def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        if host.startswith("silent"):
            self.gate.wait()
        answer = self.answers.get(host, ["10.0.0.7", "10.0.0.8"])
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def ends(server: Server) -> Iterator[None]:
    """No thread outlives a test."""
    before = threading.active_count()
    yield
    server.gate.set()
    eventually(lambda: threading.active_count() <= before)


def names(server: Server, most: int = 256) -> Names:
    return Names(asyncio.get_running_loop(), ask=server, most=most)


async def quick(of: Names, host: str) -> list[str]:
    async with asyncio.timeout(5):
        return await of.addresses(host)


async def begun(server: Server, number: int) -> None:
    await until(lambda: len(server.asked) >= number)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "fe80::1%eth0"])
async def test_an_address_is_not_looked_up(server: Server, address: str) -> None:
    assert await names(server).addresses(address) == [address]
    assert server.asked == []


async def test_silent_names_do_not_delay_others(server: Server) -> None:
    of = names(server)
    waiting = asyncio.gather(*(of.addresses(f"silent{number}") for number in range(100)))
    await begun(server, 100)
    assert await quick(of, "good") == ["10.0.0.7", "10.0.0.8"]
    server.gate.set()
    assert len(await waiting) == 100


async def test_a_name_has_one_look_up_at_a_time_and_nothing_is_kept(server: Server) -> None:
    of = names(server)
    waiting = asyncio.gather(*(of.addresses("silent") for _ in range(5)))
    await begun(server, 1)
    server.gate.set()
    assert await waiting == [["10.0.0.7", "10.0.0.8"]] * 5
    assert server.asked == ["silent"]
    await of.addresses("silent")
    assert server.asked == ["silent", "silent"]


async def test_a_late_answer_is_for_who_asks_next(server: Server) -> None:
    of = names(server)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await of.addresses("silent")
    waiting = asyncio.gather(of.addresses("silent"))
    server.gate.set()
    assert await waiting == [["10.0.0.7", "10.0.0.8"]]
    assert server.asked == ["silent"]


@pytest.mark.parametrize("failure", [OSError("no such name"), UnicodeError("label too long")])
async def test_a_failure_is_for_all_who_wait(server: Server, failure: Exception) -> None:
    server.answers["silent"] = failure
    of = names(server)
    waiting = asyncio.gather(*(of.addresses("silent") for _ in range(3)), return_exceptions=True)
    await begun(server, 1)
    server.gate.set()
    assert await waiting == [failure] * 3


async def test_an_empty_answer_is_a_failure(server: Server) -> None:
    server.answers["good"] = []
    with pytest.raises(OSError, match="empty"):
        await names(server).addresses("good")


async def test_no_more_run_at_a_time_than_the_bound(server: Server) -> None:
    of = names(server, most=4)
    waiting = asyncio.gather(*(of.addresses(f"silent{number}") for number in range(6)))
    await begun(server, 4)
    assert repr(of) == "<Names 4 running, 2 waiting>"
    server.gate.set()
    assert len(await waiting) == 6
    assert len(server.asked) == 6
    assert repr(of) == "<Names 0 running, 0 waiting>"


async def test_names_that_were_slow_take_half_of_the_threads_at_most(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names_module, "SLOW_S", 0.01)
    of = names(server, most=4)
    waiting = asyncio.gather(*(of.addresses(f"silent{number}") for number in range(4)))
    await begun(server, 4)
    await asyncio.sleep(0.02)
    server.gate.set()
    await waiting
    server.gate.clear()
    waiting = asyncio.gather(*(of.addresses(f"silent{number}") for number in range(4)))
    await begun(server, 6)
    assert await quick(of, "good") == ["10.0.0.7", "10.0.0.8"]
    assert repr(of) == "<Names 2 running, 2 waiting>"
    monkeypatch.setattr(names_module, "SLOW_S", 100.0)
    server.gate.set()
    await waiting
    server.gate.clear()
    waiting = asyncio.gather(*(of.addresses(f"silent{number}") for number in range(4)))
    await begun(server, 13)  # they were quick the last time
    server.gate.set()
    await waiting


async def test_without_a_free_thread_the_look_up_fails(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    of = names(server)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(OSError, match="can't start new thread"):
            await of.addresses("good")
    assert await quick(of, "good") == ["10.0.0.7", "10.0.0.8"]


async def test_what_is_known_of_a_name_is_filtered_by_family(server: Server) -> None:
    server.answers["both"] = ["fd00::1", "10.0.0.7"]
    of = names(server)
    stream, tcp = socket.SOCK_STREAM, socket.IPPROTO_TCP
    six = (socket.AF_INET6, stream, tcp, "", ("fd00::1", 80, 0, 0))
    four = (socket.AF_INET, stream, tcp, "", ("10.0.0.7", 80))
    assert await of.getaddrinfo("both", 80, type=stream) == [six, four]
    assert await of.getaddrinfo(b"both", b"80", type=stream, family=socket.AF_INET) == [four]
    assert await of.getaddrinfo("both", "80", type=stream, family=socket.AF_INET6) == [six]
    assert await of.getaddrinfo("10.0.0.7", 80, type=stream) == [four]
    assert server.asked == ["both"] * 3
    with pytest.raises(socket.gaierror):
        await of.getaddrinfo("10.0.0.7", 80, family=socket.AF_INET6)
    passive = await of.getaddrinfo(None, 80, type=stream, flags=socket.AI_PASSIVE, family=socket.AF_INET)
    assert passive == [(socket.AF_INET, stream, tcp, "", ("0.0.0.0", 80))]


def test_the_system_s_resolver_gives_addresses() -> None:
    found = ask_system("localhost")
    assert set(found) & {"127.0.0.1", "::1"}
    assert all(is_ip(address) for address in found)
    assert len(set(found)) == len(found)


async def test_look_up_asks_the_loop(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    of = names(server)
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", of.getaddrinfo)
    assert await look_up("good", 80) == ["10.0.0.7", "10.0.0.8"]
    assert await look_up("10.0.0.9") == ["10.0.0.9"]
    assert server.asked == ["good"]
