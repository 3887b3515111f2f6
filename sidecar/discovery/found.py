"""What a source of endpoints has found: the one shape that they all push.

Owns the shape alone. Which requests an endpoint gets is the balancer's business, and what becomes of its state when it
leaves or comes back is `sidecar.runtime`'s.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from sidecar.config.schema import EndpointSpec, Url


class Found(Struct, frozen=True):
    """One endpoint: `url` says scheme, port and what Host and TLS name it by, `address` (an IP) where it is."""

    url: Url
    address: str
    weight: int = 1
    """At least 1."""
    priority: int = 0
    """Lower is preferred. Only the order means something: SRV records may say 10 and 20 (RFC 2782)."""


PushFound = Callable[[list[Found]], None]
"""Takes the complete set, each time that it has changed."""


def from_specs(push: PushFound) -> Callable[[list[tuple[EndpointSpec, str]]], None]:
    """What `Resolver.watch` may be given so that `push` gets its sets in this shape."""

    def convert(known: list[tuple[EndpointSpec, str]]) -> None:
        push(
            [
                Found(url=spec.url, address=address, weight=spec.weight, priority=spec.priority)
                for spec, address in known
            ]
        )

    return convert
