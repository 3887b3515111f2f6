"""One call on an HTTP/2 connection: what goes out, what comes back, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sidecar.proxy.http1.head_syntax import CHUNKED
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead, parse_request
from sidecar.proxy.upstream.h2_stream import INTERIM_MAX, H2UpstreamStream
from sidecar.runtime.additions import Additions
from tests.proxy.h2_bench import Bench, Call, grpc_head, whole
from tests.proxy.h2_peer import GRPC, Fields, Peer

WINDOW = 256 * 1024
"""Of a stream, as the engine announces it."""


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench().up()
    yield bench
    bench.close()


# What goes out.


def test_a_call_goes_out_with_what_the_sidecar_adds(bench: Bench) -> None:
    additions = Additions(b"sidecar-1", b"/venue", 2, 1500, True)
    head = grpc_head((b"x-own-bin", b"AAEC"), (b"x-forwarded-prefix", b"/theirs"))
    bench.send(head, whole(b"hello"), additions=additions, request_id=b"abc", traceparent=b"00-1-2-01")
    asked = bench.peer.asked[bench.peer.newest]
    assert asked.fields == [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Venue/Get")),
        *((b":authority", b"venue:50051"), (b"content-type", b"application/grpc"), (b"te", b"trailers")),
        *((b"x-own-bin", b"AAEC"), (b"x-sidecar-loop", b"sidecar-1"), (b"x-envoy-attempt-count", b"2")),
        *((b"x-envoy-expected-rq-timeout-ms", b"1500"), (b"x-forwarded-prefix", b"/venue")),
        *((b"x-request-id", b"abc"), (b"traceparent", b"00-1-2-01"), (b"via", b"2 sidecar-1")),
    ]
    assert (asked.body, asked.ended) == (b"hello", True)


def test_one_calls_own_fields_are_no_other_calls(bench: Bench) -> None:
    additions = Additions(b"sidecar-1", None, 1, 1000, False)
    bench.send(body=whole(), additions=additions, request_id=b"first")
    bench.send(body=whole(), additions=additions)
    assert bench.peer.asked[bench.peer.newest].value(b"x-request-id") is None


def test_what_an_http1_app_sends_is_no_longer_framed(bench: Bench) -> None:
    """Its chunks' framing is taken off, and fields of its connection stay behind (RFC 9113, section 8.2.2)."""
    head = parse_request(
        b"POST /x HTTP/1.1\r\nHost: venue\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\n"
        b"Keep-Alive: 1\r\nX-Own: Value\r\n\r\n"
    )
    body = RequestBody(CHUNKED, 64 * 1024)
    pieces, _ = body.take(b"5\r\nhello\r\n3;ext=1\r\n, w")
    body.keep(pieces)
    call = bench.send(head, body)
    assert call.stream is not None
    pieces, _ = body.take(b"\r\n4\r\norld\r\n0\r\nx-late: 1\r\n\r\n")
    call.stream.send_body(pieces, end=body.complete)
    asked = bench.peer.read().asked[bench.peer.newest]
    assert (asked.body, asked.trailers, asked.ended) == (b"hello, world", [(b"x-late", b"1")], True)
    names = {name for name, _ in asked.fields}
    assert b"x-own" in names
    assert not names & {b"transfer-encoding", b"connection", b"keep-alive", b"x-hop", b"host"}


def test_a_body_goes_out_as_it_comes_and_its_trailers_behind_it(bench: Bench) -> None:
    body = RequestBody(CHUNKED, 64 * 1024, plain=True)
    call = bench.send(body=body)
    asked = bench.peer.asked[bench.peer.newest]
    assert not asked.ended
    assert call.stream is not None
    body.arrived(3, end=False)
    call.stream.send_body([b"one"], end=False)
    assert bench.peer.read()
    assert asked.body == b"one"
    assert not call.stream.has_all(body)
    body.arrived(3, end=True)
    body.trailers = ((b"x-checksum", b"7"),)
    call.stream.send_body([b"two"], end=True)
    bench.peer.read()
    assert (asked.body, asked.trailers, asked.ended) == (b"onetwo", [(b"x-checksum", b"7")], True)
    assert call.stream.has_all(body)


def test_kept_pieces_are_sent_again_from_the_beginning(bench: Bench) -> None:
    """Each attempt takes the framing off anew; what is kept afterwards is not sent twice on the first one."""
    body = RequestBody(CHUNKED, 64 * 1024)
    pieces, _ = body.take(b"5\r\nhello\r\n0\r\n\r\n")
    body.keep(pieces)
    for _ in range(2):
        bench.send(post_head(), body)
        body.keep([])
        assert bench.peer.asked[bench.peer.newest].body == b"hello"
    assert body.kept == pieces


def post_head() -> RequestHead:
    return parse_request(b"POST /x HTTP/1.1\r\nHost: venue\r\nTransfer-Encoding: chunked\r\n\r\n")


def test_an_endpoint_that_does_not_read_pauses_the_app(bench: Bench) -> None:
    bench.peer.gives_back = False
    body = RequestBody(CHUNKED, 64 * 1024, plain=True)
    call = bench.send(body=body)
    stream = call.stream
    assert stream is not None
    sent = 0
    while "pause" not in call.heard:
        stream.send_body([bytes(50_000)], end=False)
        sent += 50_000
        bench.peer.read()
        assert sent < 1_000_000
    assert not stream.writable
    assert not stream.drained_since_last_look()
    bench.peer.h2.increment_flow_control_window(1_000_000)
    bench.peer.h2.increment_flow_control_window(1_000_000, bench.peer.newest)
    bench.peer.flush()
    assert call.heard == ["pause", "resume"]
    assert stream.drained_since_last_look()
    assert stream.writable
    assert len(bench.peer.read().asked[bench.peer.newest].body) == sent


# What comes back.


def test_an_answer_is_head_body_and_trailers(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    bench.peer.head(bench.peer.newest).data(bench.peer.newest, b"hello")
    assert (call.heard, call.body) == (["began 200"], b"hello")
    trailers: Fields = [(b"grpc-status", b"5"), (b"grpc-message", b"no%20such"), (b"x-own-bin", b"AAEC")]
    bench.peer.trailers(bench.peer.newest, trailers)
    assert call.heard == ["began 200", "ended"]
    assert call.trailers == tuple(trailers)


def test_trailers_of_40_kilobytes_pass_whole(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    trailers = [(b"grpc-status", b"0"), *((b"x-%d-bin" % number, b"A" * 4000) for number in range(10))]
    bench.peer.head(bench.peer.newest).trailers(bench.peer.newest, trailers)
    assert call.trailers == tuple(trailers)


def test_what_a_service_says_as_if_it_were_ours_does_not_pass(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    bench.peer.head(bench.peer.newest)
    bench.peer.trailers(bench.peer.newest, [(b"grpc-status", b"14"), (b"x-sidecar-reason", b"circuit_open")])
    assert call.trailers == ((b"grpc-status", b"14"),)


def test_an_answer_that_is_not_grpc_gets_a_date(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    bench.peer.head(bench.peer.newest, [(b":status", b"404")], end=True)
    assert call.heard == ["began 404", "complete"]
    assert call.response is not None
    assert b"\r\ndate: " in call.response.lines()


def test_interim_answers_pass_on(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    bench.peer.head(bench.peer.newest, [(b":status", b"103"), (b"link", b"</a>")])
    bench.peer.answer(bench.peer.newest)
    assert call.heard == ["interim 103", "began 200", "ended"]


def test_interim_answers_without_end_are_no_answer(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    for _ in range(INTERIM_MAX + 1):
        bench.peer.head(bench.peer.newest, [(b":status", b"103")])
    assert call.heard[INTERIM_MAX:] == ["lost bad_response"]


def test_a_body_is_held_until_somebody_wants_it_and_bounded_by_its_window(bench: Bench) -> None:
    """What is held is not given back to the stream's window, and the connection's is: other calls go on."""
    call = bench.send(body=whole(b"x"), holds=True)
    stream, number = call.stream, bench.peer.newest
    assert stream is not None
    bench.peer.head(number).data(number, bytes(WINDOW))
    bench.peer.read()
    assert bench.peer.h2.local_flow_control_window(number) == 0
    other = bench.send(body=whole(b"x"))
    bench.peer.answer(bench.peer.newest)
    assert other.heard == ["began 200", "ended"]
    call.relay()
    bench.peer.read()
    assert len(call.body) == WINDOW
    assert bench.peer.h2.local_flow_control_window(number) > WINDOW // 2


def test_many_small_pieces_are_held_as_few(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), holds=True)
    number = bench.peer.newest
    bench.peer.head(number)
    for _ in range(2000):
        bench.peer_of().h2.send_data(number, b"a")
    bench.peer_of().flush()
    assert isinstance(call.stream, H2UpstreamStream)
    assert len(call.stream._held) <= 4
    call.relay()
    assert call.body == b"a" * 2000


def test_a_reader_that_pauses_holds_back_the_window_of_its_stream(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), pauses=True)
    number = bench.peer.newest
    bench.peer.head(number).data(number, bytes(WINDOW))
    bench.peer.read()
    before = bench.peer.h2.local_flow_control_window(number)
    assert before <= WINDOW // 2
    assert call.stream is not None
    call.stream.resume_reading()
    bench.peer.read()
    assert bench.peer.h2.local_flow_control_window(number) > before


# Heads that are held.


def test_a_head_is_held_until_trailers_show_the_status(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), hold_s=0.05, holds=True)
    number = bench.peer.newest
    bench.peer.head(number)
    assert call.heard == []
    bench.peer.trailers(
        number, [(b"grpc-status", b"14"), (b"grpc-message", b"away"), (b"grpc-retry-pushback-ms", b"20")]
    )
    assert call.heard == ["began 200"]
    response = call.response
    assert response is not None
    assert call.stream is not None
    assert (response.grpc_status, response.grpc_message, response.pushback) == (14, b"away", b"20")
    assert call.stream.complete
    assert call.stream.trailers()[0] == (b"grpc-status", b"14")


def test_a_head_is_held_until_the_body_begins(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), hold_s=0.05)
    bench.peer.head(bench.peer.newest)
    assert call.heard == []
    bench.peer.data(bench.peer.newest, b"hello")
    assert (call.heard, call.body) == (["began 200"], b"hello")
    assert call.response is not None
    assert call.response.grpc_status == -1


def test_a_head_is_held_for_so_long_at_most(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), hold_s=0.05)
    bench.peer.head(bench.peer.newest)
    bench.loop.advance(0.049)
    assert call.heard == []
    bench.loop.advance(0.002)
    assert call.heard == ["began 200"]
    bench.peer.data(bench.peer.newest, b"late").trailers(bench.peer.newest)
    assert (call.heard, call.body) == (["began 200", "ended"], b"late")


def test_a_reset_behind_a_held_head_is_no_answer(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), hold_s=0.05)
    bench.peer.head(bench.peer.newest).reset(bench.peer.newest, 8)
    assert call.heard == ["lost reset"]
    bench.loop.advance(1)
    assert call.heard == ["lost reset"]


def test_a_trailers_only_answer_is_not_held(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), hold_s=0.05)
    bench.peer.head(bench.peer.newest, [*GRPC, (b"grpc-status", b"8")], end=True)
    assert call.heard == ["began 200", "complete"]
    assert call.response is not None
    assert call.response.grpc_status == 8


def test_an_answer_that_is_not_grpc_is_not_held(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), hold_s=0.05)
    bench.peer.head(bench.peer.newest, [(b":status", b"503")])
    assert call.heard == ["began 503"]


# Ends.


@pytest.mark.parametrize("code", range(14))
def test_a_reset_before_the_head_says_its_code(bench: Bench, code: int) -> None:
    call = bench.send(body=whole(b"x"))
    bench.peer.reset(bench.peer.newest, code)
    lost = call.lost
    assert lost is not None
    assert (lost.reason, lost.code, lost.unprocessed) == ("reset", code, code == 7)
    assert lost.detail.startswith("the service ended the call before the response head was complete (RST_STREAM, ")


def test_a_reset_after_the_head_cuts_the_body(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    bench.peer.head(bench.peer.newest).data(bench.peer.newest, b"half").reset(bench.peer.newest, 8)
    lost = call.lost
    assert lost is not None
    assert (lost.reason, lost.code, lost.unprocessed) == ("truncated", 8, False)
    assert lost.detail == "the service ended the call in the middle of the body (RST_STREAM, CANCEL)"


def test_a_reset_behind_a_whole_answer_changes_nothing(bench: Bench) -> None:
    """gRPC servers that answer before the request has ended say NO_ERROR (RFC 9113, section 8.1)."""
    call = bench.send(body=RequestBody(CHUNKED, 1024, plain=True))
    bench.peer.answer(bench.peer.newest).reset(bench.peer.newest, 0)
    assert call.heard == ["began 200", "ended"]


def test_a_held_answer_that_breaks_off_says_so(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"), holds=True)
    bench.peer.head(bench.peer.newest, [(b":status", b"503")]).reset(bench.peer.newest, 2)
    assert call.heard == ["began 503"]
    assert call.stream is not None
    assert call.stream.broken == "the service ended the call in the middle of the body (RST_STREAM, INTERNAL_ERROR)"
    assert not call.stream.complete


def test_goaway_says_which_calls_were_not_looked_at(bench: Bench) -> None:
    seen, unseen = bench.send(body=whole(b"x")), bench.send(body=whole(b"y"))
    first = sorted(bench.peer.asked)[-2]
    bench.peer.go_away(first)
    assert unseen.lost is not None
    assert unseen.lost.unprocessed
    assert unseen.lost.reason == "reset"
    assert seen.heard == []
    bench.peer.answer(first)
    assert seen.heard == ["began 200", "ended"]


def test_a_connection_that_breaks_loses_its_calls(bench: Bench) -> None:
    before, after = bench.send(body=whole(b"x")), bench.send(body=whole(b"x"))
    bench.peer.head(bench.peer.newest)
    bench.wire().breaks()
    assert before.lost is not None
    assert after.lost is not None
    assert (before.lost.reason, before.lost.code, before.lost.unprocessed) == ("reset", -1, False)
    assert (after.lost.reason, after.lost.code) == ("truncated", -1)


def test_what_was_never_written_was_not_looked_at(bench: Bench) -> None:
    """The connection breaks in the turn of the loop in which the call is sent on it."""
    before = bench.send(body=whole(b"x"))
    call = Call()
    stream = call.stream = bench.stream()
    added = Additions(b"sidecar-1", None, 1, 1000, False)
    assert stream.send(call, grpc_head(), b"/x", b"venue", added, None, None, whole(b"x"), True)
    bench.wire().breaks()
    assert call.lost is not None
    assert (call.lost.reason, call.lost.unprocessed) == ("reset", True)
    assert before.lost is not None
    assert not before.lost.unprocessed


def test_closing_cancels_the_call_at_the_endpoint(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    assert call.stream is not None
    call.stream.close()
    asked = bench.peer.read().asked[bench.peer.newest]
    assert asked.reset == 8
    assert bench.wire().open
    assert call.heard == []
    call.stream.close()
    call.stream.release(bench.loop.now)
    assert bench.pool.service.endpoints[0].idle == 1


def test_releasing_a_whole_answer_resets_nothing(bench: Bench) -> None:
    call = bench.send(body=whole(b"x"))
    bench.peer.answer(bench.peer.newest)
    assert call.stream is not None
    call.stream.release(bench.loop.now)
    assert bench.peer.read().asked[bench.peer.newest].reset is None


def test_releasing_an_answer_to_half_a_request_resets_it(bench: Bench) -> None:
    call = bench.send(body=RequestBody(CHUNKED, 1024, plain=True))
    bench.peer.answer(bench.peer.newest)
    assert call.stream is not None
    call.stream.release(bench.loop.now)
    assert bench.peer.read().asked[bench.peer.newest].reset == 8


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([(b":status", b"101")], "what the service sends is not HTTP/2: the head of no response"),
        ([(b":status", b"200"), (b"content-length", b"x")], "what the service sends is not HTTP/2: a content-length"),
        ([(b":status", b"600")], "the :status is not one of 100 to 599"),
        (
            [(b":status", b"200"), *((b"x-%d" % number, b"1") for number in range(51))],
            "the head has more than 50 fields, which is limits.max_header_fields",
        ),
    ],
)
def test_a_head_that_is_none_is_a_bad_response(bench: Bench, fields: Fields, words: str) -> None:
    call = bench.send(body=whole(b"x"))
    number = bench.peer.newest
    bench.wire().says(headers_frame(bench.peer, number, fields))
    assert call.lost is not None
    assert call.lost.reason == "bad_response"
    assert words in call.lost.detail


def headers_frame(peer: Peer, number: int, fields: Fields) -> bytes:
    """Written past the package, which sends nothing that is wrong."""
    block = peer.h2.encoder.encode(fields)
    return len(block).to_bytes(3, "big") + b"\x01\x04" + number.to_bytes(4, "big") + block


@pytest.mark.parametrize("size", [4, 6])
def test_a_body_is_as_long_as_its_head_says(bench: Bench, size: int) -> None:
    call = bench.send(body=whole(b"x"))
    number = bench.peer.newest
    bench.peer.head(number, [(b":status", b"200"), (b"content-length", b"5")])
    frame = size.to_bytes(3, "big") + b"\x00\x01" + number.to_bytes(4, "big") + bytes(size)
    bench.wire().says(frame)
    assert call.heard == ["began 200", "lost truncated"]


def test_a_call_that_is_not_sent_after_all_leaves_its_place(bench: Bench) -> None:
    stream = bench.stream()
    stream.close()
    stream.close()
    assert bench.endpoint.idle == 1
    assert bench.endpoint.active == 0


def test_nothing_is_sent_on_a_connection_that_goes_away(bench: Bench) -> None:
    """Its place was taken before the endpoint said so: the call may go elsewhere, nothing of it was sent."""
    stream = bench.stream()
    bench.peer.go_away(0)
    call = Call()
    added = Additions(b"sidecar-1", None, 1, 1000, False)
    assert not stream.send(call, grpc_head(), b"/x", b"venue", added, None, None, whole(b"x"), True)
    assert bench.service.connections == 0


def test_its_name_in_logs(bench: Bench) -> None:
    stream = bench.stream()
    assert repr(stream) == "<H2UpstreamStream 10.0.0.1:50051 new>"
    stream.close()
    assert repr(stream) == "<H2UpstreamStream 10.0.0.1:50051 over>"
