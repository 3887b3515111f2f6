"""What the HTTP and the gRPC fakes share: their ports on 127.0.0.1, and how a failed function is told."""

from __future__ import annotations

import asyncio
import socket
import struct
import traceback
from contextlib import suppress
from typing import Final, Protocol

from sidecar.testing.errors import FakeError

HANG_S: Final = 300.0
"""How many seconds a silent fake stays silent."""

MOST_OF_TRACEBACK: Final = 6

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() sends RST


class Port(Protocol):
    """One fake's port, for one test. Only the fakes' event loop uses it."""

    port: int

    async def up(self) -> None:
        """Listens. From the second time on, the port is the same as before."""

    def down(self) -> None:
        """Refuses connections, and resets the open ones. The port stays reserved: bound, but not listening."""

    def close(self) -> None: ...


def bound(port: int) -> socket.socket:
    """A socket on this port of 127.0.0.1; 0 means a free one."""
    one = socket.socket()
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("127.0.0.1", port))
    except OSError:
        one.close()
        raise
    one.setblocking(False)
    return one


def told(error: Exception, file: str) -> str:
    """The traceback without the frames of `file`, which has called the function. A FakeError explains itself, so it has
    none.
    """
    if isinstance(error, FakeError):
        return str(error)
    begin = error.__traceback__
    while begin is not None and begin.tb_frame.f_code.co_filename == file:
        begin = begin.tb_next
    return "".join(traceback.format_exception(error.with_traceback(begin))[-MOST_OF_TRACEBACK:]).rstrip()


def abort(transport: asyncio.BaseTransport) -> None:
    """Closes the connection at once with RST, even if data was not read or not sent."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    assert isinstance(transport, asyncio.Transport)
    transport.abort()
