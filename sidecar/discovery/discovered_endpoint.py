"""A discovered endpoint: the data that all kinds of discovery push.

Owns only the data. The balancer decides which requests an endpoint gets. `sidecar.runtime` decides what happens to its
state when it leaves or comes back.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from sidecar.config.schema import Url


class DiscoveredEndpoint(Struct, frozen=True):
    """One endpoint. `url` gives scheme, port, and the name for Host and TLS; `address` is its IP address."""

    url: Url
    address: str
    weight: int = 1
    """At least 1."""
    priority: int = 0
    """Lower is preferred. Only the order matters: SRV records may use 10 and 20 (RFC 2782)."""


PushEndpoints = Callable[[list[DiscoveredEndpoint]], None]
"""Called with the complete set after each change."""
