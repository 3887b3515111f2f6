"""Heads of responses that are put right: what passes on is strict, and means what the lenient reading meant."""

from __future__ import annotations

import re

import httptools
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.proxy.http1.head_syntax import BARE_LINE_END, BadResponse
from sidecar.proxy.http1.lenient_head import HEAD_END, mend
from sidecar.proxy.http1.response_head import ResponseHead, parse_response
from tests.proxy.heads import Fields, Seen, any_field, attempt, known
from tests.support.message import Fields as Message
from tests.support.message import body_framing, parse_response_head


def mended(head: bytes) -> bytes:
    return mend(head)[0]


@st.composite
def sloppy_heads(draw: st.DrawFn) -> bytes:
    """Up to and with its first empty line; line ends of both kinds, folds, and sometimes a byte too many."""
    ends = draw(st.sampled_from([["\r\n"], ["\n"], ["\r\n", "\n"]]))
    folds = draw(st.booleans())
    version = draw(st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/1.2", "HTTP/1.9", "HTTP/2.0"]))
    gap = draw(st.sampled_from([" "] * 6 + ["  ", "\t"]))
    status = draw(st.sampled_from(["200"] * 6 + ["103", "204", "304", "99", "600"]))
    phrase = draw(st.sampled_from([" OK", "", " ", " caf\xe9", "  two  spaces "]))
    text = f"{version}{gap}{status}{phrase}" + draw(st.sampled_from(ends))
    for line in draw(st.lists(st.one_of(known, known, known, any_field), max_size=5)):
        if folds and draw(st.booleans()):
            at = draw(st.integers(0, len(line)))
            line = line[:at] + draw(st.sampled_from(ends)) + draw(st.sampled_from([" ", "\t", "  "])) + line[at:]
        text += line + draw(st.sampled_from(ends))
    data = bytearray((text + draw(st.sampled_from(ends))).encode("latin-1", "replace"))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1]))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 1))] = draw(st.sampled_from([b"\r", b"\n", b"\0", b":", b" ", b"\x7f"]))
    found = HEAD_END.search(data)
    return bytes(data[: found.end()]) if found else bytes(data) + b"\n\n"


def meaning(head: bytes) -> tuple[int, Fields]:
    """What a reader makes of a head that is as lenient as RFC 9112, sections 2.2 and 5.2, allows; written anew."""
    text = re.sub(rb"[ \t]*\r?\n[ \t]+", b" ", head)
    first, *lines = re.split(rb"\r?\n", text)
    fields: Fields = []
    for line in lines:
        if line:
            name, _, value = line.partition(b":")
            fields.append((name, value))
    return int(first.split()[1]), fields


def one_length(fields: Fields) -> Fields:
    """Repeated and listed lengths as one number, in the place of the first."""
    found: Fields = []
    for name, value in fields:
        if name.lower() == b"content-length":
            if any(other.lower() == b"content-length" for other, _ in found):
                continue
            value = b"%d" % int(value.split(b",")[0])
        found.append((name, b" ".join(value.split())))
    return found


@given(sloppy_heads(), st.sampled_from(["GET", "HEAD"]))
@example(b"HTTP/1.1 200 OK\nContent-Length: 5, 5\r\nX: a\n\t b\n\r\n", "GET")
@example(b"HTTP/1.7  200\nX:\n\n", "GET")
def test_what_passes_on_is_strict_and_means_the_same(head: bytes, method: str) -> None:
    found = attempt(mend, head)
    if isinstance(found, BadResponse):
        assert str(found)
        return
    assert isinstance(found, tuple)
    strict, _ = found
    response = attempt(parse_response, strict, method)
    if not isinstance(response, ResponseHead):
        return
    assert not BARE_LINE_END.search(strict)
    seen = Seen()
    seen.parser = httptools.HttpResponseParser(seen)
    seen.feed(strict)
    status, fields = meaning(head)
    assert (seen.status, seen.heads) == (status, 1)
    assert [(name, b" ".join(value.split())) for name, value in seen.fields] == one_length(fields)

    # And what goes to the app is strict by the rules of the tests' own client too.
    sent = response.bytes_for(b"")
    _, sent_status, _, headers = parse_response_head(sent)
    assert sent_status == status
    body_framing(Message(sent, headers))


@given(sloppy_heads())
def test_what_is_strict_stays_as_it_is_read(head: bytes) -> None:
    """Mending changes the meaning of nothing that is accepted without it."""
    response = attempt(parse_response, head, "GET")
    if isinstance(response, ResponseHead):
        again = parse_response(mended(head), "GET")
        for name in ("status", "length", "keep_alive", "websocket", "loop", "dated"):
            assert getattr(again, name) == getattr(response, name)
        assert not BARE_LINE_END.search(head)  # nothing with a bare LF or CR is ever accepted unmended


@given(st.binary(max_size=80))
def test_arbitrary_bytes_raise_nothing_but_a_refusal(data: bytes) -> None:
    data += b"\n\n"
    found = HEAD_END.search(data)
    assert found is not None
    assert isinstance(attempt(mend, data[: found.end()]), tuple | BadResponse)


@pytest.mark.parametrize(
    ("head", "strict"),
    [
        ("HTTP/1.1 200 OK\nA: b\n\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        ("HTTP/1.0 200\n\n", "HTTP/1.0 200 \r\n\r\n"),
        ("HTTP/1.2 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
        ("HTTP/1.9  200 \tOK \r\n\r\n", "HTTP/1.1 200 \tOK \r\n\r\n"),
        ("HTTP/1.1\t200\tOK\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\t d\r\nE: f\r\n\r\n", "HTTP/1.1 200 OK\r\nA: b c d\r\nE: f\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nA:\r\n b\r\n \r\n\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\ncontent-length: 05\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5 ,\t5\r\nA: b\r\n\r\n", None),
    ],
)
def test_what_is_put_right(head: str, strict: str | None) -> None:
    expected = strict or "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\n"
    assert mended(head.encode("latin-1")) == expected.encode("latin-1")
    assert parse_response(mended(head.encode("latin-1")), "GET").status == 200


OK = "HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("SSH-2.0-x\r\n\r\n", "not HTTP/1"),
        ("http/1.1 200 OK\r\n\r\n", "not HTTP/1"),
        ("HTTP/2.0 200 OK\r\n\r\n", "not HTTP/1"),
        ("\r\n\r\n", "begins with an empty line"),
        ("HTTP/1.10 200 OK\r\n\r\n", "version in the status line"),
        ("HTTP/1.1\r\n\r\n", "version in the status line"),
        ("HTTP/1.1 600 X\r\n\r\n", "status from 100 to 599"),
        ("HTTP/1.1 099 X\r\n\r\n", "status from 100 to 599"),
        ("HTTP/1.1 200OK\r\n\r\n", "status from 100 to 599"),
        ("HTTP/1.1 200 O\x01K\r\n\r\n", "status line has a control character"),
        (OK + " A: b\r\n\r\n", "before the first field"),
        (OK + "A: b\rC: d\r\n\r\n", "carriage return"),
        (OK + "A: b\r\r\n\r\n", "carriage return"),
        (OK + "A: b\n\r\r\n\r\n", "carriage return"),
        (OK + "A: b\x00\r\n\r\n", "field A has a control character"),
        (OK + "A: b\r\n \x00\r\n\r\n", "field A has a control character"),
        (OK + "A : b\r\n\r\n", "before the colon"),
        (OK + "A\t: b\r\n\r\n", "before the colon"),
        (OK + ": b\r\n\r\n", "no name"),
        (OK + "A\r\n\r\n", "no colon"),
        (OK + "A B: c\r\n\r\n", "character that names cannot have"),
        (OK + "A\xe9: c\r\n\r\n", "character that names cannot have"),
        (OK + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "given twice, with values that differ"),
        (OK + "Content-Length: 5, 6\r\n\r\n", "given twice, with values that differ"),
        (OK + "Content-Length: 5,\r\n\r\n", "not a number"),
        (OK + "Content-Length: \r\n\r\n", "not a number"),
        (OK + "Content-Length: +5\r\n\r\n", "not a number"),
        (OK + "Content-Length: 0x5\r\n\r\n", "not a number"),
        (OK + "Content-Length: 5 5\r\n\r\n", "not a number"),
        (OK + "Content-Length: " + "9" * 5000 + "\r\n\r\n", "not a number"),
        (OK + "Content-Length: 5\r\n 5\r\n\r\n", "Content-Length is folded"),
        (OK + "Transfer-Encoding:\r\n chunked\r\n\r\n", "Transfer-Encoding is folded"),
        (OK + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", "both Content-Length and Transfer-Encoding"),
        (OK + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "names chunked more than once"),
        (OK + "Transfer-Encoding: chunked, Chunked\r\n\r\n", "names chunked more than once"),
        (OK + "Transfer-Encoding: gzip, chunked\r\n\r\n", "a coding other than chunked"),
        (OK + "Transfer-Encoding: identity\r\n\r\n", "a coding other than chunked"),
    ],
)
def test_what_stays_wrong_and_its_words(head: str, words: str) -> None:
    for text in {head, head if "\r\r" in head else head.replace("\r\n", "\n")}:
        data = text.encode("latin-1")
        assert HEAD_END.search(data) is not None
        with pytest.raises(BadResponse, match=re.escape(words)):
            mend(data)


def test_coding_in_http_1_0_stays_wrong() -> None:
    head = mended(b"HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n")
    with pytest.raises(BadResponse, match=r"Transfer-Encoding in HTTP/1\.0"):
        parse_response(head, "GET")


@pytest.mark.parametrize(
    ("head", "where"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\nA: b\n\n", None),
        (b"HTTP/1.1 200 OK\nA: b\r\n\r\n", "the status line"),
        (b"HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", "A"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n c\nD: e\r\n\r\n", "A"),
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\n", "the empty line at the end"),
        (b"HTTP/1.1 200 OK\nA: b\n\r\n", "the status line"),
    ],
)
def test_where_line_ends_are_mixed(head: bytes, where: str | None) -> None:
    assert mend(head)[1] == where


@pytest.mark.parametrize(
    ("data", "end"),
    [
        (b"H\r\n\r\nbody", 5),
        (b"H\n\nbody", 3),
        (b"H\n\r\nbody", 4),
        (b"H\r\n\nbody", 4),
        (b"H\nA: b\n\n\r\n\r\n", 8),
        (b"H\r\n \r\n", -1),
        (b"H\n\r", -1),
    ],
)
def test_where_a_head_ends(data: bytes, end: int) -> None:
    found = HEAD_END.search(data)
    assert (found.end() if found else -1) == end
