"""One health check over HTTP/2, on a connection of its own: gRPC's own protocol for it, or a GET.

Owns what is sent and what an answer must be, as `sidecar.health.http_check` does for HTTP/1.1. That package stands
below the engine, so it is handed `ask`.

gRPC's protocol is `grpc.health.v1.Health/Check` (gRPC's doc/health-checking.md): a message with one text, and an answer
with one number, 1 of which means SERVING.
"""

from __future__ import annotations

import asyncio
from ssl import SSLContext
from typing import Any, Final, cast

from sidecar import __version__
from sidecar.health.http_check import BAD_RESPONSE, IMMEDIATE_FAIL, OK, RESET, Server
from sidecar.health.report import NO_HEALTH_SERVICE, NOT_SERVING, SERVICE_UNKNOWN
from sidecar.policy.grpc import NUMBERS, UNIMPLEMENTED, format_timeout, name_of, status_of_http
from sidecar.policy.health_state import IMMEDIATE_FAIL_HEADER
from sidecar.policy.settings import HealthSettings
from sidecar.proxy.h2.connection import H2Connection
from sidecar.proxy.h2.frames import CANCEL
from sidecar.proxy.h2.response import status_of_trailers
from sidecar.proxy.h2.stream import StreamUser
from sidecar.proxy.http1.head_syntax import Fields

HEAD_MAX: Final = 256 * 1024
"""As much as `limits.max_head` may be."""

BODY_MAX: Final = 64 * 1024
"""Bytes of a body that are read."""

USER_AGENT: Final = f"sidecar-health/{__version__}".encode()

_SERVING: Final = 1
_UNKNOWN_SERVICE: Final = 3


async def ask(server: Server, settings: HealthSettings, tls: SSLContext | None, server_name: str | None = None) -> str:
    """Send the request and judge the answer: OK, or the reason why it is not. `tls` is None for plain TCP; then the
    certificate must be for `server_name`, or for the server's own name.

    Waits for as long as the server does; cancel it freely. Raises OSError when no connection is made.
    """
    loop = asyncio.get_running_loop()
    verdict: asyncio.Future[str] = loop.create_future()
    connection = _Connection(verdict)
    name = (server_name or server.server_name) if tls else None
    await loop.create_connection(
        lambda: cast(Any, connection), server.address, server.port, ssl=tls, server_hostname=name
    )
    try:
        if tls is not None and connection.transport.get_extra_info("ssl_object").selected_alpn_protocol() != "h2":
            return BAD_RESPONSE
        answer = _Answer(verdict, settings)
        stream = connection.open(answer)
        if stream is None:
            return RESET
        scheme = b"https" if tls else b"http"
        stream.send_head(_head(server, settings, scheme), settings.grpc is None)
        if settings.grpc is not None:
            stream.send_data([_framed(_request(settings.grpc.service))], True)
        try:
            return await verdict
        finally:
            stream.reset(CANCEL)  # where it has not ended by itself
    finally:
        connection.close()
        connection.transport.close()  # what the server still says is of no interest


def _head(server: Server, settings: HealthSettings, scheme: bytes) -> Fields:
    own: Fields = [(name.lower().encode(), value.encode()) for name, value in settings.headers.items()]
    given = {name for name, _ in own}
    authority = next((value for name, value in own if name == b"host"), server.authority)
    fields: Fields = []
    if settings.grpc is None:
        target = (settings.path or "/").encode()
        pseudo: Fields = [(b":method", b"GET"), (b":scheme", scheme), (b":path", target), (b":authority", authority)]
    else:
        path = b"/grpc.health.v1.Health/Check"
        pseudo = [(b":method", b"POST"), (b":scheme", scheme), (b":path", path), (b":authority", authority)]
        fields = [
            *((b"content-type", b"application/grpc"), (b"te", b"trailers")),
            (b"grpc-timeout", format_timeout(settings.timeout)),
        ]
    fields.append((b"user-agent", USER_AGENT))
    return [*pseudo, *(one for one in fields if one[0] not in given), *(one for one in own if one[0] != b"host")]


class _Connection(H2Connection):
    """Its end is the end of the check."""

    def __init__(self, verdict: asyncio.Future[str]) -> None:
        super().__init__(True, HEAD_MAX)
        self._verdict = verdict

    def ended(self, why: str) -> None:
        _tell(self._verdict, RESET)


class _Answer(StreamUser):
    """Reads one answer. What comes after the verdict is not looked at."""

    def __init__(self, verdict: asyncio.Future[str], settings: HealthSettings) -> None:
        self._verdict = verdict
        self._settings = settings
        self._body = b""

    def head_received(self, fields: Fields, end: bool) -> None:
        found = dict(fields)
        status = int(found.get(b":status", b"0"))
        if 100 <= status < 200:
            return
        if IMMEDIATE_FAIL_HEADER.encode() in found:
            self._tell(IMMEDIATE_FAIL)
        elif self._settings.grpc is None:
            if status not in self._settings.expect:
                self._tell(f"status {status}")
            elif end:
                self._tell(OK)
        elif status != 200:
            self._tell(_of_status(status_of_http(status)))
        elif end:
            self.trailers_received(fields)

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        if len(self._body) < BODY_MAX:
            self._body += data
        if self._settings.grpc is None:
            if end or len(self._body) >= BODY_MAX:
                self._tell(OK)
        elif end or len(self._body) >= BODY_MAX:
            self._tell(BAD_RESPONSE)

    def trailers_received(self, fields: Fields) -> None:
        if self._settings.grpc is None:
            self._tell(OK)
            return
        status, _, _ = status_of_trailers(fields)
        self._tell(_of_message(self._body) if status == 0 else _of_status(status))

    def stream_lost(self, code: int, unprocessed: bool, why: str) -> None:
        self._tell(RESET)

    def stream_writable(self) -> None:
        """What is sent is small."""

    def _tell(self, verdict: str) -> None:
        _tell(self._verdict, verdict)


def _tell(future: asyncio.Future[str], verdict: str) -> None:
    if not future.done():
        future.set_result(verdict)


def _of_status(status: int) -> str:
    if status == UNIMPLEMENTED:
        return NO_HEALTH_SERVICE
    if status == NUMBERS["NOT_FOUND"]:
        return SERVICE_UNKNOWN
    return f"status {name_of(status)}"


def _request(service: str) -> bytes:
    """HealthCheckRequest: `string service = 1`."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def _of_message(body: bytes) -> str:
    """The verdict of HealthCheckResponse: `ServingStatus status = 1`. Without it the status is UNKNOWN."""
    if len(body) < 5 or body[0] or len(body) != 5 + int.from_bytes(body[1:5], "big"):
        return BAD_RESPONSE
    try:
        status = _field_1(body[5:])
    except IndexError:
        return BAD_RESPONSE
    if status == _SERVING:
        return OK
    return SERVICE_UNKNOWN if status == _UNKNOWN_SERVICE else NOT_SERVING


def _framed(message: bytes) -> bytes:
    return b"\x00" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field_1(message: bytes) -> int:
    """The number of field 1, 0 where there is none. Other fields are passed over. Raises IndexError where it is not
    protobuf."""
    found = at = 0
    while at < len(message):
        tag, at = _read_varint(message, at)
        kind = tag & 7
        if kind == 0:
            number, at = _read_varint(message, at)
            if tag >> 3 == 1:
                found = number
        elif kind == 1:
            at += 8
        elif kind == 2:
            size, at = _read_varint(message, at)
            at += size
        elif kind == 5:
            at += 4
        else:
            raise IndexError
    if at > len(message):
        raise IndexError
    return found


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise IndexError
