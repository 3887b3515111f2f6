"""The addresses of a name, one after the other."""

from __future__ import annotations

import pytest

from sidecar.config.check_urls import parse_check_url
from sidecar.health.checks.each_address import asking_each


@pytest.mark.parametrize(
    ("says", "reason", "asked"),
    [
        (["connect_failure", "ok", "ok"], "ok", "ab"),
        (["auth", "ok", "ok"], "auth", "a"),
        (["connect_failure", "connect_failure", "connect_failure"], "connect_failure", "abc"),
    ],
)
async def test_the_first_that_takes_a_connection_counts(
    monkeypatch: pytest.MonkeyPatch, says: list[str], reason: str, asked: str
) -> None:
    seen = ""

    async def look_up(host: str, port: int) -> list[str]:
        assert (host, port) == ("cache", 80)
        return ["a", "b", "c"]

    async def ask_at(address: str) -> str:
        nonlocal seen
        seen += address
        return says["abc".index(address)]

    monkeypatch.setattr("sidecar.health.checks.each_address.look_up", look_up)
    assert await asking_each(parse_check_url("tcp://cache:80"), ask_at)() == reason
    assert seen == asked


async def test_a_name_that_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async def ask_at(address: str) -> str:
        raise AssertionError(address)

    monkeypatch.setattr("sidecar.health.checks.each_address.look_up", look_up)
    assert await asking_each(parse_check_url("tcp://cache:80"), ask_at)() == "connect_failure"
