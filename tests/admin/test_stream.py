"""Events as they happen: their form, what a reader missed, and readers that do not read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from sidecar.admin import stream
from sidecar.telemetry.events import MOST_FOLLOWERS, Event
from tests.admin.stage import Client, RealTime, serving, until


def add(stage: RealTime, count: int = 1, service: str = "venue", size: int = 0) -> None:
    for number in range(count):
        stage.events.add("breaker", "info", 0.0, "x" * size or f"event {number}", {"service": service})


def follow(client: Client, query: str = "", **headers: str) -> Any:
    sent = {"Accept": "text/event-stream"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return client.session.get(f"{client.url}/events{query}", headers=sent)


async def read(response: aiohttp.ClientResponse, count: int) -> list[dict[str, str]]:
    """So many messages, each as its fields; comments and `retry` are left out."""
    found: list[dict[str, str]] = []
    async with asyncio.timeout(5):
        while len(found) < count:
            block = (await response.content.readuntil(b"\n\n")).decode()
            fields = dict(line.split(": ", 1) for line in block.strip().splitlines() if not line.startswith(":"))
            if "data" in fields:
                found.append(fields)
    return found


def test_an_event_is_one_message() -> None:
    event = Event(id=7, time="t", kind="breaker", level="info", service="venue", text="a\nb", fields={"a": 1})
    head, kind, data, end = stream.sse(event).decode().split("\n", 3)
    assert (head, kind, end) == ("id: 7", "event: breaker", "\n")
    assert json.loads(data.removeprefix("data: "))["text"] == "a\nb"


async def test_what_happens_is_told_as_it_happens() -> None:
    stage = RealTime()
    async with serving(stage) as client, follow(client) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "text/event-stream"
        assert response.headers["Cache-Control"] == "no-store"
        add(stage)
        (message,) = await read(response, 1)
        assert (message["id"], message["event"]) == ("1", "breaker")
        assert json.loads(message["data"])["service"] == "venue"


@pytest.mark.parametrize(("query", "header"), [("", "3"), ("?since=3", None)])
async def test_a_reader_goes_on_where_it_left_off(query: str, header: str | None) -> None:
    stage = RealTime()
    add(stage, 5)
    async with serving(stage) as client:
        headers = {"Last_Event_ID": header} if header else {}
        async with follow(client, query, **headers) as response:
            add(stage)
            assert [message["id"] for message in await read(response, 3)] == ["4", "5", "6"]


async def test_a_stream_by_the_query_and_of_one_service() -> None:
    stage = RealTime()
    async with (
        serving(stage) as client,
        client.session.get(client.url + "/events?follow=true&service=auth&since=0") as response,
    ):
        add(stage, 2)
        add(stage, 1, "auth")
        (message,) = await read(response, 1)
        assert message["id"] == "3"


async def test_what_is_no_id() -> None:
    async with serving(RealTime()) as client:
        for given in ("x", "-1", "1" * 30, "\u00b2"):
            async with follow(client, f"?since={given}") as response:
                assert response.status == 400


async def test_readers_are_bounded_and_their_places_come_free() -> None:
    stage = RealTime()
    async with serving(stage) as client:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            url = f"{client.url}/events?follow=true"
            readers = [await session.get(url) for _ in range(MOST_FOLLOWERS)]
            async with session.get(url) as one_more:
                assert one_more.status == 503
                assert one_more.headers["Retry-After"] == "5"
                assert (await one_more.json(content_type=None))["reason"] == "too_many_followers"
            for reader in readers:
                reader.close()
        await until(lambda: not stage.events._followers)  # with no event that would show it


async def test_a_streams_head_is_as_every_other() -> None:
    async with serving(RealTime()) as client, follow(client) as response:
        assert response.headers["Server"] == "sidecar"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"


async def test_a_reader_that_does_not_read_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "WRITE_S", 0.2)
    stage = RealTime()
    async with serving(stage) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.port, limit=1024)
        writer.write(b"GET /events?follow=true HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: stage.events._followers)
        async with asyncio.timeout(10):
            while stage.events._followers:
                add(stage, 50, size=100_000)
                await asyncio.sleep(0.01)
        writer.close()


async def test_a_quiet_stream_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "KEEP_ALIVE_S", 0.01)
    async with serving(RealTime()) as client, follow(client) as response:
        async with asyncio.timeout(5):
            assert await response.content.readuntil(b"\n\n") == b"retry: 2000\n\n"
            assert await response.content.readuntil(b"\n\n") == b": here\n\n"


async def test_what_was_lost_is_told() -> None:
    assert stream.sse_lost(3) == b'event: lost\ndata: {"lost": 3}\n\n'


async def test_closing_ends_streams_at_once() -> None:
    stage = RealTime()
    async with serving(stage) as client:
        response = await follow(client)
        stage.events.close()
        async with asyncio.timeout(5):
            while await response.content.readany():
                pass
