"""Message heads as bytes: checked by llhttp, read through one regular expression, rewritten by cutting and joining.

Owns the syntax of request and response heads, their framing (RFC 9112, section 6), and which fields are hop-by-hop
(RFC 9110, section 7.6.1). It knows no socket, no service and no policy.

llhttp says whether a head is well-formed, with no Python callback per field. What llhttp lets pass and we refuse is
refused here: HTTP/0.9, extra spaces in the request line, `#` in a target, two Hosts, Transfer-Encoding on HTTP/1.0 or
other than exactly `chunked`. Fields that we have no business with are never looked at: they stay one slice of the
original bytes, so their names keep case and order.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import (
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

MAX_HEAD: Final = 32 * 1024
"""Bytes of a head, its blank line included."""

MAX_FIELDS: Final = 128

CHUNKED: Final = -2
"""`length` of a body framed by chunks."""

UNTIL_CLOSE: Final = -1
"""`length` of a response that ends with its connection."""

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*)?\r\n")
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BARE_LINE_END = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)")
_HOST = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")


def _fields(*names: str) -> re.Pattern[bytes]:
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


_REQUEST_FIELDS = _fields(
    *("host", "connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding"),
    *("content-length", "upgrade", "expect", "via", "x-request-id", "traceparent", "x-forwarded-prefix"),
    *("idempotency-key", "x-envoy-upstream-rq-timeout-ms", "x-envoy-expected-rq-timeout-ms", "x-envoy-attempt-count"),
)
_RESPONSE_FIELDS = _fields(
    *("connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding"),
    *(
        "content-length",
        "upgrade",
        "location",
        "retry-after",
        "x-sidecar-reason",
        "x-sidecar-fallback",
        "x-envoy-attempt-count",
        "x-envoy-immediate-health-check-fail",
    ),
)

_OURS = frozenset(
    {b"host", b"transfer-encoding", b"authorization", b"cookie", b"via", b"x-request-id", b"traceparent", b"tracestate"}
    | {b"x-forwarded-prefix", b"idempotency-key"}
)
_OURS_PREFIXES = (b"content-", b"x-envoy-", b"x-sidecar-")


class _NoCallbacks:
    """What llhttp is given to call: nothing."""


_NO_CALLBACKS = _NoCallbacks()


class BadRequest(Exception):
    """A request that goes no further.

    `status` is what the app is told (400, 405, 408, 413, 431, 501), `detail` says why in words for its developer.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class BadResponse(Exception):
    """What an upstream sent is not an HTTP/1 response that may be passed on."""


class RequestHead:
    """A request's head: what policies and routing need of it, and the rest as slices.

    `length` is the body's length in bytes, 0 without a body, or CHUNKED. `deadline_ms` holds the raw values of the two
    Envoy timeout fields. `pieces` are the fields to send on; `host_at` is the index of the Host value among them.
    """

    # Defaults stand on the class: most heads leave most of them alone, and storing each would cost every request.
    method: str
    target: bytes
    pieces: list[bytes]
    minor: int = 1
    host: bytes | None = None
    host_at: int = -1
    forwarded_prefix_at: int = -1
    length: int = 0
    keep_alive: bool = True
    expects_continue: bool = False
    websocket: bool = False
    idempotency_key: bool = False
    request_id: bytes | None = None
    traceparent: bytes | None = None
    via: bytes | None = None
    deadline_ms: tuple[bytes, ...] = ()
    for_repeated: bool = False
    """The app makes it while it serves a request that was itself repeated (an x-envoy-attempt-count above 1)."""

    def host_sent(self) -> bytes:
        """The authority that the app addressed: an absolute-form target's, else Host (RFC 9112, section 3.2.2)."""
        if self.target[0] != 0x2F and b"://" in self.target:
            return re.split(rb"[/?]", self.target.partition(b"://")[2], maxsplit=1)[0]
        return self.host or b""

    def bytes_for(self, target: bytes, host: bytes, more: bytes) -> bytes:
        """The head to send upstream. `more` is further field lines, each opened (not closed) by CRLF."""
        pieces = self.pieces
        if self.host_at >= 0:
            pieces[self.host_at] = host
            return b"".join((self.method.encode(), b" ", target, b" HTTP/1.1", *pieces, more, b"\r\n\r\n"))
        return b"".join((self.method.encode(), b" ", target, b" HTTP/1.1\r\nHost: ", host, *pieces, more, b"\r\n\r\n"))


_A_FIELD = re.compile(rb"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)")


def field_values(request: RequestHead, name: bytes) -> list[bytes]:
    """The values of a field that passes on; `name` in lower case. Not for the hot path: it looks at every line."""
    fields = _A_FIELD.findall(b"".join(request.pieces))
    return [value.rstrip(b" \t") for found, value in fields if found.lower() == name]


def drop_fields(request: RequestHead, names: set[bytes]) -> None:
    """Leave out the lines of these fields; `names` in lower case. Not for the hot path: it looks at every line."""
    request.pieces[:] = [_without(piece, names) for piece in request.pieces]


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
    loop: bool = False
    """A sidecar further on found that the request had come back to it."""
    immediate_fail: bool = False
    """The endpoint says of itself that it should get no requests (Envoy: x-envoy-immediate-health-check-fail)."""

    def bytes_for(self, more: bytes) -> bytes:
        """The head to send to the app; `more` is further field lines, each opened (not closed) by CRLF."""
        return b"".join((b"HTTP/1.1", self.status_line, *self.pieces, more, b"\r\n\r\n"))


def check_partial(received: bytes) -> None:
    """Refuse what can no longer become a head, without waiting for the rest of it.

    Raises BadRequest. Syntax inside complete fields is left to `parse_request`.
    """
    line_end = received.find(b"\r\n")
    if line_end >= 0:
        if not _REQUEST_LINE.match(received):
            raise _why_not_a_request_line(received)
    else:
        token = _TOKEN.match(received)
        if token is None or (token.end() < len(received) and received[token.end()] != 0x20):
            raise _why_not_a_request_line(received)
    if _BARE_LINE_END.search(received):
        raise BadRequest(400, "a line of the head does not end with CRLF")


def may_become_response(received: bytes) -> bool:
    """Whether what has come of a response's head can still become one; if not, there is nothing to wait for."""
    if len(received) > MAX_HEAD or not received.startswith(b"HTTP/1."[: len(received)]):
        return False
    return not _BARE_LINE_END.search(received)


def _why_not_a_request_line(head: bytes) -> BadRequest:
    line = head.partition(b"\r\n")[0]
    token = _TOKEN.match(line)
    if token is None or (token.end() < len(line) and line[token.end()] != 0x20):
        return BadRequest(400, "this is not an HTTP request")
    if _BARE_LINE_END.search(line):
        return BadRequest(400, "a line of the head does not end with CRLF")
    parts = line.split(b" ")
    if len(parts) == 2:
        return BadRequest(400, "HTTP/0.9 is not spoken here: the request line has no version")
    if len(parts) != 3 or not parts[1]:
        return BadRequest(400, "the request line is not method, target and version with one space between them")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return BadRequest(400, "only HTTP/1.1 and HTTP/1.0 are spoken here")
    return BadRequest(400, "the target has a byte that is not printable ASCII: percent-encode it")


def _refusal(head: bytes, method: bytes, error: HttpParserError) -> BadRequest:
    if isinstance(error, HttpParserInvalidMethodError):
        return BadRequest(501, "the method is not known")
    codings = [
        field[2].strip().lower() for field in _REQUEST_FIELDS.finditer(head) if field[1].lower() == b"transfer-encoding"
    ]
    if codings and codings != [b"chunked"] and not re.search(rb"\r\ncontent-length:", head, re.IGNORECASE):
        return BadRequest(501, "the only transfer coding spoken here is chunked")
    if method == b"PRI":
        return BadRequest(400, "HTTP/2 is not spoken here")
    return BadRequest(400, f"the head is malformed: {error.args[0] if error.args else 'syntax'}")


def parse_request(head: bytes) -> RequestHead:
    """Check and read one head, from its first byte to its blank line.

    Raises BadRequest.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _why_not_a_request_line(head)
    method, target, minor = line.groups()
    try:
        HttpRequestParser(_NO_CALLBACKS).feed_data(head)
    except HttpParserUpgrade:
        pass  # llhttp stops after the head of an upgrade; what becomes of it is decided below
    except HttpParserError as error:
        raise _refusal(head, method, error) from None
    if head.count(b"\n") - 2 > MAX_FIELDS:
        raise BadRequest(431, f"more than {MAX_FIELDS} header fields")
    if method == b"CONNECT":
        raise BadRequest(405, "CONNECT is not offered: set HTTP_PROXY only, and call services by http://")
    if b"#" in target:
        raise BadRequest(400, "the target has a fragment")

    request = RequestHead()
    request.method = method.decode()
    request.target = target
    if minor != b"1":
        request.minor = 0
        request.keep_alive = False
    request.pieces = pieces = []
    length: int | None = None
    chunked = False
    connection = upgrade = None
    at = line.end() - 2
    for field in _REQUEST_FIELDS.finditer(head, at):
        name, value = field.groups()
        name = name.lower()
        if name == b"host":
            if request.host is not None:
                raise BadRequest(400, "more than one Host")
            request.host = value = value.rstrip(b" \t")
            if not _HOST.fullmatch(value):
                raise BadRequest(400, "the Host is not host[:port]")
            pieces.append(head[at : field.start(2)])
            request.host_at = len(pieces)
            pieces.append(value)
            at = field.end()
            continue
        if name == b"x-request-id":
            value = value.rstrip(b" \t")
            if value:
                request.request_id = value
                continue
        elif name == b"traceparent":
            value = value.rstrip(b" \t")
            if value:
                before = request.traceparent  # two are one value that is malformed (W3C Trace Context, section 3.2)
                request.traceparent = value if before is None else before + b", " + value
                continue
        elif name == b"content-length":
            length = int(value)
            if value.isdigit() and (value[0] != 0x30 or (length == 0 and len(value) == 1)):
                continue
            pieces.append(head[at : field.start()])
            pieces.append(b"\r\nContent-Length: %d" % length)
            at = field.end()
            continue
        elif name == b"transfer-encoding":
            if value.strip(b" \t").lower() != b"chunked" or chunked:
                raise BadRequest(501, "the only transfer coding spoken here is chunked")
            chunked = True
            pieces.append(head[at : field.start()])
            pieces.append(b"\r\nTransfer-Encoding: chunked")
            at = field.end()
            continue
        elif name == b"connection":
            value = value.rstrip(b" \t")
            connection = value if connection is None else connection + b"," + value
        elif name == b"upgrade":
            upgrade = value.strip(b" \t").lower() if upgrade is None else b"several"
        elif name == b"via":
            request.via = value if request.via is None else request.via + b", " + value
            continue
        elif name == b"idempotency-key":
            request.idempotency_key = True
            continue
        elif name == b"expect":
            if request.minor:  # RFC 9110, section 10.1.1: ignored in HTTP/1.0
                request.expects_continue = value.strip(b" \t").lower() == b"100-continue"
                continue
        elif name == b"x-forwarded-prefix":
            pieces.append(head[at : field.start()])
            if request.forwarded_prefix_at < 0:
                request.forwarded_prefix_at = len(pieces)
                pieces.append(field[0])
            at = field.end()
            continue
        elif name in (b"x-envoy-upstream-rq-timeout-ms", b"x-envoy-expected-rq-timeout-ms"):
            request.deadline_ms = (*request.deadline_ms, value)
        elif name == b"x-envoy-attempt-count":
            value = value.rstrip(b" \t")
            request.for_repeated = request.for_repeated or (value.isdigit() and value.lstrip(b"0") not in (b"", b"1"))
        # Whatever comes here is left out: hop-by-hop, or written anew for each attempt.
        pieces.append(head[at : field.start()])
        at = field.end()
    pieces.append(head[at:-4])

    if request.minor:
        if request.host is None:
            raise BadRequest(400, "no Host")
    elif chunked:
        raise BadRequest(400, "Transfer-Encoding in HTTP/1.0")
    if chunked and length is not None:
        raise BadRequest(400, "both Content-Length and Transfer-Encoding")
    if chunked:
        request.length = CHUNKED
    elif length:
        request.length = length
    if connection is not None:
        tokens = connection.lower()
        if tokens == b"close":
            request.keep_alive = False
        elif tokens == b"keep-alive":
            request.keep_alive = True
        else:
            _connection_options(request, tokens, upgrade)
    return request


def _connection_options(request: RequestHead, connection: bytes, upgrade: bytes | None) -> None:
    """Apply the options of a Connection field: what it names does not pass (RFC 9110, section 7.6.1)."""
    options = {option.strip(b" \t") for option in connection.split(b",")} - {b""}
    for option in options:
        if option in _OURS or option.startswith(_OURS_PREFIXES):
            raise BadRequest(400, "Connection names a field that is not hop-by-hop")
        if not _TOKEN.fullmatch(option):
            raise BadRequest(400, "Connection is not a list of tokens")
    if b"close" in options:
        request.keep_alive = False
    elif b"keep-alive" in options:
        request.keep_alive = True
    bodyless_get = request.method == "GET" and request.length == 0 and request.minor == 1
    if b"upgrade" in options and upgrade == b"websocket" and bodyless_get:
        request.websocket = True
    named = options - {b"close", b"keep-alive", b"upgrade", b"te"}
    if named:
        drop_fields(request, named)


def _without(fields: bytes, names: set[bytes]) -> bytes:
    """The field lines of a slice that is made of whole lines, each opened by CRLF, less those of these names."""
    if not fields.startswith(b"\r\n"):
        return fields
    lines = fields.split(b"\r\n")
    return b"\r\n".join(line for line in lines if line.partition(b":")[0].lower() not in names)


def parse_response(head: bytes, method: str) -> ResponseHead:
    """Check and read one response head that answers a request of this method.

    Raises BadResponse.
    """
    line = _STATUS_LINE.match(head)
    if line is None:
        raise BadResponse("the status line is not one of HTTP/1.1 or HTTP/1.0 with a status of 100 to 599")
    try:
        HttpResponseParser(_NO_CALLBACKS).feed_data(head)
    except HttpParserUpgrade:
        pass
    except HttpParserError as error:
        raise BadResponse(f"the head is malformed: {error.args[0] if error.args else 'syntax'}") from None
    if head.count(b"\n") - 2 > MAX_FIELDS:
        raise BadResponse(f"more than {MAX_FIELDS} header fields")
    response = ResponseHead()
    response.status = status = int(line[2])
    at = line.end() - 2
    response.status_line = head[8:at]
    response.pieces = pieces = []
    modern = line[1] == b"1"
    bodyless = status == 204 or status == 304 or status < 200
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
    response.keep_alive = modern
    if connection is not None:
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
        response.pieces[:] = [_without(piece, named) for piece in response.pieces]
