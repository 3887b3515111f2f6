"""A request's body: where it ends, and what is kept of it."""

from __future__ import annotations

import pytest

from sidecar.proxy.http1.head_syntax import CHUNKED, BadRequest
from sidecar.proxy.http1.request_body import RequestBody


def test_body_by_length_ends_after_its_length() -> None:
    body = RequestBody(5, 100)
    assert body.take(b"abc") == ([b"abc"], b"")
    assert (body.left, body.received, body.complete) == (2, 3, False)
    assert body.take(b"deGET /") == ([b"de"], b"GET /")
    assert (body.left, body.received, body.complete) == (0, 5, True)


@pytest.mark.parametrize(
    ("arrived", "taken", "rest", "complete"),
    [(b"abcd", b"abcd", b"", False), (b"abcde", b"abcde", b"", True), (b"abcdef", b"abcde", b"f", True)],
)
def test_length_less_one_and_one_more(arrived: bytes, taken: bytes, rest: bytes, complete: bool) -> None:
    body = RequestBody(5, 100)
    assert body.take(arrived) == ([taken], rest)
    assert body.complete is complete


def test_chunked_body_ends_after_its_last_chunk() -> None:
    body = RequestBody(CHUNKED, 100)
    assert body.left is None
    pieces, rest = body.take(b"3;x=y\r\nab")
    assert (b"".join(pieces), rest, body.complete) == (b"3\r\nab", b"", False)
    pieces, rest = body.take(b"c\r\n0\r\n\r\nGET /")
    assert (b"".join(pieces), rest, body.complete) == (b"c\r\n0\r\n\r\n", b"GET /", True)
    assert body.received == len(b"3;x=y\r\nabc\r\n0\r\n\r\n")
    assert body.left is None


def test_what_is_not_chunked_is_a_bad_request() -> None:
    with pytest.raises(BadRequest) as caught:
        RequestBody(CHUNKED, 100).take(b"nonsense\r\n")
    assert caught.value.status == 400
    assert "chunk" in caught.value.detail


@pytest.mark.parametrize(("size", "kept"), [(9, True), (10, True), (11, False)])
def test_what_was_sent_is_kept_up_to_a_bound(size: int, kept: bool) -> None:
    body = RequestBody(1000, 10)
    body.keep([b"a" * 4, b"a" * (size - 4)])
    assert (body.whole, body.kept_size) == (True, size)  # not sent yet: nothing is let go
    body.sent()
    assert body.whole is kept
    assert b"".join(body.kept) == (b"a" * size if kept else b"")
    assert body.kept_size == (size if kept else 0)


def test_nothing_is_kept_where_nothing_may_be() -> None:
    body = RequestBody(5, 0)
    body.sent()
    assert body.whole
    body.keep([b"a"])
    body.sent()
    assert (body.whole, body.kept) == (False, [])


def test_a_body_whose_end_is_told() -> None:
    body = RequestBody(CHUNKED, 100, plain=True)
    assert (body.chunked, body.unframed, body.left) == (False, True, None)
    body.arrived(3, end=False)
    body.keep([b"abc"])
    assert (body.received, body.complete, body.stays_whole) == (3, False, False)
    body.arrived(0, end=True)
    assert (body.received, body.complete, body.stays_whole) == (3, True, True)
    assert RequestBody(CHUNKED, 100).chunked


def test_a_body_of_known_length_whose_end_is_told() -> None:
    body = RequestBody(5, 100, plain=True)
    assert (body.chunked, body.unframed, body.stays_whole) == (False, False, True)
    body.arrived(3, end=False)
    assert (body.left, body.complete) == (2, False)
    body.arrived(2, end=True)
    assert (body.left, body.complete) == (0, True)
