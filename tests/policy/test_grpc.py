"""gRPC's statuses, timeouts, messages and pushback."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy import grpc
from sidecar.policy.grpc import (
    LONGEST_MESSAGE,
    NUMBERS,
    REASON_STATUS,
    STATUSES,
    decode_message,
    encode_message,
    format_timeout,
    in_words,
    name_of,
    numbers_of,
    parse_pushback,
    parse_timeout,
    status_of_http,
    status_of_reset,
)


def test_the_names_stand_at_their_numbers() -> None:
    assert len(STATUSES) == 17
    constants = {name: getattr(grpc, name) for name in STATUSES if hasattr(grpc, name)}
    assert len(constants) >= 9
    assert {name: NUMBERS[name] for name in constants} == constants
    assert (STATUSES[1], STATUSES[14], STATUSES[16]) == ("CANCELLED", "UNAVAILABLE", "UNAUTHENTICATED")


@pytest.mark.parametrize(("number", "name"), [(-1, "UNKNOWN"), (0, "OK"), (16, "UNAUTHENTICATED"), (17, "UNKNOWN")])
def test_a_number_that_grpc_does_not_have_is_unknown(number: int, name: str) -> None:
    assert name_of(number) == name


def test_only_names_of_statuses_have_numbers() -> None:
    assert numbers_of(["reset", 503, "UNAVAILABLE", "unavailable", "CANCELLED"]) == {14, 1}


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (b"1S", 1.0),
        (b"100m", 0.1),
        (b"250000u", 0.25),
        (b"99999999n", 0.099999999),
        (b"2M", 120.0),
        (b"99999999H", 359_999_996_400.0),
        (b"0n", 0.0),
        (b"00000001S", 1.0),
        (b"000000001S", None),
        (b"123456789m", None),
        (b"", None),
        (b"S", None),
        (b"1", None),
        (b"1s", None),
        (b"1h", None),
        (b"-1S", None),
        (b"1.5S", None),
        (b" 1S", None),
        (b"1S ", None),
        (b"1S\n", None),
        ("\u0661S".encode(), None),
    ],
)
def test_a_timeout_is_read(raw: bytes, seconds: float | None) -> None:
    assert parse_timeout(raw) == seconds


@pytest.mark.parametrize(
    ("seconds", "raw"),
    [
        (0.0, b"0n"),
        (-1.0, b"0n"),
        (1e-9, b"1n"),
        (0.05, b"50000000n"),
        (0.099999999, b"99999999n"),
        (0.1, b"100000u"),
        (1.0, b"1000000u"),
        (99.999999, b"99999999u"),
        (99.9999991, b"100000m"),
        (100.0, b"100000m"),
        (99999.9991, b"100000S"),
        (86400.0 * 365, b"31536000S"),
        (1e9, b"16666667M"),
        (inf, b"99999999H"),
    ],
)
def test_a_timeout_is_written_in_the_smallest_unit_that_fits(seconds: float, raw: bytes) -> None:
    assert format_timeout(seconds) == raw


@given(st.floats(0, 1e9))
def test_a_timeout_that_was_written_is_read_and_hardly_shorter(seconds: float) -> None:
    raw = format_timeout(seconds)
    again = parse_timeout(raw)
    assert again is not None
    assert len(raw) <= 9
    assert seconds - 1e-9 - seconds * 1e-15 <= again <= seconds * (1 + 1e-4) + 1e-9


@given(st.binary(max_size=12))
def test_any_bytes_are_a_timeout_or_none(raw: bytes) -> None:
    seconds = parse_timeout(raw)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("raw", "seconds"),
    [
        (b"0", 0.0),
        (b"1500", 1.5),
        (b"2147483647", 2147483.647),
        (b"2147483648", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.5", None),
        (b"", None),
        (b"soon", None),
        (b"1 ", None),
        (b"99999999999999999999", None),
    ],
)
def test_pushback(raw: bytes, seconds: float | None) -> None:
    assert parse_pushback(raw) == seconds


@pytest.mark.parametrize(
    ("text", "raw"),
    [
        ("", b""),
        ("no endpoint", b"no endpoint"),
        ("50% of it", b"50%25 of it"),
        ("line\nline\t\x7f", b"line%0Aline%09%7F"),
        ("M\u00fcnchen", b"M%C3%BCnchen"),
        (" a ", b"%20a%20"),
        ("  ", b"%20%20"),
        ("~!", b"~!"),
        ("\ud800", b"?"),
    ],
)
def test_a_message_is_encoded(text: str, raw: bytes) -> None:
    assert encode_message(text) == raw


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_a_message_survives_its_encoding(text: str) -> None:
    raw = encode_message(text, 10_000)
    assert decode_message(raw) == text
    assert all(0x20 <= byte <= 0x7E for byte in raw)
    assert raw == raw.strip()


@given(st.text(st.characters(exclude_characters="\ufffd"), max_size=100), st.integers(0, 60))
def test_a_message_is_cut_between_two_characters(text: str, most: int) -> None:
    raw = encode_message(text, most)
    assert len(raw) <= most
    assert raw == raw.strip()
    assert "\ufffd" not in decode_message(raw)


def test_a_message_is_as_long_as_it_may_be() -> None:
    for size in (LONGEST_MESSAGE - 1, LONGEST_MESSAGE, LONGEST_MESSAGE + 1):
        assert len(encode_message("x" * size)) == min(size, LONGEST_MESSAGE)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"%E2%82%AC", "\u20ac"),
        (b"%e2%82%ac", "\u20ac"),
        (b"100%", "100%"),
        (b"%4", "%4"),
        (b"%zz%41", "%zzA"),
        (b"%FF", "\ufffd"),
        (b"plain \xc3\xbc", "plain \u00fc"),
    ],
)
def test_a_message_is_decoded_whatever_it_is(raw: bytes, text: str) -> None:
    assert decode_message(raw) == text


@given(st.binary(max_size=40))
def test_no_message_is_refused(raw: bytes) -> None:
    assert isinstance(decode_message(raw), str)


def test_a_status_in_words() -> None:
    assert in_words(14, b"") == "14 UNAVAILABLE"
    assert in_words(14, b"no%0Away %E2%82%AC") == "14 UNAVAILABLE: no way \u20ac"
    assert in_words(99, b"x") == "99 UNKNOWN: x"


@pytest.mark.parametrize(
    ("status", "mapped"),
    [
        (400, "INTERNAL"),
        (401, "UNAUTHENTICATED"),
        (403, "PERMISSION_DENIED"),
        (404, "UNIMPLEMENTED"),
        (429, "UNAVAILABLE"),
        (502, "UNAVAILABLE"),
        (503, "UNAVAILABLE"),
        (504, "UNAVAILABLE"),
        (200, "UNKNOWN"),
        (302, "UNKNOWN"),
        (500, "UNKNOWN"),
        (418, "UNKNOWN"),
    ],
)
def test_an_answer_that_is_not_grpc_has_a_status_all_the_same(status: int, mapped: str) -> None:
    """gRPC's doc/http-grpc-status-mapping.md."""
    assert name_of(status_of_http(status)) == mapped


@pytest.mark.parametrize(
    ("code", "mapped"),
    [
        *((code, "INTERNAL") for code in (0, 1, 2, 3, 4, 5, 6, 9, 10, 12, 13, 255)),
        (7, "UNAVAILABLE"),
        (8, "CANCELLED"),
        (11, "RESOURCE_EXHAUSTED"),
        (-1, "UNAVAILABLE"),
    ],
)
def test_a_reset_stream_has_a_status(code: int, mapped: str) -> None:
    assert name_of(status_of_reset(code)) == mapped


@pytest.mark.parametrize(
    ("reasons", "mapped"),
    [
        (("connect_failure", "connect_timeout", "reset", "no_endpoint", "circuit_open"), "UNAVAILABLE"),
        (("overloaded", "rate_limited"), "RESOURCE_EXHAUSTED"),
        (("attempt_timeout", "request_timeout"), "DEADLINE_EXCEEDED"),
        (("unknown_service",), "UNIMPLEMENTED"),
        (("bad_request",), "INVALID_ARGUMENT"),
        (("bad_response", "truncated", "loop", "internal"), "INTERNAL"),
        (("client_disconnect",), "CANCELLED"),
    ],
)
def test_each_reason_has_a_status(reasons: tuple[str, ...], mapped: str) -> None:
    assert {name_of(REASON_STATUS[reason]) for reason in reasons} == {mapped}
