"""The aiohttp middleware on a real server: what a handler inherits, and that no request inherits another's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import ClientSession, TCPConnector, web
from aiohttp.test_utils import TestServer
from aiohttp.typedefs import Handler
from hypothesis import given
from hypothesis import strategies as st

from sidecar.client.aiohttp_server import middleware
from sidecar.client.context import RequestContext, detached, remaining, request_context, serving

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = {
    "X-Request-Id": "4f2c",
    "traceparent": TRACEPARENT,
    "x-envoy-expected-rq-timeout-ms": "1500",
    "x-envoy-attempt-count": "2",
}


def described() -> dict[str, object]:
    now, left = request_context(), remaining()
    seconds = None if left is None else round(left)
    return {"id": now.request_id, "trace": now.traceparent, "attempt": now.attempt, "seconds": seconds}


NOTHING = {"id": "", "trace": "", "attempt": 0, "seconds": None}


async def look(request: web.Request) -> web.Response:
    return web.json_response(described())


@asynccontextmanager
async def serve(handler: Handler, *more: object) -> AsyncIterator[tuple[ClientSession, str]]:
    """A server with one handler; all requests of the session take one connection."""
    app = web.Application(middlewares=[middleware, *more])  # type: ignore[list-item]
    app.router.add_route("*", "/{tail:.*}", handler)
    server = TestServer(app)
    await server.start_server()
    try:
        async with ClientSession(connector=TCPConnector(limit=1)) as session:
            yield session, str(server.make_url("/"))
    finally:
        await server.close()


async def asked(session: ClientSession, url: str, headers: dict[str, str] | None = None) -> object:
    async with session.get(url, headers=headers) as response:
        return await response.json()


async def test_a_handler_inherits_the_request() -> None:
    async with serve(look) as (session, url):
        expected = {"id": "4f2c", "trace": TRACEPARENT, "attempt": 2, "seconds": 1}
        assert await asked(session, url, HEADERS) in (expected, {**expected, "seconds": 2})


async def test_nothing_stays_for_the_next_request_of_a_connection() -> None:
    ports = set()

    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername"))
        if request.path == "/fails":
            raise ZeroDivisionError
        return await look(request)

    async with serve(handler) as (session, url):
        await asked(session, url, HEADERS)
        assert await asked(session, url) == NOTHING
        async with session.get(url + "fails", headers=HEADERS) as failed:
            assert failed.status == 500
        assert await asked(session, url, {"X-Request-Id": "third"}) == {**NOTHING, "id": "third"}


async def test_a_server_that_was_started_in_a_request_does_not_inherit_that_one() -> None:
    with serving(HEADERS):
        async with serve(look) as (session, url):
            assert await asked(session, url) == NOTHING


async def test_concurrent_requests_do_not_see_each_other() -> None:
    meet = asyncio.Barrier(3)

    async def handler(request: web.Request) -> web.Response:
        await meet.wait()
        return await look(request)

    async with serve(handler) as (_, url), ClientSession() as session:
        names = ["a", "b", "c"]
        answers = await asyncio.gather(*(asked(session, url, {"X-Request-Id": name}) for name in names))
        assert answers == [{**NOTHING, "id": name} for name in names]


async def test_tasks_of_a_handler_inherit_it_and_detached_ones_do_not() -> None:
    go = asyncio.Event()
    tasks: list[asyncio.Task[dict[str, object]]] = []

    async def later() -> dict[str, object]:
        await go.wait()
        return described()

    async with asyncio.TaskGroup() as group:

        async def handler(request: web.Request) -> web.Response:
            tasks.append(group.create_task(later()))
            with detached():
                tasks.append(group.create_task(later()))
            return web.Response()

        async with serve(handler) as (session, url):
            await session.get(url, headers={"X-Request-Id": "4f2c"})
            go.set()
    assert [task.result() for task in tasks] == [{**NOTHING, "id": "4f2c"}, NOTHING]


async def test_a_handlers_own_streaming_is_inside_and_has_more_time() -> None:
    """The caller's time is for the beginning of the answer, as the sidecar counts it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        assert remaining() is not None
        await response.prepare(request)
        for _ in range(2):
            await response.write(request_context().request_id.encode())
            assert remaining() is None
        return response

    async with serve(handler) as (session, url), session.get(url, headers=HEADERS) as response:
        assert await response.read() == b"4f2c4f2c"


async def test_the_middlewares_after_it_are_inside() -> None:
    seen: list[str] = []

    @web.middleware
    async def other(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request_context().request_id)
        try:
            return await handler(request)
        finally:
            seen.append(request_context().request_id)

    async with serve(look, other) as (session, url):
        await asked(session, url, HEADERS)
    assert seen == ["4f2c", "4f2c"]


async def test_a_websocket_belongs_to_its_request() -> None:
    async def handler(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        assert remaining() is not None
        await socket.prepare(request)
        assert remaining() is None  # the caller awaited the handshake; a socket may be open for long
        await socket.send_str(request_context().request_id)
        await socket.close()
        return socket

    async with serve(handler) as (session, url), session.ws_connect(url, headers=HEADERS) as socket:
        assert await socket.receive_str() == "4f2c"


VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=600)


async def ask_with(values: list[str]) -> None:
    async with serve(look) as (session, url):
        headers = dict(zip(HEADERS, values, strict=False))
        got = await asked(session, url, headers)
        assert isinstance(got, dict)
        assert got["id"] in {"", values[0].strip()}


@given(st.lists(VALUES, min_size=4, max_size=4))
def test_no_value_breaks_it(values: list[str]) -> None:
    asyncio.run(ask_with(values))


def test_a_mock_request_is_enough_for_it() -> None:
    """No server around: as an app's own unit tests may drive it."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request_context() == RequestContext("4f2c")
        return web.Response()

    from aiohttp.test_utils import make_mocked_request

    asyncio.run(middleware(make_mocked_request("GET", "/", headers={"X-Request-Id": "4f2c"}), handler))
