"""How much a peer may ask for that is no work: the credit that floods use up (DESIGN, *Floods*).

Credit is earned by calls answered and DATA sent, so that a busy peer's pings and window updates cost it nothing in the
end. It is never earned by streams opened: the peer could open and break them for ever. Time gives some back.
"""

from __future__ import annotations

from typing import Final

from sidecar.proxy.h2.frames import ENHANCE_YOUR_CALM, ConnectionFault

MAX_STREAMS: Final = 256
"""Our MAX_CONCURRENT_STREAMS. Streams within it cost nothing."""

STREAM_WINDOW: Final = 256 * 1024
CONNECTION_WINDOW: Final = 16 * 1024 * 1024

MAX_CONTINUATIONS: Final = 32
"""Of one header block."""

BURST: Final = 1000.0
PER_S: Final = 100.0

PING_COST: Final = 1.0
SETTINGS_COST: Final = 5.0
GOAWAY_COST: Final = 5.0
INTERIM_COST: Final = 1.0
EMPTY_DATA_COST: Final = 1.0
CONTINUATION_COST: Final = 1.0
WINDOW_UPDATE_COST: Final = 0.5
PRIORITY_COST: Final = 0.5
UNKNOWN_COST: Final = 0.5
LATE_COST: Final = 0.1
"""A frame for a stream that we reset: it may have been under way."""

REFUSED_COST: Final = 1.0
"""A stream above MAX_STREAMS: 1,000 calls that start at once, before our SETTINGS are known, are no attack."""

RESET_COST: Final = 2.0
"""A stream that the peer resets as soon as it has opened it (CVE-2023-44487)."""

RESET_IS_FREE_AFTER_S: Final = 0.05
"""A stream that lived so long took one of MAX_STREAMS places: that bounds how many there can be."""

ERROR_COST: Final = 10.0
"""A stream that we have to reset (CVE-2025-8671)."""

TOO_LARGE_COST: Final = 50.0
"""A header list above the limit."""

ANSWER_EARNS: Final = 3.0
DATA_EARNS: Final = 2.0
BYTES_EARN: Final = 1.0 / 2048


class Credit:
    """Of one connection; `now` is in seconds of a monotonic clock."""

    __slots__ = ("_at", "left")

    def __init__(self, now: float) -> None:
        self.left = BURST
        self._at = now

    def earn(self, credit: float) -> None:
        left = self.left + credit
        self.left = min(BURST, left)

    def spend(self, cost: float, now: float, what: str) -> None:
        """Raises ConnectionFault where there is no credit left. `what`: for the GOAWAY."""
        left = self.left + (now - self._at) * PER_S
        self._at = now
        self.left = (min(BURST, left)) - cost
        if self.left < 0:
            raise ConnectionFault(ENHANCE_YOUR_CALM, f"too many {what}")
