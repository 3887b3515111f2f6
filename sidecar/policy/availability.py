"""Endpoint availability: which endpoints of a service may get requests, and panic mode when too few are healthy.

Owns the rule that turns the facts about an endpoint into one flag, `available`. Other modules find the facts out and
write them into its `EndpointState`: checks (`sidecar.policy.health_state`), ejection (`sidecar.policy.outlier`),
draining, and the pause after a refused connection. The flag is computed when a fact changes; a pick only reads it.

    draining  A draining endpoint is never available, and no percentage counts it: it is about to leave.
    panic     When fewer than `panic_threshold` percent of the endpoints are healthy, checks and ejection are ignored.
              So many bad endpoints are more likely an error of judgement, and the few good ones could not carry the
              load (Envoy: common_lb_config.healthy_panic_threshold; 0 turns panic off).
    last      Ejection alone never makes a service unavailable: when every passing endpoint is ejected, ejection is
              ignored. This holds with panic turned off too.
    skipped   An endpoint that refused a connection is skipped for a short time. The percentage does not count skips,
              and a panic does not end them: health is an opinion, a refused connection is a fact. When skips leave no
              endpoint, unhealthy endpoints that are not skipped are used (unless panic is turned off). When that leaves
              none either, skips are ignored.

With `panic_threshold` above 0, some endpoint is available as long as one is not draining. With 0 there may be none: the
operator asked for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final

from sidecar.policy.endpoint_state import EndpointState

OnPanic = Callable[[bool, int, int, float], None]
"""Called after each change with (whether panic is on, healthy endpoints, endpoints not draining, now)."""

_ALL: Final = 0
_PASSING: Final = 1
_HEALTHY: Final = 2


class Availability:
    """Sets `available` on the endpoints of one service. Times are monotonic seconds.

    `panic_threshold` is in percent. It may be set at any time and takes effect at the next `recompute`.
    """

    __slots__ = (
        "_members",
        "_on_panic",
        "available",
        "due",
        "healthy",
        "panic",
        "panic_threshold",
        "panics",
        "total",
    )

    def __init__(self, panic_threshold: float, on_panic: OnPanic | None = None) -> None:
        self._members: tuple[EndpointState, ...] = ()
        self._on_panic = on_panic
        self.panic_threshold = panic_threshold
        self.panic = False
        self.panics = 0
        """How many panics have begun."""
        self.total = 0
        """Endpoints that are not draining."""
        self.healthy = 0
        """Endpoints of `total` that are healthy."""
        self.available = 0
        """Endpoints with `available` set."""
        self.due = inf
        """When the next skip ends, and `recompute` is needed. Cheap to compare before each pick."""

    def update(self, members: Sequence[EndpointState], now: float) -> None:
        """Replace the whole set of endpoints. An endpoint that left is no longer available."""
        for one in self._members:
            one.available = False
        self._members = tuple(members)
        self.recompute(now)

    def recompute(self, now: float) -> None:
        """Compute `available` again: after a change of any endpoint's state, and when `due` has come."""
        total = passing = healthy = 0
        due = inf
        for one in self._members:
            if one.draining:
                continue
            total += 1
            if one.passing:
                passing += 1
                if not one.ejected:
                    healthy += 1
            if now < one.skip_until < due:
                due = one.skip_until
        self.total, self.healthy, self.due = total, healthy, due
        panic = healthy * 100 < self.panic_threshold * total
        level = _ALL if panic else _HEALTHY if healthy else _PASSING
        available = self._mark(level, now)
        if not available and self.panic_threshold > 0:
            available = self._mark(_ALL, now)
        if not available:
            available = self._mark(level, inf)
        self.available = available
        if panic is not self.panic:
            self.panic = panic
            if panic:
                self.panics += 1
            if self._on_panic is not None:
                self._on_panic(panic, healthy, total, now)

    def _mark(self, level: int, now: float) -> int:
        """Set `available` on each endpoint; returns how many are available."""
        count = 0
        for one in self._members:
            available = not one.draining and one.skip_until <= now
            if level >= _PASSING and not one.passing:
                available = False
            if level == _HEALTHY and one.ejected:
                available = False
            one.available = available
            if available:
                count += 1
        return count

    def __repr__(self) -> str:
        state = " panic" if self.panic else ""
        return f"<Availability{state} {self.available} available, {self.healthy} of {self.total} healthy>"
