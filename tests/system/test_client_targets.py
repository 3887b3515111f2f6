"""What an app has percent-encoded reaches the service as the app wrote it, through `sidecar.client` and the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from sidecar.client import ServiceClient
from tests.support.rig import Rig
from tests.support.steps import answer

RESERVED = ":@!$&'()*,;="


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig('services: {venue: {endpoints: ["$venue"]}}', "venue") as rig:
        rig["venue"].play(answer())
        yield rig


async def arrived(rig: Rig, path: str, params: Any = None, *, stream: bool = False) -> str:
    async with ServiceClient("venue", base_url=f"http://127.0.0.1:{rig.ports.proxy}") as venue:
        if stream:
            async with venue.stream("GET", path, params=params) as answered:
                await answered.read()
        else:
            await venue.get(path, params=params)
    return await asyncio.to_thread(lambda: rig["venue"].last.target)


@pytest.mark.parametrize("stream", [False, True], ids=["call", "stream"])
@pytest.mark.parametrize("character", RESERVED + "/?#[]%+ é")
async def test_quoted_character_in_a_path_and_in_a_query(rig: Rig, character: str, stream: bool) -> None:
    quoted = quote(character, safe="")
    assert await arrived(rig, f"/events/a{quoted}b", stream=stream) == f"/events/a{quoted}b"
    assert await arrived(rig, f"/events?u=a{quoted}b", stream=stream) == f"/events?u=a{quoted}b"
    assert await arrived(rig, "/events", f"u=a{quoted}b", stream=stream) == f"/events?u=a{quoted}b"


@pytest.mark.parametrize("character", RESERVED)
async def test_character_that_is_not_quoted_stays_so_too(rig: Rig, character: str) -> None:
    assert await arrived(rig, f"/events/a{character}b?u=a{character}b") == f"/events/a{character}b?u=a{character}b"


@pytest.mark.parametrize(
    ("path", "params", "target"),
    [
        ("/e?back=https%3A%2F%2Fshop%2Fa%3Fb", None, "/e?back=https%3A%2F%2Fshop%2Fa%3Fb"),
        ("/e?back=%2Fa", {"q": "a b", "u": "%2F"}, "/e?back=%2Fa&q=a+b&u=%252F"),
        ("/e", [("tag", "a&b"), ("tag", "ü")], "/e?tag=a%26b&tag=%C3%BC"),
        ("/e", {"tag": ["a", "b"]}, "/e?tag=a&tag=b"),
        ("/e", "q=a%20b", "/e?q=a%20b"),
        ("/e", "q=a+b&n=ü", "/e?q=a+b&n=%C3%BC"),
        ("/ü x", None, "/%C3%BC%20x"),
        ("/100%", None, "/100%25"),
        ("/%c3%BC", None, "/%c3%BC"),
        ("//e//", None, "//e//"),
    ],
)
async def test_target(rig: Rig, path: str, params: Any, target: str) -> None:
    assert await arrived(rig, path, params) == target
