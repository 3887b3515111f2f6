"""The connections to the sidecar: one aiohttp session for each event loop, which all clients of the loop share.

Owns the session's settings and its life: made for the first client that opens in a loop, closed with the last one.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection

from sidecar.client.limit import Limit
from sidecar.client.response import Response

MAX_CONNECTIONS: Final = 1024
"""Of one loop to the sidecar, as many as `limits.max_concurrent` lets one service have: limits are the sidecar's, which
says so when it refuses, where a call that waits here could not. A call beyond it waits, within its own limits."""
MAX_FIELD: Final = 64 * 1024
MAX_FIELDS: Final = 256
"""Of an answer's head: bytes of one field, and how many fields. More than a head that the sidecar passes on can have
(32 KiB, 128 fields and its own); what it has let through is not for its client to refuse, as aiohttp's 8 KiB would."""
CONNECT_S: Final = 2.0
"""For a connection to the sidecar, which is in the same pod."""

_RUNS_AT_ONCE: Final = sys.version_info >= (3, 12)
"""aiohttp starts the task that writes a body before it is asked for an answer."""
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


class Request(aiohttp.ClientRequest):
    """Sends a body where aiohttp fails in ways that are no answer to a caller."""

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        if _RUNS_AT_ONCE:
            # Not before there is somebody to read: aiohttp would read from None once this had closed the connection.
            await asyncio.sleep(0)
        # What it raises is that it could not write the body's end, and has closed the connection, which the call learns
        # of. This is a task that nobody awaits: the loop would log the error as never retrieved.
        with suppress(aiohttp.ClientError, OSError):
            await super().write_bytes(writer, conn, content_length)


@dataclass
class Shared:
    """What the open clients of one loop share."""

    loop: asyncio.AbstractEventLoop
    session: aiohttp.ClientSession
    limit: Limit
    users: int = 0
    streams: set[Response] = field(default_factory=set)
    """The responses whose bodies are being read, by their apps."""
    closed: bool = False


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


async def release(shared: Shared) -> None:
    """Closes the running loop's session where nobody else has it, and ends what is under way in it: aiohttp would leave
    those who wait for an answer waiting.
    """
    shared.users -= 1
    if not shared.users:
        shared.closed = True
        del _by_loop[shared.loop]
        shared.limit.close()
        for response in shared.streams:
            if response.connection is not None:  # Else all of it has come, and is there to be read.
                response.close()
        try:
            # Those that were cut let go of their connections first, by a reset where that is due (see Connector).
            await asyncio.sleep(0)
        finally:
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
        max_line_size=MAX_FIELD,
        max_field_size=MAX_FIELD,
        max_headers=MAX_FIELDS,
        request_class=Request,
        response_class=Response,
    )
    # aiohttp sends a GET again by itself when a kept-alive connection ends; retrying is the sidecar's alone.
    session._retry_connection = False
    return session
