"""Rolling window: counts over the last seconds, a whole and a part of it (calls and failures, requests and retries).

Owns the buckets and how they expire. The callers (`sidecar.policy.breaker`, `sidecar.policy.budget`) define what the
two counts mean.

The window is a ring of buckets, as in Opossum (`rollingCountTimeout`, `rollingCountBuckets`). Calls advance it, not a
timer. It therefore covers between (buckets - 1) and `buckets` bucket widths before now.

The caller does the counting itself, because it happens on every request and a method call would double its cost:

    if now >= window.bucket_ends:
        window.roll(now)
    window.whole += 1
"""

from __future__ import annotations

_SHORTEST_BUCKET_S = 0.001


class RollingWindow:
    """Sums over the last `width_s` seconds, which expire in steps of `width_s / buckets`.

    `whole` and `part` are the sums. The caller adds to them, after a call of `roll` if `now` has reached `bucket_ends`.
    A `now` slightly older than an earlier one counts in the current bucket.
    """

    __slots__ = ("_at", "_bucket_s", "_older_part", "_older_whole", "_parts", "_wholes", "bucket_ends", "part", "whole")

    def __init__(self, width_s: float, buckets: int, now: float) -> None:
        self._bucket_s = max(width_s / buckets, _SHORTEST_BUCKET_S)
        self._wholes = [0] * buckets
        self._parts = [0] * buckets
        self._at = 0
        self._older_whole = self._older_part = 0
        self.whole = self.part = 0
        self.bucket_ends = now + self._bucket_s

    def clear(self, now: float) -> None:
        """Forget everything; the first bucket begins at `now`."""
        self._empty()
        self.bucket_ends = now + self._bucket_s

    def roll(self, now: float) -> None:
        """Advance the ring so that `now` falls into the current bucket, and drop the counts older than the window."""
        steps = int((now - self.bucket_ends) / self._bucket_s) + 1
        if steps <= 0:
            return
        self.bucket_ends += steps * self._bucket_s
        wholes, parts = self._wholes, self._parts
        if steps >= len(wholes):
            self._empty()
            return
        # The current bucket is not stored while it fills: its counts are the growth of the sums since it began.
        at = self._at
        wholes[at] = self.whole - self._older_whole
        parts[at] = self.part - self._older_part
        for _ in range(steps):
            at = at + 1 if at + 1 < len(wholes) else 0
            self.whole -= wholes[at]
            self.part -= parts[at]
            wholes[at] = parts[at] = 0
        self._at = at
        self._older_whole = self.whole
        self._older_part = self.part

    def _empty(self) -> None:
        for at in range(len(self._wholes)):
            self._wholes[at] = self._parts[at] = 0
        self._at = 0
        self._older_whole = self._older_part = 0
        self.whole = self.part = 0

    def __repr__(self) -> str:
        return f"<RollingWindow {self.part}/{self.whole} in {len(self._wholes)} x {self._bucket_s:g}s>"
