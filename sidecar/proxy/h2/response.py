"""The head of a response over HTTP/2, and what gRPC says in it or in the trailers.

Owns what its fields mean to us, and what of them passes on, in the form of either protocol. That they are well-formed
(RFC 9113, section 8.2) is checked where they are decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from sidecar.proxy.h2.request import is_grpc
from sidecar.proxy.http1.head_syntax import UNTIL_CLOSE, BadResponse, Fields
from sidecar.proxy.http1.response_head import ResponseHead

UNKNOWN: Final = 2
"""What a gRPC call has come to that ends without a status."""

_STATUS_LINES: Final = {int(one): f" {int(one)} {one.phrase}".encode() for one in HTTPStatus}

_STATUS: Final = 0
_LENGTH: Final = 1
_CONTENT_TYPE: Final = 2
_LOCATION: Final = 3
_RETRY_AFTER: Final = 4
_DATE: Final = 5
_GRPC_STATUS: Final = 6
_GRPC_MESSAGE: Final = 7
_PUSHBACK: Final = 8
_REASON: Final = 9
_OURS: Final = 10
_UNWELL: Final = 11
_NOTHING: Final = 99

_MEANING: Final = {
    b":status": _STATUS,
    b"content-length": _LENGTH,
    b"content-type": _CONTENT_TYPE,
    b"location": _LOCATION,
    b"retry-after": _RETRY_AFTER,
    b"date": _DATE,
    b"grpc-status": _GRPC_STATUS,
    b"grpc-message": _GRPC_MESSAGE,
    b"grpc-retry-pushback-ms": _PUSHBACK,
    b"x-sidecar-reason": _REASON,
    b"x-sidecar-fallback": _OURS,
    b"x-envoy-attempt-count": _OURS,
    b"x-envoy-immediate-health-check-fail": _UNWELL,
}


class H2ResponseHead(ResponseHead):
    """`fields` are those to pass on, without the pseudo field. A `length` that the head does not say is UNTIL_CLOSE:
    the body ends as its stream says."""

    fields: Fields
    h2: bool = True
    ended: bool = False
    """Nothing follows it, not even trailers."""
    keep_alive: bool = True

    def add(self, name: bytes, value: bytes) -> None:
        self.fields.append((name.lower(), value))

    def location(self) -> bytes | None:
        return self.fields[self.location_at][1] if self.location_at >= 0 else None

    def relocate(self, location: bytes) -> None:
        self.fields[self.location_at] = (b"location", location)

    def lines(self) -> bytes:
        return b"".join([b"\r\n%b: %b" % field for field in self.fields])

    def fields_for(self, more: Fields) -> Fields:
        return [(b":status", b"%d" % self.status), *self.fields, *more]

    def bytes_for(self, more: bytes) -> bytes:
        return b"HTTP/1.1%b%b%b\r\n\r\n" % (self.status_line, self.lines(), more)


def read_response(fields: Fields, *, method: str, ended: bool) -> H2ResponseHead:
    """What the fields of a response's head say. `ended`: no body follows. Raises BadResponse."""
    response = H2ResponseHead()
    # Any: a pair of bytes would be taken apart and made anew for each field.
    kept: list[Any] = []
    given: list[Any] = fields
    response.fields = kept
    response.dated = False
    response.status = 0
    length = UNTIL_CLOSE
    length_at = -1
    meaning = _MEANING
    for field in given:
        kind = meaning.get(field[0], _NOTHING)
        if kind == _NOTHING:
            kept.append(field)
            continue
        value: bytes = field[1]
        if kind == _STATUS:
            response.status = int(value) if value.isdigit() and len(value) == 3 else 0
        elif kind == _CONTENT_TYPE:
            response.grpc = is_grpc(value)
            kept.append(field)
        elif kind == _DATE:
            response.dated = True
            kept.append(field)
        elif kind == _GRPC_STATUS:
            response.grpc_status = grpc_status(value)
            kept.append(field)
        elif kind == _GRPC_MESSAGE:
            response.grpc_message = value
            kept.append(field)
        elif kind == _PUSHBACK:
            response.pushback = value
            kept.append(field)
        elif kind == _LENGTH:
            if not value.isdigit() or len(value) > 18 or length not in (UNTIL_CLOSE, int(value)):
                raise BadResponse("the Content-Length is not one number")
            if length == UNTIL_CLOSE:  # two that are equal are one
                length = int(value)
                length_at = len(kept)
                kept.append((b"content-length", b"%d" % length))
        elif kind == _LOCATION:
            response.location_at = len(kept)
            kept.append(field)
        elif kind == _RETRY_AFTER:
            response.retry_after = value
            kept.append(field)
        elif kind == _UNWELL:
            response.immediate_fail = True
        elif kind == _REASON and value == b"loop":
            # An app must be able to trust what we say as ours; a loop is one wherever it was found.
            response.loop = True
            kept.append(field)
    status = response.status
    if not 100 <= status <= 599:
        raise BadResponse("the :status is not one of 100 to 599")
    response.status_line = _STATUS_LINES.get(status) or b" %d " % status
    response.grpc = status == 200 and (response.grpc or response.grpc_status >= 0)
    response.ended = ended
    bodyless = ended or status < 200 or status in (204, 304) or method == "HEAD"
    if length > 0 and ended and status >= 200 and status not in (204, 304) and method != "HEAD":
        raise BadResponse("a Content-Length, and no body")
    if length_at >= 0 and (status < 200 or status == 204):  # RFC 9110, section 8.6: HTTP/1.1 would wait for the body
        del kept[length_at]
        response.location_at -= response.location_at > length_at
    response.length = 0 if bodyless else length
    return response


def grpc_status(value: bytes) -> int:
    """Of a field grpc-status. What is not a number, or not one of gRPC's, is UNKNOWN, as gRPC libraries read it."""
    number = int(value) if value.isdigit() and len(value) <= 2 else UNKNOWN
    return number if number <= 16 else UNKNOWN


def status_of_trailers(trailers: Sequence[tuple[bytes, bytes]]) -> tuple[int, bytes, bytes | None]:
    """The grpc-status, the grpc-message as it came, and the pushback; UNKNOWN without a status."""
    status, message, pushback = -1, b"", None
    for name, value in trailers:
        if name == b"grpc-status":
            status = grpc_status(value)
        elif name == b"grpc-message":
            message = value
        elif name == b"grpc-retry-pushback-ms":
            pushback = value
    return (UNKNOWN if status < 0 else status), message, pushback
