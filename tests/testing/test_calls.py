"""What is known of a request that came to a fake."""

from __future__ import annotations

import dataclasses

import pytest

from sidecar.testing.calls import MOST_TOLD, as_json, told
from sidecar.testing.errors import FakeError
from tests.testing.a_call import a_call


def test_headers_go_by_any_case() -> None:
    call = a_call(headers={"X-Request-Id": "4f"})
    assert call.headers["x-request-id"] == call.headers["X-REQUEST-ID"] == "4f"


def test_query_and_body() -> None:
    call = a_call("POST /charges?dry=1&tag=a&tag=b", json={"amount": 3})
    assert call.query["dry"] == "1"
    assert call.query.getall("tag") == ["a", "b"]
    assert call.json() == {"amount": 3}
    assert call.text() == '{"amount": 3}'
    assert call.target == "/charges?dry=1&tag=a&tag=b"


def test_a_body_that_is_no_json_is_shown() -> None:
    with pytest.raises(FakeError, match=r"POST /charges: the body is not JSON: .*'amount=3'"):
        a_call("POST /charges", body=b"amount=3").json()


def test_a_body_that_was_not_kept_as_a_whole_says_so() -> None:
    call = dataclasses.replace(a_call("POST /files", body=b"[1,"), body_size=9)
    assert call.body_cut
    assert call.kept_body == b"[1,"
    for read in (call.json, call.text, lambda: call.body):
        with pytest.raises(FakeError, match="only 3 of 9 bytes of the body were kept"):
            read()
    assert not call.is_json([1])
    assert not a_call("POST /files", body=b"[1,").body_cut


def test_calls_are_told_in_order_with_what_came_of_them() -> None:
    calls = [
        a_call(at=10.0, answered="503"),
        a_call("GET /events/2?page=1", at=10.25, answered="200"),
    ]
    assert told(calls, calls[1:]).splitlines() == [
        "   1. GET /events/1: 503 (+0.000 s)",
        "-> 2. GET /events/2?page=1: 200 (+0.250 s)",
    ]
    assert told([]) == "  there was no call"


def test_a_long_list_is_cut() -> None:
    lines = told([a_call(answered="200")] * (MOST_TOLD + 3)).splitlines()
    assert len(lines) == MOST_TOLD + 1
    assert lines[-1] == "   and 3 more"


@dataclasses.dataclass
class Charge:
    amount: int


def test_a_body_is_compared_as_json_is_read() -> None:
    call = a_call("POST /charges", body=b'{ "amount": 3 }')
    assert call.is_json(as_json(Charge(3)))
    assert call.is_json({"amount": 3.0})
    assert not call.is_json({"amount": "3"})
    assert not a_call("POST /charges").is_json(None)
    assert as_json((1, 2)) == [1, 2]
