"""The circuit breaker: whether a call may go to its upstream at all, judged by how the last ones ended.

Owns the three states and what moves between them. It does not know what a failure is (the exchange judges), nor which
calls share a breaker (`sidecar.runtime`). The options are Opossum's in snake case; closed flows, open refuses.

    closed     everything flows. Open as soon as, within the rolling window, calls >= `volume_threshold` and
               failures / calls >= `error_threshold_percentage`, looked at after every outcome. Neither refusals nor
               ignored calls are in it.
    open       everything is refused for `reset_timeout`, doubled after each failed probe up to `max_reset_timeout`.
               The first call after that makes it half-open and is the first probe.
    half_open  `half_open_requests` probes may be out at a time. That many successes in a row close it and clear the
               window and the doubling; one failure opens it again.

**Permits.** `admit` gives a permit, a plain int, which exactly one of `success`, `failure` and `ignore` ends, at the
breaker that gave it. It is the breaker's epoch, a number that grows with each change of state and is odd in half-open:
a permit that is not the current epoch belongs to a call that began before the last change, and such a call changes
nothing. So no list of calls is kept. 0 is a refusal; `UNCOUNTED` (negative, so truthy) is what `mode: observe`
hands out where `enforce` would refuse, and no outcome of it changes anything.

**Forced** by an operator, until a time: `open` refuses everything, in mode `observe` too, and lets no probe through;
`closed` lets everything flow, counts, and judges nothing. When the time is over, an open one waits for its next call,
which is a probe; a closed one judges again, with all that the window holds.

**Counters** (`successes`, `failures`, ...) are Opossum's events since the start: they count every outcome, also one
that comes too late to change anything, and a timeout is a failure too. `fallbacks` is counted by whoever serves the
fallback.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final

from sidecar.policy.settings import BreakerSettings
from sidecar.policy.window import RollingWindow

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
STATES: Final = (CLOSED, OPEN, HALF_OPEN)

REFUSED: Final = 0
UNCOUNTED: Final = -1

OnChange = Callable[[str, str, float], None]
"""Called with (old state, new state, now) after each change."""

_PROBES_OUT_RETRY_AFTER_S = 1.0


def make_breaker(settings: BreakerSettings, now: float, on_change: OnChange | None = None) -> Breaker:
    """The breaker that `settings.mode` asks for: a NullBreaker for `off`."""
    kind = NullBreaker if settings.mode == "off" else Breaker
    return kind(settings, now, on_change)


class Breaker:
    """One circuit breaker, in mode `enforce` or `observe`. Times are monotonic seconds."""

    __slots__ = (
        "_doublings",
        "_epoch",
        "_observe",
        "_on_change",
        "_percentage",
        "_probe_due",
        "_probe_successes",
        "_probes_out",
        "_settings",
        "_volume",
        "_window",
        "closes",
        "failures",
        "fallbacks",
        "forced",
        "forced_until",
        "half_opens",
        "opens",
        "rejects",
        "since",
        "state",
        "successes",
        "timeouts",
    )

    def __init__(self, settings: BreakerSettings, now: float, on_change: OnChange | None = None) -> None:
        self._on_change = on_change
        self._epoch = 2
        self._doublings = 0
        self._probe_due = now
        self._probes_out = 0
        self._probe_successes = 0
        self.state: str = CLOSED
        self.since = now
        self.forced: str | None = None
        """CLOSED or OPEN while an operator says so."""
        self.forced_until = inf
        self.opens = self.half_opens = self.closes = 0
        self.successes = self.failures = self.timeouts = 0
        self.rejects = 0
        self.fallbacks = 0
        self._apply(settings)
        self._window = RollingWindow(settings.rolling_count_timeout, settings.rolling_count_buckets, now)

    def admit(self, now: float) -> int:
        """A permit for one call (truthy), or REFUSED."""
        if self.state is CLOSED:
            return self._epoch
        return self._admit_probe(now)

    def is_probe(self, permit: int) -> bool:
        """Whether the call with this permit is (or was) a half-open probe, and so a single attempt."""
        return permit > 0 and permit & 1 == 1

    def may_retry(self, permit: int) -> bool:
        """Whether the call with this permit may make a further attempt: asked before each, so that opening ends it."""
        return (permit == self._epoch and self.state is CLOSED) or self._observe

    def success(self, permit: int, now: float) -> None:
        """End a permit: the upstream served the call."""
        self.successes += 1
        if permit != self._epoch:
            return
        if permit & 1:
            self._probe_succeeded(now)
            return
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        window.whole += 1
        if window.part:  # a success too can complete the volume
            self._judge(now)

    def failure(self, permit: int, now: float, timed_out: bool = False) -> None:
        """End a permit: the upstream failed the call, `timed_out` where it did so by not answering."""
        self.failures += 1
        if timed_out:
            self.timeouts += 1
        if permit != self._epoch:
            return
        if permit & 1:
            self._doublings += 1
            self._change(OPEN, now)
            return
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        window.whole += 1
        window.part += 1
        self._judge(now)

    def ignore(self, permit: int, now: float) -> None:
        """End a permit: the call says nothing about the upstream. A probe's place is free again."""
        if permit == self._epoch and permit & 1:
            self._probes_out -= 1

    def retry_after(self, now: float) -> float:
        """Seconds until the next call may be let through: 0 where one may be now."""
        if self.state is OPEN:
            return max(0.0, (self.forced_until if self.forced is OPEN else self._probe_due) - now)
        if self.state is HALF_OPEN and self._probes_out >= self._settings.half_open_requests:
            return _PROBES_OUT_RETRY_AFTER_S
        return 0.0

    def force(self, state: str | None, until: float, now: float) -> None:
        """Hold it CLOSED or OPEN until then, whatever calls bring; None ends that at once."""
        if state is None:
            self._let_go(now)
            return
        state = OPEN if state == OPEN else CLOSED  # these very objects: states are compared by identity
        self.forced = state
        self.forced_until = until
        if self.state is not state:
            self._change(state, now)
        if state is OPEN:
            self._probe_due = inf

    def expire(self, now: float) -> None:
        """End a forced state whose time is over. Called now and then: with no traffic too it should show."""
        if self.forced is not None and now >= self.forced_until:
            self._let_go(now)

    @property
    def probe_due(self) -> float | None:
        """When an open one lets its next call through (at the earliest), else None."""
        if self.state is not OPEN:
            return None
        return self.forced_until if self.forced is OPEN else self._probe_due

    def window(self, now: float) -> tuple[int, int]:
        """(successes, failures) that are in the rolling window."""
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        return window.whole - window.part, window.part

    def reconfigure(self, settings: BreakerSettings, now: float) -> Breaker:
        """Go on under other settings, in the state it has; returns the breaker to use from now on.

        That is this one, unless `mode` turns to `off`: then it is closed (and reported so) and a NullBreaker follows.
        The window starts anew only when its geometry changes. An open breaker waits as long as the new settings say.
        """
        if settings.mode == "off":
            self.forced = None
            if self.state is not CLOSED:
                self._change(CLOSED, now)
            return self._successor(NullBreaker, settings, now)
        old = self._settings
        self._apply(settings)
        if self.forced is not OPEN:
            self._probe_due = self.since + self._reset_s()
        width_s, buckets = settings.rolling_count_timeout, settings.rolling_count_buckets
        if (width_s, buckets) != (old.rolling_count_timeout, old.rolling_count_buckets):
            self._window = RollingWindow(width_s, buckets, now)
        return self

    def _apply(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._observe = settings.mode == "observe"
        self._volume = settings.volume_threshold
        self._percentage = settings.error_threshold_percentage

    def _successor(self, kind: type[Breaker], settings: BreakerSettings, now: float) -> Breaker:
        successor = kind(settings, now, self._on_change)
        for counter in COUNTERS:  # what a metrics collector reads must never fall
            setattr(successor, counter, getattr(self, counter))
        return successor

    def _let_go(self, now: float) -> None:
        if self.forced is OPEN:
            self._probe_due = now
        self.forced = None
        self.forced_until = inf

    def _admit_probe(self, now: float) -> int:
        if now >= self.forced_until:
            self._let_go(now)
        if self.state is OPEN and now >= self._probe_due:
            self._change(HALF_OPEN, now)
        if self.state is HALF_OPEN and self._probes_out < self._settings.half_open_requests:
            self._probes_out += 1
            return self._epoch
        self.rejects += 1
        return UNCOUNTED if self._observe and self.forced is None else REFUSED

    def _probe_succeeded(self, now: float) -> None:
        self._probes_out -= 1
        self._probe_successes += 1
        if self._probe_successes >= self._settings.half_open_requests:
            self._change(CLOSED, now)

    def _judge(self, now: float) -> None:
        if self.forced is not None:
            if now < self.forced_until:
                return
            self._let_go(now)
        # Multiplied out, because 29 / 100 * 100 is less than 29.
        window = self._window
        calls = window.whole
        if calls >= self._volume and window.part * 100 >= self._percentage * calls:
            self._change(OPEN, now)

    def _change(self, state: str, now: float) -> None:
        old, self.state = self.state, state
        self.since = now
        self._epoch = ((self._epoch + 2) & ~1) | (state is HALF_OPEN)  # the next even number, or the odd one after it
        self._probes_out = 0
        self._probe_successes = 0
        if state is OPEN:
            self.opens += 1
            self._probe_due = now + self._reset_s()
        elif state is HALF_OPEN:
            self.half_opens += 1
        else:
            self.closes += 1
            self._doublings = 0
            self._window.clear(now)
        if self._on_change is not None:
            self._on_change(old, state, now)

    def _reset_s(self) -> float:
        # A `reset_timeout` set above `max_reset_timeout` is meant as written: the maximum is for the doubling.
        base = self._settings.reset_timeout
        return min(base * 2.0 ** min(self._doublings, 1000), max(base, self._settings.max_reset_timeout))

    def __repr__(self) -> str:
        window = self._window
        forced = "forced " if self.forced is not None else ""
        text = (
            f"<{type(self).__name__} {forced}{self.state} since {self.since:.3f}, {window.part}/{window.whole} failed"
        )
        if self.state is OPEN and self.forced is None:
            text += f", until {self._probe_due:.3f}"
        elif self.state is HALF_OPEN:
            text += f", {self._probes_out} probes out, {self._probe_successes} succeeded"
        return f"{text}, epoch {self._epoch}{', observing' if self._observe else ''}>"


COUNTERS: Final = (
    "opens",
    "half_opens",
    "closes",
    "successes",
    "failures",
    "timeouts",
    "rejects",
    "fallbacks",
)
"""The attributes of a breaker that count events since the start."""


class NullBreaker(Breaker):
    """`mode: off`: always closed, every permit is 1, nothing is counted."""

    __slots__ = ()

    def admit(self, now: float) -> int:
        return 1

    def is_probe(self, permit: int) -> bool:
        return False

    def may_retry(self, permit: int) -> bool:
        return True

    def success(self, permit: int, now: float) -> None:
        pass

    def failure(self, permit: int, now: float, timed_out: bool = False) -> None:
        pass

    def ignore(self, permit: int, now: float) -> None:
        pass

    def retry_after(self, now: float) -> float:
        return 0.0

    def force(self, state: str | None, until: float, now: float) -> None:
        """Raises ValueError: there is nothing to hold."""
        if state is not None:
            raise ValueError("the breaker is off")

    def window(self, now: float) -> tuple[int, int]:
        return 0, 0

    def reconfigure(self, settings: BreakerSettings, now: float) -> Breaker:
        """Itself, or where `mode` is no longer `off` a closed Breaker that follows it."""
        return self if settings.mode == "off" else self._successor(Breaker, settings, now)

    def __repr__(self) -> str:
        return "<NullBreaker>"
