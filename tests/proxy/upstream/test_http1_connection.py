"""One connection to an endpoint: how an answer is framed, and what proves that the connection may be used again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest

from sidecar.config.schema import EndpointSpec, Url
from sidecar.proxy.body_sink import BodySink
from sidecar.proxy.http1.head_syntax import CHUNKED, MAX_FIELDS, MAX_HEAD
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.upstream.http1_connection import HELD_MAX, UpstreamConnection
from sidecar.proxy.upstream.stream import AttemptListener, Lost
from sidecar.runtime.additions import Additions
from sidecar.runtime.endpoint import Endpoint
from tests.proxy.fakes import ManualLoop, Wire, ok, send_on


class Listener(AttemptListener, BodySink):
    """What an attempt hears; relays each answer to itself as soon as it begins, unless `holds`."""

    def __init__(self, *, holds: bool = False) -> None:
        self.heard: list[str] = []
        self.body = b""
        self.holds = holds
        self.upstream: UpstreamConnection | None = None

    def response_began(self, response: ResponseHead) -> None:
        self.heard.append(f"began {response.status}")
        if not self.holds:
            self.relay()

    def relay(self) -> None:
        assert self.upstream is not None
        for piece in self.upstream.relay(self):
            self.body += piece

    def interim(self, response: ResponseHead) -> None:
        self.heard.append(f"interim {response.status}")

    def response_ended(self, trailers: object = ()) -> None:
        self.heard.append("ended")

    def attempt_lost(self, lost: Lost) -> None:
        self.heard.append(f"lost {lost.reason}")

    def pause_upload(self) -> None:
        self.heard.append("pause")

    def resume_upload(self) -> None:
        self.heard.append("resume")

    def write_body(self, pieces: list[bytes]) -> None:
        assert pieces
        self.body += b"".join(pieces)


class Pool:
    """Counts the connections that say they have ended."""

    def __init__(self) -> None:
        self.closed_connections: list[UpstreamConnection] = []
        self.mixed: list[str] = []

    def opened(self, connection: UpstreamConnection) -> None:
        connection.endpoint.active += 1

    def closed(self, connection: UpstreamConnection) -> None:
        self.closed_connections.append(connection)

    def most_of_a_head(self) -> tuple[int, int]:
        return MAX_HEAD, MAX_FIELDS

    def line_ends_are_mixed(self, where: str) -> None:
        self.mixed.append(where)


class Bench:
    """A connection on a wire."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.endpoint = Endpoint(EndpointSpec(url=Url("http", "venue", 80)), "10.0.0.1")
        self.pool = Pool()
        self.connection = UpstreamConnection(self.endpoint, cast("Any", self.pool))
        self.wire = Wire(self.loop, self.connection)
        self.connection.connection_made(cast("Any", self.wire))
        self.listener = Listener()

    def send(
        self, method: str = "GET", *, plain: bool = False, websocket: bool = False, holds: bool = False
    ) -> Listener:
        self.listener = listener = Listener(holds=holds)
        listener.upstream = self.connection
        assert send_on(self.connection, listener, method, plain=plain, websocket=websocket)
        return listener

    def asks(self, *answer: bytes, method: str = "GET", **more: bool) -> Listener:
        """A request, and what comes back."""
        listener = self.send(method, **more)
        self.wire.says(*answer)
        return listener


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.wire.dispose()
    ended = bench.pool.closed_connections
    assert ended == ([bench.connection] if bench.connection.ended else [])  # said once


OPEN, CHUNKS = b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (ok(b"hello"), b"hello"),
        (ok(b""), b""),
        (CHUNKS + b"5\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", b""),
    ],
)
def test_whole_answer_cut_at_every_position(answer: bytes, body: bytes) -> None:
    for at in range(1, len(answer) + 1):
        bench = Bench()
        listener = bench.asks(answer[:at], *([answer[at:]] if at < len(answer) else []))
        began, *ended = listener.heard
        assert began.startswith("began")
        assert ended in ([], ["ended"])  # nobody needs to be told of what was there when it began
        assert bench.connection.complete
        assert listener.body == body
        assert bench.connection.may_be_reused()
        bench.wire.dispose()


def test_answer_byte_by_byte(bench: Bench) -> None:
    answer = CHUNKS + b"5;x=y\r\nhello\r\n0\r\nX-A: 1\r\n\r\n"
    listener = bench.asks(*[answer[at : at + 1] for at in range(len(answer))])
    assert listener.heard == ["began 200", "ended"]
    assert listener.body == b"5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n"
    assert bench.connection.may_be_reused()


def test_chunks_are_taken_apart_for_who_knows_none(bench: Bench) -> None:
    listener = bench.asks(CHUNKS + b"5\r\nhel", b"lo\r\n1\r\n!\r\n0\r\nX-A: 1\r\n\r\n", plain=True)
    assert (listener.heard, listener.body) == (["began 200", "ended"], b"hello!")


def test_answer_until_close_ends_with_the_connection(bench: Bench) -> None:
    listener = bench.asks(OPEN, b"hel", b"lo")
    assert not bench.connection.complete
    bench.wire.leaves()
    assert (listener.heard, listener.body) == (["began 200", "ended"], b"hello")
    assert bench.connection.complete
    assert not bench.connection.may_be_reused()


@pytest.mark.parametrize(
    "answer", [ok(b"hello")[:-1], CHUNKS, CHUNKS + b"5\r\nhello\r\n", CHUNKS + b"5\r\nhello\r\n0\r\n"]
)
@pytest.mark.parametrize("end", [Wire.leaves, Wire.breaks])
def test_answer_cut_short_is_truncated(bench: Bench, answer: bytes, end: Any) -> None:
    listener = bench.asks(answer)
    end(bench.wire)
    assert listener.heard == ["began 200", "lost truncated"]
    assert bench.connection.ended


def test_answer_until_close_that_breaks_is_truncated(bench: Bench) -> None:
    listener = bench.asks(OPEN + b"hello")
    bench.wire.breaks()
    assert listener.heard == ["began 200", "lost truncated"]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
@pytest.mark.parametrize("end", [Wire.leaves, Wire.breaks])
def test_end_before_a_whole_head_is_a_reset(bench: Bench, answer: bytes, end: Any) -> None:
    listener = bench.send()
    if answer:
        bench.wire.says(answer)
    end(bench.wire)
    assert listener.heard == ["lost reset"]
    assert bench.connection.heard is bool(answer)
    assert bench.connection.ended


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage",
        b"\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 600 X\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\rZ\n\n",
        b"HTTP/1.1 200 OK\nX: y\n\r\r\n",
        b"HTTP/1.1 200 OK\nX\n\n",
        b"HTTP/1.1 200 OK\nX: y\n" + b"Y: z\n" * 128 + b"\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        CHUNKS + b"nonsense\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\ngarbage",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 129 + b"\r\n",
    ],
)
def test_what_is_not_http(bench: Bench, answer: bytes) -> None:
    listener = bench.asks(answer)
    assert [one for one in listener.heard if not one.startswith("interim")] == ["lost bad_response"]
    assert bench.connection.ended
    assert listener.body == b""


def test_bad_chunk_after_the_answer_began_is_truncated(bench: Bench) -> None:
    listener = bench.asks(CHUNKS + b"5\r\nhello\r\n", b"nonsense\r\n")
    assert listener.heard == ["began 200", "lost truncated"]


LF = b"HTTP/1.1 200 OK\nContent-Length: 12\n\n"
BODY = b"ab\r\n\r\ncd\n\nef"[:12]


@pytest.mark.parametrize(
    ("head", "mixed"),
    [
        (b"HTTP/1.1 200 OK\nContent-Length: 12\n\n", []),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\n", ["the empty line at the end"]),
        (b"HTTP/1.1 200 OK\nContent-Length: 12\n\r\n", ["the status line"]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 12\n\r\n", ["Content-Length"]),
        (b"HTTP/1.1 200 OK\nContent-Length: 12\r\n\r\n", ["the status line"]),
        (b"HTTP/1.2 200\r\nContent-Length:12,12\r\nX: a\r\n b\r\n\r\n", []),
    ],
)
def test_lenient_head_cut_at_every_position(head: bytes, mixed: list[str]) -> None:
    """The body, which has empty lines of every kind, begins where the head ends. What mixes line ends is not kept."""
    answer = head + BODY
    for pieces in [
        *([answer[:at], answer[at:]] for at in range(1, len(answer))),
        [answer],
        [answer[at : at + 1] for at in range(len(answer))],
    ]:
        bench = Bench()
        listener = bench.asks(*pieces)
        assert listener.heard[0] == "began 200"
        assert listener.body == BODY
        assert bench.connection.complete
        assert bench.connection.may_be_reused() is (not mixed)
        assert bench.pool.mixed == mixed
        bench.wire.dispose()


def test_interim_answers_with_bare_line_feeds(bench: Bench) -> None:
    interims = b"HTTP/1.1 100 Continue\n\nHTTP/1.1 103 Early Hints\r\nLink: x\n\r\n"
    listener = bench.asks(interims[:50], interims[50:] + b"HTTP/1.1 102\n\n" + ok(b"hello"))
    assert listener.heard == ["interim 100", "interim 103", "interim 102", "began 200"]
    assert listener.body == b"hello"
    assert not bench.connection.may_be_reused()  # one of them mixed its line ends
    assert bench.pool.mixed == ["Link"]


def test_tunnel_behind_a_head_with_bare_line_feeds(bench: Bench) -> None:
    head = b"HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket\n\n"
    listener = bench.asks(head + b"frames\r\n\r\n", websocket=True, holds=True)
    assert listener.heard == ["began 101"]
    assert bench.connection.detach()[1] == b"frames\r\n\r\n"


def test_second_request_after_a_lenient_head(bench: Bench) -> None:
    for _ in range(2):
        listener = bench.asks(LF[:20], LF[20:] + BODY)
        assert (listener.heard, listener.body) == (["began 200"], BODY)
        assert bench.connection.may_be_reused()
        bench.connection.rest(0.0)


@pytest.mark.parametrize(("more", "heard"), [(0, "began 200"), (1, "lost bad_response")])
@pytest.mark.parametrize("tail", [b"", b"x" * 100_000 + b"\r\n\r\n"])
def test_bound_on_a_lenient_head(bench: Bench, more: int, heard: str, tail: bytes) -> None:
    """An empty line far into the body is not the head's end."""
    shortest = b"HTTP/1.1 200 OK\nX: \n\n"
    head = shortest[:-2] + b"a" * (MAX_HEAD + more - len(shortest)) + b"\n\n"
    assert len(head) == MAX_HEAD + more
    assert bench.asks(head + tail).heard == [heard]


def test_a_date_is_added_where_there_is_none(bench: Bench) -> None:
    for head, dates in ((b"Content-Length: 0\r\n", 1), (b"Content-Length: 0\r\ndate: x\r\n", 1)):
        bench.asks(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        response = bench.connection.response
        assert response is not None
        sent = response.bytes_for(b"")
        assert len(re.findall(rb"\r\ndate: ", sent, re.IGNORECASE)) == dates
        assert b"\r\ndate: x" in sent or re.search(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r\n", sent)
        bench.connection.rest(0.0)


@pytest.mark.parametrize(("more", "heard"), [(-1, "began 200"), (0, "began 200"), (1, "lost bad_response")])
@pytest.mark.parametrize("bytewise", [False, True])
def test_bound_on_the_head(bench: Bench, more: int, heard: str, bytewise: bool) -> None:
    shortest = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: \r\n\r\n"
    head = shortest[:-4] + b"a" * (MAX_HEAD + more - len(shortest)) + b"\r\n\r\n"
    assert len(head) == MAX_HEAD + more
    listener = (
        bench.asks(head[:-6], *[head[at : at + 1] for at in range(len(head) - 6, len(head))])
        if bytewise
        else bench.asks(head)
    )
    assert listener.heard == [heard]


def test_head_without_end_is_not_waited_for(bench: Bench) -> None:
    listener = bench.asks(b"HTTP/1.1 200 OK\r\nX: " + b"a" * MAX_HEAD)
    assert listener.heard == ["lost bad_response"]


def test_interim_answers(bench: Bench) -> None:
    listener = bench.asks(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 1")
    assert listener.heard == ["interim 100", "interim 103"]
    bench.wire.says(b"02 X\r\n\r\n", ok(b"hello"))
    assert listener.heard == ["interim 100", "interim 103", "interim 102", "began 200"]
    assert listener.body == b"hello"
    assert bench.connection.may_be_reused()


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def test_tunnel_that_was_asked_for(bench: Bench) -> None:
    listener = bench.asks(SWITCH + b"frames", websocket=True, holds=True)
    assert listener.heard == ["began 101"]
    assert bench.connection.detach()[1] == b"frames"
    assert bench.connection.detach()[1] == b""
    bench.connection.tunnel_ended()
    bench.connection.tunnel_ended()
    assert bench.connection.ended


def test_answer_to_head_has_no_body(bench: Bench) -> None:
    listener = bench.asks(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method="HEAD")
    assert listener.heard == ["began 200"]
    assert bench.connection.complete
    assert bench.connection.may_be_reused()


def test_body_where_none_may_be_is_not_passed_on(bench: Bench) -> None:
    listener = bench.asks(ok(b"hello"), method="HEAD")
    assert (listener.heard, listener.body) == (["began 200"], b"")
    assert not bench.connection.may_be_reused()


@pytest.mark.parametrize("answer", [ok(b"hello"), CHUNKS + b"5\r\nhello\r\n0\r\n\r\n", ok(b"")])
@pytest.mark.parametrize("split", [False, True])
def test_bytes_after_the_end_are_never_another_answer(bench: Bench, answer: bytes, split: bool) -> None:
    second = ok(b"not asked for")
    listener = bench.asks(answer, second) if split else bench.asks(answer + second)
    assert [one for one in listener.heard if "began" in one] == ["began 200"]
    assert b"not asked" not in listener.body
    assert not bench.connection.may_be_reused()


@pytest.mark.parametrize("end", [Wire.leaves, Wire.breaks, lambda wire: wire.says(b"x"), lambda wire: wire.says(ok())])
def test_anything_on_an_idle_connection_closes_it(bench: Bench, end: Any) -> None:
    listener = bench.asks(ok())
    bench.connection.rest(5.0)
    assert bench.connection.idle_since == 5.0
    end(bench.wire)
    assert bench.connection.ended
    assert listener.heard == ["began 200"]  # whoever had it before hears nothing


def test_connection_is_used_again(bench: Bench) -> None:
    for body in (b"one", b"two", b"three"):
        listener = bench.asks(ok(body))
        assert (listener.heard, listener.body) == (["began 200"], body)
        bench.connection.rest(1.0)


def test_ended_connection_sends_nothing(bench: Bench) -> None:
    bench.connection.close()
    assert not send_on(bench.connection, Listener())
    bench.connection.send_body([b"body"], end=False)
    assert bench.wire.heard == b""


def test_request_and_body_go_out(bench: Bench) -> None:
    bench.send()
    bench.connection.send_body([b"one", b"two"], end=True)
    assert bench.wire.heard.startswith(b"GET / HTTP/1.1\r\nHost: venue\r\n")
    assert bench.wire.heard.endswith(b"\r\n\r\nonetwo")


def test_whether_anything_was_heard_is_of_the_present_request(bench: Bench) -> None:
    bench.asks(ok())
    assert bench.connection.heard
    bench.connection.rest(1.0)
    bench.send()
    assert not bench.connection.heard


# Held answers.


def test_body_is_held_until_it_is_relayed(bench: Bench) -> None:
    listener = bench.asks(ok(b"hello, world")[:-7], holds=True)
    assert listener.body == b""
    listener.relay()
    assert listener.body == b"hello"
    bench.wire.says(b", world")
    assert (listener.heard, listener.body) == (["began 200", "ended"], b"hello, world")


@pytest.mark.parametrize(("size", "paused"), [(HELD_MAX - 1, False), (HELD_MAX, False), (HELD_MAX + 1, True)])
def test_no_more_than_so_much_is_held(bench: Bench, size: int, paused: bool) -> None:
    listener = bench.asks(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"a" * size, holds=True)
    assert bench.wire.reading is not paused
    listener.relay()
    assert bench.wire.reading
    assert len(listener.body) == size


def test_answer_that_breaks_while_it_is_held(bench: Bench) -> None:
    listener = bench.asks(ok(b"hello")[:-1], holds=True)
    bench.wire.breaks()
    assert listener.heard == ["began 200"]
    assert bench.connection.broken is not None
    assert "middle of the body" in bench.connection.broken
    listener.relay()
    assert listener.body == b"hell"


@pytest.mark.parametrize("end", [Wire.leaves, Wire.breaks, lambda wire: wire.says(b"more")])
def test_whole_answer_stays_whole_whatever_comes_while_it_is_held(bench: Bench, end: Any) -> None:
    listener = bench.asks(ok(b"hello"), holds=True)
    end(bench.wire)
    assert bench.connection.complete
    assert bench.connection.broken is None
    assert not bench.connection.may_be_reused()
    listener.relay()
    assert listener.body == b"hello"
    bench.connection.close()


def test_held_body_is_forgotten_at_rest(bench: Bench) -> None:
    bench.asks(ok(b"first"), holds=True)
    bench.connection.rest(1.0)
    listener = bench.asks(ok(b"second"))
    assert listener.body == b"second"


# Backpressure.


def test_upload_pauses_with_the_transport(bench: Bench) -> None:
    listener = bench.send()
    bench.wire.stall()
    bench.connection.send_body([b"a" * 300_000], end=False)
    assert listener.heard == ["pause"]
    assert not bench.connection.writable
    bench.wire.flow()
    assert listener.heard == ["pause", "resume"]
    assert bench.connection.writable


def test_pausing_twice_is_pausing_once(bench: Bench) -> None:
    bench.send()
    bench.connection.pause_reading()
    bench.connection.pause_reading()
    assert not bench.wire.reading
    bench.connection.resume_reading()
    assert bench.wire.reading
    bench.wire.abort()
    bench.connection.pause_reading()  # the transport is closing: nothing to pause, nothing to raise


def test_rest_resumes_reading(bench: Bench) -> None:
    """The end of a body may have come just as its reader was paused; the connection must still hear its own end."""
    bench.asks(ok())
    bench.connection.pause_reading()
    bench.connection.rest(1.0)
    assert bench.wire.reading


# Ends.


def test_close_is_heard_by_nobody(bench: Bench) -> None:
    listener = bench.asks(ok(b"hello")[:-1])
    bench.connection.close()
    bench.connection.close()
    bench.loop.settle()
    assert bench.wire.how == "abort"
    assert listener.heard == ["began 200"]
    assert bench.connection.ended


def test_what_was_said_before_a_reset_is_still_read(bench: Bench) -> None:
    """Who refuses an upload says why, then resets: the event loop may drop the transport before it has read that."""
    listener = bench.send("POST")
    bench.wire.peer.send(ok(b"too much", status="413 Content Too Large"))
    bench.wire.breaks()
    assert listener.heard == ["began 413"]
    assert listener.body == b"too much"
    assert bench.connection.complete
    assert not bench.connection.may_be_reused()
    bench.connection.close()


def test_half_of_an_answer_before_a_reset_is_truncated(bench: Bench) -> None:
    listener = bench.send("POST")
    bench.wire.peer.send(ok(b"too much")[:-1])
    bench.wire.breaks()
    assert listener.heard == ["began 200", "lost truncated"]


def test_stale_is_what_the_kernel_can_read(bench: Bench) -> None:
    bench.asks(ok())
    bench.connection.rest(1.0)
    assert not bench.connection.is_stale()
    bench.wire.peer.close()
    assert bench.connection.is_stale()


def test_repr_says_the_state(bench: Bench) -> None:
    assert repr(bench.connection) == "<UpstreamConnection 10.0.0.1:80 idle>"
    bench.send()
    assert repr(bench.connection) == "<UpstreamConnection 10.0.0.1:80 head>"


@pytest.mark.parametrize("via", [False, True])
@pytest.mark.parametrize("prefix", [None, b"/venue"])
def test_what_the_sidecar_adds_is_written_once_and_used_again(bench: Bench, via: bool, prefix: bytes | None) -> None:
    head = RequestHead()
    head.method, head.target, head.pieces = "GET", b"/", [b"\r\nA: 1"]
    additions = Additions(b"sidecar-1", prefix, 2, 1234, via)
    body = RequestBody(4, 100)
    body.keep(body.take(b"body")[0])
    for _ in range(2):
        assert bench.connection.send(
            Listener(), head, b"/x", b"venue:80", additions, b"the-id", b"00-1-2-01", body, False
        )  # fmt: skip
    lines = b"\r\nx-sidecar-loop: sidecar-1"
    lines += b"\r\nVia: 1.1 sidecar-1" if via else b""
    lines += b"\r\nx-envoy-attempt-count: 2\r\nx-envoy-expected-rq-timeout-ms: 1234"
    lines += b"\r\nX-Forwarded-Prefix: /venue" if prefix else b""
    assert additions.http1 == lines
    sent = b"GET /x HTTP/1.1\r\nHost: venue:80\r\nA: 1" + lines
    assert bench.wire.heard == 2 * (sent + b"\r\nX-Request-Id: the-id\r\ntraceparent: 00-1-2-01\r\n\r\nbody")
    bench.connection.close()


def test_a_body_that_came_without_framing_is_sent_in_chunks(bench: Bench) -> None:
    head = RequestHead()
    head.method, head.target, head.pieces, head.length = "POST", b"/", [b"\r\nTransfer-Encoding: chunked"], CHUNKED
    body = RequestBody(CHUNKED, 100, plain=True)
    body.arrived(3, end=False)
    body.keep([b"abc"])
    additions = Additions(b"sidecar-1", None, 1, 1234, False)
    assert bench.connection.send(Listener(), head, b"/x", b"venue", additions, None, None, body, False)
    body.arrived(4, end=False)
    bench.connection.send_body([b"de", b"", b"fg"], end=False)
    body.trailers = ((b"x-a", b"1"),)
    body.arrived(0, end=True)
    bench.connection.send_body([], end=True)
    sent = b"".join([bench.wire.heard]).partition(b"\r\n\r\n")[2]
    assert sent == b"3\r\nabc\r\n2\r\nde\r\n2\r\nfg\r\n0\r\nx-a: 1\r\n\r\n"
    bench.connection.close()
