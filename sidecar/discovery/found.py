"""A discovered endpoint: the data that all kinds of discovery push.

Owns only the data. The balancer decides which requests an endpoint gets. `sidecar.runtime` decides what happens to its
state when it leaves or comes back.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from sidecar.config.schema import EndpointSpec, Url


class Found(Struct, frozen=True):
    """One endpoint. `url` gives scheme, port, and the name for Host and TLS; `address` is its IP address."""

    url: Url
    address: str
    weight: int = 1
    """At least 1."""
    priority: int = 0
    """Lower is preferred. Only the order matters: SRV records may use 10 and 20 (RFC 2782)."""


PushFound = Callable[[list[Found]], None]
"""Called with the complete set after each change."""


def from_specs(push: PushFound) -> Callable[[list[tuple[EndpointSpec, str]]], None]:
    """Wrap `push` for `Resolver.watch`, so that it receives `Found` objects."""

    def convert(known: list[tuple[EndpointSpec, str]]) -> None:
        push(
            [
                Found(url=spec.url, address=address, weight=spec.weight, priority=spec.priority)
                for spec, address in known
            ]
        )

    return convert
