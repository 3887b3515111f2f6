"""Retry budget: limits the retries of a service to a share of its requests.

Why a budget and not only `max_retries`? `max_retries` limits one request, and the extra load multiplies: when every
request fails, `max_retries: 2` triples the traffic of an upstream that is already down, and each tier of callers
multiplies it again. A budget limits the sum. While few requests fail, the budget is never used up and each request is
retried as often as it may be. When many fail, the budget is soon used up and the extra load stays at `ratio`.

Owns the two accounts that can pay for a retry (as in Finagle's and Linkerd's RetryBudget):
- The share: `ratio` times the requests of the last 10 s, less the retries of the last 10 s that this account paid for.
- The reserve, for services with little traffic: a token bucket that refills at `min_per_second` and holds the tokens of
  one second (at least one token, unless `min_per_second` is 0).
In any 10 s the reserve therefore pays for at most 11 times `min_per_second`. In the long run all retries together are
at most `ratio` times the requests, plus `min_per_second`.
"""

from __future__ import annotations

from sidecar.policy.settings import BudgetSettings
from sidecar.policy.window import RollingWindow

_WINDOW_S = 10.0
_BUCKETS = 10
_ROUNDING = 1e-9
"""Tolerance for floating point: ten refills of 0.1 add up to a little less than 1, and 0.29 * 100 is below 29."""


class RetryBudget:
    """The retry budget of one service, shared by all its requests. Times are monotonic seconds."""

    __slots__ = ("_capacity", "_min_per_second", "_ratio", "_refilled", "_tokens", "_window", "denied", "spent")

    def __init__(self, settings: BudgetSettings, now: float) -> None:
        self._apply(settings)
        self._window = RollingWindow(_WINDOW_S, _BUCKETS, now)
        self._tokens = self._capacity
        self._refilled = now
        self.spent = 0
        self.denied = 0

    def request(self, now: float) -> None:
        """Count a request (not its retries)."""
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        window.whole += 1

    def withdraw(self, now: float) -> bool:
        """Pay for one retry. False when neither account can pay."""
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        if window.part + 1 <= self._ratio * window.whole + _ROUNDING:
            window.part += 1
        elif self._reserve(now) >= 1.0 - _ROUNDING:
            self._tokens = max(0.0, self._tokens - 1.0)
        else:
            self.denied += 1
            return False
        self.spent += 1
        return True

    def balance(self, now: float) -> float:
        """How many retries both accounts can pay for."""
        window = self._window
        if now >= window.bucket_ends:
            window.roll(now)
        return max(0.0, self._ratio * window.whole - window.part) + self._reserve(now)

    def reconfigure(self, settings: BudgetSettings, now: float) -> None:
        """Apply new settings; keep what was counted."""
        self._reserve(now)
        self._apply(settings)
        self._tokens = min(self._tokens, self._capacity)

    def _apply(self, settings: BudgetSettings) -> None:
        self._ratio = settings.ratio
        self._min_per_second = settings.min_per_second
        self._capacity = max(settings.min_per_second, 1.0) if settings.min_per_second > 0 else 0.0

    def _reserve(self, now: float) -> float:
        if now > self._refilled:
            self._tokens = min(self._capacity, self._tokens + (now - self._refilled) * self._min_per_second)
            self._refilled = now
        return self._tokens

    def __repr__(self) -> str:
        window = self._window
        return (
            f"<RetryBudget {window.part} of {window.whole} requests retried, {self._tokens:.1f} in reserve, "
            f"{self.spent} spent, {self.denied} denied>"
        )
