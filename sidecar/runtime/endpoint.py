"""Endpoint: one address of a service, and what is known about it now.

Owns the state that survives a reload: load, counters, and how long the endpoint is skipped after a refused connection.
The service and its balancer choose which endpoint gets a request, and have a skipped one tried again.
"""

from __future__ import annotations

from math import inf
from typing import Final

from sidecar.config.schema import EndpointSpec
from sidecar.policy.balancers.ewma import PeakEwma
from sidecar.policy.endpoint_state import EndpointState
from sidecar.policy.health_state import HealthState
from sidecar.telemetry.counters import EndpointCounters

FIRST_SKIP_S: Final = 1.0
LONGEST_SKIP_S: Final = 30.0

Key = tuple[str, str, int]
"""Protocol, address and port: they identify an endpoint within its service. The protocol is the scheme of its URL,
`h2c` for HTTP/2 without TLS, or `h2` for HTTP/2 over TLS."""


class Endpoint(EndpointState):
    """An address and port with its protocol. `authority` is sent as its Host.

    `h2`: it is called by HTTP/2. URLs of the schemes h2c and grpc say so themselves.
    """

    __slots__ = (
        "active",
        "address",
        "authority",
        "connect_failures",
        "connect_refused_at",
        "counters",
        "departed_at",
        "drained_until",
        "h2",
        "health",
        "idle",
        "key",
        "label",
        "latency",
        "port",
        "priority",
        "reconnecting",
        "server_name",
        "tls",
        "weight",
    )

    def __init__(self, spec: EndpointSpec, address: str, h2: bool = False) -> None:
        super().__init__()
        url = spec.url
        self.address = address
        self.port = url.port
        self.tls = url.scheme == "https"
        self.h2 = h2 or url.scheme in ("h2c", "grpc")
        protocol = url.scheme if not self.h2 else "h2" if self.tls else "h2c"
        self.key: Key = (protocol, address, url.port)
        self.server_name = url.host
        self.authority = url.authority.encode()
        self.weight = spec.weight
        self.priority = spec.priority
        self.latency: PeakEwma | None = None
        """None unless the balancer uses it."""
        self.health: HealthState | None = None
        """None unless the endpoint has active checks."""
        self.label = f"[{address}]:{url.port}" if ":" in address else f"{address}:{url.port}"
        """Its name in metrics, logs and responses."""
        self.counters = EndpointCounters()
        self.active = 0
        """Connections that requests use. The proxy counts them, and the idle ones."""
        self.idle = 0
        self.connect_failures = 0
        self.connect_refused_at = 0.0
        self.reconnecting = False
        """Whether a connection that no request waits for is being opened, to see whether the skip may end."""
        self.departed_at: float | None = None
        """When it left its service. From then on it gets no new requests, and its connections close when they become
        idle.
        """
        self.drained_until = inf
        """When its drain ends, in monotonic seconds; infinite when it does not drain."""

    def adopt(self, spec: EndpointSpec) -> bool:
        """Take over a new spec of the same address, and keep the state.

        Returns False and changes nothing if that is impossible: its TLS connections were made to a server of another
        name.
        """
        if self.tls and spec.url.host != self.server_name:
            return False
        self.server_name = spec.url.host
        self.authority = spec.url.authority.encode()
        self.weight = spec.weight
        self.priority = spec.priority
        self.departed_at = None
        return True

    def connect_failed(self, now: float, *, in_background: bool = False) -> None:
        """Skip it for 1 s, doubling up to 30 s. A refused connection costs little time, but some.

        `in_background`: it was the connection that `begin_reconnect` announced.
        """
        self.connect_refused_at = now
        if now >= self.skip_until or in_background:  # several failures in flight at once count as one
            self.skip_until = now + min(FIRST_SKIP_S * 2 ** min(self.connect_failures, 5), LONGEST_SKIP_S)
            self.connect_failures += 1

    def begin_reconnect(self, now: float, within_s: float) -> None:
        """A connection is being opened in the background, which takes at most `within_s`. Skip it until then."""
        self.reconnecting = True
        self.skip_until = now + within_s

    def checked_well(self, began: float) -> None:
        """A check that began at `began` passed, on a connection of its own: end the skip.

        `connect_failures` is reset only when a request's own connection succeeds. If that one is refused, the next skip
        is longer.
        """
        if began >= self.connect_refused_at:
            self.skip_until = 0.0

    def connected(self) -> None:
        self.connect_failures = 0
        self.skip_until = 0.0

    def __repr__(self) -> str:
        return f"<Endpoint {self.label} active={self.active} idle={self.idle} skip_until={self.skip_until:.3f}>"
