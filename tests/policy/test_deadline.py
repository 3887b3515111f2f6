"""Deadlines that the app sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.deadline import effective, parse_timeout_ms


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1", 0.001),
        (b"250", 0.25),
        (b"15000", 15.0),
        (b" 20 ", 0.02),
        (b"0015", 0.015),
        (b"9999999999", 9_999_999.999),
        (b"99999999999", None),
        (b"0", None),
        (b"000", None),
        (b"", None),
        (b"-5", None),
        (b"+5", None),
        (b"1.5", None),
        (b"1e3", None),
        (b"1_000", None),
        (b"5s", None),
        (b"5,5", None),
        ("٣".encode(), None),
    ],
)
def test_only_plain_digits_are_milliseconds(value: bytes, seconds: float | None) -> None:
    assert parse_timeout_ms(value) == seconds


@pytest.mark.parametrize(
    ("app", "shortest"),
    [((), 15.0), ((None,), 15.0), ((20.0,), 15.0), ((15.0,), 15.0), ((14.9, None), 14.9), ((3.0, 2.0), 2.0)],
)
def test_the_app_only_shortens(app: tuple[float | None, ...], shortest: float) -> None:
    assert effective(15.0, *app) == shortest


@given(st.binary(max_size=20))
def test_any_header_gives_a_positive_timeout_or_none(value: bytes) -> None:
    seconds = parse_timeout_ms(value)
    assert seconds is None or seconds > 0
