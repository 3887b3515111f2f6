"""How much of what was written to a connection its other end has not acknowledged yet.

Owns the asking. Whoever wants to tell a slow reader from one that has stopped compares two answers: the event loop's
own buffer alone moves in jumps, because the kernel asks for more only when much of its buffer is free.
"""

from __future__ import annotations

import asyncio
import sys
from fcntl import ioctl
from termios import TIOCOUTQ


def bytes_under_way(transport: asyncio.Transport) -> int:
    """Bytes in the event loop's buffer and in the kernel's (SIOCOUTQ); the former alone where that cannot be asked."""
    waiting: int = transport.get_write_buffer_size()
    try:
        queued = ioctl(transport.get_extra_info("socket").fileno(), TIOCOUTQ, b"\0\0\0\0")
        return waiting + int.from_bytes(queued, sys.byteorder)
    except (OSError, AttributeError, ValueError, TypeError):
        return waiting
