"""The head of a request over HTTP/2: what policies and routing need of it, and the fields to send on.

Owns what its fields mean to us, and what of them passes on, in the form of either protocol. That they are well-formed
(RFC 9113, section 8.2) is checked where they are decoded; what could not be written as HTTP/1.1 is refused here.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sidecar.proxy.http1.head_syntax import CHUNKED, MAX_FIELDS, BadRequest, Fields
from sidecar.proxy.http1.request_head import HOST, TOKEN, RequestHead

_PATH = re.compile(rb"/[\x21\x22\x24-\x7e]*")
_TARGET: Final = 0
_METHOD: Final = 1
_AUTHORITY: Final = 2
_SCHEME: Final = 3
_HOST: Final = 4
_REQUEST_ID: Final = 5
_TRACEPARENT: Final = 6
_LENGTH: Final = 7
_LOOP: Final = 8
_VIA: Final = 9
_IDEMPOTENCY_KEY: Final = 10
_EXPECT: Final = 11
_DEADLINE: Final = 12
_ATTEMPT_COUNT: Final = 13
_CONTENT_TYPE: Final = 14
_GRPC_TIMEOUT: Final = 15
_SERVICE: Final = 16
_NOT_OURS: Final = 17
_PREFIX: Final = 18
_NOTHING: Final = 99

_MEANING: Final = {
    b":path": _TARGET,
    b":method": _METHOD,
    b":authority": _AUTHORITY,
    b":scheme": _SCHEME,
    b"host": _HOST,
    b"x-request-id": _REQUEST_ID,
    b"traceparent": _TRACEPARENT,
    b"content-length": _LENGTH,
    b"x-sidecar-loop": _LOOP,
    b"via": _VIA,
    b"idempotency-key": _IDEMPOTENCY_KEY,
    b"expect": _EXPECT,
    b"x-envoy-upstream-rq-timeout-ms": _DEADLINE,
    b"x-envoy-expected-rq-timeout-ms": _DEADLINE,
    b"x-envoy-attempt-count": _ATTEMPT_COUNT,
    b"content-type": _CONTENT_TYPE,
    b"grpc-timeout": _GRPC_TIMEOUT,
    b"x-sidecar-service": _SERVICE,
    b"dapr-app-id": _SERVICE,
    b"proxy-authorization": _NOT_OURS,
    b"x-forwarded-prefix": _PREFIX,
}

KNOWN_METHODS: Final = {
    name.encode(): name
    for name in (
        *("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "COPY", "LOCK", "MKCOL", "MOVE"),
        *("PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND", "ACL", "REPORT", "MKACTIVITY"),
        *("CHECKOUT", "MERGE", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "MKCALENDAR", "LINK"),
        *("UNLINK", "SOURCE", "QUERY"),
    )
}
"""Those that llhttp knows: any other is as unusual here as it is over HTTP/1.1."""

_MOST_DIGITS: Final = 18
_GRPC: Final = b"application/grpc"


class H2RequestHead(RequestHead):
    """`fields` are those to send on, without the pseudo fields."""

    fields: Fields
    h2: bool = True
    has_length: bool = False
    """It has a content-length."""

    def host_sent(self) -> bytes:
        return self.host or b""

    def add(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def values(self, name: bytes) -> list[bytes]:
        return [value for found, value in self.fields if found == name]

    def drop(self, names: set[bytes]) -> None:
        self.fields = [field for field in self.fields if field[0] not in names]

    def drop_prefix(self) -> None:
        if self.forwarded_prefix_at >= 0:
            self.drop({b"x-forwarded-prefix"})

    def fields_for(self, target: bytes, host: bytes, scheme: bytes, more: Fields) -> Fields:
        pseudo = [
            *((b":method", self.method.encode()), (b":scheme", scheme)),
            *((b":path", target), (b":authority", host)),
        ]
        return pseudo + self.fields + more

    def bytes_for(self, target: bytes, host: bytes, more: bytes) -> bytes:
        lines = []
        crumbs = []
        for field in self.fields:
            name = field[0]
            if name == b"cookie":
                crumbs.append(field[1])
            elif name != b"te":  # of the connection, in HTTP/1.1
                lines.append(b"\r\n%b: %b" % field)
        if crumbs:  # RFC 9113, section 8.2.3
            lines.append(b"\r\ncookie: " + b"; ".join(crumbs))
        if self.length == CHUNKED:
            lines.append(b"\r\nTransfer-Encoding: chunked")
        elif not self.has_length and self.method in ("POST", "PUT", "PATCH"):  # RFC 9110, section 8.6
            lines.append(b"\r\nContent-Length: 0")
        method = self.method.encode()
        return b"%b %b HTTP/1.1\r\nHost: %b%b%b\r\n\r\n" % (method, target, host, b"".join(lines), more)


def read_request(fields: Fields, *, ended: bool, max_fields: int = MAX_FIELDS) -> H2RequestHead:
    """What the fields of a request's head say. `ended`: no body follows. Raises BadRequest."""
    if len(fields) > max_fields + 4:  # the pseudo fields are those of the request line
        raise BadRequest(431, f"more than {max_fields} header fields, which is listen.max_header_fields")
    request = H2RequestHead()
    # Any: a pair of bytes would be taken apart and made anew for each field.
    kept: list[Any] = []
    given: list[Any] = fields
    request.fields = kept
    host: bytes | None = None
    method = target = b""
    meaning = _MEANING
    for field in given:
        kind = meaning.get(field[0], _NOTHING)
        if kind == _NOTHING:
            kept.append(field)
            continue
        value: bytes = field[1]
        if kind == _TARGET:
            target = value
        elif kind == _METHOD:
            method = value
        elif kind == _AUTHORITY:
            request.host = value
        elif kind == _HOST:
            if host is not None and host != value:
                raise BadRequest(400, "more than one Host header")
            host = value
        elif kind == _CONTENT_TYPE:
            kept.append(field)
            request.grpc = is_grpc(value)
        elif kind == _GRPC_TIMEOUT:
            request.grpc_timeout = value
        elif kind == _REQUEST_ID:
            if value:
                request.request_id = value
                kept.append(field)
        elif kind == _TRACEPARENT:
            if value:
                before = request.traceparent  # two are one value that is malformed (W3C Trace Context, section 3.2)
                request.traceparent = value if before is None else before + b", " + value
                kept.append(field)
        elif kind == _LENGTH:
            if not value.isdigit() or len(value) > _MOST_DIGITS or request.has_length:
                raise BadRequest(400, "the Content-Length is not one number")
            request.length = int(value)
            request.has_length = True
            kept.append(field)
        elif kind == _SERVICE:
            if request.service_asked is not None and request.service_asked != value:
                raise BadRequest(400, "the metadata names two services")
            request.service_asked = value
        else:
            _rare(request, kind, field)
    _line(request, method, target, host)
    request.grpc = request.grpc and method == b"POST"
    if not ended and not request.has_length:
        request.length = CHUNKED
    return request


def _rare(request: H2RequestHead, kind: int, field: Any) -> None:
    """Fields that most requests do not have."""
    value: bytes = field[1]
    if kind == _LOOP:
        request.loop = value if request.loop is None else request.loop + b", " + value
        request.fields.append(field)
    elif kind == _VIA:
        request.via = value if request.via is None else request.via + b", " + value
        request.fields.append(field)
    elif kind == _IDEMPOTENCY_KEY:
        request.idempotency_key = True
        request.fields.append(field)
    elif kind == _EXPECT:
        request.expects_continue = value.lower() == b"100-continue"
        request.fields.append(field)
    elif kind == _DEADLINE:
        request.deadline_ms = (*request.deadline_ms, value)
    elif kind == _ATTEMPT_COUNT:
        request.for_repeated = request.for_repeated or (value.isdigit() and value.lstrip(b"0") not in (b"", b"1"))
    elif kind == _PREFIX:
        request.forwarded_prefix_at = 0
        request.fields.append(field)


def _line(request: H2RequestHead, method: bytes, target: bytes, host: bytes | None) -> None:
    """What HTTP/1.1 has in its request line and in Host."""
    known = KNOWN_METHODS.get(method)
    if known is not None:
        request.method = known
    else:
        if not TOKEN.fullmatch(method):
            raise BadRequest(400, "the method is not a token")
        request.method = method.decode()
        request.unusual = True
    if not _PATH.fullmatch(target) and not (target == b"*" and method == b"OPTIONS"):
        raise BadRequest(400, "the :path does not begin with /, or has a byte that a target may not have")
    request.target = target
    if request.host is None:
        request.host = host
    elif host is not None and host != request.host:
        raise BadRequest(400, "the Host is not the :authority")
    if request.host is None:
        raise BadRequest(400, "no :authority")
    if not HOST.fullmatch(request.host):
        raise BadRequest(400, "the :authority is not host[:port]")


def is_grpc(content_type: bytes) -> bool:
    """Whether it is that of gRPC over HTTP/2, in any message format. gRPC-Web is another protocol."""
    return content_type.startswith(_GRPC) and content_type[16:17] in (b"", b"+", b";")
