"""A gRPC call's status, from wherever it stands."""

from __future__ import annotations

import pytest

from sidecar.proxy.exchange.grpc_terms import GrpcTerms
from sidecar.proxy.h2.response import read_response
from sidecar.proxy.upstream.stream import Lost

GRPC = (b"content-type", b"application/grpc")


def answered(status: bytes, *fields: tuple[bytes, bytes]) -> GrpcTerms:
    terms = GrpcTerms()
    terms.answered(read_response([(b":status", status), *fields], method="POST", ended=False))
    return terms


def test_in_the_head() -> None:
    terms = answered(b"200", GRPC, (b"grpc-status", b"14"), (b"grpc-message", b"no"))
    assert (terms.status, terms.words) == (14, b"no")
    assert terms.ended(((b"grpc-status", b"0"),)) == 14, "it has ended already"


def test_in_the_trailers() -> None:
    terms = answered(b"200", GRPC)
    assert terms.status == -1
    assert terms.ended(((b"grpc-status", b"5"), (b"grpc-message", b"none"))) == 5
    assert terms.words == b"none"


def test_nowhere() -> None:
    assert answered(b"200", GRPC).ended(()) == 2


@pytest.mark.parametrize(("status", "grpc"), [(b"503", 14), (b"404", 12), (b"403", 7), (b"500", 2)])
def test_in_a_page_of_something_in_between(status: bytes, grpc: int) -> None:
    assert answered(status, (b"content-type", b"text/html")).status == grpc


@pytest.mark.parametrize(
    ("lost", "status"),
    [
        (Lost("reset", "the connection broke"), 14),
        (Lost("connect_failure", "refused"), 14),
        (Lost("attempt_timeout", "late"), 4),
        (Lost("truncated", "the connection broke"), 13),
        (Lost("reset", "REFUSED_STREAM", unprocessed=True, code=7), 14),
        (Lost("reset", "CANCEL", code=8), 1),
        (Lost("reset", "ENHANCE_YOUR_CALM", code=11), 8),
        (Lost("truncated", "INTERNAL_ERROR", code=2), 13),
    ],
)
def test_in_how_it_was_lost(lost: Lost, status: int) -> None:
    terms = answered(b"200", GRPC, (b"grpc-message", b"old"))
    assert terms.lost(lost) == status
    assert (terms.status, terms.words) == (status, b"")
