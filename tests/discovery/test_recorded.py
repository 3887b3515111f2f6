"""Answers of a real API server about EndpointSlices, played back byte for byte in writes of several sizes.

tests/discovery/recorded/README.md says which server, and how.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sidecar.discovery.kubernetes.api import Api, Times
from sidecar.discovery.kubernetes.credentials import Credentials
from sidecar.discovery.kubernetes.feed import Feed
from sidecar.discovery.kubernetes.problem import GONE, Problem
from sidecar.policy.settings import KubernetesSettings
from tests.support.kubernetes_api import until
from tests.support.replay import Replay

RECORDED = Path(__file__).parent / "recorded"

LISTED = ["10.0.0.11", "10.0.0.12"]
STEPS = [
    LISTED,
    [*LISTED, "10.0.0.13"],
    ["10.0.0.12", "10.0.0.13"],  # .11 is terminating
    ["10.0.0.12", "10.0.0.13"],  # .11 is gone
    ["10.0.0.12"],  # the slice of .13 has no endpoints
    ["10.0.0.12"],  # and is deleted
    ["10.0.0.12", "10.0.0.21"],
    ["10.0.0.12", "10.0.0.21", "10.0.0.22"],
    ["10.0.0.12", "10.0.0.21", "10.0.0.22", "10.0.0.23"],
]
"""The addresses after each event. When events are read together, only the last state is reported."""
LAST_CHUNK = b"0\r\n\r\n"


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.http").read_bytes()


def still_open(name: str) -> bytes:
    """A recorded watch as it was before the server ended it."""
    answer = recorded(name)
    assert answer.endswith(LAST_CHUNK)
    return answer.removesuffix(LAST_CHUNK)


class Following:
    """A feed of `venue`; `told` has what was known each time that it told of a change. Its waits take no time."""

    def __init__(self, api: Api) -> None:
        self.told: list[list[str]] = []
        self.feed = Feed(
            api, "shop", "venue", self._changed, times=Times(), random=lambda: 0.5, sleep=lambda _: asyncio.sleep(0)
        )

    def _changed(self) -> None:
        self.told.append(self.known)

    @property
    def known(self) -> list[str]:
        return sorted(address for one in self.feed.slices.values() for address in one.ready)


@asynccontextmanager
async def following(*answers: bytes, piece: int = 0) -> AsyncIterator[tuple[Following, Replay]]:
    async with Replay(answers, piece) as replay:
        api = Api(Credentials(KubernetesSettings(service="venue", server=replay.url)))
        found = Following(api)
        task = asyncio.ensure_future(found.feed.run())  # noqa: TID251
        try:
            yield found, replay
        finally:
            task.cancel()
            await asyncio.wait([task])
            await api.close()


@asynccontextmanager
async def client(*answers: str) -> AsyncIterator[Api]:
    async with Replay(map(recorded, answers)) as replay:
        api = Api(Credentials(KubernetesSettings(service="venue", server=replay.url)))
        try:
            yield api
        finally:
            await api.close()


@pytest.mark.parametrize("piece", [0, 1, 7, 1000])
async def test_a_list_and_a_watch_to_its_end(piece: int) -> None:
    """Added, on its way out, gone, without endpoints, deleted, a bookmark, and the end of its time."""
    answers = recorded("list"), recorded("watch"), still_open("watch-behind")
    async with following(*answers, piece=piece) as (found, replay):
        await until(lambda: len(replay.asked) == 3 and found.feed.events == 8)
        assert found.told[0] == LISTED
        assert found.known == ["10.0.0.12", "10.0.0.21", "10.0.0.22", "10.0.0.23"]
        steps = iter(STEPS)
        assert all(told in steps for told in found.told), found.told
        assert (found.feed.lists, found.feed.watches, found.feed.breaks, found.feed.failures) == (1, 2, 0, 0)
        bookmark = b'"resourceVersion":"%s"' % asked_version(replay.asked[2])
        assert bookmark in recorded("watch").rpartition(b"BOOKMARK")[2]


def asked_version(request: bytes) -> bytes:
    return request.partition(b"resourceVersion=")[2].partition(b"&")[0]


@pytest.mark.parametrize("piece", [0, 1])
async def test_a_lost_history_is_listed_again(piece: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    answers = recorded("list-empty"), recorded("watch-gone"), recorded("list"), still_open("watch")
    async with following(*answers, piece=piece) as (found, replay):
        await until(lambda: found.feed.events == 5)
        assert [b"watch=1" in one for one in replay.asked] == [False, True, False, True]
        assert b"resourceVersion=0" in replay.asked[0]
        assert b"resourceVersion" not in replay.asked[2], "the present state, not what a cache has"
        assert found.known == ["10.0.0.12"]
        assert found.feed.failures == 0
    assert "is listed again" in caplog.text


async def test_pages() -> None:
    async with client("page-1", "page-2") as api:
        found, version = await api.slices("shop", "venue")
    assert [one.metadata.name for one in found] == ["venue-aaaaa", "venue-c1", "venue-c2", "venue-c3"]
    assert version


async def test_a_page_that_came_too_late() -> None:
    async with client("page-1", "continue-gone") as api:
        with pytest.raises(Problem) as caught:
            await api.slices("shop", "venue")
    assert caught.value.kind == GONE


async def test_after_a_page_that_came_too_late_it_begins_again() -> None:
    answers = map(recorded, ("page-1", "continue-gone", "page-1", "page-2"))
    async with following(*answers, still_open("watch-behind")) as (found, replay):
        await until(lambda: found.feed.events == 3)
        assert b"continue=" not in replay.asked[2]
        assert found.known == ["10.0.0.12", "10.0.0.21", "10.0.0.22", "10.0.0.23"]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ("unauthorized", "401", "it is wrong or has expired"),
        ("forbidden", "403", "needs a Role in namespace shop with the verbs list and watch"),
        ("not-found", "404", "`server` must be an API server"),
        ("version-ahead", "504", "Too large resource version"),
        ("bad-continue", "400", "not allowed when using continue"),
    ],
)
async def test_refusals(answer: str, kind: str, words: str) -> None:
    async with client(answer, answer) as api:
        with pytest.raises(Problem) as caught:
            await api.slices("shop", "venue")
        assert caught.value.kind == kind
        assert words in str(caught.value)
        with pytest.raises(Problem) as caught:
            await api.watch("shop", "venue", "1", seconds=3, opened=lambda: None, take=lambda _: None)
        assert caught.value.kind == kind


async def test_known_endpoints_survive_refusals() -> None:
    answers = map(recorded, ("list", "unauthorized", "forbidden", "watch-bad-version"))
    async with following(*answers, still_open("watch")) as (found, replay):
        await until(lambda: found.feed.events == 5)
        assert found.told[0] == LISTED
        assert found.feed.failures == 3
        assert len(replay.asked) == 5
        assert found.feed.problem is None


async def test_a_version_that_the_server_does_not_have_yet_is_a_silent_watch() -> None:
    async with client("watch-ahead") as api:
        heard: list[list[bytes]] = []
        assert await api.watch("shop", "venue", "999999999", seconds=3, opened=lambda: None, take=heard.append)
    assert heard == []
