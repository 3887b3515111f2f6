"""What a balancer is, and what it may know of an endpoint.

Owns the two interfaces only; `make` builds balancers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

from sidecar.policy.balancers.ewma import PeakEwma

BalancerName = Literal["round_robin", "least_request", "peak_ewma", "random", "hash"]


class BalancedEndpoint(Protocol):
    """An endpoint as balancers see it. `label`, `weight` and `priority` stay as they are for a balancer's lifetime."""

    @property
    def label(self) -> str:
        """Its name in every process alike, such as `10.0.0.7:3002`: hashing depends on it."""

    @property
    def weight(self) -> int:
        """At least 1."""

    @property
    def active(self) -> int:
        """Requests in flight."""

    @property
    def priority(self) -> int:
        """0 comes first."""

    @property
    def since(self) -> float:
        """When it joined, or became well again: the start of its slow start (Envoy: on both)."""

    @property
    def latency(self) -> PeakEwma | None:
        """None where nobody measures."""


class Balancer(Protocol):
    """Made for one set of endpoints, and picks their indices; a changed set needs a new one.

    `key` is what hashing goes by: None where a request has none, and for all others. `now` is in monotonic seconds.
    """

    def next(self, key: bytes | None, now: float) -> int:
        """The choice among all endpoints, usable or not; -1 where there are none.

        The fast way for when most are usable. Where this one is not, `pick` finds one as if it had been asked at once.
        """

    def pick(self, usable: Callable[[int], float], key: bytes | None, now: float) -> int:
        """The choice among the endpoints for which `usable` is true; -1 where there is none.

        An answer between 0 and 1 means: usable, with that part of its weight (slow start).
        """
