"""Name lookups for health checks, with at most one lookup of a name at a time.

The system's resolver works in a few threads and may take many seconds to give up. A check starts again each second.
While a name server is down, each check would add a lookup that nobody awaits any more, until lookups of the data path
found no free thread. So each name has one lookup at a time, and later callers wait for it.

aiohttp's resolver is not used. With aiodns installed it would be c-ares, which does not know nsswitch or mDNS and
answers differently from the system.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable

from sidecar.health.active import Start

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> IP addresses in order of preference; raises OSError when there is none."""


async def getaddrinfo(host: str, port: int) -> list[str]:
    """Ask the system's resolver for both address families. Raises OSError (UnicodeError for an invalid name)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


_log = logging.getLogger("sidecar.health")


class Names:
    """Looks names up, each name once at a time. `start` starts and holds a background task."""

    def __init__(self, start: Start, resolve: Resolve = getaddrinfo) -> None:
        self._start = start
        self._resolve = resolve
        self._under_way: dict[str, tuple[asyncio.Task[None], list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """At least one address. Raises OSError when there is none. Cancelling a caller does not cancel the lookup."""
        if _is_ip(host):
            return [host]
        if host not in self._under_way:
            found: list[str] = []
            task = self._start(self._look_up(host, port, found), f"addresses of {host}")
            self._under_way[host] = task, found
            task.add_done_callback(lambda _: self._under_way.pop(host))
        task, found = self._under_way[host]
        await asyncio.shield(task)
        if not found:
            raise OSError("no address is known")
        return found

    async def _look_up(self, host: str, port: int, found: list[str]) -> None:
        try:
            found += await self._resolve(host, port)
        except (OSError, UnicodeError) as failure:
            _log.debug("look-up of %s failed: %s", host, failure)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
