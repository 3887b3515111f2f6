"""One session for all clients of a loop: made for the first, closed with the last, and nobody else's."""

from __future__ import annotations

import asyncio
import gc
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import aiohttp
import pytest
import uvloop
from aiohttp import client_reqrep
from aiohttp.connector import Connection

from sidecar.client import ServiceClient, SidecarUnavailable, pool
from tests.support.eventually import eventually
from tests.support.kubernetes_api import until
from tests.support.steps import answer, silence
from tests.support.upstream import Upstream

RUNS = [pytest.param(asyncio.run, id="asyncio"), pytest.param(uvloop.run, id="uvloop")]
Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.mark.parametrize("run", RUNS)
def test_clients_of_a_loop_share_their_connections(run: Run) -> None:
    with Upstream(answer()) as scripted:

        async def main() -> None:
            async with ServiceClient("venue", base_url=scripted.url) as venue:
                await venue.get("/1")
                async with ServiceClient("event", base_url=scripted.url) as event:
                    await event.get("/2")
                await venue.get("/3")
            assert pool._by_loop == {}

        run(main())
        assert [request.connection for request in scripted.requests] == [0, 0, 0]
        eventually(lambda: scripted.open_connections == 0)


@pytest.mark.parametrize("run", RUNS)
def test_each_loop_has_its_own(run: Run) -> None:
    with Upstream(answer()) as scripted:
        client = ServiceClient("venue", base_url=scripted.url)

        async def main() -> None:
            async with client:
                await client.get("/")

        run(main())
        run(main())
        assert [request.connection for request in scripted.requests] == [0, 1]


async def test_head_as_large_as_the_sidecar_passes_on() -> None:
    fields = [("X-One", "a" * 60_000), *((f"X-{number}", "b") for number in range(200))]
    with Upstream(answer(headers=fields)) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            assert len((await venue.get("/")).headers["x-one"]) == 60_000


@pytest.mark.parametrize("run", RUNS)
def test_upload_that_is_cancelled_ends_the_connection(run: Run) -> None:
    """Although its bytes are not taken: nobody waits for that. (What it is for: tests/system/test_client.py.)"""
    with Upstream(lambda turn: (turn.read_head(), turn.wait_for_gate(), turn.wait_closed())) as scripted:

        async def main() -> None:
            async with ServiceClient("venue", base_url=scripted.url) as venue:
                loop = asyncio.get_running_loop()
                calling = loop.create_task(venue.post("/", data=bytes(64 * 1024 * 1024)))
                await asyncio.to_thread(eventually, lambda: scripted.hits == 1)
                connector = pool._by_loop[loop].session.connector
                assert connector is not None
                (protocol,) = connector._acquired
                assert protocol.transport is not None
                await until(protocol.transport.get_write_buffer_size)
                calling.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await calling
                assert not connector._acquired

        run(main())
        scripted.gate.set()
        eventually(lambda: scripted.connections[0].ended == "reset")


@types.coroutine
def rest_of(writing: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
    yield
    yield from writing  # type: ignore[misc]


def run_at_once(writing: Coroutine[Any, Any, None], **_: object) -> asyncio.Task[None] | asyncio.Future[None]:
    """As aiohttp starts its writer from Python 3.12 on: it runs up to its first wait before there is a task of it."""
    try:
        assert writing.send(None) is None
    except Exception:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def goes_on() -> None:
        await rest_of(writing)

    return asyncio.get_running_loop().create_task(goes_on())


@pytest.mark.parametrize("at_once", [False, True], ids=["later", "at once"])
async def test_connection_that_is_lost_as_the_upload_begins(monkeypatch: pytest.MonkeyPatch, at_once: bool) -> None:
    """The call fails, and nothing else: no task's exception is left for the loop to log."""
    aiohttps = aiohttp.ClientRequest.write_bytes

    conns: list[Connection] = []

    async def writing(request: Any, writer: Any, conn: Connection, length: int | None = None) -> None:
        conns.append(conn)
        await aiohttps(request, writer, conn, length)

    async def lost_at_its_end() -> AsyncIterator[bytes]:
        yield b"piece"
        assert conns[-1].transport is not None
        conns[-1].transport.close()

    async def lost_at_its_beginning() -> AsyncIterator[bytes]:
        assert conns[-1].transport is not None
        conns[-1].transport.close()
        yield b"piece"

    async def of_the_apps_own() -> AsyncIterator[bytes]:
        yield b"piece"
        None.read  # type: ignore[attr-defined] # noqa: B018

    if at_once:
        # What only this Python does otherwise: create_task, and Task where it starts at once.
        monkeypatch.setattr(pool, "_RUNS_AT_ONCE", True)
        namespace = types.SimpleNamespace(**{**vars(asyncio), "create_task": run_at_once, "Task": run_at_once})
        monkeypatch.setattr(client_reqrep, "asyncio", namespace)
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    monkeypatch.setattr(aiohttp.ClientRequest, "write_bytes", writing)
    with Upstream(answer()) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            for lost in (lost_at_its_beginning, lost_at_its_end):
                with pytest.raises(SidecarUnavailable, match="closed the connection without a response"):
                    await venue.post("/", data=lost())
            with pytest.raises(AttributeError):
                await venue.post("/", data=of_the_apps_own())
    gc.collect()
    assert reports == []


def test_loop_that_ended_with_its_client_open_is_forgotten() -> None:
    async def forgets_to_close() -> None:
        await client.open()

    async def looks() -> None:
        async with ServiceClient("venue"):
            assert list(pool._by_loop) == [asyncio.get_running_loop()]

    client = ServiceClient("venue")
    loop = asyncio.new_event_loop()
    loop.run_until_complete(forgets_to_close())
    shared = pool._by_loop[loop]
    loop.run_until_complete(shared.session.close())  # Else aiohttp warns of it, which is right.
    loop.close()
    asyncio.run(looks())


async def test_what_aiohttp_is_told() -> None:
    async with ServiceClient("venue"):
        session = pool._by_loop[asyncio.get_running_loop()].session
        assert not session.trust_env
        assert session._retry_connection is False
        assert session.connector is not None
        assert session.connector.limit == pool.MAX_CONNECTIONS


async def test_calls_beyond_the_limit_wait_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_CONNECTIONS", 2)
    with Upstream(silence) as scripted:
        async with ServiceClient("venue", base_url=scripted.url) as venue:
            calls = [asyncio.get_running_loop().create_task(venue.get(f"/{number}")) for number in range(3)]
            await asyncio.to_thread(eventually, lambda: scripted.hits == 2)
            calls[0].cancel()
            await asyncio.to_thread(eventually, lambda: scripted.hits == 3)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("ending", ["closes", "opens", "enters"])
def test_loop_that_ended_has_closed_its_clients(run: Run, ending: str) -> None:
    """As in an app whose first loop ended by an error, and in a module's client in tests with a loop each."""
    with Upstream(answer()) as scripted:
        client = ServiceClient("venue", base_url=scripted.url)
        other = ServiceClient("event", base_url=scripted.url)

        async def left_open() -> None:
            await client.open()
            await other.open()
            await client.get("/")
            assert client.is_open
            connector = pool._by_loop[asyncio.get_running_loop()].session.connector
            assert connector is not None
            for connections in connector._conns.values():  # Else Python warns of them, which is right.
                for protocol, _ in connections:
                    protocol.close()

        async def again() -> None:
            assert not client.is_open
            with pytest.raises(RuntimeError, match="its event loop has ended"):
                await client.get("/")
            if ending == "closes":
                await client.close()
                await client.close()
            if ending == "enters":
                async with client:
                    await client.get("/")
            else:
                await client.open()
                with pytest.raises(RuntimeError, match="is open already"):
                    await client.open()
                await client.get("/")
                await client.close()
            await other.close()
            assert pool._by_loop == {}

        run(left_open())
        run(again())
        run(again_with(client))
        gc.collect()
        assert scripted.hits == 3


async def again_with(client: ServiceClient) -> None:
    async with client:
        await client.get("/")


def test_other_loop_that_still_runs_keeps_its_client() -> None:
    client = ServiceClient("venue")

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError, match="is open already"):
            await client.open()
        with pytest.raises(RuntimeError, match="was opened in another event loop"):
            await client.close()

    with asyncio.Runner() as runner:
        runner.run(client.open())
        asyncio.run(elsewhere())
        runner.run(client.close())
