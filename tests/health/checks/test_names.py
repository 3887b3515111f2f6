"""Name lookups of checks: one at a time for each name."""

from __future__ import annotations

import asyncio

import pytest

from sidecar.health.active import Start
from sidecar.health.checks.names import Names, getaddrinfo


class Resolver:
    """A resolver that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.of_two = asyncio.Event()
        self.gate = asyncio.Event()
        self.answer: list[str] | Exception = ["10.0.0.7", "10.0.0.8"]

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if len(self.asked) == 2:
            self.of_two.set()
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_is_not_looked_up(start: Start, address: str) -> None:
    resolver = Resolver()
    assert await Names(start, resolver).addresses(address, 1) == [address]
    assert resolver.asked == []


async def test_a_name_has_one_lookup_at_a_time(start: Start) -> None:
    resolver = Resolver()
    names = Names(start, resolver)
    waiting = [asyncio.gather(names.addresses("cache", 1)) for _ in range(5)]
    other = asyncio.gather(names.addresses("queue", 1))
    await resolver.of_two.wait()
    resolver.gate.set()
    assert await asyncio.gather(*waiting, other) == [[["10.0.0.7", "10.0.0.8"]]] * 6
    assert resolver.asked == ["cache", "queue"]
    await names.addresses("cache", 1)
    assert resolver.asked == ["cache", "queue", "cache"], "nothing is kept: names change"


async def test_a_lookup_continues_when_its_callers_give_up(start: Start) -> None:
    resolver = Resolver()
    names = Names(start, resolver)
    for _ in range(20):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await names.addresses("cache", 1)
    assert resolver.asked == ["cache"]
    waiting = asyncio.gather(names.addresses("cache", 1))
    await asyncio.sleep(0)
    resolver.gate.set()
    assert await waiting == [["10.0.0.7", "10.0.0.8"]]
    assert resolver.asked == ["cache"]


@pytest.mark.parametrize("answer", [OSError("no such name"), UnicodeError("label too long"), []])
async def test_a_name_without_an_address(start: Start, answer: list[str] | Exception) -> None:
    resolver = Resolver()
    resolver.answer = answer
    resolver.gate.set()
    names = Names(start, resolver)
    for _ in range(2):
        with pytest.raises(OSError, match="no address is known"):
            await names.addresses("cache", 1)
    assert len(resolver.asked) == 2


async def test_a_failure_that_nobody_awaits_is_not_logged_as_an_error(start: Start) -> None:
    resolver = Resolver()
    resolver.answer = OSError("no such name")
    started = []

    def noted(work, name):  # type: ignore[no-untyped-def]
        started.append(start(work, name))
        return started[-1]

    names = Names(noted, resolver)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await names.addresses("cache", 1)
    resolver.gate.set()
    await started[0]


async def test_a_lookup_cancelled_before_its_start_ends_the_waiting(start: Start) -> None:
    started = []

    def noted(work, name):  # type: ignore[no-untyped-def]
        started.append(start(work, name))
        return started[-1]

    names = Names(noted, Resolver())
    waiting = asyncio.gather(names.addresses("cache", 1))
    await asyncio.sleep(0)
    started[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_the_system_knows_localhost() -> None:
    found = await getaddrinfo("localhost", 80)
    assert {"127.0.0.1", "::1"} & set(found)
    assert len(found) == len(set(found))
