"""The head of a request as bytes: checked by llhttp, read by one regular expression, rewritten by cutting and joining.

Owns the syntax of request heads, their framing (RFC 9112, section 6), and which of their fields are hop-by-hop
(RFC 9110, section 7.6.1). What llhttp lets pass and we refuse is refused here: HTTP/0.9, extra spaces in the request
line, `#` in a target, two Hosts, Transfer-Encoding on HTTP/1.0 or other than exactly `chunked`.

Ordinary heads are read by `scan`, which is compiled. `parse_thoroughly` reads the others, and says what a head means:
what `scan` takes, it reads the same. So a field that is looked for here has to be in scan.c too.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import HttpParserError, HttpParserInvalidMethodError, HttpParserUpgrade, HttpRequestParser

from sidecar.proxy.http1.head_syntax import (
    A_FIELD,
    BARE_LINE_END,
    CHUNKED,
    FRAMING,
    MAX_FIELDS,
    NO_CALLBACKS,
    UNKNOWN_METHOD,
    BadRequest,
    Fields,
    field_lines,
    lower_fields,
    without,
)
from sidecar.proxy.http1.scan import scan_request
from sidecar.telemetry.trace import FOREIGN_CONTEXT

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST_AND_PORT = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~-]+):[0-9]{1,5}")
HOST: Final = re.compile(rb"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(?::[0-9]*)?")

_TLS: Final = b"\x16\x03"
"""How a handshake begins."""

REQUEST_NAMES: Final = (
    *("host", "connection", "keep-alive", "proxy-connection", "proxy-authorization", "te", "transfer-encoding"),
    *("content-length", "upgrade", "expect", "via", "x-request-id", "x-sidecar-loop", "traceparent"),
    *("idempotency-key", "x-envoy-upstream-rq-timeout-ms", "x-envoy-expected-rq-timeout-ms", "x-envoy-attempt-count"),
    "x-forwarded-prefix",
)
"""The fields that mean something to us, here and in scan.c."""
_REQUEST_FIELDS = field_lines(*REQUEST_NAMES)

_OURS = frozenset(
    {b"host", b"transfer-encoding", b"authorization", b"cookie", b"via", b"x-request-id", b"traceparent", b"tracestate"}
    | {b"x-forwarded-prefix", b"idempotency-key"}
)
_OURS_PREFIXES = (b"content-", b"x-envoy-", b"x-sidecar-")


class ConnectAsked(BadRequest):
    """The head is a CONNECT. It is no request itself: others follow on a connection to `authority`, host:port."""

    def __init__(self, authority: bytes) -> None:
        super().__init__(405, "a CONNECT opens a connection to a service: requests follow it, and it is none itself")
        self.authority = authority


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
    loop: bytes | None = None
    """The names of the sidecars that the request has passed (x-sidecar-loop, as CDN-Loop of RFC 8586)."""
    deadline_ms: tuple[bytes, ...] = ()
    unusual: bool = False
    """llhttp does not know its method."""
    for_repeated: bool = False
    """The app makes it while it serves a request that was itself repeated (an x-envoy-attempt-count above 1)."""
    h2: bool = False
    """It came over HTTP/2."""
    grpc: bool = False
    """It is a gRPC call."""
    grpc_timeout: bytes | None = None
    """How long the app gives a gRPC call, as the app wrote it."""
    service_asked: bytes | None = None
    """The service that the app names in its metadata."""

    def host_sent(self) -> bytes:
        """The authority that the app addressed: an absolute-form target's, else Host (RFC 9112, section 3.2.2)."""
        if self.target[0] != 0x2F and b"://" in self.target:
            return re.split(rb"[/?]", self.target.partition(b"://")[2], maxsplit=1)[0]
        return self.host or b""

    def add(self, name: bytes, value: bytes) -> None:
        """One field more to send on."""
        self.pieces.append(b"\r\n" + name + b": " + value)

    def values(self, name: bytes) -> list[bytes]:
        """The values of a field that passes on; `name` in lower case. Not for the hot path: it looks at every line."""
        fields = A_FIELD.findall(b"".join(self.pieces))
        return [value.rstrip(b" \t") for found, value in fields if found.lower() == name]

    def drop(self, names: set[bytes]) -> None:
        """Leave out these fields; `names` in lower case. Not for the hot path: it looks at every line."""
        self.pieces[:] = [without(piece, names) for piece in self.pieces]

    def drop_prefix(self) -> None:
        """Leave out the app's own X-Forwarded-Prefix."""
        if self.forwarded_prefix_at >= 0:
            self.pieces[self.forwarded_prefix_at] = b""

    def fields_for(self, target: bytes, host: bytes, scheme: bytes, more: Fields) -> Fields:
        """The head to send over HTTP/2 (RFC 9113, section 8.3.1)."""
        pseudo = [(b":method", self.method.encode()), (b":scheme", scheme), (b":path", target), (b":authority", host)]
        return [*pseudo, *lower_fields(b"".join(self.pieces), FRAMING), *more]

    def bytes_for(self, target: bytes, host: bytes, more: bytes) -> bytes:
        """The head to send upstream. `more` is further field lines, each opened (not closed) by CRLF."""
        pieces, method = self.pieces, self.method.encode()
        # Compiled, the format is one copy of the parts; a join of them all costs twice as much.
        if self.host_at >= 0:
            pieces[self.host_at] = host
            return b"%b %b HTTP/1.1%b%b\r\n\r\n" % (method, target, b"".join(pieces), more)
        return b"%b %b HTTP/1.1\r\nHost: %b%b%b\r\n\r\n" % (method, target, host, b"".join(pieces), more)


def has_foreign_context(request: RequestHead) -> bool:
    """Whether the request bears trace context in another form than W3C's: a traceparent would cut that trace off."""
    return any(request.values(name) for name in FOREIGN_CONTEXT)


def check_partial(received: bytes, since: int = 0) -> None:
    """Refuse what can no longer become a head, without waiting for the rest of it. Up to `since` it was checked before.

    Raises BadRequest. Syntax inside complete fields is left to `parse_request`.
    """
    line_end = received.find(b"\r\n")
    if line_end >= 0:
        if not _REQUEST_LINE.match(received):
            raise _why_not_a_request_line(received)
    else:
        token = TOKEN.match(received)
        if token is None or (token.end() < len(received) and received[token.end()] != 0x20):
            raise _why_not_a_request_line(received)
    if BARE_LINE_END.search(received, max(since - 1, 0)):
        raise BadRequest(400, "a line of the head does not end with CRLF")


def _why_not_a_request_line(head: bytes) -> BadRequest:
    line = head.partition(b"\r\n")[0]
    token = TOKEN.match(line)
    if head.startswith(_TLS):
        return BadRequest(400, "this is TLS: the sidecar is called in plaintext, and adds TLS itself")
    if token is None or (token.end() < len(line) and line[token.end()] != 0x20):
        return BadRequest(400, "this is not an HTTP request")
    if BARE_LINE_END.search(line):
        return BadRequest(400, "a line of the head does not end with CRLF")
    parts = line.split(b" ")
    if len(parts) == 2:
        return BadRequest(400, "the request line has no version: HTTP/0.9 is not supported")
    if len(parts) != 3 or not parts[1]:
        return BadRequest(400, "the request line is not method, target and version with one space between them")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        return BadRequest(400, "only HTTP/1.1 and HTTP/1.0 are supported")
    return BadRequest(400, "the target has a byte that is not printable ASCII: percent-encode it")


def _refusal(head: bytes, method: bytes, error: HttpParserError) -> BadRequest:
    if isinstance(error, HttpParserInvalidMethodError):
        return BadRequest(501, UNKNOWN_METHOD)
    codings = _codings(head)
    if codings not in ([], [b"chunked"]) and not re.search(rb"\r\ncontent-length:", head, re.IGNORECASE):
        return _bad_codings(codings)
    if method == b"PRI":
        return BadRequest(400, "PRI is no method of HTTP/1.1: it begins a connection of HTTP/2")
    return BadRequest(400, f"the head is malformed: {error.args[0] if error.args else 'syntax'}")


def _codings(head: bytes) -> list[bytes]:
    """The transfer codings of all lines, in lower case."""
    fields = _REQUEST_FIELDS.finditer(head)
    values = [field[2] for field in fields if field[1].lower() == b"transfer-encoding"]
    return [coding.strip(b" \t").lower() for coding in b",".join(values).split(b",")] if values else []


def _bad_codings(codings: list[bytes]) -> BadRequest:
    """Why a list of transfer codings, in lower case, is refused: RFC 9112, sections 6.1 and 6.3."""
    if codings[-1] != b"chunked":
        return BadRequest(400, "the last transfer coding is not chunked, so the end of the body is unknown")
    if codings.count(b"chunked") > 1:
        return BadRequest(400, "Transfer-Encoding names chunked more than once")
    return BadRequest(501, "chunked is the only transfer coding that is supported")


def _is_sound_but_for_its_method(head: bytes, method: bytes) -> bool:
    """Whether llhttp accepts the head with a method that it knows: POST, as any method may have a body."""
    if method == b"PRI":
        return False
    try:
        HttpRequestParser(NO_CALLBACKS).feed_data(b"POST" + head[len(method) :])
    except HttpParserUpgrade:
        pass
    except HttpParserError:
        return False
    return True


def parse_request(head: bytes, max_fields: int = MAX_FIELDS) -> RequestHead:
    """Check and read one head, from its first byte to its blank line.

    Raises BadRequest, and ConnectAsked for a sound CONNECT. A method that llhttp does not know passes: it is `unusual`,
    and whether it is allowed is for the route to say.
    """
    scanned = scan_request(head, max_fields)
    if scanned is None:
        return parse_thoroughly(head, max_fields)
    request = RequestHead()
    (
        request.method,
        request.target,
        request.host,
        request.length,
        request.keep_alive,
        request.idempotency_key,
        request.for_repeated,
        request.request_id,
        request.traceparent,
        request.loop,
        request.deadline_ms,
        request.pieces,
    ) = scanned
    request.host_at = 1
    return request


def parse_thoroughly(head: bytes, max_fields: int = MAX_FIELDS) -> RequestHead:
    """`parse_request` for every head, without the scanner."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _why_not_a_request_line(head)
    method, target, minor = line.groups()
    unusual = False
    try:
        HttpRequestParser(NO_CALLBACKS).feed_data(head)
    except HttpParserUpgrade:
        pass  # llhttp stops after the head of an upgrade; what becomes of it is decided below
    except HttpParserError as error:
        if not _is_sound_but_for_its_method(head, method):
            raise _refusal(head, method, error) from None
        unusual = True
    if head.count(b"\n") - 2 > max_fields:
        raise BadRequest(431, f"more than {max_fields} header fields, which is listen.max_header_fields")
    if b"#" in target:
        raise BadRequest(400, "the target has a fragment")

    request = RequestHead()
    request.method = method.decode()
    request.target = target
    if unusual:
        request.unusual = True
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
                raise BadRequest(400, "more than one Host header")
            request.host = value = value.rstrip(b" \t")
            if not HOST.fullmatch(value):
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
                raise _bad_codings(_codings(head))
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
        elif name == b"x-sidecar-loop":
            request.loop = value if request.loop is None else request.loop + b", " + value
            continue
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

    if method == b"CONNECT":
        if chunked or length:
            raise BadRequest(400, "a CONNECT has no body")
        if not _HOST_AND_PORT.fullmatch(target):
            raise BadRequest(400, "the target of a CONNECT is host:port")
        raise ConnectAsked(target)
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
        if not TOKEN.fullmatch(option):
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
        request.drop(named)
