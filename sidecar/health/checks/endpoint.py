"""The checks `tcp://` and `http(s)://`: the same as for endpoints, for an address that is not an endpoint.

Statuses from 200 to 399 pass; a redirect is not followed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from sidecar.config.schema import CheckUrl, HealthCheck
from sidecar.config.schema import Url as Authority
from sidecar.health.active import Check
from sidecar.health.checks.each_address import asking_each
from sidecar.policy.settings import HealthSettings


class Server(Struct, frozen=True):
    """One address of the checked server, in the form that a check needs."""

    address: str
    port: int
    tls: bool
    server_name: str
    authority: bytes
    h2: bool = False


def endpoint_check(config: HealthCheck, check: Check) -> Callable[[], Awaitable[str]]:
    """A function that runs the check once. `check` is `Checks.check`."""
    url = config.url
    if url.scheme == "tcp":
        settings = HealthSettings(tcp=True, timeout=config.timeout)
    else:
        settings = HealthSettings(path=url.target, timeout=config.timeout)

    async def ask_at(address: str) -> str:
        return (await check(_server(url, address), settings, config.tls)).reason

    return asking_each(url, ask_at)


def _server(url: CheckUrl, address: str) -> Server:
    tls = url.scheme == "https"
    authority = Authority("https" if tls else "http", url.host, url.port).authority.encode()
    return Server(address, url.port, tls, url.host, authority)
