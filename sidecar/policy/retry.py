"""Retries: which failed attempts may be retried, and after what delay.

Owns the rules; each is a function of its arguments. The exchange (`max_retries`) and `sidecar.policy.budget` limit how
many retries there are. The balancer chooses the endpoint of the next attempt.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from sidecar.policy.settings import Backoff, RetrySettings

LONGEST_RETRY_AFTER_S = 366 * 86400.0
"""A longer Retry-After is considered a mistake and is ignored."""

_MOST_DIGITS = 10
_LONGEST_DATE = 40
_LAST_DOUBLING = 1000  # 2.0 ** 1024 overflows; a product of floats does not raise

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_CLOCK = rb"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY, _MONTH, _YEAR = rb"(?P<day>[0-9]{2})", rb"(?P<month>[A-Z][a-z]{2})", rb"(?P<year>[0-9]{4})"
_HTTP_DATES = (
    # RFC 9110, section 5.6.7: IMF-fixdate, and the two obsolete forms that a recipient must accept.
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), %b %b %b %b GMT" % (_DAY, _MONTH, _YEAR, _CLOCK),
    rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, %b-%b-(?P<year>[0-9]{2}) %b GMT" % (_DAY, _MONTH, _CLOCK),
    rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) %b (?P<day>[ 0-9][0-9]) %b %b" % (_MONTH, _CLOCK, _YEAR),
)
_HTTP_DATE_PATTERNS = tuple(re.compile(form) for form in _HTTP_DATES)


def backoff(settings: Backoff, retry_number: int, random: Callable[[], float]) -> float:
    """Seconds to wait before retry `retry_number` (0 is the first): rand(0, min(max, base * 2^n)). `random` is in [0,
    1).

    Full jitter, because clients that failed together would otherwise retry together (AWS Architecture Blog,
    "Exponential Backoff And Jitter").
    """
    return random() * min(settings.max, settings.base * 2.0 ** min(retry_number, _LAST_DOUBLING))


def is_replayable(settings: RetrySettings, method: str, has_idempotency_key: bool) -> bool:
    """Whether a request may be sent twice: its method is in `retry.methods`, or it has an Idempotency-Key."""
    return has_idempotency_key or method in settings.methods


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
        at = _http_date(value, wall_now)
        if at is None:
            return None
        seconds = max(0.0, at - wall_now)
    return seconds if seconds <= LONGEST_RETRY_AFTER_S else None


def _http_date(value: bytes, wall_now: float) -> float | None:
    if len(value) > _LONGEST_DATE:
        return None
    for pattern in _HTTP_DATE_PATTERNS:
        found = pattern.fullmatch(value)
        if found is not None:
            break
    else:
        return None
    if found["month"] not in _MONTHS:
        return None
    month = _MONTHS.index(found["month"]) + 1
    year, day, second = int(found["year"]), int(found["day"]), int(found["second"])
    if len(found["year"]) == 2:
        year = _full_year(year, datetime.fromtimestamp(wall_now, UTC).year)
    leap = second == 60  # allowed by the grammar, unknown to datetime
    try:
        moment = datetime(year, month, day, int(found["hour"]), int(found["minute"]), second - leap, tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp() + leap


def _full_year(two_digits: int, this_year: int) -> int:
    # RFC 9110, section 5.6.7: a date that seems more than 50 years ahead means the last past year with those digits.
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year
