"""Values of a query in a path: whatever they hold, they stay values."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, quote, unquote, unquote_to_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config.path_template import parse_path_template
from sidecar.proxy.exchange.path_values import MAX_TARGET, filled, values_of
from sidecar.proxy.http1.head_syntax import BadRequest

IN_PATH = parse_path_template("/venues/{query.id}/events")
IN_BOTH = parse_path_template("/venues/{query.id}?lang={query.lang}&all=1")


def asked(path: str, query: bytes) -> str:
    return filled(parse_path_template(path), values_of(query)).decode()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"42", "42"),
        (b"Az0-._~", "Az0-._~"),
        (b"a%20b", "a%20b"),
        (b"a+b", "a%20b"),
        (b"a%2Bb", "a%2Bb"),
        (b"a/b", "a%2Fb"),
        (b"a%2fb", "a%2Fb"),
        (b"a?b=c", "a%3Fb%3Dc"),
        (b"%23", "%23"),
        (b"%0d%0aX:%00", "%0D%0AX%3A%00"),
        (b"a\\b", "a%5Cb"),
        (b"%c3%bc", "%C3%BC"),
        (b"%ff", "%FF"),
        (b"100%", "100%25"),
        (b"%zz%4", "%25zz%254"),
        (b"%252e%252e", "%252e%252e"),
        (b"...", "..."),
        (b"{query.id}", "%7Bquery.id%7D"),
        (b"a;b", "a%3Bb"),
    ],
)
def test_a_value_is_read_as_a_form_s_and_written_as_one_segment(value: bytes, written: str) -> None:
    assert asked("/venues/{query.id}/events", b"id=" + value) == f"/venues/{written}/events"
    assert asked("/events?venue={query.id}", b"x=1&id=" + value + b"&y") == f"/events?venue={written}"


def test_names_are_decoded_too_and_others_do_not_matter() -> None:
    assert asked("/a/{query.id}", b"&&=&ID=1&i%64=2&x=3&x=4") == "/a/2"


def test_a_path_without_places_takes_no_query() -> None:
    assert asked("/a/../b?c=%7B", b"id=1&id=2") == "/a/../b?c=%7B"


@pytest.mark.parametrize(
    ("query", "words"),
    [(b"", "id is missing"), (b"ID=1", "id is missing"), (b"id=1&i%64=1", "id came more than once"), (b"id=", "empty")],
)
def test_what_is_no_one_value_is_refused_by_name(query: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as refused:
        filled(IN_PATH, values_of(query))
    assert refused.value.status == 400


def test_an_empty_value_of_a_parameter_is_a_value() -> None:
    assert asked("/events?venue={query.id}", b"id=") == "/events?venue="
    assert asked("/events?venue={query.id}", b"id") == "/events?venue="


@pytest.mark.parametrize("value", [b".", b"..", b"%2e", b"%2E.", b".%2e"])
def test_a_segment_of_dots_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="segment"):
        filled(IN_PATH, values_of(b"id=" + value))
    with pytest.raises(BadRequest, match="segment"):
        asked("/a/%2e{query.id}", b"id=.")
    assert asked("/events?venue={query.id}", b"id=" + value).startswith("/events?venue=.")


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_bound_on_the_path(more: int) -> None:
    value = b"a" * (MAX_TARGET - len("/venues//events") + more)
    if more <= 0:
        assert len(filled(IN_PATH, values_of(b"id=" + value))) == MAX_TARGET + more
    else:
        with pytest.raises(BadRequest) as refused:
            filled(IN_PATH, values_of(b"id=" + value))
        assert refused.value.status == 414


@given(st.one_of(st.binary(max_size=30), st.text(alphabet="./%2eE\\;?#&=+", max_size=12).map(str.encode)))
@example(b"../..")
@example(b"%2e%2e%2f")
def test_no_value_changes_the_shape_of_what_is_asked(value: bytes) -> None:
    """Sent as any client would send it, or raw as far as a request line lets it."""
    raw = re.sub(rb"[^!-%'-~]", b"", value)  # neither a separator nor what no request line holds
    for sent, meant in ((quote(value, safe="").encode(), value), (raw, unquote_to_bytes(raw.replace(b"+", b" ")))):
        try:
            target = filled(IN_BOTH, values_of(b"lang=de&id=" + sent)).decode("ascii")
        except BadRequest:
            assert meant in (b"", b".", b"..")
            continue
        assert re.fullmatch(r"/venues/[A-Za-z0-9._~%-]+\?lang=de&all=1", target)
        segment = target.split("?")[0].split("/")[2]
        assert unquote_to_bytes(segment) == meant
        assert unquote(segment) not in (".", "..")


@given(st.binary(max_size=30))
def test_no_value_adds_a_parameter(value: bytes) -> None:
    target = filled(IN_BOTH, values_of(b"id=1&lang=" + quote(value, safe="").encode())).decode("ascii")
    query = parse_qs(target.partition("?")[2], keep_blank_values=True, encoding="latin-1")
    assert query == {"lang": [value.decode("latin-1")], "all": ["1"]}
