"""Spellings of durations, sizes, numbers, statuses and methods."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.errors import BadValueError
from sidecar.config.units import (
    format_duration,
    format_size,
    parse_boolean,
    parse_duration,
    parse_file_path,
    parse_methods,
    parse_number,
    parse_percentage,
    parse_retry_conditions,
    parse_size,
    parse_statuses,
    parse_whole,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("25ms", 0.025), ("5s", 5.0), ("1.5s", 1.5), ("2m", 120.0), ("1h", 3600.0), ("0s", 0.0)],
)
def test_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "5 s", "-5s", "5S", "5sec", "1e3s", ".5s", "1m30s", "infs", "1_0s", "\u0663s", "5s\n"]
)
def test_no_duration(text: str) -> None:
    with pytest.raises(BadValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["5", "0", "1.5"])
def test_a_bare_number_is_told_to_write_a_unit(text: str) -> None:
    with pytest.raises(BadValueError, match="needs a unit"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512B", 512),
        ("64KiB", 65536),
        ("1MiB", 1 << 20),
        ("1.5MiB", 3 << 19),
        ("2GiB", 2 << 30),
    ],
)
def test_size(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("64KB", "KiB"),
        ("64K", "KiB"),
        ("64Mi", "KiB"),
        ("", "expected a size"),
        ("-1", "expected a size"),
        ("1.5B", "whole number of bytes"),
        ("64kib", "expected a size"),
        ("1 MiB", "expected a size"),
    ],
)
def test_no_size(text: str, message: str) -> None:
    with pytest.raises(BadValueError, match=message):
        parse_size(text)


@given(st.integers(0, 10**11))
def test_a_duration_survives_being_shown(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@given(st.floats(1e-6, 1e6))
def test_any_duration_is_shown_in_a_form_that_is_read(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=1e-6)


@given(st.integers(0, 1 << 40))
def test_a_size_survives_being_shown(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0s"), (0.25, "250ms"), (90.0, "90s"), (300.0, "5m"), (7200.0, "2h")]
)
def test_the_shortest_whole_spelling_is_shown(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("text", "value"), [("0", 0), ("7", 7), ("-3", -3), ("+3", 3)])
def test_whole_number(text: str, value: int) -> None:
    assert parse_whole(text) == value


@pytest.mark.parametrize(
    "text", ["0o17", "017", "0x1f", "1:30", "1_000", "1.0", "1e3", "", "two", "9" * 5000, "\uff11"]
)
def test_no_whole_number_that_readers_disagree_on(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_whole(text)


@pytest.mark.parametrize(("text", "value"), [("0.2", 0.2), ("50", 50.0), ("-1.5", -1.5)])
def test_number(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("text", [".inf", "nan", "1e999", "50%", "", "1.", "0x1p3"])
def test_no_number(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_number(text)


@pytest.mark.parametrize(("text", "value"), [("50", 50.0), ("50%", 50.0), ("12.5%", 12.5), ("0%", 0.0), ("-1%", -1.0)])
def test_percentage(text: str, value: float) -> None:
    assert parse_percentage(text) == value


@pytest.mark.parametrize("text", ["", "%", "50 %", "50%%", "%50", "0.5e2%", "inf%", "half"])
def test_no_percentage(text: str) -> None:
    with pytest.raises(BadValueError, match="expected a percentage such as 50 or 50%"):
        parse_percentage(text)


def test_a_file_may_have_any_name_that_can_be_shown() -> None:
    for text in ("/var/run/token", "ca.crt", "/a b/\u00fc"):
        assert parse_file_path(text) == text
    for text in ("", "a\0b", "a\nb", "a\x1b[0m"):
        with pytest.raises(BadValueError, match="expected the path of a file"):
            parse_file_path(text)


def test_only_true_and_false_are_booleans() -> None:
    assert parse_boolean("true") is True
    assert parse_boolean("false") is False
    for text in ("True", "on", "off", "yes", "no", "1", "~", ""):
        with pytest.raises(BadValueError):
            parse_boolean(text)


def test_statuses() -> None:
    assert parse_statuses("503") == range(503, 504)
    assert set(parse_statuses("500-502")) == {500, 501, 502}
    assert set(parse_statuses("100-599")) == set(range(100, 600))


@pytest.mark.parametrize("text", ["99", "600", "5xx", "500 - 599", "500-", "-500", "599-500", "500-600", ""])
def test_no_statuses(text: str) -> None:
    with pytest.raises(BadValueError):
        parse_statuses(text)


def test_retry_conditions_are_reasons_or_statuses() -> None:
    assert tuple(parse_retry_conditions("reset")) == ("reset",)
    assert tuple(parse_retry_conditions("502-503")) == (502, 503)
    with pytest.raises(BadValueError, match="bad_response, connect_failure"):
        parse_retry_conditions("truncated")


def test_methods_are_case_sensitive() -> None:
    assert parse_methods("GET") == ("GET",)
    assert parse_methods("M-SEARCH") == ("M-SEARCH",)
    with pytest.raises(BadValueError, match="upper case, such as GET"):
        parse_methods("get")
    for text in ("", "GET POST", "G\u00c9T", "GE,T"):
        with pytest.raises(BadValueError, match="expected an HTTP method"):
            parse_methods(text)


@pytest.mark.parametrize(
    "parse",
    [
        parse_duration,
        parse_size,
        parse_whole,
        parse_number,
        parse_percentage,
        parse_boolean,
        parse_statuses,
        parse_methods,
        parse_retry_conditions,
        parse_file_path,
    ],
)
@given(text=st.text())
def test_any_text_is_a_value_or_a_bad_value(parse: Callable[[str], object], text: str) -> None:
    with suppress(BadValueError):
        parse(text)
