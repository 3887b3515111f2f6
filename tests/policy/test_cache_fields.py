"""HTTP caching fields, parsed from bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policy.cache_fields import (
    MAX_SECONDS,
    cache_directives,
    comparable,
    delta_seconds,
    field_in,
    fields_of,
    vary_names,
    without_fields,
)

TOKENS = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_!#$%&'*+.^`|~", min_size=1, max_size=12
)
LINES = st.lists(st.tuples(TOKENS, st.text("abc ,;=\"'\\\t", max_size=12)), max_size=6)


def test_field_names_are_read_without_regard_to_case() -> None:
    block = b"\r\nVary: a\r\nvary:b \r\nDate:\t x: y\r\nEmpty:"
    assert fields_of(block) == {b"vary": [b"a", b"b"], b"date": [b"x: y"], b"empty": [b""]}
    assert list(field_in(block)(b"vary")) == [b"a", b"b"]
    assert list(field_in(block)(b"age")) == []
    assert fields_of(b"") == {}


@given(LINES)
def test_every_line_is_found_in_its_order(lines: list[tuple[str, str]]) -> None:
    block = b"".join(f"\r\n{name}: {value}".encode() for name, value in lines)
    expected: dict[bytes, list[bytes]] = {}
    for name, value in lines:
        expected.setdefault(name.lower().encode(), []).append(value.strip(" \t").encode())
    assert fields_of(block) == expected


@given(LINES)
def test_lines_are_taken_out_whole(lines: list[tuple[str, str]]) -> None:
    block = b"".join(f"\r\n{name}: {value}".encode() for name, value in lines)
    assert without_fields(block, frozenset(), (b"never:",)) == block
    names = frozenset(name.lower().encode() for name, _ in lines[:1])
    left = fields_of(without_fields(block, names, (b"x-", b"a")))
    assert not names & left.keys()
    gone = {name for name in fields_of(block) if name in names or name.startswith((b"x-", b"a"))}
    assert left == {name: values for name, values in fields_of(block).items() if name not in gone}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], {}),
        ([b"no-store"], {b"no-store": b""}),
        ([b"No-Store"], {b"no-store": b""}),
        ([b"max-age=60, PRIVATE"], {b"max-age": b"60", b"private": b""}),
        ([b"max-age=60", b"private"], {b"max-age": b"60", b"private": b""}),
        ([b'max-age="60"'], {b"max-age": b"60"}),
        ([b"max-age = 60"], {b"max-age": b"60"}),
        ([b'private="set-cookie, x", s-maxage=1'], {b"private": b"set-cookie, x", b"s-maxage": b"1"}),
        ([b'x="no-store, private"'], {b"x": b"no-store, private"}),
        ([b'x="a\\", no-store"'], {b"x": b'a", no-store'}),
        ([b",, no-store ,"], {b"no-store": b""}),
        ([b"max-age=1, max-age=2"], {b"max-age": b"1"}),
        ([b"public no-store"], {b"public": b"", b"no-store": b""}),
        ([b'x="no-store'], {b"x": b"no-store", b"no-store": b""}),
        ([b'x="a', b"private"], {b"x": b"a,private", b"no-store": b""}),
        ([b"=no-store"], {b"no-store": b""}),
    ],
)
def test_directives(values: list[bytes], expected: dict[bytes, bytes]) -> None:
    assert cache_directives(values) == expected


@given(
    st.dictionaries(TOKENS.map(str.lower), st.text('ab0, =\\"', max_size=6) | st.none(), max_size=6),
    st.booleans(),
)
def test_what_is_written_is_read(directives: dict[str, str | None], several_lines: bool) -> None:
    def written(name: str, value: str | None) -> bytes:
        if value is None:
            return name.encode()
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name.upper()}="{escaped}"'.encode()

    parts = [written(name, value) for name, value in directives.items()]
    read = cache_directives(parts if several_lines else [b", ".join(parts)])
    assert read == {name.encode(): (value or "").encode() for name, value in directives.items()}


@given(st.binary(max_size=60), st.sampled_from([b"no-store", b"Private", b"NO-CACHE"]))
def test_odd_bytes_never_hide_a_directive_on_an_earlier_line(odd: bytes, word: bytes) -> None:
    assert word.lower() in cache_directives([word, odd])
    cache_directives([odd])


@given(st.binary(max_size=60).filter(lambda odd: b'"' not in odd and not odd.rstrip(b" \t\r\n\x0b\x0c").endswith(b"=")))
def test_nothing_but_a_quoted_string_hides_a_directive_on_a_line_after(odd: bytes) -> None:
    assert b"no-store" in cache_directives([odd, b"no-store"])


def test_an_endless_quoted_string_is_read_in_one_pass() -> None:
    """Quadratic, this would take minutes."""
    assert b"no-store" in cache_directives([b'x="' + b'\\"' * 500_000])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *((b"0", 0), (b"60", 60), (b"2147483648", MAX_SECONDS), (b"9" * 5000, MAX_SECONDS)),
        *((b"", None), (b"-1", None), (b"1.5", None), (b"1 ", None), ("²".encode(), None)),
    ],
)
def test_delta_seconds(text: bytes, seconds: int | None) -> None:
    assert delta_seconds(text) == seconds


def test_names_in_vary() -> None:
    assert vary_names([b"Accept, , accept-Language", b"ACCEPT"]) == [b"accept", b"accept-language"]
    assert vary_names([b"a, *"]) == [b"*", b"a"]
    assert vary_names([]) == []


def test_equivalent_lists_compare_equal() -> None:
    assert comparable([]) is None
    assert comparable([b""]) == b""
    assert comparable([b" a , b\t"]) == comparable([b"a", b"b"]) == comparable([b"a,b"]) == b"a,b"
    assert comparable([b"b,a"]) != comparable([b"a,b"])
    assert comparable([b'"a, b"']) != comparable([b'"a,b"'])
