"""Cuts what comes into frames, and refuses those that are wrong whatever the state of their stream (RFC 9113, sections
4 and 6).

A header block comes out whole, with its CONTINUATION frames; DATA comes out as it comes in, in parts of a frame if need
be, so that nothing waits for the rest of it. What a frame means is `connection`'s.
"""

from __future__ import annotations

from typing import Final

from sidecar.proxy.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADER_SIZE,
    HEADERS,
    MAX_FRAME,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    ConnectionFault,
    number,
    unpadded,
)
from sidecar.proxy.h2.limits import MAX_CONTINUATIONS

_FIXED: Final = {RST_STREAM: 4, PRIORITY: 5, PING: 8, WINDOW_UPDATE: 4}
_OF_STREAMS: Final = {DATA, HEADERS, PRIORITY, RST_STREAM, CONTINUATION}
_OF_CONNECTIONS: Final = {SETTINGS, PING, GOAWAY}


class FrameReader:
    """After `next`, the frame is in its attributes. `max_block`: bytes of a header block that are read."""

    __slots__ = (
        "_at",
        "_block",
        "_block_flags",
        "_block_id",
        "_block_size",
        "_data",
        "_data_end",
        "_data_left",
        "_max_block",
        "continuations",
        "end",
        "flags",
        "kind",
        "payload",
        "size",
        "stream_id",
    )

    def __init__(self, max_block: int) -> None:
        self._data = b""
        """What has come and is not taken yet, from `_at` on."""
        self._at = 0
        self._data_left = 0
        """Of a DATA frame whose beginning was taken."""
        self._data_end = False
        self._block: list[bytes] = []
        self._block_flags = 0
        self._block_id = 0
        self._block_size = 0
        self._max_block = max_block
        self.continuations = 0
        """How many the header block took."""
        self.kind = 0
        self.flags = 0
        self.stream_id = 0
        self.payload = b""
        """Without padding and priority; DATA's may be a part."""
        self.size = 0
        """Of DATA: what it takes of the windows."""
        self.end = False
        """Of HEADERS and DATA: END_STREAM."""

    def feed(self, data: bytes) -> None:
        self._data = data if self._at == len(self._data) else self._data[self._at :] + data
        self._at = 0

    def next(self) -> bool:
        """Take the next frame. False: it is not there yet. Raises ConnectionFault."""
        if self._data_left:
            return self._more_data()
        data = self._data
        while True:
            at = self._at
            have = len(data) - at - HEADER_SIZE
            if have < 0:
                if have == -HEADER_SIZE:
                    self._data = b""
                    self._at = 0
                return False
            size = (data[at] << 16) | (data[at + 1] << 8) | data[at + 2]
            kind = data[at + 3]
            flags = data[at + 4]
            stream_id = ((data[at + 5] & 0x7F) << 24) | (data[at + 6] << 16) | (data[at + 7] << 8) | data[at + 8]
            self._check(kind, flags, stream_id, size)
            body = at + HEADER_SIZE
            self.kind = kind
            self.flags = flags
            self.stream_id = stream_id
            if have < size:
                if kind != DATA or flags & PADDED or not have:
                    return False
                self._at = body
                self._data_left = size
                self._data_end = flags & END_STREAM != 0
                return self._more_data()
            self._at = body + size
            self.payload = payload = data[body : body + size]
            if kind == DATA:
                self.size = size
                self.end = flags & END_STREAM != 0
                if flags & PADDED:
                    self.payload = unpadded(payload)
                return True
            if kind == HEADERS:
                if flags & (PADDED | WITH_PRIORITY):
                    payload = self._bare_block(payload, flags, stream_id)
                self.payload = payload
                self.end = flags & END_STREAM != 0
                self.continuations = 0
                if flags & END_HEADERS:
                    return True
                self._block = [payload]
                self._block_size = len(payload)
                self._block_id = stream_id
                self._block_flags = flags
            elif kind == CONTINUATION:
                self._continue(payload, flags & END_HEADERS != 0)
                if flags & END_HEADERS:
                    return True
            else:
                return True

    def _more_data(self) -> bool:
        data = self._data
        at = self._at
        left = self._data_left
        have = len(data) - at
        if not have:
            self._data = b""
            self._at = 0
            return False
        taken = min(have, left)
        self.kind = DATA
        self.payload = data if taken == len(data) else data[at : at + taken]
        self.size = taken
        self._at = at + taken
        self._data_left = left - taken
        self.end = self._data_end and taken == left
        return True

    def _check(self, kind: int, flags: int, stream_id: int, size: int) -> None:
        """What its header alone says."""
        if size > MAX_FRAME:
            raise ConnectionFault(FRAME_SIZE_ERROR, "a frame of more than 16,384 bytes")
        if self._block_id and (kind != CONTINUATION or stream_id != self._block_id):
            raise ConnectionFault(PROTOCOL_ERROR, "another frame within a header block")
        if kind <= HEADERS:
            if stream_id == 0:
                raise ConnectionFault(PROTOCOL_ERROR, "DATA or HEADERS on stream 0")
            return
        if kind > CONTINUATION:
            return
        if kind == PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE, and ENABLE_PUSH is 0")
        if kind == CONTINUATION and not self._block_id:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        if stream_id == 0 and kind in _OF_STREAMS:
            raise ConnectionFault(PROTOCOL_ERROR, "a stream's frame on stream 0")
        if stream_id and kind in _OF_CONNECTIONS:
            raise ConnectionFault(PROTOCOL_ERROR, "a connection's frame on a stream")
        wanted = _FIXED.get(kind)
        if (
            (wanted is not None and size != wanted)
            or (kind == GOAWAY and size < 8)
            or (kind == SETTINGS and flags & ACK and size)
        ):
            raise ConnectionFault(FRAME_SIZE_ERROR, "a frame of a size that its type does not have")

    def _bare_block(self, payload: bytes, flags: int, stream_id: int) -> bytes:
        """Without padding, and without the priority that nobody uses any more (section 5.3.2)."""
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for their priority")
            check_dependency(payload, stream_id)
            payload = payload[5:]
        return payload

    def _continue(self, payload: bytes, last: bool) -> None:
        self.continuations += 1
        self._block_size += len(payload)
        if self._block_size > self._max_block or self.continuations > MAX_CONTINUATIONS:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header block without end")
        self._block.append(payload)
        if last:
            self.kind = HEADERS
            self.payload = b"".join(self._block)
            self.flags = self._block_flags
            self.end = self._block_flags & END_STREAM != 0
            self._block_id = 0
            self._block = []


def check_dependency(payload: bytes, stream_id: int) -> None:
    """RFC 7540, section 5.3.1: the one rule about priorities that could be broken."""
    if number(payload, 0) & 0x7FFFFFFF == stream_id:
        raise ConnectionFault(PROTOCOL_ERROR, "a stream that depends on itself")
