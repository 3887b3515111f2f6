"""Names of headers, cookies and parameters, headers' values, targets."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.errors import BadValueError
from sidecar.config.http_words import (
    header_name_problem,
    parse_body,
    parse_header_value,
    parse_lower_token,
    parse_query_name,
    parse_target,
    parse_token,
)


@pytest.mark.parametrize("text", ["X-User", "sid", "__Host-sid", "a.b", "1"])
def test_names_of_headers_and_cookies(text: str) -> None:
    assert parse_token(text) == text
    assert header_name_problem(text) is None


@pytest.mark.parametrize("text", ["", "X User", "X:User", "a\n", "a\r\nb", "a=b", "a;b", "\u00fc", '"a"', "a\0"])
def test_no_names_of_headers_and_cookies(text: str) -> None:
    with pytest.raises(BadValueError, match="expected a name of letters"):
        parse_token(text)
    assert "not the name of a header" in (header_name_problem(text) or "")


@pytest.mark.parametrize("name", ["Connection", "content-length", "Transfer-Encoding", "UPGRADE", "Expect", "TE"])
def test_what_frames_a_message_is_not_the_files(name: str) -> None:
    assert "the sidecar writes it itself" in (header_name_problem(name) or "")


def test_the_name_of_a_parameter_stands_as_it_is_sent() -> None:
    for text in ("user", "user%5Bid%5D", "a[0]", "a+b"):
        assert parse_query_name(text) == text
    for text in ("", "a=b", "a&b", "a#", "a b", "\u00fc", "a\n"):
        with pytest.raises(BadValueError, match="expected the name of a query parameter"):
            parse_query_name(text)


def test_a_target_is_a_path_perhaps_with_a_query() -> None:
    for text in ("/", "/health", "/health/", "/health?full=1&x", "/a%20b"):
        assert parse_target(text) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with /"),
        ("health", "must begin with /"),
        ("http://a/health", "must begin with /"),
        ("/a#b", "fragment"),
        ("/a b", "percent-encode"),
        ("/\u00fc", "percent-encode"),
        ("/a\n", "percent-encode"),
    ],
)
def test_no_target(text: str, message: str) -> None:
    with pytest.raises(BadValueError, match=message):
        parse_target(text)


def test_a_headers_value_has_no_control_characters() -> None:
    for text in ("1", "Bearer a b", " a ", "\u00fc"):
        assert parse_header_value(text) == text
    for text in ("", "a\r\nb: c", "a\n", "a\tb", "a\0", "\x7f", "\x85", "\udc80"):
        with pytest.raises(BadValueError, match="no control characters"):
            parse_header_value(text)


@pytest.mark.parametrize("parse", [parse_token, parse_query_name, parse_target, parse_header_value])
@given(text=st.text())
def test_what_passes_cannot_end_a_line(parse: Callable[[str], str], text: str) -> None:
    with suppress(BadValueError):
        assert "".join(parse(text).splitlines()) == text


def test_a_name_for_comparing_is_in_lower_case() -> None:
    assert parse_lower_token("X-User") == "x-user"
    with pytest.raises(BadValueError, match="expected a name of letters"):
        parse_lower_token("X User")


def test_a_body_is_any_text_in_utf_8() -> None:
    assert parse_body("") == b""
    assert parse_body("a\r\n\u00e9") == b"a\r\n\xc3\xa9"
