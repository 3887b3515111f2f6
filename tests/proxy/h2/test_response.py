from __future__ import annotations

import pytest

from sidecar.proxy.h2.response import H2ResponseHead, grpc_status, read_response, status_of_trailers
from sidecar.proxy.http1.head_syntax import UNTIL_CLOSE, BadResponse

GRPC = (b"content-type", b"application/grpc")


def read(
    *fields: tuple[bytes, bytes], status: bytes = b"200", method: str = "POST", ended: bool = False
) -> H2ResponseHead:
    return read_response([(b":status", status), *fields], method=method, ended=ended)


def test_a_head() -> None:
    head = read((b"x-a", b"1"), (b"date", b"d"), (b"retry-after", b"3"))
    assert (head.status, head.length, head.dated, head.retry_after) == (200, UNTIL_CLOSE, True, b"3")
    assert head.status_line == b" 200 OK"
    assert head.fields_for([(b"x-b", b"2")])[-1] == (b"x-b", b"2")
    assert head.bytes_for(b"\r\nx-b: 2") == (
        b"HTTP/1.1 200 OK\r\nx-a: 1\r\ndate: d\r\nretry-after: 3\r\nx-b: 2\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("status", "method", "ended", "length"),
    [
        (b"200", "GET", False, 7),
        (b"200", "HEAD", True, 0),
        (b"304", "GET", True, 0),
        (b"204", "GET", True, 0),
    ],
)
def test_the_length_of_its_body(status: bytes, method: str, ended: bool, length: int) -> None:
    assert read((b"content-length", b"7"), status=status, method=method, ended=ended).length == length


def test_a_length_without_a_body_is_no_answer() -> None:
    with pytest.raises(BadResponse):
        read((b"content-length", b"7"), ended=True)
    assert read((b"content-length", b"0"), ended=True).length == 0


def test_a_length_that_http_1_would_wait_for_is_left_out() -> None:
    for status in (b"103", b"204"):
        head = read((b"content-length", b"7"), (b"location", b"/a"), status=status, method="GET")
        assert head.fields == [(b"location", b"/a")]
        assert head.location() == b"/a"
    twice = read((b"content-length", b"07"), (b"x-a", b"1"), (b"content-length", b"7"))
    assert twice.fields == [(b"content-length", b"7"), (b"x-a", b"1")]


def test_a_status_without_a_phrase() -> None:
    assert read(status=b"299").status_line == b" 299 "


@pytest.mark.parametrize("status", [b"", b"99", b"600", b"2000", b"abc"])
def test_a_status_that_is_none(status: bytes) -> None:
    with pytest.raises(BadResponse):
        read(status=status)


def test_a_length_that_is_none() -> None:
    with pytest.raises(BadResponse):
        read((b"content-length", b"7, 7"))


def test_trailers_only() -> None:
    head = read(GRPC, (b"grpc-status", b"14"), (b"grpc-message", b"no%20"), (b"grpc-retry-pushback-ms", b"5"))
    assert head.grpc
    assert (head.grpc_status, head.grpc_message, head.pushback) == (14, b"no%20", b"5")
    assert [name for name, _ in head.fields] == [
        *(b"content-type", b"grpc-status", b"grpc-message", b"grpc-retry-pushback-ms"),
    ]


def test_a_head_of_grpc_that_is_followed_by_messages() -> None:
    head = read(GRPC)
    assert head.grpc
    assert head.grpc_status == -1


def test_a_page_of_something_in_between_is_no_grpc() -> None:
    assert not read(GRPC, status=b"503").grpc
    assert not read((b"content-type", b"text/html")).grpc


def test_location() -> None:
    head = read((b"x-a", b"1"), (b"location", b"/a"))
    assert head.location() == b"/a"
    head.relocate(b"/venue/a")
    assert (b"location", b"/venue/a") in head.fields
    assert read().location() is None


def test_what_only_we_may_say_is_left_out() -> None:
    named = (b"x-sidecar-reason", b"x-sidecar-fallback", b"x-envoy-attempt-count")
    assert read(*[(name, b"1") for name in named]).fields == []
    loop = read((b"x-sidecar-reason", b"loop"))
    assert loop.loop
    assert loop.fields == [(b"x-sidecar-reason", b"loop")]
    assert read((b"x-envoy-immediate-health-check-fail", b"true")).immediate_fail


def test_fields_of_ours_are_added_in_lower_case() -> None:
    head = read()
    head.add(b"X-Request-Id", b"r")
    assert head.lines() == b"\r\nx-request-id: r"


@pytest.mark.parametrize(
    ("value", "status"), [(b"0", 0), (b"16", 16), (b"17", 2), (b"", 2), (b"-1", 2), (b"abc", 2), (b"05", 5)]
)
def test_a_grpc_status(value: bytes, status: int) -> None:
    assert grpc_status(value) == status


def test_the_status_in_trailers() -> None:
    trailers = ((b"x-a", b"1"), (b"grpc-status", b"8"), (b"grpc-message", b"m"), (b"grpc-retry-pushback-ms", b"-1"))
    assert status_of_trailers(trailers) == (8, b"m", b"-1")
    assert status_of_trailers(()) == (2, b"", None)
