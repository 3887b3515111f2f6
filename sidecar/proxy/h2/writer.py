"""What a connection sends: frames gathered for one write a turn of the loop, the window that all DATA shares, and who
waits for room in it.

Owns the order of frames and the header table they are written with; what is sent is the streams' and the connection's
to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    INITIAL_WINDOW,
    MAX_FRAME,
    MAX_ID,
    frame_header,
)
from sidecar.proxy.h2.hpack import Encoder
from sidecar.proxy.h2.limits import ANSWER_EARNS, BYTES_EARN, DATA_EARNS, Credit
from sidecar.proxy.watermarks import WRITE_HIGH_WATER

MAX_UNREAD: Final = 64 * 1024
"""Bytes of control frames that are kept for a peer that does not read."""

JOINED: Final = 32 * 1024
"""So many bytes are joined for a write; more are given to the kernel as they lie. To join 256 KiB takes three times as
long as to send them: the memory is new each time."""

CRUMB: Final = 512
"""Pieces that are smaller in the mean are joined all the same: each costs as much as copying it."""

REMEMBERED_RESETS: Final = 1024
"""For so many streams it is known that they were reset: frames for them may be under way."""


class Sender:
    """A stream, for the writer: it may have something queued."""

    id: int

    def go_on(self) -> None:
        """There may be room again."""
        raise NotImplementedError


class FrameWriter:
    """Frames out. `turn_over` is called once a turn of the loop in which something was sent or ended."""

    __slots__ = (
        "_loop",
        "_out",
        "_scheduled",
        "_size",
        "_transport",
        "_turn_over",
        "_unread",
        "credit",
        "encoder",
        "next_id",
        "overrun",
        "paused",
        "resets",
        "stream_window",
        "streams",
        "waiting",
        "window",
        "written_below",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        credit: Credit,
        turn_over: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._turn_over: Callable[[], None] | None = turn_over
        self._out: list[Any] = []
        self._size = 0
        self._scheduled = False
        self._unread = 0
        self.credit = credit
        self.encoder = Encoder()
        self.streams: dict[int, Any] = {}
        """By id; those that have not sent their request's head yet below zero."""
        self.waiting: dict[int, Sender] = {}
        """Those that wait for the connection's window or for the transport, longest first."""
        self.resets: dict[int, bool] = {}
        """The streams reset last: True where it was we who did, and frames that were under way are ignored."""
        self.window = INITIAL_WINDOW
        """What may be sent in all."""
        self.stream_window = INITIAL_WINDOW
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE."""
        self.next_id = 1
        """Of the next stream that we open."""
        self.written_below = 1
        """Heads of streams of ours below this id were handed to the transport."""
        self.paused = False
        """The peer does not read as fast as we write."""
        self.overrun = False
        """It does not read at all, and makes us answer."""

    def is_full(self) -> bool:
        return self.paused or self._size >= WRITE_HIGH_WATER

    def control(self, frame: bytes) -> None:
        self._out.append(frame)
        self._size += len(frame)
        if self.paused:
            self._unread += len(frame)
            if self._unread > MAX_UNREAD:
                self.overrun = True
        self.schedule()

    def head(self, stream_id: int, fields: list[Any], end: bool) -> None:
        """HEADERS, with as many CONTINUATION as it takes; nothing comes between them (RFC 9113, section 6.10)."""
        out = self._out
        at = len(out)
        out.append(b"")
        size = self.encoder.encode(fields, out)
        flags = END_STREAM if end else 0
        if size <= MAX_FRAME:
            out[at] = frame_header(size, HEADERS, flags | END_HEADERS, stream_id)
        else:
            block = b"".join(out[at:])
            del out[at:]
            kind = HEADERS
            for start in range(0, size, MAX_FRAME):
                part = block[start : start + MAX_FRAME]
                if start + MAX_FRAME >= size:
                    flags |= END_HEADERS
                out.append(frames.frame(kind, flags, stream_id, part))
                kind = CONTINUATION
                flags = 0
        self._size += size + frames.HEADER_SIZE
        if end:
            self.credit.earn(ANSWER_EARNS)
        self.schedule()

    def data(self, stream_id: int, pieces: list[Any], size: int, end: bool, worth: bool = True) -> None:
        """DATA; the windows have been asked. `worth`: it earns the peer credit."""
        out = self._out
        flags = END_STREAM if end else 0
        if size <= MAX_FRAME:
            out.append(frame_header(size, DATA, flags, stream_id))
            out.extend(pieces)
        else:
            left = size
            for piece in pieces:
                rest = memoryview(piece)
                while len(rest):
                    part = rest[:MAX_FRAME]
                    rest = rest[MAX_FRAME:]
                    left -= len(part)
                    out.append(frame_header(len(part), DATA, 0 if left else flags, stream_id))
                    out.append(part)
        self._size += size + frames.HEADER_SIZE
        if worth:
            self.credit.earn(DATA_EARNS + size * BYTES_EARN)
        self.schedule()

    def reset(self, stream_id: int, code: int, half_closed: bool = False) -> None:
        """`half_closed`: the peer has ended its side, so that nothing of it is under way."""
        self.control(frames.rst_stream(stream_id, code))
        if not half_closed:
            self.remember_reset(stream_id, True)

    def remember_reset(self, stream_id: int, ours: bool) -> None:
        resets = self.resets
        if len(resets) >= REMEMBERED_RESETS:
            del resets[next(iter(resets))]
        resets[stream_id] = ours

    def number(self, sender: Sender) -> bool:
        """Give a stream of ours its id, in the order of the heads (RFC 9113, section 5.1.1). False: none is left."""
        if self.next_id > MAX_ID:
            return False
        del self.streams[sender.id]
        sender.id = self.next_id
        self.next_id += 2
        self.streams[sender.id] = sender
        return True

    def wait(self, sender: Sender) -> None:
        """Go on with it once there is room."""
        self.waiting[sender.id] = sender

    def forget(self, sender: Sender) -> None:
        self.streams.pop(sender.id, None)
        if self.waiting:
            self.waiting.pop(sender.id, None)
        self.schedule()

    def resume(self) -> None:
        self.paused = False
        self._unread = 0
        self.let_go_on()

    def let_go_on(self) -> None:
        """One turn for each that waits, as long as there is room."""
        waiting = self.waiting
        for _ in range(len(waiting)):
            if self.is_full():
                break
            for key in waiting:
                sender = waiting.pop(key)
                break
            sender.go_on()

    def schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._end_turn)

    def _end_turn(self) -> None:
        self._scheduled = False
        self.flush()
        if self.waiting and not self.paused:
            self.let_go_on()
        turn_over = self._turn_over
        if turn_over is not None:
            turn_over()

    def flush(self) -> None:
        out = self._out
        if out:
            size = self._size
            self._out = []
            self._size = 0
            if not self._transport.is_closing():
                if size > JOINED and size > len(out) * CRUMB:
                    self._transport.writelines(out)
                else:
                    self._transport.write(b"".join(out))
                self.written_below = self.next_id

    def close(self) -> None:
        """Send what there is; nothing is called any more."""
        self.flush()
        self._turn_over = None
        self.waiting.clear()

    @property
    def unsent(self) -> int:
        """Bytes gathered for this turn's write."""
        return self._size
