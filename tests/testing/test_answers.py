"""One answer of a fake: what it may be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest

from sidecar.testing.answers import Answer, answer, checked_delay, checked_times, dripping, from_function
from sidecar.testing.errors import FakeError


@dataclass
class Venue:
    id: int


def test_json_is_whatever_msgspec_encodes() -> None:
    made = answer(201, json=[Venue(1)])
    assert (made.status, made.body) == (201, b'[{"id":1}]')
    assert made.headers == (("Content-Type", "application/json"),)
    assert answer(json=None).body == b"null"


def test_a_body_is_bytes_or_text() -> None:
    assert answer(body=b"\xff").headers == ()
    assert answer(body="ä").body == "ä".encode()
    assert answer(body="ä").headers == (("Content-Type", "text/plain; charset=utf-8"),)
    assert answer().body == b""


def test_headers_of_the_test_win_and_may_be_repeated() -> None:
    made = answer(json={}, headers={"content-type": "application/problem+json"})
    assert made.headers == (("content-type", "application/problem+json"),)
    assert answer(headers=[("Set-Cookie", "a"), ("Set-Cookie", "b")]).headers == (
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"status": 199}, "200 to 599"),
        ({"status": 600}, "200 to 599"),
        ({"status": "503"}, "200 to 599, not '503'"),
        ({"status": {"id": 1}}, "pass a body as json=... or body=..."),
        ({"json": {}, "body": "x"}, "not both"),
        ({"json": object()}, "has no JSON form"),
        ({"body": {"id": 1}}, "pass objects as json="),
        ({"status": 204, "json": {}}, "an answer of 204 has no body"),
        ({"headers": {"content-LENGTH": "1"}}, "the fake itself sets"),
    ],
)
def test_what_no_answer_can_be_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(FakeError, match=words):
        answer(**keys)


def test_a_function_returns_an_answer_or_what_is_made_one() -> None:
    assert from_function(answer(404)).status == 404
    assert from_function(b"x").body == b"x"
    assert from_function("x").body == b"x"
    assert from_function({"id": 1}).body == b'{"id":1}'
    assert from_function(None).body == b"null"


def test_a_function_that_returns_what_cannot_be_sent() -> None:
    with pytest.raises(FakeError, match="not another function"):
        from_function(Answer(made_by=str))


def test_pieces_of_a_body() -> None:
    made = dripping(200, ["a", b"", b"b"], 0.1, {"X-Kind": "b"})
    assert (made.pieces, made.every_s, made.how) == ((b"a", b"b"), 0.1, "drips")
    assert made.headers == (("X-Kind", "b"),)
    assert str(made) == "200 in 2 pieces"
    assert dripping(200, [], 0.1, None).pieces == ()


def test_pieces_that_cannot_be() -> None:
    with pytest.raises(FakeError, match="a list of bytes or str"):
        dripping(200, b"whole", 0.1, None)
    with pytest.raises(FakeError, match="an answer of 204 has no body"):
        dripping(204, [b"a"], 0.1, None)
    with pytest.raises(FakeError, match="pass objects as json="):
        dripping(200, [{}], 0.1, None)  # type: ignore[list-item]
    assert dripping(200, [b"a"] * 300, 1.0, None).every_s == 1.0
    with pytest.raises(FakeError, match="301 pieces, one every 1 s, take longer than 300 seconds"):
        dripping(200, [b"a"] * 301, 1.0, None)


def test_bounds_at_below_and_above() -> None:
    assert checked_delay(0) == 0.0
    assert checked_delay(300) == 300.0
    delays: tuple[Any, ...] = (-0.1, 300.1, float("nan"), "1s", None)
    for delay in delays:
        with pytest.raises(FakeError, match="0 to 300 seconds"):
            checked_delay(delay)
    assert checked_times(1) == 1
    with pytest.raises(FakeError, match="1 or more"):
        checked_times(0)
    with pytest.raises(FakeError, match="1 or more, not '2'"):
        checked_times(cast(Any, "2"))


def test_it_reads_as_a_word_in_a_list_of_calls() -> None:
    assert str(answer(503)) == "503"
    assert str(Answer(how="resets")) == "resets"
    assert str(Answer(how="truncates")) == "200, truncated"
    assert str(Answer(made_by=str, delay_s=0.5)) == "a function's answer after 0.5 s"
