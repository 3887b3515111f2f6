"""The interface of a load balancer, and what a balancer may know about an endpoint.

Owns only the two interfaces; `make` builds balancers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from sidecar.policy.balancers.ewma import PeakEwma

BalancerName = Literal["round_robin", "least_request", "peak_ewma", "random", "hash"]


class BalancedEndpoint(Protocol):
    """An endpoint as balancers see it. `label`, `weight` and `priority` do not change while a balancer uses it."""

    @property
    def label(self) -> str:
        """A name that is the same in every process, such as `10.0.0.7:3002`. Hashing depends on it."""

    @property
    def weight(self) -> int:
        """At least 1."""

    @property
    def active(self) -> int:
        """Requests in flight."""

    @property
    def priority(self) -> int:
        """The priority level; 0 is used first."""

    @property
    def since(self) -> float:
        """When it joined or became healthy again, in monotonic seconds. Slow start begins then (as in Envoy)."""

    @property
    def latency(self) -> PeakEwma | None:
        """The latency estimate; None when nothing measures it."""


class Balancer(Protocol):
    """Chooses from one fixed set of endpoints, by index. A changed set needs a new balancer.

    `key` is the hash key of the request: None when the request has none, and with all other balancers. `now` is in
    monotonic seconds.
    """

    def next(self, key: bytes | None, now: float) -> int:
        """The choice among all endpoints, available or not; -1 when there are none.

        This is the fast path while most endpoints are available. When the chosen one is not, call `pick`: it chooses as
        if it had been called first.
        """

    def pick(self, available: Callable[[int], float], key: bytes | None, now: float) -> int:
        """The choice among the endpoints for which `available` is true; -1 when there is none.

        A result of `available` between 0 and 1 means: available, with that fraction of its weight (slow start).
        """
