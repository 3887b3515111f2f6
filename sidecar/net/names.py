"""Look-ups of names by the system's resolver, independent of each other: a name that nobody answers for delays itself.

Owns how many look-ups run at a time. When a name is looked up, and which answers count, is the callers' business.

The system's resolver (`getaddrinfo`) blocks, for 10 s where a name server is silent, and for 50 s and more with a few
search domains (`ndots:5` in Kubernetes). Event loops run it in a few shared threads: four in uvloop. A few such names
then hold all of them, and every other look-up waits. So here:

- Each look-up has a daemon thread of its own. Nobody waits for it at the end of the process.
- A name has one look-up at a time. Who asks meanwhile waits for that one; who gives up does not end it, so that a late
  answer is still of use to the next who asks.
- At most `MOST` run at a time, and of names that took longer than `SLOW_S` the last time at most half as many. Others
  wait for their turn. So names that are silent again and again never hold all threads.
- An IP address is never looked up, and needs no thread.

Why not c-ares: docs/decisions/0013-lookups-in-threads.md.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sidecar.net import threads
from sidecar.net.addresses import is_ip

MOST: Final = 256
SLOW_S: Final = 1.0

AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]
"""What `socket.getaddrinfo` returns a list of."""

Host = str | bytes | None
Port = int | str | bytes | None

Ask = Callable[[str], list[str]]
"""host -> addresses in order of preference. Blocks. Raises OSError, or UnicodeError for an invalid name."""


def ask_system(host: str) -> list[str]:
    """Ask the system's resolver for both address families: hosts file, nsswitch, search domains and all."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(_with_scope(entry[4]) for entry in found))


def _with_scope(address: Any) -> str:
    """The address as text. A link-local one has its interface behind a `%`."""
    host = str(address[0])
    scope = address[3] if len(address) == 4 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host


async def look_up(host: str, port: int = 0) -> list[str]:
    """The addresses of a name, as the running loop finds them (`sidecar.net.loop`); of an IP address, that one.

    Raises OSError when there is none, UnicodeError for an invalid name.
    """
    if is_ip(host):
        return [host]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(_with_scope(entry[4]) for entry in found))


class Names:
    """Looks names up for one event loop. All calls on its thread. `ask` is what the threads do."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, ask: Ask = ask_system, most: int = MOST) -> None:
        self._loop = loop
        self._ask = ask
        self._most = most
        self._most_slow = max(1, most // 2)
        self._under_way: dict[str, asyncio.Future[list[str]]] = {}
        """By host; those that wait for their turn too."""
        self._slow: set[str] = set()
        """Names whose last look-up took longer than SLOW_S."""
        self._running: set[str] = set()
        self._running_slow: set[str] = set()
        self._waiting: deque[str] = deque()
        self._waiting_slow: deque[str] = deque()

    async def addresses(self, host: str) -> list[str]:
        """The addresses of a name, at least one; of an IP address, that one.

        Raises OSError when there is none, UnicodeError for an invalid name. May take minutes; cancel it freely.
        """
        if is_ip(host):
            return [host]
        found = self._under_way.get(host)
        if found is None:
            found = self._under_way[host] = self._loop.create_future()
            found.add_done_callback(_seen)
            (self._waiting_slow if host in self._slow else self._waiting).append(host)
            self._start_next()
        return list(await asyncio.shield(found))

    async def getaddrinfo(
        self,
        host: Host,
        port: Port,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - the name that asyncio gives it
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        """As a loop's, for connections: of `flags` only AI_PASSIVE counts, where there is no host.

        Every question about a name is the same one, for both families; the answer is filtered.
        """
        if isinstance(port, bytes):
            port = port.decode("ascii")
        if not host:
            return list(socket.getaddrinfo(None, port, family, type, proto, flags))
        name = host.decode("ascii") if isinstance(host, bytes) else host
        found: list[AddressInfo] = []
        for address in await self.addresses(name):
            if family in (socket.AF_UNSPEC, socket.AF_INET6 if ":" in address else socket.AF_INET):
                found += socket.getaddrinfo(address, port, family, type, proto, socket.AI_NUMERICHOST)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address of this family")
        return found

    def _start_next(self) -> None:
        while len(self._running) < self._most:
            if self._waiting:
                self._start(self._waiting.popleft())
            elif self._waiting_slow and len(self._running_slow) < self._most_slow:
                host = self._waiting_slow.popleft()
                self._running_slow.add(host)
                self._start(host)
            else:
                return

    def _start(self, host: str) -> None:
        self._running.add(host)
        told = partial(self._ended, host, self._loop.time())
        try:
            threads.start(self._loop, partial(self._ask, host), told, f"look-up of {host}")
        except OSError as error:
            self._loop.call_soon(told, None, error)

    def _ended(self, host: str, began: float, found: list[str] | None, failure: Exception | None) -> None:
        self._running.discard(host)
        self._running_slow.discard(host)
        if self._loop.time() - began > SLOW_S:
            self._slow.add(host)
        else:
            self._slow.discard(host)
        waiting = self._under_way.pop(host)
        if failure is not None:
            waiting.set_exception(failure)
        elif found:
            waiting.set_result(found)
        else:
            waiting.set_exception(OSError("the answer is empty"))
        self._start_next()

    def __repr__(self) -> str:
        waiting = len(self._waiting) + len(self._waiting_slow)
        return f"<Names {len(self._running)} running, {waiting} waiting>"


def _seen(found: asyncio.Future[list[str]]) -> None:
    """Nobody may wait for it any more; then its failure is no news."""
    if not found.cancelled():
        found.exception()
