"""Retries: which attempts are retried, and after what delay."""

from __future__ import annotations

import time
from email.utils import formatdate
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.retry import (
    LONGEST_RETRY_AFTER_S,
    backoff,
    parse_retry_after,
    retry_delay,
    wants_retry,
)
from sidecar.policy.settings import Backoff, RetrySettings

DEFAULT = RetrySettings()
NOON = 784_111_777.0
"""Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own example."""


def middle() -> float:
    return 0.5


@pytest.mark.parametrize(
    ("number", "ceiling"),
    [(0, 0.025), (1, 0.05), (2, 0.1), (3, 0.2), (4, 0.25), (5, 0.25), (1024, 0.25), (10**9, 0.25)],
)
def test_backoff_doubles_up_to_its_maximum(number: int, ceiling: float) -> None:
    assert backoff(Backoff(), number, lambda: 1.0) == pytest.approx(ceiling)
    assert backoff(Backoff(), number, middle) == pytest.approx(ceiling / 2)
    assert backoff(Backoff(), number, lambda: 0.0) == 0.0


def test_a_backoff_of_zero_never_waits() -> None:
    assert backoff(Backoff(base=0.0), 10**6, middle) == 0.0


@given(st.integers(0, 10**6), st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 99))
def test_backoff_stays_between_zero_and_its_maximum(number: int, base: float, longest: float, seed: int) -> None:
    assert 0.0 <= backoff(Backoff(base=base, max=longest), number, Random(seed).random) <= longest


@pytest.mark.parametrize(
    ("reason", "status", "wanted"),
    [
        ("connect_failure", 503, True),
        ("connect_timeout", 504, True),
        ("reset", 502, True),
        ("attempt_timeout", 504, True),
        ("bad_response", 502, False),  # not in `on`, and its 502 is ours and not the upstream's
        ("request_timeout", 504, False),
        ("truncated", 200, False),
        ("circuit_open", 503, False),
        ("client_disconnect", 499, False),
        ("status", 500, False),
        ("status", 501, False),
        ("status", 502, True),
        ("status", 504, True),
        ("status", 505, False),
        ("ok", 200, False),
        ("ok", 429, False),
        ("ok", 503, True),  # where the breaker does not take it for a failure, a retry may still
    ],
)
def test_an_attempt_is_retried_for_its_reason_or_its_status(reason: str, status: int, wanted: bool) -> None:
    assert wants_retry(DEFAULT, reason, status) is wanted


@pytest.mark.parametrize(
    ("number", "retry_after", "remaining", "delay"),
    [
        (0, None, 1.0, 0.0125),
        (4, None, 1.0, 0.125),
        (0, 0.5, 1.0, 0.5125),  # the backoff comes on top
        (0, 0.25, 1.0, 0.2625),
        (0, 0.999, 1.0, 0.9995),  # half of what is left at most
        (0, 1.0, 1.0, None),  # nothing would be left for the attempt
        (0, 1.001, 1.0, None),
        (0, None, 0.0125, None),
        (0, None, 0.0126, 0.0125),
        (0, None, 0.0, None),
        (0, None, -1.0, None),
        (0, 3600.0, float("inf"), 3600.0125),
    ],
)
def test_a_retry_waits_only_for_what_fits_into_the_deadline(
    number: int, retry_after: float | None, remaining: float, delay: float | None
) -> None:
    assert retry_delay(DEFAULT, number, middle, retry_after, remaining) == delay


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"0", 0.0),
        (b"120", 120.0),
        (b" 5\t", 5.0),
        (b"0000000005", 5.0),
        (b"31622400", LONGEST_RETRY_AFTER_S),
        (b"31622401", None),
        (b"00000000005", None),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.5", None),
        (b"1_0", None),
        (b"0x10", None),
        (b"5, 5", None),
        ("٣".encode(), None),
        (b"soon", None),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        (b"Sun, 06 Nov 1994 08:49:40 GMT", 3.0),
        (b"Sun, 06 Nov 1994 08:49:30 GMT", 0.0),  # it is over: at once
        (b"Sunday, 06-Nov-94 08:49:40 GMT", 3.0),
        (b"Sun Nov  6 08:49:40 1994", 3.0),
        (b"Wed Nov 16 08:49:37 1994", 864_000.0),
        (b"Sun, 06 Nov 1994 08:49:60 GMT", None),  # a leap second
        (b"Sun, 06 Nov 1994 08:49:61 GMT", None),
        (b"Sun, 06 Nov 1994 24:00:00 GMT", None),
        (b"Sun, 31 Nov 1994 08:49:37 GMT", None),
        (b"Sun, 06 Nov 0000 08:49:37 GMT", None),
        (b"Sun, 06 Nov 9999 08:49:37 GMT", None),  # well formed and absurd
        (b"Sun, 06 Foo 1994 08:49:37 GMT", None),
        (b"Sun, 06 nov 1994 08:49:40 GMT", 3.0),
        (b"Sun, 06 Nov 1994 09:49:40 +0100", 3.0),
        (b"Sun, 06 Nov 1994 08:49:40 GMT and more", 3.0),
        (b"Sun, 6 Nov 1994 08:49:40 GMT", 3.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: bytes, seconds: float | None) -> None:
    assert parse_retry_after(value, NOON) == seconds


@pytest.mark.parametrize("value", [b"9" * 5_000_000, b" " * 5_000_000, b"Sun, " * 1_000_000])
def test_a_huge_value_is_refused_quickly(value: bytes) -> None:
    began = time.process_time()
    assert parse_retry_after(value, NOON) is None
    assert time.process_time() - began < 0.5


@given(st.binary(max_size=60))
def test_no_value_raises_or_gives_a_negative_wait(value: bytes) -> None:
    seconds = parse_retry_after(value, NOON)
    assert seconds is None or 0.0 <= seconds <= LONGEST_RETRY_AFTER_S


@given(st.integers(0, int(LONGEST_RETRY_AFTER_S)))
def test_any_date_of_the_next_year_is_read(ahead: int) -> None:
    assert parse_retry_after(formatdate(NOON + ahead, usegmt=True).encode(), NOON) == ahead
