"""Endpoint availability: which endpoints of a service may get requests, and panic mode when too few are well.

Owns the rule that combines the facts about an endpoint. Other modules find the facts out and write them into its
`Standing`: health (`sidecar.policy.health_state`), ejection (`sidecar.policy.outlier`), draining, and the pause after a
refused connection. This module turns them into one flag, `available`. The flag is computed when a fact changes; a pick
only reads it.

    draining  A draining endpoint is never available, and no percentage counts it: it is about to leave.
    panic     When fewer than `panic_threshold` percent of the endpoints are healthy and not ejected, health and
              ejection are ignored. So many bad endpoints are more likely an error of judgement, and the few good ones
              could not carry the load (Envoy: common_lb_config.healthy_panic_threshold; 0 turns panic off).
    last      Ejection alone never makes a service unavailable: when every healthy endpoint is ejected, ejection is
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

OnPanic = Callable[[bool, int, int, float], None]
"""Called after each change with (whether panic is on, endpoints that are well, endpoints not draining, now)."""

_ALL: Final = 0
_HEALTHY: Final = 1
_WELL: Final = 2


class Standing:
    """What is known about one endpoint. After a change of the first four fields, call `Availability.recompute`.

    The live endpoint derives from this class, so the facts live exactly as long as the endpoint.
    """

    __slots__ = ("available", "draining", "ejected", "healthy", "skip_until")

    def __init__(self) -> None:
        self.healthy = True
        """According to active checks and to the endpoint's own responses. True while nothing is known."""
        self.ejected = False
        self.draining = False
        self.skip_until = 0.0
        """Skipped until this time, in monotonic seconds."""
        self.available = False
        """Whether it gets requests. Only `Availability` sets it."""

    @property
    def well(self) -> bool:
        """Healthy, not ejected and not draining. Percentages count these endpoints, in a panic too."""
        return self.healthy and not (self.ejected or self.draining)


class Availability:
    """Sets `available` on the endpoints of one service. Times are monotonic seconds.

    `panic_threshold` is in percent. It may be set at any time and takes effect at the next `recompute`.
    """

    __slots__ = (
        "_members",
        "_on_panic",
        "available",
        "due",
        "panic",
        "panic_threshold",
        "panics",
        "total",
        "well",
    )

    def __init__(self, panic_threshold: float, on_panic: OnPanic | None = None) -> None:
        self._members: tuple[Standing, ...] = ()
        self._on_panic = on_panic
        self.panic_threshold = panic_threshold
        self.panic = False
        self.panics = 0
        """How many panics have begun."""
        self.total = 0
        """Endpoints that are not draining."""
        self.well = 0
        """Endpoints of `total` that are healthy and not ejected."""
        self.available = 0
        """Endpoints with `available` set."""
        self.due = inf
        """When the next skip ends, and `recompute` is needed. Cheap to compare before each pick."""

    def update(self, members: Sequence[Standing], now: float) -> None:
        """Replace the whole set of endpoints. An endpoint that left is no longer available."""
        for one in self._members:
            one.available = False
        self._members = tuple(members)
        self.recompute(now)

    def recompute(self, now: float) -> None:
        """Compute `available` again: after a change of any endpoint's standing, and when `due` has come."""
        total = healthy = well = 0
        due = inf
        for one in self._members:
            if one.draining:
                continue
            total += 1
            if one.healthy:
                healthy += 1
                if not one.ejected:
                    well += 1
            if now < one.skip_until < due:
                due = one.skip_until
        self.total, self.well, self.due = total, well, due
        panic = well * 100 < self.panic_threshold * total
        level = _ALL if panic else _WELL if well else _HEALTHY
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
                self._on_panic(panic, well, total, now)

    def _mark(self, level: int, now: float) -> int:
        """Set `available` on each endpoint; returns how many are available."""
        count = 0
        for one in self._members:
            usable = not one.draining and one.skip_until <= now
            if level >= _HEALTHY and not one.healthy:
                usable = False
            if level == _WELL and one.ejected:
                usable = False
            one.available = usable
            if usable:
                count += 1
        return count

    def __repr__(self) -> str:
        state = " panic" if self.panic else ""
        return f"<Availability{state} {self.available} available, {self.well} of {self.total} well>"
