"""Which endpoints of a service get requests: what is known of each, put together, and what to do when that is too bad.

Owns the combination. Who is healthy (`sidecar.policy.health_state`), ejected (`sidecar.policy.outlier`), skipped after
a refused connection or draining is found out elsewhere and stands in each endpoint's `Standing`; here it becomes one
flag, `available`, worked out when something changes and only read when an endpoint is picked.

    draining   never available, and in no percentage: what leaves is not missing.
    panic      With fewer than `panic_threshold` percent of the others both healthy and not ejected, neither counts any
               longer and all of them are usable: so many bad ones are more likely a fault of the judging, and the few
               that are left could not carry the load (Envoy: common_lb_config.healthy_panic_threshold; 0 turns it off).
    last       Ejection alone never empties the set: where every healthy one is ejected, ejection does not count, with
               panic turned off too.
    skipped    Not part of the percentage, and in force in a panic too: health is an opinion, a refused connection a
               fact, and whoever is sent there only loses time. Where that leaves none, those that are not healthy but
               not skipped are usable (unless panic is turned off), and else skipping does not count.

So with `panic_threshold` above 0 some endpoint is available as long as one is not draining. With 0 there may be none:
that is what it asks for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final

OnPanic = Callable[[bool, int, int, float], None]
"""Called with (panic or no longer, endpoints that are well, endpoints that are not draining, now) after each change."""

_ALL: Final = 0
_HEALTHY: Final = 1
_WELL: Final = 2


class Standing:
    """What is known of one endpoint; whoever changes one of the first four calls `Availability.recompute`.

    Its identity is the endpoint's: the live endpoint derives from it, so what is known lives as long as that does.
    """

    __slots__ = ("available", "draining", "ejected", "healthy", "skip_until")

    def __init__(self) -> None:
        self.healthy = True
        """By active checks and by what it says of itself; true where nothing is known."""
        self.ejected = False
        self.draining = False
        self.skip_until = 0.0
        """Monotonic seconds."""
        self.available = False
        """Whether it gets requests; `Availability` alone sets it."""

    @property
    def well(self) -> bool:
        """Healthy, not ejected and not draining: what percentages are made of, in a panic too."""
        return self.healthy and not (self.ejected or self.draining)


class Availability:
    """Keeps `available` of one service's endpoints. Times are monotonic seconds.

    `panic_threshold` is in percent; it may be set at any time and counts from the next `recompute`.
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
        """How often a panic began."""
        self.total = 0
        """Endpoints that are not draining."""
        self.well = 0
        """Those of them that are healthy and not ejected."""
        self.available = 0
        """Endpoints whose `available` is set."""
        self.due = inf
        """When the next skip ends: from then on `recompute` is due. Cheap to compare before each pick."""

    def update(self, members: Sequence[Standing], now: float) -> None:
        """Make this the complete set. One that left is available no longer."""
        for one in self._members:
            one.available = False
        self._members = tuple(members)
        self.recompute(now)

    def recompute(self, now: float) -> None:
        """Work `available` out anew: after a change of any endpoint's standing, and when `due` has come."""
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
        """Set `available` of each; returns of how many it is true."""
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
