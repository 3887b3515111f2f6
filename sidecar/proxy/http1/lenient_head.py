"""Puts a service's malformed response head right: bare LF, folded lines, repeated Content-Length, HTTP/1.2.

Owns where such a head ends, what of it is mended, and the words for what is not. It runs only where `response_head` has
refused a head, or where one ends with a bare LF; what it returns is read by `response_head` again, so nothing passes on
that is not strict. Apps get no such leniency. What other proxies let pass stands in decision 0003.
"""

from __future__ import annotations

import re

from sidecar.proxy.http1.head_syntax import LONE_CR, NOT_HTTP, BadResponse

HEAD_END = re.compile(rb"\n\r?\n")
"""The end of a head whose lines may end with CRLF or a bare LF: an empty line of either kind."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([0-9])[ \t]+([1-5][0-9][0-9])(?:[ \t]([\t\x20-\x7e\x80-\xff]*))?")
_VERSION = re.compile(rb"HTTP/1\.[0-9](?=[ \t])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
_NOT_IN_A_LINE = re.compile(rb"[^\t\x20-\x7e\x80-\xff]")

_FRAMING = (b"content-length", b"transfer-encoding")


def mend(head: bytes) -> tuple[bytes, str | None]:
    """Put one head right, from its first byte to its empty line (as HEAD_END has it).

    Returns the head, and where its line ends are mixed: the first line that ends with a bare LF although others end
    with CRLF, by its field's name or in words; None where all are alike. Raises BadResponse where the head stays wrong.
    The words name fields and repeat no values.
    """
    lines = head.split(b"\n")[:-1]
    stripped = [line.removesuffix(b"\r") for line in lines]
    if any(b"\r" in line for line in stripped):
        raise BadResponse(LONE_CR)
    status_line = _status_line(stripped[0])
    fields = _with_one_length(_unfolded(stripped[1:-1]))
    whole = b"\r\n".join([status_line, *(name + b": " + value for name, value in fields), b"", b""])
    return whole, _mixed_at(lines, stripped)


def _mixed_at(lines: list[bytes], stripped: list[bytes]) -> str | None:
    bare = [at for at, line in enumerate(lines) if not line.endswith(b"\r")]
    if not bare or len(bare) == len(lines):
        return None
    at = bare[0]
    while stripped[at][:1] in (b" ", b"\t"):  # a folded line is part of the field above
        at -= 1
    if at == 0:
        return "the status line"
    return stripped[at].partition(b":")[0].decode("latin-1") if stripped[at] else "the empty line at the end"


def _status_line(line: bytes) -> bytes:
    found = _STATUS_LINE.fullmatch(line)
    if found is None:
        if not line.startswith(b"HTTP/1."):
            raise BadResponse(NOT_HTTP if line else "the head begins with an empty line")
        if not _VERSION.match(line):
            raise BadResponse("the version in the status line is malformed")
        if _NOT_IN_A_LINE.search(line):
            raise BadResponse("the status line has a control character")
        raise BadResponse("the status line has no status from 100 to 599")
    minor, status, phrase = found.groups()
    return b"HTTP/1.%d %b %b" % (min(int(minor), 1), status, phrase or b"")


def _unfolded(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The fields of these lines; a line that begins with white space goes on from the one above (obs-fold)."""
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if not fields:
                raise BadResponse("white space stands before the first field")
            name, value = fields[-1]
            if name.lower() in _FRAMING:
                raise BadResponse(f"{name.decode()} is folded over two lines")
            if _NOT_IN_A_LINE.search(line):
                raise BadResponse(f"the field {name.decode()} has a control character in its value")
            fields[-1] = name, (value.rstrip(b" \t") + b" " + line.strip(b" \t")).strip(b" \t")
            continue
        found = _FIELD.fullmatch(line)
        if found is None:
            raise BadResponse(_why_not_a_field(line))
        fields.append((found[1], found[2].strip(b" \t")))
    return fields


def _why_not_a_field(line: bytes) -> str:
    name, colon, _ = line.partition(b":")
    if not colon:
        return "a line of the head has no colon"
    if not name:
        return "a field has no name"
    if name.rstrip(b" \t") != name:
        return "white space stands before the colon of a field"
    if _FIELD.fullmatch(name + b":"):
        return f"the field {name.decode()} has a control character in its value"
    return "the name of a field has a character that names cannot have"


def _with_one_length(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields with one Content-Length at most, in the place of the first."""
    lengths: set[int] = set()
    codings: list[bytes] = []
    mended = []
    for name, value in fields:
        lower = name.lower()
        if lower == b"content-length":
            given = [one.strip(b" \t") for one in value.split(b",")]
            if not all(one.isdigit() and len(one) <= 19 for one in given):
                raise BadResponse("Content-Length is not a number of bytes")
            known = bool(lengths)
            lengths |= {int(one) for one in given}
            if len(lengths) > 1:
                raise BadResponse("Content-Length is given twice, with values that differ")
            if known:
                continue
            value = b"%d" % min(lengths)
        elif lower == b"transfer-encoding":
            codings += [coding.strip(b" \t").lower() for coding in value.split(b",")]
        mended.append((name, value))
    if codings:
        _check_codings(codings)
        if lengths:
            raise BadResponse("both Content-Length and Transfer-Encoding")
    return mended


def _check_codings(codings: list[bytes]) -> None:
    if codings.count(b"chunked") > 1:
        raise BadResponse("Transfer-Encoding names chunked more than once")
    if codings != [b"chunked"]:
        raise BadResponse("Transfer-Encoding names a coding other than chunked")
