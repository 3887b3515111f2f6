"""Chunked bodies: whatever passes here, however it was cut, llhttp reads as the same data with the same end."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.proxy.http1.chunked import MAX_SIZE_LINE, MAX_TRAILERS, BadChunk, ChunkScanner

REQUEST_HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reader:
    """llhttp's view of a chunked body. Feeding raises HttpParserError."""

    def __init__(self) -> None:
        self.data = b""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.complete = 0
        self._head = True
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(REQUEST_HEAD)

    def on_headers_complete(self) -> None:
        self._head = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head:
            self.trailers.append((name, value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        self.data += data

    def on_message_complete(self) -> None:
        self.complete += 1

    def feed(self, data: bytes) -> None:
        self._parser.feed_data(data)


def scan(pieces: list[bytes], *, decode: bool = False, lenient: bool = False) -> tuple[bytes, bytes, bool]:
    """What passes on, what stands behind the end, whether there is one. Raises BadChunk."""
    scanner = ChunkScanner(decode=decode, lenient=lenient)
    out = b""
    for number, piece in enumerate(pieces):
        passed, rest = scanner.feed(piece)
        out += b"".join(passed)
        if scanner.done:
            return out, rest + b"".join(pieces[number + 1 :]), True
        assert rest == b""
    return out, b"", False


def cut(data: bytes, at: list[int]) -> list[bytes]:
    bounds = [0, *sorted({min(one, len(data)) for one in at}), len(data)]
    return [data[start:end] for start, end in pairwise(bounds)]


sizes = st.sampled_from(["%x", "%X", "0%x", "000%x"])
extensions = st.sampled_from(
    [b""] * 5 + [b";a", b";a=b", b';a="b;\\"c"', b";a;b=1", b"; a", b";", b";=", b" ", b";a=\x01"]
)
data_pieces = st.binary(min_size=1, max_size=20)
trailer_lines = st.lists(
    st.sampled_from(
        [
            b"X-A: 1",
            b"x-sum:abc ",
            b"X-Empty:",
            b"Content-Length: 5",
            b"transfer-encoding: chunked",
            b"Host: b",
            b"Authorization: x",
            b"X-Envoy-A: 1",
            b"If-Match: x",
            b"X-Latin: \xe9",
            b"bad",
            b" x: y",
            b"X : a",
            b"X: \x01",
            b"Connection: close",
            b"Upgrade: websocket",
            b"Trailer: x",
        ]
    ),
    max_size=3,
)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A chunked body, sometimes with something behind it, sometimes damaged."""
    out = b""
    for data in draw(st.lists(data_pieces, max_size=4)):
        out += (draw(sizes) % len(data)).encode() + draw(extensions) + b"\r\n" + data + b"\r\n"
    out += draw(st.sampled_from([b"0", b"0", b"000"])) + draw(extensions) + b"\r\n"
    out += b"".join(line + b"\r\n" for line in draw(st.one_of(st.just([]), trailer_lines))) + b"\r\n"
    out += draw(st.sampled_from([b"", b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"x"]))
    damaged = bytearray(out)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(damaged)))
        until = at + draw(st.integers(0, 2))
        damaged[at:until] = draw(
            st.sampled_from([b"", b" ", b"\r", b"\n", b"\r\n", b"0", b"g", b";", b"-", b"\0", b"f"])
        )
    return bytes(damaged)


cuts = st.lists(st.integers(0, 150), max_size=8)


@given(bodies(), cuts, st.booleans())
@example(b"0\r\nX-A: 1\r\nContent-Length: 5\r\n\r\n", [], False)
@example(b"2;a=b\r\nab\r\n0\r\nX-A: 1\r\n\r\nrest", list(range(40)), False)
@example(b"2 ; a\t= b\r\nab\r\n0\r\n\r\nrest", list(range(40)), False)
@example(b"2  ;\xff\r\nab\r\n0 \r\n\r\nrest", list(range(40)), True)
def test_what_passes_is_read_by_llhttp_as_the_same_data_with_the_same_end(
    body: bytes, at: list[int], lenient: bool
) -> None:
    try:
        passed, rest, done = scan(cut(body, at), lenient=lenient)
        decoded = scan(cut(body, at), decode=True, lenient=lenient)
    except BadChunk:
        return
    if not done:
        return
    assert body.endswith(rest)
    assert decoded[1:] == (rest, True)
    ours = Reader()
    ours.feed(passed[:-1])
    assert ours.complete == 0
    ours.feed(passed[-1:])
    assert (ours.complete, ours.data) == (1, decoded[0])
    for name, _ in ours.trailers:
        assert name.lower() not in {b"content-length", b"transfer-encoding", b"host", b"authorization", b"connection"}

    # The bytes as they came are read the same, but for trailers that llhttp takes for framing, and for size lines with
    # white space or with extensions of a service's own grammar, which do not pass on.
    theirs = Reader()
    taken = body[: len(body) - len(rest)]
    try:
        theirs.feed(taken)
    except httptools.HttpParserError:
        framing = b"content-length:" in taken.lower() or b"transfer-encoding:" in taken.lower()
        assert framing or b" " in taken or b"\t" in taken or (lenient and b";" in taken)
    else:
        assert (theirs.complete, theirs.data) == (1, decoded[0])


@given(bodies())
def test_what_llhttp_refuses_is_refused(body: bytes) -> None:
    """Held up to the end that llhttp sees: what stands behind it is another message's business."""
    theirs = Reader()
    try:
        for at in range(len(body)):
            theirs.feed(body[at : at + 1])
            if theirs.complete:
                return
    except httptools.HttpParserError:
        try:
            _, rest, done = scan([body[: at + 1]])
        except BadChunk:
            return
        # Not refused so far: then it is not through either, unless a trailer was what llhttp minded.
        assert not done or b":" in body
        assert rest == b""
        with pytest.raises(BadChunk):  # and whatever follows does not make it good
            finish_as_well_as_possible(body[: at + 1])


def finish_as_well_as_possible(beginning: bytes) -> None:
    """Raises BadChunk where no usual continuation leads to the body's end."""
    if b"content-length:" in beginning.lower() or b"transfer-encoding:" in beginning.lower():
        raise BadChunk("llhttp refuses these trailers, which are dropped here")
    for more in (b"", b"\n", b"\r\n", b"\r\n\r\n", b"\n\r\n", b"\n0\r\n\r\n", b"\r\n0\r\n\r\n", b"\r\na\r\n0\r\n\r\n"):
        try:
            if scan([beginning + more])[2]:
                return
        except BadChunk:
            continue
    raise BadChunk("no continuation passes")


@given(bodies(), cuts, st.booleans(), st.booleans())
def test_results_do_not_depend_on_how_the_input_is_cut(body: bytes, at: list[int], decode: bool, lenient: bool) -> None:
    def result(pieces: list[bytes]) -> tuple[bytes, bytes, bool] | None:
        try:
            return scan(pieces, decode=decode, lenient=lenient)
        except BadChunk:
            return None

    whole = result([body])
    assert result(cut(body, at)) == whole
    assert result([body[at : at + 1] for at in range(len(body))]) == whole


@given(st.binary(max_size=60), cuts)
def test_arbitrary_bytes_raise_nothing_but_a_refusal(data: bytes, at: list[int]) -> None:
    with suppress(BadChunk):
        scan(cut(data, at))


@pytest.mark.parametrize(
    ("body", "passed", "data"),
    [
        (b"0\r\n\r\n", b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (
            b"003\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n",
            b"003\r\nabc\r\nA\r\n0123456789\r\n00\r\n\r\n",
            b"abc0123456789",
        ),
        (b'3;a="x;y";b\r\nabc\r\n0;c=d\r\n\r\n', b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b'3 ;\ta = "x ; y" ; b=c;d\r\nabc\r\n0\t;c\r\n\r\n', b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", b"1\r\n\r\r\n1\r\n\n\r\n0\r\n\r\n", b"\r\n"),
        (b"0\r\nX-A: 1\r\nx-b:2\r\n\r\n", b"0\r\nX-A: 1\r\nx-b:2\r\n\r\n", b""),
        (b"0\r\nX-A: 1\r\nHost: b\r\n\r\n", b"0\r\nX-A: 1\r\n\r\n", b""),
        (b"0\r\nHOST: b\r\n\r\n", b"0\r\n\r\n", b""),
    ],
)
def test_what_passes_on(body: bytes, passed: bytes, data: bytes) -> None:
    assert scan([body + b"more"]) == (passed, b"more", True)
    assert scan([body + b"more"], decode=True) == (data, b"more", True)


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Connection",
        "Cookie",
        "Via",
        "Trailer",
        "TE",
        "Upgrade",
        "Keep-Alive",
        "Proxy-Authorization",
        "Set-Cookie",
        "Location",
        "Retry-After",
        "Content-Type",
        "If-None-Match",
        "X-Envoy-Attempt-Count",
        "x-sidecar-reason",
        "X-Forwarded-Prefix",
        "X-Request-Id",
        "traceparent",
        "Idempotency-Key",
        "Expect",
        "Range",
        "Cache-Control",
    ],
)
def test_trailers_that_never_pass(name: str) -> None:
    body = f"0\r\nX-A: 1\r\n{name}: 5\r\nX-B: 2\r\n{name.upper()}:6\r\n\r\n".encode()
    assert scan([body])[0] == b"0\r\nX-A: 1\r\nX-B: 2\r\n\r\n"


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"1\n",
        b"1\r\r\n",
        b"1;\r\n",
        b"1; \r\n",
        b"1;a \r\n",
        b"1;a= \r\n",
        b"1;a b\r\n",
        b"1 1\r\n",
        b"1 ;a\n",
        b"1;a=\r\n",
        b'1;a="\r\n',
        b"1;a\x00\r\n",
        b"3\r\nabcd",
        b"3\r\nabcX\r\n",
        b"3\r\nabc\n",
        b"3\r\nabc0\r\n\r\n",
        b"0\r\nbad\r\n\r\n",
        b"0\r\n x: y\r\n\r\n",
        b"0\r\nx : y\r\n\r\n",
        b"0\r\n: y\r\n\r\n",
        b"0\r\nx: a\x00\r\n\r\n",
        b"0\r\nx: a\nb: c\r\n\r\n",
        b"0\r\nx: a\rb\r\n\r\n",
        b"00000000000000001\r\n",
    ],
)
def test_what_is_not_chunked(body: bytes) -> None:
    with pytest.raises(BadChunk):
        scan([body])
    with pytest.raises(BadChunk):
        scan([body[at : at + 1] for at in range(len(body))])


@pytest.mark.parametrize(
    ("body", "passed"),
    [
        (b"3  \r\nabc\r\n0 \r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        (b"3;\r\nabc\r\n0; \r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n"),
        (b'3 ; a b="\xe9\r\nabc\r\n0\r\n\r\n', b"3\r\nabc\r\n0\r\n\r\n"),
    ],
)
def test_what_only_a_service_may_send(body: bytes, passed: bytes) -> None:
    assert scan([body], lenient=True) == (passed, b"", True)
    assert scan([body[at : at + 1] for at in range(len(body))], lenient=True) == (passed, b"", True)
    with pytest.raises(BadChunk):
        scan([body])


@pytest.mark.parametrize(
    "body",
    [b" 1\r\n", b"1\n", b"1 \n", b"1;a\nb\r\n", b"1;a\rb\r\n", b"1;\0\r\n", b"1 a\r\n", b"0\r\nX: y\n\n", b"0\r\n\n"],
)
def test_what_not_even_a_service_may_send(body: bytes) -> None:
    with pytest.raises(BadChunk):
        scan([body], lenient=True)
    with pytest.raises(BadChunk):
        scan([body[at : at + 1] for at in range(len(body))], lenient=True)


@pytest.mark.parametrize(
    "beginning",
    [
        *(b"x", b"1 x", b"1\n", b"3\r\nabcX", b"00000000000000000", b"1;\0"),
        *(b"0\r\n\n", b"0\r\n\rX", b"0\r\nX: y\n", b"0\r\nX: y\rZ", b"0\r\nX: y\r\n\n", b"0\r\nX \0", b"0\r\n: y"),
    ],
)
def test_what_cannot_become_good_is_refused_at_once(beginning: bytes) -> None:
    with pytest.raises(BadChunk):
        scan([beginning])
    with pytest.raises(BadChunk):
        scan([beginning[at : at + 1] for at in range(len(beginning))])


def size_line(length: int) -> bytes:
    return b"1;" + b"a" * (length - 2) + b"\r\nx\r\n0\r\n\r\n"


def trailers(length: int) -> bytes:
    """A body whose trailer lines have `length` bytes, without the CRLF of the last and the blank line."""
    return b"0\r\nX: " + b"a" * (length - 3) + b"\r\n\r\n"


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("bytewise", [False, True])
def test_bound_on_a_size_line(more: int, bytewise: bool) -> None:
    body = size_line(MAX_SIZE_LINE + more)
    pieces = [body[at : at + 1] for at in range(len(body))] if bytewise else [body]
    if more <= 0:
        assert scan(pieces, decode=True) == (b"x", b"", True)
    else:
        with pytest.raises(BadChunk):
            scan(pieces)


@pytest.mark.parametrize("more", [-1, 0, 1])
@pytest.mark.parametrize("bytewise", [False, True])
def test_bound_on_trailers(more: int, bytewise: bool) -> None:
    body = trailers(MAX_TRAILERS + more)
    pieces = [body[at : at + 1] for at in range(len(body))] if bytewise else [body]
    if more <= 0:
        assert scan(pieces) == (body, b"", True)
    else:
        with pytest.raises(BadChunk):
            scan(pieces)


def test_trailers_without_end_are_refused() -> None:
    with pytest.raises(BadChunk):
        scan([b"0\r\n", *[b"X: y\r\n"] * MAX_TRAILERS])


def test_data_of_a_large_chunk_is_passed_without_a_copy() -> None:
    scanner = ChunkScanner()
    scanner.feed(b"100000\r\n")
    piece = b"a" * 65536
    (passed,), rest = scanner.feed(piece)
    assert passed is piece
    assert rest == b""


def test_end_is_known_at_its_last_byte_and_not_before() -> None:
    scanner = ChunkScanner()
    for byte in b"1\r\na\r\n0\r\nX: y\r\n\r\n":
        assert not scanner.done
        scanner.feed(bytes([byte]))
    assert scanner.done


def test_trailers_of_a_decoded_body_are_fields() -> None:
    scanner = ChunkScanner(decode=True)
    assert scanner.trailers == ()
    body = b"1\r\na\r\n0\r\nX-A:  b \r\nHost: c\r\nx-a: d\r\n\r\n"
    assert scanner.feed(body) == ([b"a"], b"")
    assert scanner.trailers == ((b"x-a", b"b"), (b"x-a", b"d"))
