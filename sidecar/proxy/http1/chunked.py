"""Where a chunked body ends, found without decoding it (RFC 9112, section 7.1).

Owns the grammar of chunks and trailers. The bytes pass on as they came, but for chunk extensions (dropped with the
white space around them: they are hop-by-hop) and trailer fields that would change framing, routing or authentication.
Whatever passes on is strict: a property test holds that llhttp reads it as the same data with the same end.

What an app sends follows the grammar, white space around `;` and `=` included (BWS, RFC 9110, section 5.6.3). A
service may also pad a chunk's size with white space, and write what it likes behind the `;`: nobody reads it.
"""

from __future__ import annotations

import re
from typing import Final

from sidecar.proxy.http1.head_syntax import Trailers, lower_fields

MAX_SIZE_LINE: Final = 1024
"""Bytes of a chunk's size line with its extensions."""

MAX_TRAILERS: Final = 8 * 1024

_HEX: Final = b"0123456789abcdefABCDEF"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e]|\\[\t \x21-\x7e])*"'
_BWS = rb"[ \t]*"
_EXTENSION = _BWS + b";" + _BWS + _TOKEN + b"(?:" + _BWS + b"=" + _BWS + b"(?:" + _TOKEN + b"|" + _QUOTED + b"))?"
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*)")
_SIZE_LINE_SO_FAR = re.compile(rb"(?:[0-9A-Fa-f]{1,16}[ \t]*(?:;[\t \x21-\x7e]*)?)?\r?")
_LENIENT_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,16})([ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?)")
_LENIENT_SIZE_LINE_SO_FAR = re.compile(rb"(?:[0-9A-Fa-f]{1,16}[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?)?\r?")
_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
_TRAILER = re.compile(rb"(" + _TOKEN + rb"):" + _VALUE)
_TRAILERS_SO_FAR = re.compile(
    rb"(?:" + _TOKEN + rb":" + _VALUE + rb"\r\n)*(?:" + _TOKEN + rb"(?::" + _VALUE + rb"\r?)?|\r)?"
)  # fmt: skip

_NOT_IN_TRAILERS = frozenset(
    b"authorization cache-control connection content-encoding content-length content-range content-type cookie expect "
    b"forwarded host idempotency-key keep-alive location max-forwards proxy-authenticate proxy-authorization "
    b"proxy-connection range retry-after set-cookie te traceparent tracestate trailer transfer-encoding upgrade via "
    b"www-authenticate x-request-id".split()
)
_NOT_IN_TRAILERS_PREFIXES = (b"if-", b"x-envoy-", b"x-forwarded-", b"x-sidecar-")

_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILERS: Final = 3
_DONE: Final = 4


def may_be_trailer(name: bytes) -> bool:
    """Whether a trailer field of this name, in lower case, passes on: it changes neither framing nor routing."""
    return name not in _NOT_IN_TRAILERS and not name.startswith(_NOT_IN_TRAILERS_PREFIXES)


class BadChunk(Exception):
    """The body is not a chunked body; the message says what is wrong."""


class ChunkScanner:
    """Follows one chunked body through the slices in which it arrives.

    With `decode` it yields the data alone, else the chunked form to send on. `lenient` is for what services send.
    """

    __slots__ = ("_decode", "_left", "_lenient", "_partial", "_state", "trailers")

    def __init__(self, *, decode: bool = False, lenient: bool = False) -> None:
        self._decode = decode
        self._lenient = lenient
        self._state = _SIZE
        self._left = 0
        self._partial = b""
        self.trailers: Trailers = ()
        """With `decode`: those that pass on, names in lower case."""

    @property
    def done(self) -> bool:
        """The last chunk and the trailers have been seen."""
        return self._state == _DONE

    def feed(self, data: bytes) -> tuple[list[bytes], bytes]:
        """Take the next slice: what to pass on of it, and what stands after the body's end (empty until `done`).

        Raises BadChunk.
        """
        if self._state == _DATA and self._left >= len(data):  # deep inside a large chunk: nothing to look at
            self._left -= len(data)
            if not self._left:
                self._state = _DATA_END
            return [data], b""
        if self._partial:
            data = self._partial + data
            self._partial = b""
        out: list[bytes] = []
        position = passed = 0  # what lies between them passes on as it is
        size = len(data)
        while True:
            if self._state == _SIZE:
                end = data.find(b"\r\n", position)
                if end < 0 or end - position > MAX_SIZE_LINE:
                    so_far = size - position - data.endswith(b"\r")
                    fit = _LENIENT_SIZE_LINE_SO_FAR if self._lenient else _SIZE_LINE_SO_FAR
                    if so_far > MAX_SIZE_LINE or not fit.fullmatch(data, position):
                        raise BadChunk("a chunk's size line is malformed or too long")
                    break
                size_end = end
                digits = data[position:end]
                if not 0 < end - position <= 16 or digits.strip(_HEX):  # not plain, as almost all are
                    line = (_LENIENT_SIZE_LINE if self._lenient else _SIZE_LINE).fullmatch(data, position, end)
                    if line is None:
                        raise BadChunk("a chunk's size is malformed")
                    digits = line[1]
                    size_end = line.end(1)
                self._left = int(digits, 16)
                if self._decode:
                    passed = end + 2
                elif size_end < end:
                    out.append(data[passed:size_end])
                    passed = end
                position = end + 2
                self._state = _DATA if self._left else _TRAILERS
            elif self._state == _DATA:
                taken = min(self._left, size - position)
                position += taken
                self._left -= taken
                if self._left:
                    break
                if self._decode:
                    out.append(data[passed:position])
                    passed = position
                self._state = _DATA_END
            elif self._state == _DATA_END:
                if data[position : position + 2] != b"\r\n":
                    if data[position:] not in (b"", b"\r"):
                        raise BadChunk("a chunk does not end where its size says")
                    break
                position += 2
                if self._decode:
                    passed = position
                self._state = _SIZE
            else:
                if data.startswith(b"\r\n", position):
                    position += 2
                else:
                    end = data.find(b"\r\n\r\n", position)
                    if end < 0 or end - position > MAX_TRAILERS:
                        if size - position > MAX_TRAILERS + 3:  # all but the last byte of the empty line
                            raise BadChunk("the trailers are too long")
                        if not _TRAILERS_SO_FAR.fullmatch(data, position):
                            raise BadChunk("a trailer field is malformed")
                        break
                    kept = _trailers(data[position : end + 2])
                    if self._decode:
                        self.trailers = tuple(lower_fields(b"\r\n" + kept, frozenset()))
                    else:
                        out.append(data[passed:position])
                        out.append(kept + b"\r\n")
                    position = passed = end + 4
                self._state = _DONE
                if not self._decode and passed < position:
                    out.append(data[passed:position])
                return out, data[position:]
        if passed < position:
            out.append(data if passed == 0 and position == size else data[passed:position])
        self._partial = data[position:]
        return out, b""


def _trailers(section: bytes) -> bytes:
    kept = []
    for line in section.split(b"\r\n")[:-1]:
        field = _TRAILER.fullmatch(line)
        if field is None:
            raise BadChunk("a trailer field is malformed")
        name = field[1].lower()
        if may_be_trailer(name):
            kept.append(line + b"\r\n")
    return b"".join(kept)
