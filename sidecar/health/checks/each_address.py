"""Tries the addresses of a name until a connection succeeds, as a client does (`localhost` often has two)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sidecar.config.schema import CheckUrl
from sidecar.health.http_check import CONNECT_FAILURE
from sidecar.net.names import look_up


def asking_each(url: CheckUrl, ask_at: Callable[[str], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
    """A function that asks one address after the other. The reason of the first that takes a connection counts."""

    async def ask() -> str:
        try:
            addresses = await look_up(url.host, url.port)
        except (OSError, UnicodeError):
            return CONNECT_FAILURE
        reason = CONNECT_FAILURE
        for address in addresses:
            reason = await ask_at(address)
            if reason != CONNECT_FAILURE:
                break
        return reason

    return ask
