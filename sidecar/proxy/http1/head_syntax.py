"""What the heads of requests and of responses have in common: their bounds, refusals, and how fields are found in them.

Owns what `request_head` and `response_head` are built from. None of the three knows a socket, a service or a policy.

llhttp says whether a head is well-formed, with no Python callback per field; what it lets pass and we refuse is refused
by the two. Fields that we have no business with are never looked at: they stay one slice of the original bytes, so
their names keep case and order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

MAX_HEAD: Final = 32 * 1024
"""Bytes of a head, its blank line included: the default of `listen.max_head` and `limits.max_head`."""

MAX_FIELDS: Final = 128
"""The default of `listen.max_header_fields` and `limits.max_header_fields`."""

UNKNOWN_METHOD: Final = "the method is unknown: add it to allow_methods, or to the methods of a route's match"

CHUNKED: Final = -2
"""`length` of a body framed by chunks."""

UNTIL_CLOSE: Final = -1
"""`length` of a response that ends with its connection."""

BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
BARE_CR = re.compile(rb"\r(?!\n|\Z)")

NOT_HTTP: Final = "the answer is not HTTP/1"
LONE_CR: Final = "the head has a carriage return that does not end a line"
"""Words for two faults of a response's head, which may be seen before all of it has come."""


Fields = list[tuple[bytes, bytes]]
"""The fields of a head or of trailers as names in lower case and values: their form in HTTP/2."""

Trailers = tuple[tuple[bytes, bytes], ...]

FRAMING: Final = frozenset({b"host", b"transfer-encoding"})
"""What stands in the fields of HTTP/1.1 and has no place in those of HTTP/2 (RFC 9113, section 8.2.2). The fields of
the connection are cut off already where a head is read."""

A_FIELD: Final = re.compile(rb"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)")


class _NoCallbacks:
    """What llhttp is given to call: nothing. It asks for each of these by name, and not to find one costs more."""

    on_message_begin: None = None
    on_url: None = None
    on_status: None = None
    on_header: None = None
    on_headers_complete: None = None
    on_body: None = None
    on_message_complete: None = None
    on_chunk_header: None = None
    on_chunk_complete: None = None


NO_CALLBACKS = _NoCallbacks()


class BadRequest(Exception):
    """A request that goes no further.

    `status` is what the app is told (400, 405, 408, 414, 431, 501), `detail` says why in words for its developer.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class BadResponse(Exception):
    """What an upstream sent is not an HTTP/1 response that may be passed on."""


def field_lines(*names: str) -> re.Pattern[bytes]:
    """Finds whole lines of these fields, the CRLF before them included: group 1 is the name, group 2 the value.

    Written as a tree of character classes and not with IGNORECASE: the matcher leaves a branch at its first character,
    and most lines of a head at theirs, which takes half the time.
    """
    first = "".join(sorted({name[0] + name[0].upper() for name in names}))
    pattern = rf"\r\n(?=[{first}])({_branches(sorted(names))}):[ \t]*([^\r\n]*)"
    return re.compile(pattern.encode())


def _branches(names: list[str]) -> str:
    alternatives = []
    for first in sorted({name[0] for name in names if name}):
        rest = _branches([name[1:] for name in names if name[:1] == first])
        alternatives.append((f"[{first}{first.upper()}]" if first.isalpha() else re.escape(first)) + rest)
    if not alternatives:
        return ""
    both = alternatives[0] if len(alternatives) == 1 else f"(?:{'|'.join(alternatives)})"
    return f"(?:{both})?" if "" in names else both


def without(fields: bytes, names: set[bytes]) -> bytes:
    """The field lines of a slice that is made of whole lines, each opened by CRLF, less those of these names."""
    if not fields.startswith(b"\r\n"):
        return fields
    lines = fields.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].lower() not in names)


def lower_fields(lines: bytes, leave_out: frozenset[bytes]) -> Fields:
    """Field lines, each opened by CRLF, as HTTP/2 writes them: names in lower case, no space around values."""
    fields = [(name.lower(), value.strip(b" \t")) for name, value in A_FIELD.findall(lines)]
    return [field for field in fields if field[0] not in leave_out]


def field_lines_of(fields: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """The same the other way: each line opened by CRLF."""
    return [b"\r\n%b: %b" % field for field in fields]
