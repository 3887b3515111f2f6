"""Retries: what may be tried again, why, and after how long.

Owns the rules, each a function of its arguments. How often is counted by the exchange (`max_retries`) and by
`sidecar.policy.budget`; where the next attempt goes is the balancer's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from sidecar.policy.settings import Backoff, RetrySettings

LONGEST_RETRY_AFTER_S = 366 * 86400.0
"""A Retry-After beyond this is taken for a mistake, and as if it were not there."""

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
    """Seconds before retry `retry_number` (0 is the first): rand(0, min(max, base * 2^n)), with `random` in [0, 1).

    Full jitter, because clients that failed together would otherwise come back together (AWS Architecture Blog,
    "Exponential Backoff And Jitter").
    """
    return random() * min(settings.max, settings.base * 2.0 ** min(retry_number, _LAST_DOUBLING))


def is_replayable(settings: RetrySettings, method: str, has_idempotency_key: bool) -> bool:
    """Whether a request may be sent twice: its method is idempotent (`retry.methods`), or it bears Idempotency-Key."""
    return has_idempotency_key or method in settings.methods


def wants_retry(settings: RetrySettings, reason: str, status: int) -> bool:
    """Whether `retry.on` names how an attempt ended: by its status where a whole head came back, else by its reason."""
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
    """Seconds to wait before the next attempt: the larger of backoff and the upstream's Retry-After.

    None where that leaves nothing of the `remaining` seconds for the attempt: the answer at hand goes to the app.
    """
    delay = backoff(settings.backoff, retry_number, random)
    if retry_after is not None and retry_after > delay:
        delay = retry_after
    return delay if delay < remaining else None


def parse_retry_after(value: bytes, wall_now: float) -> float | None:
    """Retry-After (RFC 9110, section 10.2.3) in seconds from `wall_now` (seconds since the epoch), never negative.

    Delta-seconds or an HTTP-date; a date that is over means 0. None for what is neither, or further off than
    LONGEST_RETRY_AFTER_S.
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
    # RFC 9110, section 5.6.7: what seems to be more than 50 years ahead is the last year with those digits.
    year = this_year - this_year % 100 + two_digits
    return year - 100 if year > this_year + 50 else year
