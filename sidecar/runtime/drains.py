"""Drains: endpoints that an operator takes out of service until a given time.

Owns which endpoints drain, and until when. `sidecar.policy.availability` keeps requests away from them, and
`sidecar.runtime.operator` decides whether an endpoint may be drained.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from sidecar.runtime.endpoint import Endpoint


class Drains:
    """The drains of one service. Times are monotonic seconds. Nothing runs by itself: call `tick` once `due` has
    come.
    """

    def __init__(self) -> None:
        self._members: tuple[Endpoint, ...] = ()
        self.due = inf

    def begin(self, endpoint: Endpoint, until: float) -> None:
        """Start a drain, or change the end of one."""
        endpoint.draining = True
        endpoint.drained_until = until
        self._find_due()

    def end(self, endpoint: Endpoint, now: float) -> None:
        """End a drain: the endpoint gets requests again, with slow start if that is configured."""
        endpoint.draining = False
        endpoint.drained_until = inf
        endpoint.since = now
        self._find_due()

    def tick(self, now: float) -> list[Endpoint]:
        """End the drains whose time is over; returns their endpoints."""
        if now < self.due:
            return []
        over = [one for one in self._members if one.draining and one.drained_until <= now]
        for one in over:
            self.end(one, now)
        return over

    def update(self, members: Sequence[Endpoint]) -> None:
        """Replace the whole set of endpoints. An endpoint that left is still drained if it comes back."""
        self._members = tuple(members)
        self._find_due()

    def _find_due(self) -> None:
        self.due = min((one.drained_until for one in self._members if one.draining), default=inf)

    def __repr__(self) -> str:
        return f"<Drains {[one.label for one in self._members if one.draining]}>"
