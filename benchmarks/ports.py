"""Free ports for servers that are started by port number. No other process can take one in between.

A port that the system chose (port 0) and that was released may be taken by another process before the server binds it:
by another test run, or by the local end of any connection. These ports are below the range from which the system
chooses. Each process has a range of its own, which it reserves by listening on the first port of the range.
"""

from __future__ import annotations

import atexit
import itertools
import random
import socket
from typing import Final

FIRST: Final = 10_240
SLICE: Final = 512
SLICES: Final = (32_768 - FIRST) // SLICE
"""Below 32768, where the range of Linux begins (ip_local_port_range)."""

HOST: Final = "127.0.0.1"


class PortSlice:
    """`SLICE` - 1 ports of 127.0.0.1, reserved for this process until `close`.

    Raises OSError if every range is taken.
    """

    def __init__(self) -> None:
        for number in random.sample(range(SLICES), SLICES):
            first = FIRST + number * SLICE
            held = _bound(first)
            if held is not None:
                held.listen()
                self._held = held
                self._ports = itertools.cycle(range(first + 1, first + SLICE))
                return
        raise OSError(f"no free ports from {FIRST} to {FIRST + SLICES * SLICE}")

    def take(self, count: int) -> list[int]:
        """Returns different ports that are free at this moment. A port is returned again only after all others.

        Raises OSError if there are not enough.
        """
        found: list[int] = []
        for port in itertools.islice(self._ports, SLICE - 1):
            if len(found) == count:
                break
            tried = _bound(port)
            if tried is not None:
                tried.close()
                found.append(port)
        if len(found) < count:
            raise OSError(f"{len(found)} of {count} ports are free")
        return found

    def close(self) -> None:
        self._held.close()


_slice: PortSlice | None = None


def free_ports(count: int) -> list[int]:
    """Free ports of this process's range. The first call reserves the range. Raises OSError."""
    global _slice  # noqa: PLW0603 - one for each process
    if _slice is None:
        _slice = PortSlice()
        atexit.register(_slice.close)
    return _slice.take(count)


def _bound(port: int) -> socket.socket | None:
    made = socket.socket()
    try:
        made.bind((HOST, port))  # without SO_REUSEADDR, so a port with lingering connections is not free either
    except OSError:
        made.close()
        return None
    return made
