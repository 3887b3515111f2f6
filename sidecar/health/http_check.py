"""One HTTP request of a health check: sent on a connection of its own, and its answer judged.

Owns what is sent and what an answer must be. `sidecar.health.active` owns when an endpoint is checked.

The answer is read as leniently as the data path reads a service's answers (decision 0003): what an app would get passes
here too, or an endpoint that serves well would get no requests. Where the data path is stricter, its own verdicts show
that. Only the head and the framing of the body are read; the body's first BODY_MAX bytes are discarded.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from ssl import SSLContext
from typing import Final, Protocol

from sidecar import __version__
from sidecar.policy.health_state import IMMEDIATE_FAIL_HEADER
from sidecar.policy.settings import HealthSettings

OK: Final = "ok"
CONNECT_FAILURE: Final = "connect_failure"
RESET: Final = "reset"
BAD_RESPONSE: Final = "bad_response"
IMMEDIATE_FAIL: Final = "immediate_fail"

HEAD_MAX: Final = 256 * 1024
"""As much as `limits.max_head` may be."""
BODY_MAX: Final = 64 * 1024
USER_AGENT: Final = f"sidecar-health/{__version__}"

_HEAD_END: Final = re.compile(rb"\n\r?\n")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[0-9][ \t]+([1-5][0-9][0-9])(?![^ \t])")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):(.*)", re.DOTALL)
_MOST_OF_A_SIZE: Final = 16
"""Hexadecimal digits of a chunk's size."""
_CHUNKED: Final = -1
_UNTIL_CLOSE: Final = -2


class Server(Protocol):
    """Whom to ask: a live endpoint is one."""

    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def server_name(self) -> str: ...
    @property
    def authority(self) -> bytes:
        """The value of Host."""


async def ask(server: Server, settings: HealthSettings, tls: SSLContext | None, server_name: str | None = None) -> str:
    """Send the request and judge the answer: OK, or the reason why it is not. `tls` is None for plain TCP; then the
    certificate must be for `server_name`, or for the server's own name.

    Waits for as long as the server does; cancel it freely. Raises OSError when no connection is made.
    """
    loop = asyncio.get_running_loop()
    request = _request(server, settings)
    answer = _Answer(settings.expect, loop.create_future())
    name = (server_name or server.server_name) if tls else None
    transport, _ = await loop.create_connection(
        lambda: answer, server.address, server.port, ssl=tls, server_hostname=name
    )
    try:
        transport.write(request)
        return await answer.verdict
    finally:
        if answer.whole:
            transport.close()
        else:
            transport.abort()


def _request(server: Server, settings: HealthSettings) -> bytes:
    fields: Mapping[str, str] = {
        "host": server.authority.decode(),
        "user-agent": USER_AGENT,
        "connection": "close",
        **{name.lower(): value for name, value in settings.headers.items()},
    }
    lines = [f"GET {settings.path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode()


class _BadResponse(Exception):
    """The answer is not HTTP/1."""


class _Answer(asyncio.Protocol):
    """Reads one answer. `verdict` is told once; what comes after it is not read."""

    def __init__(self, expect: frozenset[int], verdict: asyncio.Future[str]) -> None:
        self.verdict = verdict
        self.whole = False
        """Whether the answer came to its end, so that the connection has an orderly one."""
        self._expect = expect
        self._received = bytearray()
        self._length: int | None = None
        """Of the body, in bytes, or _CHUNKED or _UNTIL_CLOSE; None while the head has not come."""
        self._chunk_at = 0

    def data_received(self, data: bytes) -> None:
        if self.verdict.done():
            return
        self._received += data
        try:
            if self._length is None and not self._read_head():
                return
            if self._body_ended() and not self.verdict.done():
                self._end(OK)
        except _BadResponse:
            self._end(BAD_RESPONSE)

    def connection_lost(self, error: Exception | None) -> None:
        if self._length == _UNTIL_CLOSE and error is None:
            self._end(OK)
        else:
            self._end(RESET)

    def _end(self, verdict: str) -> None:
        if not self.verdict.done():
            self.verdict.set_result(verdict)

    def _read_head(self) -> bool:
        """Whether the final head has come. A wrong one is judged, and nothing behind it is of interest."""
        received = self._received
        while end := _HEAD_END.search(received):
            lines = bytes(received[: end.start()]).split(b"\n")
            del received[: end.end()]
            found = _STATUS_LINE.match(lines[0].rstrip(b"\r"))
            if found is None:
                raise _BadResponse
            status = int(found[1])
            if status < 200 and status != 101:
                continue
            self._judge(status, _fields(lines[1:]))
            return True
        if not received.startswith(b"HTTP/1."[: len(received)]) or len(received) > HEAD_MAX:
            raise _BadResponse
        return False

    def _judge(self, status: int, fields: dict[bytes, list[bytes]]) -> None:
        self._length = 0
        if IMMEDIATE_FAIL_HEADER.encode() in fields:
            self._end(IMMEDIATE_FAIL)
        elif status not in self._expect:
            self._end(f"status {status}")
        elif status not in (204, 304):
            self._length = _body_length(fields)

    def _body_ended(self) -> bool:
        """Whether enough of the body has come: all of it, or BODY_MAX bytes."""
        received, length = self._received, self._length
        assert length is not None
        if length == _CHUNKED:
            self.whole = self._chunks_ended()
        else:
            self.whole = 0 <= length <= len(received)
        return self.whole or len(received) >= BODY_MAX

    def _chunks_ended(self) -> bool:
        received = self._received
        while (line_end := received.find(b"\n", self._chunk_at)) >= 0:
            digits = bytes(received[self._chunk_at : line_end]).partition(b";")[0].strip(b" \t\r")
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,%d}" % _MOST_OF_A_SIZE, digits):
                raise _BadResponse
            size = int(digits, 16)
            if size == 0:
                return _HEAD_END.search(received, line_end) is not None
            chunk_end = line_end + 1 + size
            end = received.find(b"\n", chunk_end)
            if end < 0:
                return False
            if received[chunk_end:end].strip(b"\r"):
                raise _BadResponse
            self._chunk_at = end + 1
        return False


def _fields(lines: list[bytes]) -> dict[bytes, list[bytes]]:
    """The values of each field, by lower-case name. A line that begins with white space goes on from the one above."""
    fields: dict[bytes, list[bytes]] = {}
    values: list[bytes] | None = None
    for line in lines:
        if line[:1] in (b" ", b"\t"):
            if values is None:
                raise _BadResponse
            values[-1] += b" " + line.strip(b" \t\r")
            continue
        found = _FIELD.fullmatch(line)
        if found is None:
            raise _BadResponse
        values = fields.setdefault(found[1].lower(), [])
        values.append(found[2].strip(b" \t\r"))
    return fields


def _body_length(fields: dict[bytes, list[bytes]]) -> int:
    codings, lengths = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if codings is not None:
        if lengths is not None or [one.lower() for one in codings] != [b"chunked"]:
            raise _BadResponse
        return _CHUNKED
    if lengths is None:
        return _UNTIL_CLOSE
    told = {one.strip(b" \t").lstrip(b"0") or b"0" for value in lengths for one in value.split(b",")}
    if len(told) != 1 or not (length := told.pop()).isdigit():
        raise _BadResponse
    return int(length[:_MOST_OF_A_SIZE])
