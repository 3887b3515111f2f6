"""One address of a service, with what is known of it now.

Owns the state that outlives a reload: idle connections, load, and how long it is skipped after it refused a
connection. Which endpoint is picked is the service's and its balancer's business.
"""

from __future__ import annotations

from math import inf
from typing import Final, Protocol

from sidecar.config.schema import EndpointSpec
from sidecar.policy.balancers.ewma import PeakEwma
from sidecar.policy.health_state import HealthState
from sidecar.policy.outlier import Tracked
from sidecar.telemetry.counters import EndpointCounters

FIRST_SKIP_S: Final = 1.0
LONGEST_SKIP_S: Final = 30.0

Key = tuple[str, str, int]
"""Scheme, address, port: what an endpoint is known by within its service."""


class IdleConnection(Protocol):
    """What a pool of idle connections asks of one."""

    idle_since: float

    def close(self) -> None: ...


class Endpoint(Tracked):
    """An address and port, reached by a scheme; `authority` is what its Host says."""

    __slots__ = (
        "active",
        "address",
        "authority",
        "connect_failures",
        "connect_refused_at",
        "counters",
        "departed_at",
        "drained_until",
        "health",
        "idle",
        "key",
        "label",
        "latency",
        "port",
        "priority",
        "server_name",
        "tls",
        "weight",
    )

    def __init__(self, spec: EndpointSpec, address: str) -> None:
        super().__init__()
        url = spec.url
        self.key: Key = (url.scheme, address, url.port)
        self.address = address
        self.port = url.port
        self.tls = url.scheme == "https"
        self.server_name = url.host
        self.authority = url.authority.encode()
        self.weight = spec.weight
        self.priority = spec.priority
        self.latency: PeakEwma | None = None
        """Where the balancer goes by it."""
        self.health: HealthState | None = None
        """Where it is checked."""
        self.label = f"[{address}]:{url.port}" if ":" in address else f"{address}:{url.port}"
        """What metrics, logs and answers call it."""
        self.counters = EndpointCounters()
        self.idle: list[IdleConnection] = []
        """Most recently used last."""
        self.active = 0
        self.connect_failures = 0
        self.connect_refused_at = 0.0
        self.departed_at: float | None = None
        """When it left its service; it gets no new requests, and its connections close as they fall idle."""
        self.drained_until = inf
        """When an operator's drain of it ends by itself (monotonic seconds)."""

    def adopt(self, spec: EndpointSpec) -> bool:
        """Be the endpoint of this spec from now on, in the state it has.

        False, and nothing is changed, where it cannot: its TLS connections were made with a server of another name.
        """
        if self.tls and spec.url.host != self.server_name:
            return False
        self.server_name = spec.url.host
        self.authority = spec.url.authority.encode()
        self.weight = spec.weight
        self.priority = spec.priority
        self.departed_at = None
        return True

    def connect_failed(self, now: float) -> None:
        """Skip it for 1 s, doubling to 30 s: a refused connection costs little, but not nothing."""
        self.connect_refused_at = now
        if now >= self.skip_until:  # failures that were under way together count once
            self.skip_until = now + min(FIRST_SKIP_S * 2 ** min(self.connect_failures, 5), LONGEST_SKIP_S)
            self.connect_failures += 1

    def checked_well(self, began: float) -> None:
        """A check that began then made its own connection, so the skip has nothing left to spare.

        `connect_failures` stays until a request's own connection succeeds: where that is refused all the same, the next
        skip is longer.
        """
        if began >= self.connect_refused_at:
            self.skip_until = 0.0

    def connected(self) -> None:
        self.connect_failures = 0
        self.skip_until = 0.0

    def __repr__(self) -> str:
        return f"<Endpoint {self.label} active={self.active} idle={len(self.idle)} skip_until={self.skip_until:.3f}>"
