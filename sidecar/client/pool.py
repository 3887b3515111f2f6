"""The connections to the sidecar: one aiohttp session for each event loop, which all clients of the loop share.

Owns the session's settings and its life: made for the first client that opens in a loop, closed with the last one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey

from sidecar.client.limit import Limit
from sidecar.client.response import Response

MAX_CONNECTIONS: Final = 1024
"""Of one loop to the sidecar, as many as `limits.max_concurrent` lets one service have: limits are the sidecar's, which
says so when it refuses, where a call that waits here could not. A call beyond it waits, within its own limits."""
CONNECT_S: Final = 2.0
"""For a connection to the sidecar, which is in the same pod."""

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Connector(aiohttp.TCPConnector):
    """Lets go of a connection at once where aiohttp would wait.

    A call that is cancelled in an upload leaves bytes that the sidecar has not taken. `transport.close()` waits until
    it has, so the sidecar would learn nothing, and keep its permit and the service's connection.
    """

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        transport = protocol.transport
        if should_close and transport is not None and transport.get_write_buffer_size():
            if (sock := transport.get_extra_info("socket")) is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            protocol.abort()
        super()._release(key, protocol, should_close=should_close)


@dataclass
class Shared:
    """What the open clients of one loop share."""

    loop: asyncio.AbstractEventLoop
    session: aiohttp.ClientSession
    limit: Limit
    users: int = 0


_by_loop: Final[dict[asyncio.AbstractEventLoop, Shared]] = {}


def acquire() -> Shared:
    """The running loop's. Each call wants its `release`, in the same loop."""
    loop = asyncio.get_running_loop()
    shared = _by_loop.get(loop)
    if shared is None:
        for ended in [each for each in list(_by_loop) if each.is_closed()]:
            _by_loop.pop(ended, None)
        shared = _by_loop[loop] = Shared(loop, _new_session(), Limit(loop))
    shared.users += 1
    return shared


async def release() -> None:
    """Closes the running loop's session where nobody else has it."""
    loop = asyncio.get_running_loop()
    shared = _by_loop[loop]
    shared.users -= 1
    if not shared.users:
        del _by_loop[loop]
        shared.limit.close()
        await shared.session.close()


def _new_session() -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        # aiohttp may resolve with c-ares; where the sidecar is, is for the system to say (/etc/hosts, NSS).
        connector=Connector(limit=MAX_CONNECTIONS, resolver=aiohttp.ThreadedResolver()),
        # One user's cookies would go with the next one's call.
        cookie_jar=aiohttp.DummyCookieJar(),
        # How long a call may take is for `Limit` and for deadlines to say.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        # HTTP_PROXY may well name the sidecar itself, and ~/.netrc is nobody's business here.
        trust_env=False,
        response_class=Response,
    )
    # aiohttp sends a GET again by itself when a kept-alive connection ends; retrying is the sidecar's alone.
    session._retry_connection = False
    return session
