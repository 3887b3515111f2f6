"""An HTTP/2 connection, of either role: reads frames, holds the rules of RFC 9113 for them, and ends in good order.

Owns what may come when, on a stream and on the connection; how much (`limits`), what fields (`field_rules`) and what
is sent (`writer`, `stream`) are others'. A mistake of the peer's in one stream is answered by RST_STREAM, one that
concerns all by GOAWAY. It knows a transport, a loop and a clock; subclasses say what the streams are for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.field_rules import (
    MALFORMED,
    NO_LENGTH,
    are_trailers,
    content_length,
    request_length,
    response_status,
)
from sidecar.proxy.h2.frame_reader import FrameReader, check_dependency
from sidecar.proxy.h2.frames import (
    ACK,
    COMPRESSION_ERROR,
    DATA,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    INTERNAL_ERROR,
    MAX_ID,
    MAX_WINDOW,
    NO_ERROR,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS,
    STREAM_CLOSED,
    WINDOW_UPDATE,
    ConnectionFault,
    code_name,
    number,
)
from sidecar.proxy.h2.hpack import Decoder, Fields, HpackError
from sidecar.proxy.h2.limits import (
    CONNECTION_WINDOW,
    CONTINUATION_COST,
    EMPTY_DATA_COST,
    ERROR_COST,
    GOAWAY_COST,
    INTERIM_COST,
    LATE_COST,
    MAX_STREAMS,
    PING_COST,
    PRIORITY_COST,
    REFUSED_COST,
    RESET_COST,
    RESET_IS_FREE_AFTER_S,
    SETTINGS_COST,
    STREAM_WINDOW,
    TOO_LARGE_COST,
    UNKNOWN_COST,
    WINDOW_UPDATE_COST,
    Credit,
)
from sidecar.proxy.h2.stream import H2Stream, StreamUser
from sidecar.proxy.h2.writer import FrameWriter
from sidecar.proxy.watermarks import WRITE_HIGH_WATER

LINGER_S: Final = 0.5
"""How long is read on, and thrown away, once we have said GOAWAY: a socket closed with bytes unread resets the
connection, and the GOAWAY is lost."""

MOST_LINGERING: Final = 4 * 1024 * 1024
"""Bytes thrown away meanwhile."""

ROOM_UNKNOWN: Final = 100
"""Streams that are opened before the peer has said how many it takes (RFC 9113, section 6.5.2, recommends no less)."""

ROOM_UNLIMITED: Final = 1 << 20
"""And where it has not said so in its first SETTINGS."""

MOST_BLOCKS: Final = 4
"""A header block may be so many times the size of a list that is taken: it is decoded whole, and then refused."""

_RETURN_AT: Final = 1024 * 1024
_PING: Final = b"sidecar?"
_MOST_SKIPPED: Final = 16

log = logging.getLogger(__name__)

_PREFACE: Final = 0
_READING: Final = 1
_LINGERING: Final = 2
_CLOSED: Final = 3


class H2Connection:
    """A protocol of asyncio's; `client`: we open the streams. `max_list`: the size of a header list that is taken."""

    def __init__(
        self,
        client: bool,
        max_list: int,
        clock: Callable[[], float] = monotonic,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.client = client
        self.ready = False
        """The peer's first SETTINGS have come. The owner bounds the wait for them, and for the ack."""
        self.settings_acked = False
        self.peer_max_list = 0
        """The peer's MAX_HEADER_LIST_SIZE; 0: it has not said."""
        self.streams: dict[int, H2Stream] = {}
        """Those that are open; of ours, those that have not sent their head yet below zero."""
        self._state = _PREFACE
        self._preface = b""
        self._clock = clock
        self._loop = loop
        self._now = clock()
        """When the bytes came that are being read."""
        self._max_list = max_list
        self._decoder = Decoder(max_list)
        self._reader = FrameReader(MOST_BLOCKS * max_list)
        self._credit = Credit(self._now)
        self._receivable = CONNECTION_WINDOW
        self._unreturned = 0
        self._max_open = ROOM_UNKNOWN
        self._unnumbered = 0
        """Streams that we opened, ever; minus this is the next one's place in `streams` until its head is sent."""
        self._told_room = ROOM_UNKNOWN
        self._last_seen = 0
        """The highest id of a stream that the peer opened."""
        self._last_id = 0
        """The highest of those that we took."""
        self._skipped: list[tuple[int, int]] = []
        """Ids that the peer left out, and that it may not use any more."""
        self._ending = False
        """No new streams; closed when the last has ended."""
        self._discarded = 0
        self._linger: asyncio.TimerHandle | None = None

    # For subclasses: what happens.

    def stream_opened(self, stream: H2Stream) -> StreamUser | None:
        """The peer's request has begun; its head follows. None refuses it (REFUSED_STREAM)."""
        return None

    def head_too_large(self, stream: H2Stream, fields: Fields) -> None:
        """A request whose header list is above `max_list`; `fields` are the first of it. It may be answered here."""
        stream.reset(ENHANCE_YOUR_CALM)

    def became_ready(self) -> None:
        """The peer's first SETTINGS have come."""

    def room_changed(self) -> None:
        """There is room for more streams of ours than there was."""

    def going_away(self, last_id: int, code: int) -> None:
        """The peer's GOAWAY; streams of ours above `last_id` have been lost by then."""

    def pong_received(self) -> None:
        """The answer to our `ping`."""

    def ended(self, why: str) -> None:
        """The connection is over. Heard once, after all streams."""

    # For subclasses: what to do.

    @property
    def is_open(self) -> bool:
        return self._state <= _READING

    @property
    def heard_at(self) -> float:
        """When the last bytes came, by the clock."""
        return self._now

    @property
    def room(self) -> int:
        """How many more streams may be opened."""
        if self._ending or self._state > _READING:
            return 0
        return max(0, self._max_open - len(self.streams))

    def open(self, user: StreamUser) -> H2Stream | None:
        """A new stream, as a client. None: no room, or no ids are left."""
        if self.room <= 0 or self.writer.next_id + 2 * len(self.streams) > MAX_ID:
            self._told_room = 0  # whoever asked waits
            return None
        self._unnumbered += 1
        stream = H2Stream(-self._unnumbered, self.writer, self._now)
        stream.user = user
        self.streams[stream.id] = stream
        return stream

    def drain(self) -> None:
        """No more streams. A server's are still taken until `drain_finally`, a round trip or a second later: some may
        be under way (RFC 9113, section 6.8)."""
        if self._state == _READING and not self.client:
            self.writer.control(frames.goaway(MAX_ID, NO_ERROR, "draining"))
        elif self.client:
            self._ending = True
            if self._state <= _READING:
                self.writer.schedule()

    def drain_finally(self) -> None:
        """Say which the last stream is; closed when all have ended."""
        if self._state == _READING and not self._ending:
            self._ending = True
            if not self.client:
                self.writer.control(frames.goaway(self._last_id, NO_ERROR, "draining"))
            self.writer.schedule()

    def close(self, code: int = NO_ERROR, why: str = "") -> None:
        """Say GOAWAY, and end it; streams that are open are lost."""
        if self._state <= _READING:
            self._leave(code, why)

    def ping(self) -> None:
        if self._state <= _READING:
            self.writer.control(frames.frame(PING, 0, 0, _PING))

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Begin on a transport that another protocol has read `data` from."""
        transport.set_protocol(self)  # type: ignore[arg-type]
        self.connection_made(transport)
        if data:
            self.data_received(data)

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        self.writer = writer = FrameWriter(self.transport, loop, self._credit, self._turn_over)
        writer.streams = self.streams
        if self.client:
            self._state = _READING
            writer.control(PREFACE)
            first = (frames.ENABLE_PUSH, 0)
        else:
            first = (frames.MAX_CONCURRENT_STREAMS, MAX_STREAMS)
        window = (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW)
        writer.control(frames.settings([first, window, (frames.MAX_HEADER_LIST_SIZE, self._max_list)]))
        writer.control(frames.window_update(0, CONNECTION_WINDOW - INITIAL_WINDOW))

    def data_received(self, data: bytes) -> None:
        if self._state >= _LINGERING:
            self._discard(len(data))
            return
        self._now = self._clock()
        try:
            if self._state == _PREFACE:
                data = self._after_preface(data)
            reader = self._reader
            reader.feed(data)
            while self._state == _READING and reader.next():
                self._frame(reader)
            if self.writer.overrun:
                raise ConnectionFault(ENHANCE_YOUR_CALM, "answers are not read")
        except ConnectionFault as fault:
            self.close(fault.code, fault.why)
        except Exception:
            log.exception("an HTTP/2 connection is closed, because a frame could not be worked on")
            self.close(INTERNAL_ERROR)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self.writer.paused = True

    def resume_writing(self) -> None:
        self.writer.resume()

    def connection_lost(self, error: Exception | None) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if self._state <= _READING:
            self._state = _CLOSED
            self._lose_all("the connection was closed" if error is None else f"the connection broke: {error}")
        self._state = _CLOSED

    # Frames.

    def _after_preface(self, data: bytes) -> bytes:
        """What follows it (RFC 9113, section 3.4)."""
        data = self._preface + data
        if len(data) < len(PREFACE):
            if not PREFACE.startswith(data):
                raise ConnectionFault(PROTOCOL_ERROR, "no preface")
            self._preface = data
            return b""
        if not data.startswith(PREFACE):
            raise ConnectionFault(PROTOCOL_ERROR, "no preface")
        self._preface = b""
        self._state = _READING
        return data[len(PREFACE) :]

    def _frame(self, reader: FrameReader) -> None:
        kind = reader.kind
        if not self.ready and (kind != SETTINGS or reader.flags & ACK):
            raise ConnectionFault(PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == DATA:
            self._data(reader.stream_id, reader.payload, reader.size, reader.end)
        elif kind == HEADERS:
            if reader.continuations:
                self._credit.spend(CONTINUATION_COST * reader.continuations, self._now, "CONTINUATION frames")
            self._headers(reader.stream_id, reader.payload, reader.end)
        elif kind == WINDOW_UPDATE:
            self._window_update(reader.stream_id, number(reader.payload, 0) & MAX_WINDOW)
        elif kind == PING:
            self._credit.spend(PING_COST, self._now, "PING frames")
            if not reader.flags & ACK:
                self.writer.control(frames.frame(PING, ACK, 0, reader.payload))
            elif reader.payload == _PING:
                self.pong_received()
        elif kind == RST_STREAM:
            self._rst_stream(reader.stream_id, number(reader.payload, 0))
        elif kind == SETTINGS:
            self._settings(reader.payload, reader.flags & ACK != 0)
        elif kind == GOAWAY:
            self._goaway(number(reader.payload, 0) & MAX_ID, number(reader.payload, 4))
        elif kind == PRIORITY:
            self._credit.spend(PRIORITY_COST, self._now, "PRIORITY frames")
            check_dependency(reader.payload, reader.stream_id)
        else:  # section 4.1: ignored
            self._credit.spend(UNKNOWN_COST, self._now, "frames of unknown types")

    def _data(self, stream_id: int, data: bytes, size: int, end: bool) -> None:
        self._receivable -= size
        if self._receivable < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "DATA above the connection's window")
        self._unreturned += size
        if self._unreturned >= _RETURN_AT:
            self.writer.control(frames.window_update(0, self._unreturned))
            self._receivable += self._unreturned
            self._unreturned = 0
        stream = self.streams.get(stream_id)
        if stream is None:
            self._late(stream_id, "DATA")
            return
        stream.receivable -= size
        if stream.got_end:
            self._stream_fault(stream, STREAM_CLOSED, "DATA after END_STREAM")
            return
        if stream.receivable < 0:
            self._stream_fault(stream, FLOW_CONTROL_ERROR, "DATA above the stream's window")
            return
        if not stream.got_head:
            self._stream_fault(stream, PROTOCOL_ERROR, "DATA before HEADERS")
            return
        if not data and not end:
            self._credit.spend(EMPTY_DATA_COST, self._now, "empty DATA frames")
        if stream.left != NO_LENGTH:
            left = stream.left - len(data)
            if left < 0 or (end and left):
                self._stream_fault(stream, PROTOCOL_ERROR, "DATA of another length than content-length")
                return
            stream.left = left
        if end:
            stream.got_end = True
        stream.tell_data(data, size, end)
        if end and stream.sent_end:
            stream.forget()

    def _headers(self, stream_id: int, block: bytes, end: bool) -> None:
        decoder = self._decoder
        try:
            fields = decoder.decode(block)
        except HpackError as error:
            raise ConnectionFault(ENHANCE_YOUR_CALM if decoder.too_large else COMPRESSION_ERROR, str(error)) from None
        if decoder.too_large and not self.client:
            self._credit.spend(TOO_LARGE_COST, self._now, "header lists that are too large")
        stream = self.streams.get(stream_id)
        if stream is None:
            if self.client or stream_id & 1 == 0 or stream_id <= self._last_seen:
                self._late(stream_id, "HEADERS")
            else:
                self._request(stream_id, fields, end)
        elif stream.got_end:
            self._stream_fault(stream, STREAM_CLOSED, "HEADERS after END_STREAM")
        elif decoder.malformed:
            self._stream_fault(stream, PROTOCOL_ERROR, "a malformed field")
        elif decoder.too_large:
            self._stream_fault(stream, ENHANCE_YOUR_CALM, "a header list that is too large")
        elif stream.got_head:
            self._trailers(stream, fields, end)
        else:
            self._response(stream, fields, end)

    def _request(self, stream_id: int, fields: Fields, end: bool) -> None:
        """A new stream of the peer's."""
        decoder = self._decoder
        if stream_id > self._last_seen + 2 and len(self._skipped) < _MOST_SKIPPED:
            self._skipped.append((self._last_seen + 2, stream_id - 2))
        self._last_seen = stream_id
        if self._ending:  # above the last id that we said: it is sent again elsewhere
            self._credit.spend(LATE_COST, self._now, "streams after GOAWAY")
            return
        self._last_id = stream_id
        if len(self.streams) >= MAX_STREAMS:
            self._credit.spend(REFUSED_COST, self._now, "streams above MAX_CONCURRENT_STREAMS")
            self.writer.reset(stream_id, REFUSED_STREAM, end)
            return
        length = MALFORMED if decoder.malformed else NO_LENGTH if decoder.too_large else request_length(fields)
        if length == MALFORMED or (end and length > 0):
            self._credit.spend(ERROR_COST, self._now, "malformed requests")
            self.writer.reset(stream_id, PROTOCOL_ERROR, end)
            return
        stream = H2Stream(stream_id, self.writer, self._now)
        stream.got_head = True
        stream.got_end = end
        stream.left = length
        self.streams[stream_id] = stream
        if decoder.too_large:
            self.head_too_large(stream, fields)
            return
        try:
            user = self.stream_opened(stream)
        except Exception:
            log.exception("an HTTP/2 stream is reset, because nobody could be found for it")
            stream.reset(INTERNAL_ERROR)
            return
        if user is None:
            stream.reset(REFUSED_STREAM)
        else:
            stream.user = user
            stream.tell_head(fields, end)

    def _response(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        status = response_status(fields)
        length = content_length(fields)
        if stream.method == b"HEAD" or status in (204, 304):
            length = min(length, 0) if length == MALFORMED else 0
        if status < 200:
            if status == MALFORMED or end:
                self._stream_fault(stream, PROTOCOL_ERROR, "the head of no response")
                return
            self._credit.spend(INTERIM_COST, self._now, "interim responses")
            stream.tell_head(fields, False)
            return
        if length == MALFORMED or (end and length > 0):
            self._stream_fault(stream, PROTOCOL_ERROR, "a content-length that is none, or not that of the body")
            return
        stream.got_head = True
        stream.got_end = end
        stream.left = length
        stream.tell_head(fields, end)
        if end and stream.sent_end:
            stream.forget()

    def _trailers(self, stream: H2Stream, fields: Fields, end: bool) -> None:
        if not end or stream.left > 0 or not are_trailers(fields):
            self._stream_fault(stream, PROTOCOL_ERROR, "HEADERS that are no trailers")
            return
        stream.got_end = True
        stream.tell_trailers(fields)
        if stream.sent_end:
            stream.forget()

    def _rst_stream(self, stream_id: int, code: int) -> None:
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise ConnectionFault(PROTOCOL_ERROR, "RST_STREAM on an idle stream")
            self._credit.spend(UNKNOWN_COST, self._now, "RST_STREAM frames")
            return
        self.writer.remember_reset(stream_id, False)
        stream.lose(code, code == REFUSED_STREAM, f"RST_STREAM, {code_name(code)}")
        if not self.client and self._now - stream.born < RESET_IS_FREE_AFTER_S:
            self._credit.spend(RESET_COST, self._now, "RST_STREAM frames")

    def _window_update(self, stream_id: int, size: int) -> None:
        self._credit.spend(WINDOW_UPDATE_COST, self._now, "WINDOW_UPDATE frames")
        writer = self.writer
        if stream_id == 0:
            writer.window += size
            if not size or writer.window > MAX_WINDOW:
                code = FLOW_CONTROL_ERROR if size else PROTOCOL_ERROR
                raise ConnectionFault(code, "WINDOW_UPDATE by 0, or above 2^31-1")
            writer.let_go_on()
            return
        stream = self.streams.get(stream_id)
        if stream is None:
            if self._is_idle(stream_id):
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE on an idle stream")
        elif not size:
            self._stream_fault(stream, PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        elif not stream.widen(size):
            self._stream_fault(stream, FLOW_CONTROL_ERROR, "WINDOW_UPDATE above 2^31-1")

    def _settings(self, payload: bytes, ack: bool) -> None:
        if self.ready:
            self._credit.spend(SETTINGS_COST, self._now, "SETTINGS frames")
        if ack:
            self.settings_acked = True
            return
        writer = self.writer
        limit = -1
        for key, value in frames.read_settings(payload, from_server=self.client):
            if key == frames.HEADER_TABLE_SIZE:
                writer.encoder.resize(value)
            elif key == frames.MAX_CONCURRENT_STREAMS:
                self._max_open = limit = value
            elif key == frames.MAX_HEADER_LIST_SIZE:
                self.peer_max_list = value
            elif key == frames.INITIAL_WINDOW_SIZE:
                change = value - writer.stream_window
                writer.stream_window = value
                for stream in list(self.streams.values()):
                    if not stream.widen(change):
                        raise ConnectionFault(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE makes a window too large")
        writer.control(frames.frame(SETTINGS, ACK, 0, b""))
        if not self.ready:
            self.ready = True
            if limit < 0:
                self._max_open = ROOM_UNLIMITED
            self.became_ready()

    def _goaway(self, last_id: int, code: int) -> None:
        self._credit.spend(GOAWAY_COST, self._now, "GOAWAY frames")
        if self.client:
            self._ending = True
            for stream in list(self.streams.values()):
                if stream.id > last_id or stream.id < 0:
                    stream.lose(REFUSED_STREAM, True, f"GOAWAY, {code_name(code)}")
            self.writer.schedule()
        self.going_away(last_id, code)

    def _is_idle(self, stream_id: int) -> bool:
        """Nobody has opened it yet (section 5.1)."""
        if self.client:
            return stream_id & 1 == 0 or stream_id >= self.writer.next_id
        return stream_id & 1 == 0 or stream_id > self._last_seen

    def _late(self, stream_id: int, what: str) -> None:
        """DATA or HEADERS for a stream that is not open (section 5.1)."""
        if self._is_idle(stream_id):
            raise ConnectionFault(PROTOCOL_ERROR, f"{what} on a stream that is idle or not the peer's to open")
        resets = self.writer.resets
        ours = resets.get(stream_id)
        if ours is None:
            if not self.client and stream_id > self._last_id:  # after GOAWAY
                ours = True
            elif what == "HEADERS" and any(first <= stream_id <= last for first, last in self._skipped):
                raise ConnectionFault(PROTOCOL_ERROR, "an id lower than that of a stream opened before")
            else:
                raise ConnectionFault(STREAM_CLOSED, f"{what} on a closed stream")
        if ours:
            self._credit.spend(LATE_COST, self._now, "frames for streams that were reset")
        else:
            resets[stream_id] = True
            self._credit.spend(ERROR_COST, self._now, "frames after RST_STREAM")
            self.writer.reset(stream_id, STREAM_CLOSED, True)

    def _stream_fault(self, stream: H2Stream, code: int, why: str) -> None:
        """The peer has broken the protocol in one stream (section 5.4.2). A server's faults cost nothing: there are no
        more of them than calls of ours, and other calls on the connection may be well."""
        self.writer.reset(stream.id, code, stream.got_end)
        stream.lose(code, False, why)
        if not self.client:
            self._credit.spend(ERROR_COST, self._now, "faults in streams")

    # The end.

    def _turn_over(self) -> None:
        if self._state != _READING:
            return
        if self._ending and not self.streams:
            self._leave(NO_ERROR, "")
            return
        if self.client:
            room = self.room
            more = room > self._told_room
            self._told_room = room
            if more:
                self.room_changed()
        if self.writer.overrun:
            self._leave(ENHANCE_YOUR_CALM, "answers are not read")

    def _leave(self, code: int, why: str) -> None:
        self._state = _LINGERING
        writer = self.writer
        writer.control(frames.goaway(0 if self.client else self._last_id, code, why))
        writer.close()
        transport = self.transport
        if not transport.is_closing():
            if transport.can_write_eof():
                with suppress(OSError):  # the peer has reset it, and asyncio asks the kernel at once
                    transport.write_eof()
                assert self._loop is not None
                self._linger = self._loop.call_later(LINGER_S, transport.abort)
            else:
                transport.close()
        self._lose_all(f"the connection was closed: {code_name(code)}{', ' if why else ''}{why}")

    def _discard(self, size: int) -> None:
        self._discarded += size
        if self._discarded > MOST_LINGERING and not self.transport.is_closing():
            self.transport.abort()

    def _lose_all(self, why: str) -> None:
        self.writer.close()
        unwritten = self.writer.written_below if self.client else MAX_ID
        for stream in list(self.streams.values()):
            stream.lose(-1, stream.id < 0 or stream.id >= unwritten, why)
        self.ended(why)

    def __repr__(self) -> str:
        side = "client" if self.client else "server"
        return f"<{type(self).__name__} {side} streams={len(self.streams)} open={self.is_open}>"
