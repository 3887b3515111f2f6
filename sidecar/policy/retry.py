"""Retries: which failed attempts may be retried, and after what delay.

Owns the rules; each is a function of its arguments. The exchange (`max_retries`) and `sidecar.policy.budget` limit how
many retries there are. The balancer chooses the endpoint of the next attempt.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

from sidecar.policy.settings import Backoff, RetrySettings

LONGEST_RETRY_AFTER_S = 366 * 86400.0
"""A longer Retry-After is considered a mistake and is ignored."""

_MOST_DIGITS = 10
_LONGEST_DATE = 40
_LAST_DOUBLING = 1000  # 2.0 ** 1024 overflows; a product of floats does not raise


def backoff(settings: Backoff, retry_number: int, random: Callable[[], float]) -> float:
    """Seconds to wait before retry `retry_number` (0 is the first): rand(0, min(max, base * 2^n)). `random` is in [0,
    1).

    Full jitter, because clients that failed together would otherwise retry together (AWS Architecture Blog,
    "Exponential Backoff And Jitter").
    """
    return random() * min(settings.max, settings.base * 2.0 ** min(retry_number, _LAST_DOUBLING))


def wants_retry(settings: RetrySettings, reason: str, status: int) -> bool:
    """Whether `retry.on` covers this outcome: by status when a response head came back, else by reason."""
    if reason in ("status", "ok"):
        return status in settings.on
    return reason in settings.on


def retry_delay(
    settings: RetrySettings,
    retry_number: int,
    random: Callable[[], float],
    retry_after: float | None,
    remaining: float,
) -> float | None:
    """Seconds to wait before the next attempt: the backoff, added to the upstream's Retry-After if there is one.

    Without the backoff, all calls that were told the same Retry-After would come back at once.


    None when the delay would use up the `remaining` seconds. Then the response at hand goes to the app.
    """
    delay = backoff(settings.backoff, retry_number, random)
    if retry_after is not None:
        delay = min(retry_after + delay, (retry_after + remaining) / 2)  # the jitter alone must not use up the time
    return delay if delay < remaining else None


def parse_retry_after(value: bytes, wall_now: float) -> float | None:
    """Retry-After (RFC 9110, section 10.2.3) in seconds from `wall_now` (seconds since the epoch), never negative.

    Accepts delta-seconds and an HTTP-date; a date in the past gives 0. None for other text, and for a time further away
    than LONGEST_RETRY_AFTER_S.
    """
    value = value.strip(b" \t")
    if value.isdigit():
        seconds = float(value) if len(value) <= _MOST_DIGITS else LONGEST_RETRY_AFTER_S + 1
    else:
        at = _http_date(value)
        if at is None:
            return None
        seconds = max(0.0, at - wall_now)
    return seconds if seconds <= LONGEST_RETRY_AFTER_S else None


def _http_date(value: bytes) -> float | None:
    """Seconds since the epoch. Read as leniently as `email.utils` does; without a zone it is GMT (RFC 9110, section
    5.6.7).
    """
    if len(value) > _LONGEST_DATE:
        return None
    try:
        moment = parsedate_to_datetime(value.decode("ascii"))
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (IndexError, OverflowError, TypeError, ValueError):
        return None
