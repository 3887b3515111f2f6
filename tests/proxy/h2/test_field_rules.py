from __future__ import annotations

import pytest

from sidecar.proxy.h2 import field_rules
from sidecar.proxy.h2.field_rules import MALFORMED, NO_LENGTH
from sidecar.proxy.h2.hpack import Fields

METHOD, SCHEME, PATH, AUTHORITY = (b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")
LINE: Fields = [METHOD, SCHEME, PATH, AUTHORITY]


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        (LINE, NO_LENGTH),
        ([PATH, SCHEME, METHOD], NO_LENGTH),
        ([*LINE, (b"content-length", b"12")], 12),
        ([*LINE, (b"content-length", b"12"), (b"content-length", b"12")], 12),
        ([*LINE, (b"te", b"trailers")], NO_LENGTH),
        ([(b":method", b"CONNECT"), AUTHORITY], NO_LENGTH),
        ([*LINE, (b"content-length", b"12"), (b"content-length", b"13")], MALFORMED),
        ([*LINE, (b"content-length", b"")], MALFORMED),
        ([*LINE, (b"content-length", b"-1")], MALFORMED),
        ([*LINE, (b"content-length", b"1" * 19)], MALFORMED),
        ([*LINE, (b"te", b"gzip")], MALFORMED),
        ([*LINE, (b"te", b"trailers, gzip")], MALFORMED),
        ([], MALFORMED),
        ([SCHEME, PATH, AUTHORITY], MALFORMED),
        ([METHOD, PATH, AUTHORITY], MALFORMED),
        ([METHOD, SCHEME, AUTHORITY], MALFORMED),
        ([METHOD, SCHEME, (b":path", b"")], MALFORMED),
        ([*LINE, PATH], MALFORMED),
        ([*LINE, METHOD], MALFORMED),
        ([*LINE, SCHEME], MALFORMED),
        ([*LINE, AUTHORITY], MALFORMED),
        ([*LINE, (b":status", b"200")], MALFORMED),
        ([*LINE, (b":protocol", b"websocket")], MALFORMED),
        ([METHOD, SCHEME, (b"a", b"b"), PATH], MALFORMED),
        ([(b":method", b"CONNECT"), AUTHORITY, PATH], MALFORMED),
        ([(b":method", b"CONNECT"), AUTHORITY, SCHEME], MALFORMED),
        ([(b":method", b"CONNECT")], MALFORMED),
        *[
            ([*LINE, (name, b"x")], MALFORMED)
            for name in (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
        ],
    ],
)
def test_requests(fields: Fields, length: int) -> None:
    assert field_rules.request_length(fields) == length


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([(b":status", b"200")], 200),
        ([(b":status", b"103"), (b"link", b"a")], 103),
        ([], MALFORMED),
        ([(b"a", b"b")], MALFORMED),
        ([(b"a", b"b"), (b":status", b"200")], MALFORMED),
        ([(b":status", b"200"), (b":status", b"200")], MALFORMED),
        ([(b":status", b"200"), (b":path", b"/")], MALFORMED),
        ([(b":status", b"20")], MALFORMED),
        ([(b":status", b"+20")], MALFORMED),
        ([(b":status", b"099")], MALFORMED),
        ([(b":status", b"101")], MALFORMED),
        ([(b":status", b"200"), (b"connection", b"close")], MALFORMED),
    ],
)
def test_responses(fields: Fields, status: int) -> None:
    assert field_rules.response_status(fields) == status


def test_the_length_of_a_response() -> None:
    assert field_rules.content_length([(b":status", b"200")]) == NO_LENGTH
    assert field_rules.content_length([(b":status", b"200"), (b"content-length", b"7")]) == 7
    assert field_rules.content_length([(b"content-length", b"7"), (b"content-length", b"8")]) == MALFORMED


@pytest.mark.parametrize("name", [b":status", b":path", b":x", b"connection", b"transfer-encoding"])
def test_what_trailers_may_not_have(name: bytes) -> None:
    assert field_rules.are_trailers([(b"grpc-status", b"0")])
    assert not field_rules.are_trailers([(b"grpc-status", b"0"), (name, b"x")])


def test_the_method_of_a_request() -> None:
    assert field_rules.method_of(LINE) == b"GET"
    assert field_rules.method_of([PATH]) == b""
