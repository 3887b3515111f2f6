"""Endpoints that an operator keeps requests away from, each until a time.

Owns who drains and until when. That a draining endpoint is not picked is `sidecar.policy.availability`'s business, and
whether it may drain at all `sidecar.runtime.operator`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from sidecar.runtime.endpoint import Endpoint


class Drains:
    """Those of one service. Times are monotonic seconds; nothing runs by itself: call `tick` once `due` has come."""

    def __init__(self) -> None:
        self._members: tuple[Endpoint, ...] = ()
        self.due = inf

    def begin(self, endpoint: Endpoint, until: float) -> None:
        """From now on, or (where it drains already) for another time."""
        endpoint.draining = True
        endpoint.drained_until = until
        self._find_due()

    def end(self, endpoint: Endpoint, now: float) -> None:
        """It gets requests again, few at first where there is a slow start."""
        endpoint.draining = False
        endpoint.drained_until = inf
        endpoint.since = now
        self._find_due()

    def tick(self, now: float) -> list[Endpoint]:
        """End those whose time is over, and say which."""
        if now < self.due:
            return []
        over = [one for one in self._members if one.draining and one.drained_until <= now]
        for one in over:
            self.end(one, now)
        return over

    def update(self, members: Sequence[Endpoint]) -> None:
        """Make this the complete set. Who left keeps its drain, should it come back."""
        self._members = tuple(members)
        self._find_due()

    def _find_due(self) -> None:
        self.due = min((one.drained_until for one in self._members if one.draining), default=inf)

    def __repr__(self) -> str:
        return f"<Drains {[one.label for one in self._members if one.draining]}>"
