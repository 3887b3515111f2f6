"""What a step of a gRPC fake is, and what a test may write."""

from __future__ import annotations

import grpc
import pytest

from sidecar.testing.answers import MAX_DELAY_S
from sidecar.testing.errors import FakeError
from sidecar.testing.grpc_answers import STATUSES, GrpcAnswer, as_message, from_function, grpc_answer, status_name
from tests.testing.a_message import Event


def test_the_names_and_numbers_are_those_of_grpcio() -> None:
    assert list(STATUSES) == [code.name for code in sorted(grpc.StatusCode, key=lambda code: code.value[0])]
    assert [code.value[0] for code in grpc.StatusCode] == list(range(len(STATUSES)))


@pytest.mark.parametrize("written", ["UNAVAILABLE", 14, grpc.StatusCode.UNAVAILABLE])
def test_a_status_is_a_name_a_number_or_a_code(written: object) -> None:
    assert status_name(written) == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("unavailable", "did you mean UNAVAILABLE?"),
        ("CANCELED", "did you mean CANCELLED?"),
        (503, "the names are OK, CANCELLED"),
        (17, "the names are"),
        (-1, "the names are"),
        (True, "the names are"),
        (None, "the names are"),
    ],
)
def test_anything_else_is_no_status(written: object, words: str) -> None:
    with pytest.raises(FakeError, match=r"is not a status of gRPC") as wrong:
        status_name(written)
    assert words in str(wrong.value)


def test_what_an_answer_is_made_of() -> None:
    assert grpc_answer() == GrpcAnswer(messages=(b"",)), "an OK without a message would be an error of the service"
    assert grpc_answer(status="NOT_FOUND").messages == ()
    assert grpc_answer(b"a").messages == (b"a",)
    assert grpc_answer([b"a", Event(7)], status="INTERNAL").messages == (b"a", b'{"id": 7}')
    assert grpc_answer([]).messages == ()
    assert grpc_answer(Event(7)).messages == (b'{"id": 7}',)
    given = grpc_answer(trailers={"retry-pushback": "1", "detail-bin": b"\0"}, headers=[("a", "1"), ("a", "2")])
    assert given.trailers == (("retry-pushback", "1"), ("detail-bin", b"\0"))
    assert given.headers == (("a", "1"), ("a", "2"))


@pytest.mark.parametrize(
    ("trailers", "words"),
    [
        ({"Detail": "x"}, "lower case"),
        ({":status": "200"}, "pseudo field"),
        ({"": "x"}, "lower case"),
        ({"grpc-status": "3"}, "the fake itself sets grpc-status"),
        ({"detail-bin": "text"}, "must be bytes"),
        ({"detail": b"bytes"}, "must be str"),
    ],
)
def test_metadata_that_grpc_does_not_have(trailers: dict[str, str | bytes], words: str) -> None:
    with pytest.raises(FakeError, match=words):
        grpc_answer(trailers=trailers)


def test_a_message_is_bytes_or_an_object_of_protobuf() -> None:
    assert as_message(Event(7)) == b'{"id": 7}'
    for value in ("text", 7, None, {"id": 7}):
        with pytest.raises(FakeError, match="a message must be bytes"):
            as_message(value)


def test_bounds_at_below_and_above() -> None:
    assert grpc_answer([b""] * 3, every=MAX_DELAY_S / 3).every_s == 100
    with pytest.raises(FakeError, match=r"3 messages, one every 100\.1 s, take longer than 300 seconds"):
        grpc_answer([b""] * 3, every=100.1)
    with pytest.raises(FakeError, match="details must be text"):
        grpc_answer(status=5, details=b"x")  # type: ignore[arg-type]


def test_what_a_function_may_return() -> None:
    assert from_function(b"a") == grpc_answer(b"a")
    assert from_function([Event(1), b""]).messages == (b'{"id": 1}', b"")
    assert from_function(grpc_answer(status=5)).status == "NOT_FOUND"
    with pytest.raises(FakeError, match="not another function"):
        from_function(GrpcAnswer(made_by=lambda call: b""))
    with pytest.raises(FakeError, match="a message must be bytes"):
        from_function(None)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (grpc_answer(b"a"), "OK"),
        (grpc_answer([b"a", b"b"], status="INTERNAL"), "INTERNAL after 2 messages"),
        (GrpcAnswer(how="resets"), "resets"),
        (GrpcAnswer(how="converses", made_by=print), "converses"),
        (GrpcAnswer(made_by=print), "a function's answer"),
        (GrpcAnswer(status="UNKNOWN", delay_s=0.5), "UNKNOWN after 0.5 s"),
    ],
)
def test_a_step_in_a_word_or_two(given: GrpcAnswer, words: str) -> None:
    assert str(given) == words
