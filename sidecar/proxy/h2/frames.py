"""Frames of HTTP/2 as bytes (RFC 9113, sections 4 and 6): their numbers, how one is written, and what SETTINGS say.

Owns no state. Which frame may come when is the connection's to say.
"""

from __future__ import annotations

from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_SIZE: Final = 9
MAX_FRAME: Final = 16384
"""The largest frame that is sent or taken. Larger ones would only make other streams wait."""

MAX_WINDOW: Final = 0x7FFFFFFF
MAX_ID: Final = 0x7FFFFFFF
INITIAL_WINDOW: Final = 65535

DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
SETTINGS_TIMEOUT: Final = 4
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
CONNECT_ERROR: Final = 10
ENHANCE_YOUR_CALM: Final = 11
INADEQUATE_SECURITY: Final = 12
HTTP_1_1_REQUIRED: Final = 13

CODE_NAMES: Final = [
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED"),
    *("FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
    *("INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
]

HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

_MOST_SETTINGS: Final = 64
"""In one frame; six are defined."""

_MOST_DEBUG_DATA: Final = 100


class ConnectionFault(Exception):
    """The peer has broken the protocol for the whole connection (RFC 9113, section 5.4.1)."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code
        self.why = why


def code_name(code: int) -> str:
    return CODE_NAMES[code] if 0 <= code < len(CODE_NAMES) else f"error code {code}"


def frame_header(size: int, kind: int, flags: int, stream_id: int) -> bytes:
    return ((size << 48) | (kind << 40) | (flags << 32) | stream_id).to_bytes(HEADER_SIZE, "big")


def frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    return frame_header(len(payload), kind, flags, stream_id) + payload


def settings(pairs: list[tuple[int, int]]) -> bytes:
    payload = b"".join([key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in pairs])
    return frame(SETTINGS, 0, 0, payload)


def window_update(stream_id: int, size: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, size.to_bytes(4, "big"))


def rst_stream(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway(last_id: int, code: int, why: str) -> bytes:
    payload = last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + why.encode()[:_MOST_DEBUG_DATA]
    return frame(GOAWAY, 0, 0, payload)


def number(payload: bytes, at: int) -> int:
    """Four bytes from `at` on."""
    return int.from_bytes(payload[at : at + 4], "big")


def read_settings(payload: bytes, *, from_server: bool) -> list[tuple[int, int]]:
    """The known settings in a frame, in their order (RFC 9113, section 6.5.2). Raises ConnectionFault."""
    size = len(payload)
    if size % 6:
        raise ConnectionFault(FRAME_SIZE_ERROR, "SETTINGS of a wrong size")
    if size > 6 * _MOST_SETTINGS:
        raise ConnectionFault(ENHANCE_YOUR_CALM, "too many settings in one frame")
    found: list[tuple[int, int]] = []
    for at in range(0, size, 6):
        key = int.from_bytes(payload[at : at + 2], "big")
        value = number(payload, at + 2)
        if key == ENABLE_PUSH and (value > 1 or (from_server and value)):
            raise ConnectionFault(PROTOCOL_ERROR, "ENABLE_PUSH is neither 0 nor 1, or a server's 1")
        if key == INITIAL_WINDOW_SIZE and value > MAX_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE above 2^31-1")
        if key == MAX_FRAME_SIZE and not 16384 <= value <= 16777215:
            raise ConnectionFault(PROTOCOL_ERROR, "MAX_FRAME_SIZE outside of 2^14 to 2^24-1")
        if HEADER_TABLE_SIZE <= key <= MAX_HEADER_LIST_SIZE:
            found.append((key, value))
    return found


def unpadded(payload: bytes) -> bytes:
    """The content of a padded frame (RFC 9113, section 6.1). Raises ConnectionFault."""
    size = len(payload)
    if not size:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a padded frame without its padding's length")
    padding = payload[0]
    if padding >= size:
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : size - padding]
