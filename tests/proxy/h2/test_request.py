from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.h2.request import H2RequestHead, read_request
from sidecar.proxy.http1.head_syntax import CHUNKED, BadRequest, Fields
from sidecar.proxy.http1.request_head import parse_request

LINE: Fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a?b"), (b":authority", b"venue:3002")]
CALL: Fields = [
    *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Venue/Get"), (b":authority", b"venue")),
    *((b"content-type", b"application/grpc"), (b"te", b"trailers")),
]


def read(*more: tuple[bytes, bytes], ended: bool = True, line: Fields = LINE) -> H2RequestHead:
    return read_request([*line, *more], ended=ended)


def refusal(fields: Fields) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        read_request(fields, ended=True)
    return caught.value


def changed(name: bytes, value: bytes | None) -> Fields:
    return [(found, value if found == name else old) for found, old in LINE if not (found == name and value is None)]  # type: ignore[misc]


def test_what_routing_needs() -> None:
    head = read((b"x-a", b"1"))
    assert (head.method, head.target, head.host, head.length) == ("GET", b"/a?b", b"venue:3002", 0)
    assert head.h2
    assert not head.grpc
    assert head.fields == [(b"x-a", b"1")]


@pytest.mark.parametrize(
    ("content_type", "is_grpc"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/grpc-web+proto", False),
        (b"application/json", False),
    ],
)
def test_what_is_grpc(content_type: bytes, is_grpc: bool) -> None:
    fields = [(name, content_type if name == b"content-type" else value) for name, value in CALL]
    assert read_request(fields, ended=False).grpc is is_grpc


def test_a_get_is_no_grpc_call() -> None:
    assert not read((b"content-type", b"application/grpc")).grpc


def test_the_length_of_a_body() -> None:
    assert read(ended=False).length == CHUNKED
    assert read((b"content-length", b"7"), ended=False).length == 7
    assert read((b"content-length", b"0")).length == 0


def test_what_a_call_says_of_itself_does_not_go_on() -> None:
    head = read(
        *((b"grpc-timeout", b"100m"), (b"x-sidecar-service", b"venue"), (b"proxy-authorization", b"x")),
        *((b"x-envoy-upstream-rq-timeout-ms", b"5"), (b"x-envoy-attempt-count", b"2")),
        line=CALL,
    )
    assert head.grpc_timeout == b"100m"
    assert head.service_asked == b"venue"
    assert head.deadline_ms == (b"5",)
    assert head.for_repeated
    assert head.fields == [(b"content-type", b"application/grpc"), (b"te", b"trailers")]


def test_two_names_for_a_service_are_one_if_they_are_equal() -> None:
    assert read((b"x-sidecar-service", b"venue"), (b"dapr-app-id", b"venue")).service_asked == b"venue"
    assert refusal([*LINE, (b"x-sidecar-service", b"venue"), (b"dapr-app-id", b"event")]).status == 400


def test_fields_that_we_read_and_pass_on() -> None:
    named = [(b"x-request-id", b"r"), (b"traceparent", b"t"), (b"via", b"v"), (b"x-sidecar-loop", b"l")]
    head = read(*named, (b"idempotency-key", b"k"), (b"expect", b"100-continue"))
    assert (head.request_id, head.traceparent, head.via, head.loop) == (b"r", b"t", b"v", b"l")
    assert head.idempotency_key
    assert head.expects_continue
    assert [name for name, _ in head.fields] == [name for name, _ in named] + [b"idempotency-key", b"expect"]


def test_the_same_over_http_2() -> None:
    head = read((b"x-a", b"1"))
    assert head.fields_for(b"/a", b"10.0.0.7:80", b"http", [(b"x-b", b"2")]) == [
        *((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/a"), (b":authority", b"10.0.0.7:80")),
        *((b"x-a", b"1"), (b"x-b", b"2")),
    ]


def test_the_same_over_http_1() -> None:
    head = read((b"te", b"trailers"), (b"cookie", b"a=1"), (b"x-a", b"1"), (b"cookie", b"b=2"))
    assert head.bytes_for(b"/a", b"venue", b"\r\nx-b: 2") == (
        b"GET /a HTTP/1.1\r\nHost: venue\r\nx-a: 1\r\ncookie: a=1; b=2\r\nx-b: 2\r\n\r\n"
    )


def test_over_http_1_a_body_is_framed() -> None:
    post = [(b":method", b"POST"), *LINE[1:]]
    assert b"\r\nTransfer-Encoding: chunked" in read(ended=False, line=post).bytes_for(b"/", b"v", b"")
    assert b"\r\nContent-Length: 0" in read(line=post).bytes_for(b"/", b"v", b"")
    sized = read((b"content-length", b"7"), ended=False, line=post).bytes_for(b"/", b"v", b"")
    assert sized.lower().count(b"content-length") == 1
    assert b"chunked" not in sized


def test_fields_are_dropped_and_added() -> None:
    head = read((b"x-a", b"1"), (b"x-forwarded-prefix", b"/p"), (b"x-a", b"2"))
    assert head.values(b"x-a") == [b"1", b"2"]
    head.drop_prefix()
    head.drop({b"x-a"})
    head.add(b"X-B", b"3")
    assert head.fields == [(b"x-b", b"3")]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (b":path", b"a", "the :path"),
        (b":path", b"/a b", "the :path"),
        (b":path", b"/a#b", "the :path"),
        (b":path", b"/a\x7f", "the :path"),
        (b":path", b"/\xc3\xa9", "the :path"),
        (b":path", b"/a\r\nx: y", "the :path"),
        (b":path", b"*", "the :path"),
        (b":path", None, "the :path"),
        (b":method", b"GE T", "not a token"),
        (b":method", b"", "not a token"),
        (b":authority", b"a@b", "the :authority"),
        (b":authority", b"a/b", "the :authority"),
        (b":authority", b"a\r\nb", "the :authority"),
        (b":authority", None, "no :authority"),
    ],
)
def test_what_could_not_be_written_as_http_1_is_refused(name: bytes, value: bytes | None, words: str) -> None:
    refused = refusal(changed(name, value))
    assert refused.status == 400
    assert words in refused.detail


def test_host_beside_the_authority_is_the_same() -> None:
    assert read((b"host", b"venue:3002")).fields == []
    assert "not the :authority" in refusal([*LINE, (b"host", b"other")]).detail
    alone = [field for field in LINE if field[0] != b":authority"]
    assert read((b"host", b"venue"), line=alone).host == b"venue"
    assert "more than one Host" in refusal([*alone, (b"host", b"a"), (b"host", b"b")]).detail


@pytest.mark.parametrize("value", [b"", b"-1", b"1, 1", b"1" * 19, b"+1"])
def test_a_length_that_is_none(value: bytes) -> None:
    assert refusal([*LINE, (b"content-length", value)]).status == 400


def test_two_lengths_are_refused() -> None:
    assert refusal([*LINE, (b"content-length", b"1"), (b"content-length", b"1")]).status == 400


def test_a_method_that_llhttp_does_not_know_is_unusual() -> None:
    assert read(line=changed(b":method", b"FROBNICATE")).unusual
    assert not read(line=changed(b":method", b"PROPFIND")).unusual


def test_options_of_the_server() -> None:
    assert read(line=[(b":method", b"OPTIONS"), (b":path", b"*"), *LINE[3:]]).target == b"*"


def test_too_many_fields() -> None:
    with pytest.raises(BadRequest) as caught:
        read_request([*LINE, *[(b"x-%d" % n, b"") for n in range(17)]], ended=True, max_fields=16)
    assert caught.value.status == 431
    assert read_request([*LINE, *[(b"x-%d" % n, b"") for n in range(16)]], ended=True, max_fields=16)


TOKENS = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=12).map(str.encode)
VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=12).map(str.encode)
NAMES = st.sampled_from([b"content-type", b"x-request-id", b"cookie", b"via", b"expect", b"accept", b"te", b"x-a"])


@given(st.lists(st.tuples(NAMES | TOKENS, VALUES), max_size=8), st.booleans())
def test_as_http_1_it_is_one_request_with_the_same_meaning(fields: Fields, ended: bool) -> None:
    try:
        head = read(*fields, ended=ended)
    except BadRequest:
        return
    again = parse_request(head.bytes_for(head.target, head.host_sent(), b""))
    assert (again.method, again.target, again.host) == (head.method, head.target, head.host)
    assert (again.request_id, again.via, again.loop, again.traceparent) == (
        *(head.request_id, head.via, head.loop, head.traceparent),
    )
    assert again.length == head.length
    for name, _ in head.fields:
        if name not in (b"te", b"cookie"):
            kept = [value for value in head.values(name) if value or name != b"x-request-id"]
            assert again.values(name) == kept or name == b"content-length"
