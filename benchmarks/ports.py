"""Ports for servers that are started by number, such that nothing else on the machine takes one in between.

A port that the system chose (port 0) and that was let go again may be anybody's before the server binds it: another
test run's, or the local end of any connection. These come from below the range that the system chooses from, and each
process has a slice of its own, which it holds by listening on the slice's first port.
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
"""Below 32768, where Linux begins to choose (ip_local_port_range)."""

HOST: Final = "127.0.0.1"


class PortSlice:
    """`SLICE` - 1 ports of 127.0.0.1 that are this process's as long as `close` was not called.

    Raises OSError where every slice is somebody's.
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
        """Ports that nobody has at this moment, all different; one comes again only after all others.

        Raises OSError where there are not so many.
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
    """Of this process's slice, which is taken with the first call. Raises OSError."""
    global _slice  # noqa: PLW0603 - one for each process
    if _slice is None:
        _slice = PortSlice()
        atexit.register(_slice.close)
    return _slice.take(count)


def _bound(port: int) -> socket.socket | None:
    made = socket.socket()
    try:
        made.bind((HOST, port))  # without SO_REUSEADDR: not one whose last connections linger either
    except OSError:
        made.close()
        return None
    return made
