"""What a call brings: read and decoded, or streamed."""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass

import pytest

from sidecar.client import (
    ClientError,
    ConnectionFailed,
    InvalidAnswer,
    NotFound,
    Response,
    ResponseError,
    ServiceClient,
    ServiceError,
)
from tests.support.steps import answer, answer_chunked, raw, response_head, then, then_held
from tests.support.upstream import Step, Turn, Upstream

LINES = b"first\nsecond\nlast"


@dataclass
class Venue:
    id: int


async def get(scripted: Upstream, venue: ServiceClient, step: Step) -> Response:
    await asyncio.to_thread(scripted.play, step)  # The loop sees how the connection of before ends.
    return await venue.get("/events/1?x=1")


async def test_it_is_aiohttps_and_read(scripted: Upstream, venue: ServiceClient) -> None:
    step = answer(201, b'{"id": 1}', [("Content-Type", "application/json"), ("X-A", "b")])
    response = await get(scripted, venue, step)
    assert (response.status, response.headers["x-a"], response.body) == (201, "b", b'{"id": 1}')
    assert (await response.json(), await response.text(), await response.read()) == (
        {"id": 1},
        '{"id": 1}',
        response.body,
    )
    assert response.request_id == scripted.last.get("x-request-id")
    async with response:
        assert response.ok


async def test_what_the_sidecar_says_of_it(scripted: Upstream, venue: ServiceClient) -> None:
    plain = await get(scripted, venue, answer())
    assert (plain.attempts, plain.fallback) == (1, "")
    kept = await get(scripted, venue, answer(headers=[("x-envoy-attempt-count", "3"), ("x-sidecar-fallback", "stale")]))
    assert (kept.attempts, kept.fallback) == (3, "stale")


async def test_decode(scripted: Upstream, venue: ServiceClient) -> None:
    response = await get(scripted, venue, answer(body=b'{"id": 1}'))
    assert response.decode(Venue) == Venue(1)
    assert response.decode() == {"id": 1}
    with pytest.raises(InvalidAnswer) as caught:
        response.decode(list[Venue])
    error = caught.value
    assert (error.service, error.method, error.path, error.status) == ("venue", "GET", "/events/1", 200)
    assert error.request_id == response.request_id
    assert error.detail == "200 with no Content-Type: Expected `array`, got `object`"


async def test_decode_of_no_body(scripted: Upstream, venue: ServiceClient) -> None:
    with pytest.raises(InvalidAnswer, match=r"204 with .*: the body is empty"):
        (await get(scripted, venue, answer(204))).decode(Venue)


async def test_neither_query_nor_headers_in_its_words(scripted: Upstream, venue: ServiceClient) -> None:
    scripted.play(answer(200, b"SECRET", [("Set-Cookie", "SECRET"), ("Content-Type", "text/plain")]))
    response = await venue.get("/events/1?token=SECRET", params={"more": "SECRET"})
    assert repr(response) == "<Response venue: GET /events/1 [200]>"
    with pytest.raises(InvalidAnswer) as caught:
        await response.json()
    assert caught.value.detail == "200 with text/plain: its Content-Type is not application/json"
    with pytest.raises(InvalidAnswer, match="text/plain: not JSON: JSONDecodeError") as caught:
        await response.json(content_type=None)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(("status", "kind"), [(503, ServiceError), (404, NotFound), (409, ClientError)])
async def test_raised_later(scripted: Upstream, venue: ServiceClient, status: int, kind: type[ResponseError]) -> None:
    scripted.play(answer(status, b"why", [("X-A", "b")]))
    response = await venue.get("/events/1?token=SECRET", raise_for_status=False)
    with pytest.raises(kind) as caught:
        response.raise_for_status()
    assert (caught.value.status, caught.value.body, caught.value.headers["x-a"]) == (status, b"why", "b")
    assert "SECRET" not in str(caught.value)
    (await get(scripted, venue, answer(204))).raise_for_status()


async def test_body_of_a_stream_is_there_once_it_was_read(scripted: Upstream, venue: ServiceClient) -> None:
    scripted.play(answer(body=b'{"id": 1}'))
    async with venue.stream("GET", "/") as response:
        with pytest.raises(RuntimeError, match="streamed"):
            _ = response.body
        assert await response.read() == response.body
        assert response.decode(Venue) == Venue(1)


@pytest.mark.parametrize(
    "step", [answer(body=LINES), answer_chunked(b"first\nsec", b"ond\nlast")], ids=["length", "chunked"]
)
async def test_ways_to_read_a_stream(scripted: Upstream, venue: ServiceClient, step: Step) -> None:
    scripted.play(step)
    async with venue.stream("GET", "/") as response:
        assert [line async for line in response.content] == [b"first\n", b"second\n", b"last"]
        assert response.content.at_eof()
    async with venue.stream("GET", "/") as response:
        pieces = [piece async for piece in response.content.iter_chunked(4)]
        assert b"".join(pieces) == LINES
        assert max(map(len, pieces)) <= 4
    async with venue.stream("GET", "/") as response:
        assert b"".join([piece async for piece in response.content.iter_any()]) == LINES
    async with venue.stream("GET", "/") as response:
        assert b"".join([piece async for piece, _ in response.content.iter_chunks()]) == LINES
    async with venue.stream("GET", "/") as response:
        assert await response.content.readexactly(3) == b"fir"
        assert await response.content.readuntil(b"co") == b"st\nseco"
        assert await response.content.readline() == b"nd\n"
        assert await response.content.read() == b"last"
        assert await response.content.read() == b""
    async with venue.stream("GET", "/") as response:
        assert await response.text() == LINES.decode()
    assert len(scripted.connections) == 1


READERS = {
    "read": lambda response: response.content.read(),
    "readany": lambda response: response.content.readany(),
    "readchunk": lambda response: response.content.readchunk(),
    "readline": lambda response: response.content.readline(),
    "readexactly": lambda response: response.content.readexactly(3),
    "readuntil": lambda response: response.content.readuntil(b"x"),
    "whole": lambda response: response.read(),
    "json": lambda response: response.json(content_type=None),
}


@pytest.mark.parametrize("reader", READERS)
async def test_each_way_fails_in_our_words(scripted: Upstream, venue: ServiceClient, reader: str) -> None:
    half = raw(response_head(200, [("Content-Length", "10")]) + b"half-")
    scripted.play(then_held(half, lambda turn: turn.close()))
    async with venue.stream("GET", "/x") as response:
        assert await response.content.readexactly(5) == b"half-"
        scripted.gate.set()
        with pytest.raises(ConnectionFailed) as caught:
            await READERS[reader](response)
    assert (caught.value.reason, caught.value.service, caught.value.path) == ("truncated", "venue", "/x")


async def test_reading_on_is_cancelled_as_it_is(scripted: Upstream, venue: ServiceClient) -> None:
    scripted.play(then(raw(response_head(200, [("Content-Length", "10")])), Turn.wait_closed))
    with pytest.raises(TimeoutError) as caught:
        async with venue.stream("GET", "/x") as response, asyncio.timeout(0.05):
            await response.content.read()
    assert type(caught.value) is TimeoutError
