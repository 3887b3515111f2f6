"""Circuit breaker: decides whether a call may go to its upstream, from the outcomes of recent calls.

Owns the three states and the transitions between them. It does not decide what a failure is (the exchange does), nor
which calls share a breaker (`sidecar.runtime` does). The options are Opossum's, in snake case. Closed flows, open
refuses.

    closed     All calls pass. The breaker opens when, within the rolling window, calls >= `volume_threshold` and
               failures / calls >= `error_threshold_percentage`. This is checked after every outcome. Refused and
               ignored calls do not count.
    open       All calls are refused for `reset_timeout`, which doubles after each failed probe, up to
               `max_reset_timeout`. Then the breaker is half-open: at the next call, or at `tick` if there is none.
    half_open  Up to `half_open_requests` probes may be in flight at a time. That many successes in a row close the
               breaker and reset the window and the doubling. One failure opens it again. After an inconclusive probe
               (its app gave up too soon) the next probe waits for a second.

**Permits.** `admit` returns a permit, a plain int. Exactly one call of `success`, `failure`, `ignore` or `inconclusive`
ends it, on the breaker that gave it. The permit is the breaker's epoch: a number that grows with each change of state
and is odd in half-open. A permit that is not the current epoch belongs to a call that began before the last change; its
outcome changes nothing. So the breaker keeps no list of calls. 0 means refused. `UNCOUNTED` (negative, so truthy) is
given by `mode: observe` where `enforce` would refuse; the outcome of such a call changes nothing. A probe whose app
takes very long to send its body gives up its place (`make_room`): its permit becomes the negative epoch, and its
outcome still counts.


**Forced.** An operator can force a state until a given time. Forced open refuses all calls, in mode `observe` too, and
allows no probe. Forced closed passes all calls; it counts outcomes but does not judge them. When the time is over, an
open breaker takes its next call as a probe; a closed one judges again, with everything in the window.

**Counters** are the service's (`BreakerCounters`). Of its own, a breaker counts only `opens` and `rejects`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Final, Literal

from sidecar.policy.breaker_counters import BreakerCounters
from sidecar.policy.settings import BreakerSettings
from sidecar.policy.verdict import Patience
from sidecar.policy.window import RollingWindow

CLOSED: Final = "closed"
OPEN: Final = "open"
HALF_OPEN: Final = "half_open"
STATES: Final = (CLOSED, OPEN, HALF_OPEN)

ADMIT: Final = "admit"
PROBE: Final = "probe"
REFUSE: Final = "refuse"
Decision = Literal["admit", "probe", "refuse"]

REFUSED: Final = 0
UNCOUNTED: Final = -1

OnChange = Callable[[str, str, float], None]
"""Called with (old state, new state, now) after each change."""

_PROBES_OUT_RETRY_AFTER_S = 1.0
_AFTER_INCONCLUSIVE_S = 1.0


def make_breaker(
    settings: BreakerSettings, now: float, on_change: OnChange | None = None, counters: BreakerCounters | None = None
) -> Breaker:
    """A breaker for `settings.mode`: a NullBreaker for `off`."""
    kind = NullBreaker if settings.mode == "off" else Breaker
    return kind(settings, now, on_change, counters)


class Breaker:
    """One circuit breaker, in mode `enforce` or `observe`. Times are monotonic seconds."""

    __slots__ = (
        "_doublings",
        "_epoch",
        "_lapsed",
        "_observe",
        "_on_change",
        "_percentage",
        "_probe_due",
        "_probe_successes",
        "_probes_out",
        "_settings",
        "_volume",
        "_window",
        "counters",
        "forced",
        "forced_until",
        "forgiven_at",
        "opens",
        "patience",
        "rejects",
        "since",
        "state",
    )

    def __init__(
        self,
        settings: BreakerSettings,
        now: float,
        on_change: OnChange | None = None,
        counters: BreakerCounters | None = None,
    ) -> None:
        self._on_change = on_change
        self._epoch = 2
        self._doublings = 0
        self._lapsed: str | None = None
        self._probe_due = now
        self._probes_out = 0
        self._probe_successes = 0
        self.state: str = CLOSED
        self.since = now
        self.forced: str | None = None
        """CLOSED or OPEN while an operator forces that state, else None."""
        self.forced_until = inf
        self.forgiven_at = -inf
        """When `forgive` last began the window anew. Failures of ejected endpoints that began before do not count."""
        self.counters = counters if counters is not None else BreakerCounters()
        self.opens = 0
        self.rejects = 0
        self.patience = Patience()
        """How long successful calls took."""
        self._apply(settings)
        self._window = RollingWindow(settings.rolling_count_timeout, settings.rolling_count_buckets, now)

    def admit(self, now: float) -> int:
        """Returns a permit for one call (truthy), or REFUSED."""
        if self.state is CLOSED:
            return self._epoch
        return self._admit_probe(now)

    def peek(self, now: float) -> Decision:
        """What `admit` would decide now; nothing changes. In mode `observe` a call passes even if this is REFUSE."""
        if self.forced is not None and now >= self.forced_until:
            return PROBE if self.forced is OPEN else ADMIT
        if self.state is CLOSED:
            return ADMIT
        return REFUSE if self.retry_after(now) > 0 else PROBE

    def is_probe(self, permit: int) -> bool:
        """Whether the call with this permit is (or was) a half-open probe. A probe is a single attempt."""
        return permit > 0 and permit & 1 == 1

    def make_room(self, permit: int) -> int:
        """Free the place of a probe that has not ended. Returns the permit that the probe keeps."""
        if permit != self._epoch:
            return permit
        self._probes_out -= 1
        return -permit

    def may_retry(self, permit: int) -> bool:
        """Whether the call with this permit may make another attempt. Asked before each retry, so an open breaker ends
        them.
        """
        return (permit == self._epoch and self.state is CLOSED) or self._observe

    def success(self, permit: int, now: float) -> None:
        """End a permit: the upstream served the call."""
        self.counters.successes += 1
        epoch = self._epoch
        if permit != epoch:
            if permit == -epoch:
                self._probe_succeeded(now)
            return
        if permit & 1:
            self._probes_out -= 1
            self._probe_succeeded(now)
            return
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        window.whole += 1
        if window.part:  # a success can also bring the number of calls up to the volume
            self._judge(now)

    def failure(self, permit: int, now: float, timed_out: bool = False) -> None:
        """End a permit: the upstream failed the call. `timed_out` when it failed because no answer came in time."""
        self.counters.failures += 1
        if timed_out:
            self.counters.timeouts += 1
        if permit != self._epoch and permit != -self._epoch:
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
        """End a permit: the outcome says nothing about the upstream. The place of a probe is free again."""
        if permit == self._epoch and permit & 1:
            self._probes_out -= 1

    def inconclusive(self, permit: int, now: float) -> None:
        """End a permit: the app gave up too soon for a verdict. The next probe would probably end the same way, so it
        waits for a second.
        """
        if permit & 1 and permit in (self._epoch, -self._epoch):
            self.ignore(permit, now)
            self._probe_due = now + _AFTER_INCONCLUSIVE_S

    def forgive(self, now: float) -> None:
        """An endpoint that failed was ejected, so what it did says nothing about later calls: begin the window anew.

        Not if nothing in the window succeeded: then the whole service may be down, and not one endpoint.
        """
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        if self.state is CLOSED and window.whole > window.part:
            window.clear(now)
            self.forgiven_at = now

    def retry_after(self, now: float) -> float:
        """Seconds until the next call may pass; 0 when a call may pass now."""
        if self.state is OPEN:
            return max(0.0, (self.forced_until if self.forced is OPEN else self._probe_due) - now)
        if self.state is HALF_OPEN:
            if self._probes_out >= self._settings.half_open_requests:
                return _PROBES_OUT_RETRY_AFTER_S
            return max(0.0, self._probe_due - now)
        return 0.0

    def force(self, state: str | None, until: float, now: float) -> None:
        """Hold the state CLOSED or OPEN until a time, whatever the outcomes are. None ends a forced state at once."""
        if state is None:
            self._let_go(now)
            return
        state = OPEN if state == OPEN else CLOSED  # states are compared by identity
        self._lapsed = None
        self.forced = state
        self.forced_until = until
        if self.state is not state:
            self._change(state, now)
        if state is OPEN:
            self._probe_due = inf

    def tick(self, now: float) -> None:
        """Apply the changes that time alone brings: the end of a forced state, and of `reset_timeout`.

        Call it from time to time and before the state is shown, so that it is true without traffic too.
        """
        self._end_forced(now)
        if self.state is OPEN and now >= self._probe_due:
            self._change(HALF_OPEN, now)

    def lapsed(self, now: float) -> str | None:
        """The forced state whose time is over, told once; None if there is none. A request may have ended it before."""
        self._end_forced(now)
        told, self._lapsed = self._lapsed, None
        return told

    @property
    def probe_due(self) -> float | None:
        """The earliest time at which an open breaker passes its next call; None unless open."""
        if self.state is not OPEN:
            return None
        return self.forced_until if self.forced is OPEN else self._probe_due

    def window(self, now: float) -> tuple[int, int]:
        """(successes, failures) in the rolling window."""
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        return window.whole - window.part, window.part

    def reconfigure(self, settings: BreakerSettings, now: float) -> Breaker:
        """Apply new settings and keep the state; returns the breaker to use from now on.

        That is the same breaker, unless `mode` becomes `off`: then this one closes (and reports it) and a NullBreaker
        replaces it. The window is cleared only when its width or number of buckets changes. The time that an open
        breaker waits is computed again from the new settings.
        """
        if settings.mode == "off":
            self.forced = None
            if self.state is not CLOSED:
                self._change(CLOSED, now)
            return self._successor(NullBreaker, settings, now)
        old = self._settings
        self._apply(settings)
        if self.state is OPEN and self.forced is not OPEN:
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
        successor = kind(settings, now, self._on_change, self.counters)
        successor.opens, successor.rejects = self.opens, self.rejects
        successor.patience = self.patience
        return successor

    def _end_forced(self, now: float) -> None:
        if self.forced is not None and now >= self.forced_until:
            forced = self.forced
            self._let_go(now)
            self._lapsed = forced

    def _let_go(self, now: float) -> None:
        self._lapsed = None
        if self.forced is OPEN:
            self._probe_due = now
        self.forced = None
        self.forced_until = inf

    def _admit_probe(self, now: float) -> int:
        self.tick(now)
        if self.peek(now) is PROBE:
            self._probes_out += 1
            return self._epoch
        self.rejects += 1
        self.counters.rejects += 1
        return UNCOUNTED if self._observe and self.forced is None else REFUSED

    def _probe_succeeded(self, now: float) -> None:
        self._probe_successes += 1
        if self._probe_successes >= self._settings.half_open_requests:
            self._change(CLOSED, now)

    def _judge(self, now: float) -> None:
        self._end_forced(now)
        if self.forced is not None:
            return
        # Multiplied instead of divided: in floating point, 29 / 100 * 100 is less than 29.
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
            self.counters.opens += 1
            self._probe_due = now + self._reset_s()
        elif state is HALF_OPEN:
            self.counters.half_opens += 1
            self._probe_due = now
        else:
            self.counters.closes += 1
            self._doublings = 0
            self._window.clear(now)
        if self._on_change is not None:
            self._on_change(old, state, now)

    def _reset_s(self) -> float:
        # A `reset_timeout` above `max_reset_timeout` is used as it is: the maximum limits only the doubling.
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
            text += f", {self._probes_out} probes in flight, {self._probe_successes} succeeded"
        return f"{text}, epoch {self._epoch}{', observing' if self._observe else ''}>"


class NullBreaker(Breaker):
    """The breaker for `mode: off`: always closed, every permit is 1, nothing is counted."""

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

    def inconclusive(self, permit: int, now: float) -> None:
        pass

    def retry_after(self, now: float) -> float:
        return 0.0

    def force(self, state: str | None, until: float, now: float) -> None:
        """Raises ValueError: a breaker that is off has no state to force."""
        if state is not None:
            raise ValueError("the breaker is off")

    def window(self, now: float) -> tuple[int, int]:
        return 0, 0

    def reconfigure(self, settings: BreakerSettings, now: float) -> Breaker:
        """Returns itself, or a closed Breaker when `mode` is no longer `off`."""
        return self if settings.mode == "off" else self._successor(Breaker, settings, now)

    def __repr__(self) -> str:
        return "<NullBreaker>"
