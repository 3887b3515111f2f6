"""The checks `tcp://` and `http(s)://`: those that endpoints get, of an address that is no endpoint.

Each address behind the name is tried until one can be connected to (as a client would, `localhost` is often two); what
that one answers counts. Any status from 200 to 399 is well, and a redirect is not followed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from sidecar.config.schema import CheckUrl, HealthCheck
from sidecar.config.schema import Url as Authority
from sidecar.health.active import CONNECT_FAILURE, Check
from sidecar.health.checks.names import Names
from sidecar.policy.settings import HealthSettings


class Server(Struct, frozen=True):
    """One address of what is checked, as a check wants it."""

    address: str
    port: int
    tls: bool
    server_name: str
    authority: bytes


def endpoint_check(config: HealthCheck, names: Names, check: Check) -> Callable[[], Awaitable[str]]:
    """What asks once; `check` is `Checks.check`."""
    url = config.url
    if url.scheme == "tcp":
        settings = HealthSettings(tcp=True, timeout=config.timeout)
    else:
        settings = HealthSettings(path=url.target, timeout=config.timeout)

    async def ask() -> str:
        try:
            addresses = await names.addresses(url.host, url.port)
        except OSError:
            return CONNECT_FAILURE
        reason = CONNECT_FAILURE
        for address in addresses:
            reason = (await check(_server(url, address), settings)).reason
            if reason != CONNECT_FAILURE:
                break
        return reason

    return ask


def _server(url: CheckUrl, address: str) -> Server:
    tls = url.scheme == "https"
    authority = Authority("https" if tls else "http", url.host, url.port).authority.encode()
    return Server(address, url.port, tls, url.host, authority)
