"""The event loops: nothing that looks a name up, or connects to an address, waits for other look-ups."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable

import aiohttp
import pytest

from sidecar.net.loop import Loop, PlainLoop
from sidecar.net.names import Names
from tests.support.steps import answer
from tests.support.upstream import Upstream

NewLoop = Callable[[], "Loop | PlainLoop"]


@pytest.mark.parametrize("new_loop", [Loop, PlainLoop])
def test_names_and_addresses_wait_for_no_silent_name(new_loop: NewLoop) -> None:
    """aiohttp connects by the loop's `sock_connect`, which in uvloop asks `getaddrinfo` even for an address."""
    gate = threading.Event()

    def ask(host: str) -> list[str]:
        if host.startswith("silent"):
            gate.wait()
        return ["127.0.0.1"]

    async def scene(upstream: Upstream) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Loop | PlainLoop)
        loop.names = Names(loop, ask=ask)
        silent = asyncio.gather(*(loop.getaddrinfo(f"silent{number}", 80) for number in range(20)))
        connector = aiohttp.TCPConnector(resolver=aiohttp.ThreadedResolver())
        async with asyncio.timeout(5), aiohttp.ClientSession(connector=connector) as session:
            for host in ("127.0.0.1", "good"):
                async with session.get(f"http://{host}:{upstream.port}/") as response:
                    assert response.status == 200
            with socket.socket() as one:
                one.setblocking(False)
                await loop.sock_connect(one, ("127.0.0.1", upstream.port))
        assert not silent.done()
        gate.set()
        await silent

    with Upstream(answer()) as upstream, asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(scene(upstream))


@pytest.mark.parametrize("new_loop", [Loop, PlainLoop])
def test_it_asks_the_system(new_loop: NewLoop) -> None:
    async def scene() -> list[str]:
        found = await asyncio.get_running_loop().getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        return [str(one[4][0]) for one in found]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert set(runner.run(scene())) & {"127.0.0.1", "::1"}


def test_a_connection_is_made_to_an_address_and_never_to_a_name() -> None:
    """uvloop would look the name up in libuv's threads, where silent names hold every look-up."""

    async def scene(upstream: Upstream) -> None:
        loop = asyncio.get_running_loop()
        for host in ("localhost", "venue.shop.svc", "127.0.0.1.", "127.1", ""):
            with pytest.raises(OSError, match="is not an IP address"):
                await loop.create_connection(asyncio.Protocol, host, upstream.port)
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", upstream.port)
        transport.close()
        one = socket.create_connection(("127.0.0.1", upstream.port))
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=one)
        transport.close()

    with Upstream(answer()) as upstream, asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(scene(upstream))
