"""Looking up the names of checks, without piling look-ups up.

The system's resolver works in a few threads and may take many seconds to give up. Checks are made anew each second, so
while a name server is down each would add a look-up that nobody waits for any more, until those of the data path found
no thread. Here a name has one look-up at a time, and whoever comes meanwhile waits for that.

Not aiohttp's resolver: where aiodns is installed that is c-ares, which knows neither nsswitch nor mDNS and answers
otherwise than the system does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Awaitable, Callable

from sidecar.health.active import Start

Resolve = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> IP addresses in the order of preference; raises OSError where there is none."""


async def getaddrinfo(host: str, port: int) -> list[str]:
    """The system's answer, both families. Raises OSError (UnicodeError for what cannot be a name)."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


_log = logging.getLogger("sidecar.health")


class Names:
    """Looks names up, each once at a time. `start` starts and holds a background task."""

    def __init__(self, start: Start, resolve: Resolve = getaddrinfo) -> None:
        self._start = start
        self._resolve = resolve
        self._under_way: dict[str, tuple[asyncio.Task[None], list[str]]] = {}

    async def addresses(self, host: str, port: int) -> list[str]:
        """At least one. Raises OSError where there is none; a caller that is cancelled ends no look-up."""
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
