"""What a test reads of a gRPC call."""

from __future__ import annotations

import pytest

from sidecar.testing.calls import MOST_TOLD, told
from sidecar.testing.errors import FakeError
from sidecar.testing.grpc_calls import has_messages, messages_told, metadata_told
from tests.testing.a_grpc_call import a_grpc_call
from tests.testing.a_message import Event


def test_the_only_message() -> None:
    assert a_grpc_call("/shop.v1.Venue/Get", b"x").message == b"x"
    with pytest.raises(FakeError, match=r"gRPC /a\.B/C: it had 2 messages, not one"):
        _ = a_grpc_call("/a.B/C", b"x", b"y").message
    with pytest.raises(FakeError, match="had 0 messages"):
        _ = a_grpc_call().message


def test_messages_are_compared_as_what_they_say() -> None:
    call = a_grpc_call("/a.B/C", b'{"id":7}')
    assert has_messages(call, b'{"id":7}')
    assert not has_messages(call, b'{"id": 7}')
    assert has_messages(call, Event(7)), "the same event in other bytes"
    assert not has_messages(call, Event(8))
    assert not has_messages(a_grpc_call("/a.B/C", b"junk"), Event(7))
    assert not has_messages(a_grpc_call("/a.B/C", b"x", b"y"), b"x")
    assert has_messages(a_grpc_call("/a.B/C", b"x", b'{"id":1}'), [b"x", Event(1)])
    assert has_messages(a_grpc_call(), [])


def test_calls_are_told_as_those_of_http() -> None:
    calls = [a_grpc_call(at=1.0, answered="UNAVAILABLE"), a_grpc_call(at=1.25, answered="OK")]
    assert told(calls, calls[1:]).splitlines() == [
        "   1. gRPC /shop.v1.Venue/Get: UNAVAILABLE (+0.000 s)",
        "-> 2. gRPC /shop.v1.Venue/Get: OK (+0.250 s)",
    ]


def test_what_other_calls_had_is_told_in_bounds() -> None:
    call = a_grpc_call("/a.B/C", *[b"x" * 300] * 7, metadata={"user": "1"})
    assert messages_told([]) == metadata_told([], ["user"]) == ""
    words = messages_told([call] * (MOST_TOLD + 5))
    assert words.count("gRPC /a.B/C") == MOST_TOLD
    assert words.count("x" * 200) == 5 * MOST_TOLD
    assert "x" * 201 not in words
    assert "user: ['1'], kind: ['(none)']" in metadata_told([call], ["user", "kind"])
