"""The head of a response as bytes: checked by llhttp, read by one regular expression, rewritten by cutting and joining.

Owns the syntax of response heads, their framing (RFC 9112, section 6), and which of their fields are hop-by-hop
(RFC 9110, section 7.6.1) or not an upstream's to send.

Ordinary heads are read by `scan`, which is compiled. `parse_thoroughly` reads the others, and says what a head means:
what `scan` takes, it reads the same. So a field that is looked for here has to be in scan.c too.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from sidecar.proxy.http1.head_syntax import (
    BARE_CR,
    CHUNKED,
    FRAMING,
    LONE_CR,
    MAX_FIELDS,
    NO_CALLBACKS,
    NOT_HTTP,
    UNTIL_CLOSE,
    BadResponse,
    Fields,
    field_lines,
    lower_fields,
    without,
)
from sidecar.proxy.http1.scan import scan_response

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-5][0-9][0-9] [\t\x20-\x7e\x80-\xff]*\r\n")

_DATE = re.compile(rb"\r\ndate:", re.IGNORECASE)

RESPONSE_NAMES: Final = (
    *("connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding"),
    *("content-length", "upgrade", "location", "retry-after", "x-sidecar-reason", "x-sidecar-fallback"),
    *("x-envoy-attempt-count", "x-envoy-immediate-health-check-fail"),
)
"""The fields that mean something to us, here and in scan.c, which has Date too."""
_RESPONSE_FIELDS = field_lines(*RESPONSE_NAMES)


class ResponseHead:
    """A response's head: status, framing, and the fields to pass on.

    `length` is the body's length in bytes, 0 where there is none (HEAD, 1xx, 204, 304), CHUNKED or UNTIL_CLOSE.
    `keep_alive` says whether the upstream will take another request on this connection.
    """

    status: int
    status_line: bytes
    """After the version: ` 200 OK`."""
    pieces: list[bytes]
    length: int
    keep_alive: bool
    location_at: int = -1
    retry_after: bytes | None = None
    websocket: bool = False
    dated: bool = True
    """It has a Date."""
    loop: bool = False
    """A sidecar further on found that the request had come back to it."""
    immediate_fail: bool = False
    """The endpoint says of itself that it should get no requests (Envoy: x-envoy-immediate-health-check-fail)."""
    h2: bool = False
    """It came over HTTP/2."""
    ended: bool = False
    """Over HTTP/2: nothing follows it, not even trailers."""
    grpc: bool = False
    """It is the head of a gRPC answer: status 200, and a content type that says so."""
    grpc_status: int = -1
    """That of a gRPC call which has ended already; -1 while it is not known."""
    grpc_message: bytes = b""
    """Beside that status, percent-encoded as it came."""
    pushback: bytes | None = None
    """The service's word on when a gRPC call may be repeated (grpc-retry-pushback-ms)."""

    def add(self, name: bytes, value: bytes) -> None:
        """One field more for the app."""
        self.pieces.append(b"\r\n" + name + b": " + value)

    def location(self) -> bytes | None:
        return self.pieces[self.location_at] if self.location_at >= 0 else None

    def relocate(self, location: bytes) -> None:
        """Put another Location in place of the one that there is."""
        self.pieces[self.location_at] = location

    def lines(self) -> bytes:
        """The fields to pass on as lines, each opened (not closed) by CRLF."""
        return b"".join(self.pieces)

    def fields_for(self, more: Fields) -> Fields:
        """The head to send over HTTP/2 (RFC 9113, section 8.3.2)."""
        return [(b":status", b"%d" % self.status), *lower_fields(b"".join(self.pieces), FRAMING), *more]

    def bytes_for(self, more: bytes) -> bytes:
        """The head to send to the app; `more` is further field lines, each opened (not closed) by CRLF."""
        return b"HTTP/1.1%b%b%b\r\n\r\n" % (self.status_line, b"".join(self.pieces), more)


def why_no_response(received: bytes, since: int = 0) -> str | None:
    """Why what has come of a head can no longer become one, not even if it is put right; None while it can.

    Up to `since` it was looked at before.
    """
    if not received.startswith(b"HTTP/1."[: len(received)]):
        return NOT_HTTP
    return LONE_CR if BARE_CR.search(received, max(since - 1, 0)) else None


def parse_response(head: bytes, method: str, max_fields: int = MAX_FIELDS) -> ResponseHead:
    """Check and read one response head that answers a request of this method. Strict: `lenient_head` is asked next.

    Raises BadResponse.
    """
    scanned = scan_response(head, method == "HEAD", max_fields)
    if scanned is None:
        return parse_thoroughly(head, method, max_fields)
    response = ResponseHead()
    (
        response.status,
        response.status_line,
        response.length,
        response.keep_alive,
        response.dated,
        has_location,
        response.retry_after,
        response.pieces,
    ) = scanned
    if has_location:
        response.location_at = 1
    return response


def parse_thoroughly(head: bytes, method: str, max_fields: int = MAX_FIELDS) -> ResponseHead:
    """`parse_response` for every head, without the scanner."""
    line = _STATUS_LINE.match(head)
    if line is None:
        raise BadResponse("the status line is not one of HTTP/1.1 or HTTP/1.0 with a status of 100 to 599")
    try:
        HttpResponseParser(NO_CALLBACKS).feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise BadResponse(f"the head is malformed: {error.args[0] if error.args else 'syntax'}") from None
    if len(head) > 4 * max_fields and head.count(b"\n") - 2 > max_fields:  # no line is shorter than `a:` CRLF
        raise BadResponse(f"more than {max_fields} header fields, which is limits.max_header_fields")
    response = ResponseHead()
    response.status = status = int(head[9:12])
    at = line.end() - 2
    response.status_line = head[8:at]
    response.pieces = pieces = []
    modern = head[7] == 0x31
    bodyless = status < 200 or status == 204 or status == 304
    length: int | None = None
    chunked = False
    connection = upgrade = None
    for field in _RESPONSE_FIELDS.finditer(head, at):
        name, value = field.groups()
        name = name.lower()
        if name == b"content-length":
            length = int(value)
            plain = value.isdigit() and (value[0] != 0x30 or (length == 0 and len(value) == 1))
            if plain and (not bodyless or status == 304):
                continue
            pieces.append(head[at : field.start()])
            if status == 304 or not bodyless:
                pieces.append(b"\r\nContent-Length: %d" % length)
            at = field.end()
            continue
        if name == b"transfer-encoding":
            if value.strip(b" \t").lower() != b"chunked" or chunked:
                raise BadResponse("a transfer coding other than chunked")
            chunked = True
        elif name == b"connection":
            connection = value if connection is None else connection + b"," + value
        elif name == b"upgrade":
            upgrade = value.strip(b" \t").lower()
        elif name == b"location":
            pieces.append(head[at : field.start(2)])
            response.location_at = len(pieces)
            pieces.append(value.rstrip(b" \t"))
            at = field.end()
            continue
        elif name == b"x-envoy-immediate-health-check-fail":
            response.immediate_fail = True
        elif name == b"retry-after":
            response.retry_after = value.rstrip(b" \t")
            continue
        elif name == b"x-sidecar-reason" and value.strip(b" \t") == b"loop":
            # An app must be able to trust what we say as ours; a loop is one wherever it was found.
            response.loop = True
            continue
        pieces.append(head[at : field.start()])
        at = field.end()
    pieces.append(head[at:-4])
    # Not `in`, nor a pattern for both: together these two take half as long.
    if head.find(b"\nDate:") < 0 and head.find(b"\ndate:") < 0 and not _DATE.search(head):
        response.dated = False

    if chunked and length is not None:
        raise BadResponse("both Content-Length and Transfer-Encoding")
    if chunked and not modern:
        raise BadResponse("Transfer-Encoding in HTTP/1.0")
    if bodyless or method == "HEAD":
        response.length = 0
    elif chunked:
        response.length = CHUNKED
    elif length is None:
        response.length = UNTIL_CLOSE
    else:
        response.length = length
    if connection is None:
        response.keep_alive = modern
    else:
        connection = connection.lower()
        if connection == b"keep-alive":
            response.keep_alive = True
        elif connection == b"close":
            response.keep_alive = False
        else:
            _response_connection(response, connection, upgrade, modern=modern)
    if response.length == UNTIL_CLOSE:
        response.keep_alive = False
    return response


def _response_connection(response: ResponseHead, connection: bytes, upgrade: bytes | None, *, modern: bool) -> None:
    options = {option.strip(b" \t") for option in connection.split(b",")} - {b""}
    response.keep_alive = b"close" not in options and (modern or b"keep-alive" in options)
    response.websocket = b"upgrade" in options and upgrade == b"websocket"
    named = options - {b"close", b"keep-alive", b"upgrade", b"te", b"content-length", b"transfer-encoding", b"location"}
    if named:
        response.dated = response.dated and b"date" not in named
        response.pieces[:] = [without(piece, named) for piece in response.pieces]
