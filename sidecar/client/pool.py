"""Connections to the sidecar: one aiohttp session for each event loop, shared by all clients of the loop.

This module owns the session's settings and its lifetime. The first client that opens in a loop creates the session, and
the last one that closes also closes it.
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
"""Connections of one event loop to the sidecar; equal to the default of `limits.max_concurrent` for one service. Limits
belong in the sidecar, which says so when it refuses a call; a call that waits here cannot say it. A call beyond this
number waits, within its own time limits."""
MAX_FIELD: Final = 64 * 1024
MAX_FIELDS: Final = 256
"""Limits of a response head: bytes of one field, and number of fields. Both exceed what the sidecar passes on (32 KiB,
128 fields and its own), because the client must accept what the sidecar accepted. aiohttp's default of 8 KiB would not.
"""
CONNECT_S: Final = 2.0
"""Seconds to connect to the sidecar, which is in the same pod."""

_RUNS_AT_ONCE: Final = sys.version_info >= (3, 12)
"""Whether aiohttp starts the task that writes a body before it waits for the response."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Connector(aiohttp.TCPConnector):
    """Closes a connection at once in a case where aiohttp would wait.

    A call that is cancelled during an upload leaves bytes that the sidecar has not read. `transport.close()` waits
    until it has read them. Until then the sidecar would not notice the cancellation, and would hold a permit and a
    connection.
    """

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        transport = protocol.transport
        if should_close and transport is not None and transport.get_write_buffer_size():
            if (sock := transport.get_extra_info("socket")) is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            protocol.abort()
        super()._release(key, protocol, should_close=should_close)


class Request(aiohttp.ClientRequest):
    """Sends a body, and works around errors that aiohttp raises outside the call."""

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        if _RUNS_AT_ONCE:
            # Wait until a response is awaited. If this task closed the connection earlier, aiohttp would read from
            # None.
            await asyncio.sleep(0)
        # An error here means that the end of the body could not be written. aiohttp has then closed the connection, and
        # the call sees that. Nobody awaits this task, so the loop would log the error as never retrieved.
        with suppress(aiohttp.ClientError, OSError):
            await super().write_bytes(writer, conn, content_length)


@dataclass
class Shared:
    """What the open clients of one event loop share."""

    loop: asyncio.AbstractEventLoop
    session: aiohttp.ClientSession
    limit: Limit
    users: int = 0
    streams: set[Response] = field(default_factory=set)
    """The streamed responses whose bodies the app is still reading."""
    closed: bool = False


_by_loop: Final[dict[asyncio.AbstractEventLoop, Shared]] = {}


def acquire() -> Shared:
    """Returns the shared state of the running loop. Each call needs a `release` in the same loop."""
    loop = asyncio.get_running_loop()
    shared = _by_loop.get(loop)
    if shared is None:
        for ended in [each for each in list(_by_loop) if each.is_closed()]:
            if (left := _by_loop.pop(ended, None)) is not None:
                left.closed = True
        shared = _by_loop[loop] = Shared(loop, _new_session(), Limit(loop))
    shared.users += 1
    return shared


async def release(shared: Shared) -> None:
    """Closes the session of the running loop if no other client uses it, and ends the calls in progress. aiohttp would
    leave calls that wait for a response waiting.

    If the session's loop has ended, so have its calls and its connections. Any loop may then release it.
    """
    shared.users -= 1
    if shared.loop.is_closed():
        shared.closed = True
        if _by_loop.get(shared.loop) is shared:
            del _by_loop[shared.loop]
        await shared.session.close()
    elif not shared.users:
        shared.closed = True
        del _by_loop[shared.loop]
        shared.limit.close()
        for response in shared.streams:
            if response.connection is not None:  # Otherwise the whole body has arrived and can still be read.
                response.close()
        try:
            # Calls that were cut first give up their connections, with a reset where it is needed (see Connector).
            await asyncio.sleep(0)
        finally:
            await shared.session.close()


def _new_session() -> aiohttp.ClientSession:
    session = aiohttp.ClientSession(
        # aiohttp may resolve names with c-ares. The system has to find the sidecar instead (/etc/hosts, NSS).
        connector=Connector(limit=MAX_CONNECTIONS, resolver=aiohttp.ThreadedResolver()),
        # A kept cookie of one user would go out with the next user's call.
        cookie_jar=aiohttp.DummyCookieJar(),
        # `Limit` and the deadlines bound how long a call may take.
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        # HTTP_PROXY may name the sidecar itself, and ~/.netrc must not add credentials to a call.
        trust_env=False,
        max_line_size=MAX_FIELD,
        max_field_size=MAX_FIELD,
        max_headers=MAX_FIELDS,
        request_class=Request,
        response_class=Response,
    )
    # When a kept-alive connection ends, aiohttp sends a GET again by itself. Only the sidecar may retry.
    session._retry_connection = False
    return session
