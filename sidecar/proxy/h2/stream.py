"""One stream of a connection: what is queued of what it sends, its windows, and who hears what it brings.

Owns the way from its user to the writer, and that a mistake of its user ends this stream and nothing else. Which frame
may come when is `connection`'s.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

from sidecar.proxy.h2 import frames
from sidecar.proxy.h2.field_rules import NO_LENGTH, method_of
from sidecar.proxy.h2.frames import INTERNAL_ERROR
from sidecar.proxy.h2.hpack import Fields
from sidecar.proxy.h2.limits import STREAM_WINDOW
from sidecar.proxy.h2.writer import FrameWriter, Sender
from sidecar.proxy.watermarks import WRITE_HIGH_WATER

LOW_WATER: Final = WRITE_HIGH_WATER // 4
"""Below it the user is told to go on."""

_TURN: Final = 64 * 1024
"""Bytes that a stream may send before others that wait have theirs."""

_CRUMB: Final = 256
"""Less than so much of a piece was cut off by a window that opens byte by byte: it earns nothing."""

_RETURN_AT: Final = STREAM_WINDOW // 2
"""Bytes of window that are returned at once: an update for every frame would be half of what is sent."""

log = logging.getLogger(__name__)


class StreamUser:
    """Hears what comes on one stream. After `stream_lost`, and after its own `reset`, it hears nothing more."""

    def head_received(self, fields: Fields, end: bool) -> None:
        """A request's head; of a response, every interim head and then the final one. `end`: nothing follows."""
        raise NotImplementedError

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        """`size` is what it took of the window, and is given back by `consumed`. `data` may be empty at the end."""
        raise NotImplementedError

    def trailers_received(self, fields: Fields) -> None:
        """The peer's side has ended."""
        raise NotImplementedError

    def stream_lost(self, code: int, unprocessed: bool, why: str) -> None:
        """It has ended before its time. `code`: of the RST_STREAM or of what the peer did wrong; -1: the connection
        ended. `unprocessed`: the peer has certainly not looked at it (RFC 9113, section 8.7)."""
        raise NotImplementedError

    def stream_writable(self) -> None:
        """`writable` was False, and what is queued is below the low mark now."""


class H2Stream(Sender):
    """Its methods do nothing once it is closed."""

    __slots__ = (
        "_ending",
        "_queue",
        "_stuck",
        "_unreturned",
        "_window",
        "_writer",
        "born",
        "closed",
        "got_end",
        "got_head",
        "id",
        "left",
        "method",
        "receivable",
        "sent_end",
        "sent_head",
        "unsent",
        "user",
    )

    def __init__(self, stream_id: int, writer: FrameWriter, born: float) -> None:
        self.id = stream_id
        """Below zero: of ours, and its head has not been sent."""
        self.user: StreamUser | None = None
        self.closed = False
        self.born = born
        self.unsent = 0
        """Bytes of DATA queued here: the windows or the transport do not take them."""
        self.sent_head = self.sent_end = False
        self.got_head = self.got_end = False
        self.left = NO_LENGTH
        """What the peer's content-length says is still to come."""
        self.receivable = STREAM_WINDOW
        """What the peer may still send."""
        self.method = b""
        """Of a request of ours."""
        self._window = writer.stream_window
        self._writer = writer
        self._queue: deque[Any] | None = None
        """Pieces of DATA, and lists of fields."""
        self._ending = False
        """END_STREAM is with the last that is queued."""
        self._stuck = False
        """The user was told to wait."""
        self._unreturned = 0

    # For its user.

    @property
    def writable(self) -> bool:
        """False: wait for `stream_writable`."""
        if self.unsent < WRITE_HIGH_WATER and not self._writer.is_full():
            return True
        if not self._stuck and not self.closed:
            self._stuck = True
            if not self._queue:
                self._writer.wait(self)
        return False

    def send_head(self, fields: Fields, end: bool) -> None:
        """Of a request or a response, interim heads too."""
        if self.closed or self._ending or self.sent_end:
            return
        if self._writer.is_full() or self._queue:
            self._append(fields, end)
        else:
            self._head(fields, end)

    def send_data(self, pieces: list[Any], end: bool) -> None:
        if self.closed or self._ending or self.sent_end:
            return
        writer = self._writer
        size = 0
        for piece in pieces:
            size += len(piece)
        if self._queue or size > self._window or size > writer.window or writer.is_full():
            for piece in pieces:
                if len(piece):
                    self.unsent += len(piece)
                    self._append(piece, False)
            if end:
                self._ending = True
                if not self._queue:
                    self._append(b"", True)
            self._try()
        elif size or end:
            self._window -= size
            writer.window -= size
            writer.data(self.id, pieces, size, end)
            if end:
                self._has_ended()

    def send_trailers(self, fields: Fields) -> None:
        """They end our side, after what is queued."""
        self.send_head(fields, True)

    def reset(self, code: int) -> None:
        """The user hears nothing more."""
        if not self.closed:
            if self.id > 0:
                self._writer.reset(self.id, code, self.got_end)
            self.forget()

    def consumed(self, size: int) -> None:
        """So much of what was received has gone on: the peer may send as much more."""
        self._unreturned += size
        if self._unreturned >= _RETURN_AT and not self.got_end and not self.closed:
            self._writer.control(frames.window_update(self.id, self._unreturned))
            self.receivable += self._unreturned
            self._unreturned = 0

    # For the writer and the connection.

    def go_on(self) -> None:
        queue = self._queue
        writer = self._writer
        left = _TURN
        while queue and not writer.is_full():
            item = queue[0]
            if isinstance(item, list):
                queue.popleft()
                self._head(item, self._ending and not queue)
                if self.closed:
                    return
                continue
            size = len(item)
            room = min(self._window, writer.window, left)
            if size > room:
                if room <= 0:
                    break
                view = memoryview(item)
                queue[0] = view[room:]
                item = view[:room]
                size = room
            else:
                queue.popleft()
            self.unsent -= size
            self._window -= size
            writer.window -= size
            left -= size
            end = self._ending and not queue
            writer.data(self.id, [item], size, end, worth=end or size >= _CRUMB)
            if end:
                self._has_ended()
                return
        if queue and (self._window > 0 or isinstance(queue[0], list)):
            writer.wait(self)
        if self._stuck:
            if self.unsent > LOW_WATER or writer.is_full():
                if not queue:
                    writer.wait(self)
                return
            self._stuck = False
            self.tell_writable()

    def widen(self, size: int) -> bool:
        """WINDOW_UPDATE, or another INITIAL_WINDOW_SIZE (which may make it smaller). False: it is too large."""
        self._window += size
        if self._window > frames.MAX_WINDOW:
            return False
        if size > 0 and self._queue:
            self._try()
        return True

    def forget(self) -> None:
        """It is over, and refers to nobody who refers to it."""
        if not self.closed:
            self.closed = True
            self.user = None
            self._queue = None
            self.unsent = 0
            self._writer.forget(self)

    # What the user hears: none of its mistakes is the connection's.

    def tell_head(self, fields: Fields, end: bool) -> None:
        user = self.user
        if user is not None:
            try:
                user.head_received(fields, end)
            except Exception as error:
                self._failed(error)

    def tell_data(self, data: bytes, size: int, end: bool) -> None:
        user = self.user
        if user is not None:
            try:
                user.data_received(data, size, end)
            except Exception as error:
                self._failed(error)

    def tell_trailers(self, fields: Fields) -> None:
        user = self.user
        if user is not None:
            try:
                user.trailers_received(fields)
            except Exception as error:
                self._failed(error)

    def tell_writable(self) -> None:
        user = self.user
        if user is not None:
            try:
                user.stream_writable()
            except Exception as error:
                self._failed(error)

    def lose(self, code: int, unprocessed: bool, why: str) -> None:
        """End it, and say so."""
        user = self.user
        self.forget()
        if user is not None:
            try:
                user.stream_lost(code, unprocessed, why)
            except Exception:
                log.exception("the end of an HTTP/2 stream was not taken well")

    def _failed(self, error: Exception) -> None:
        log.error("an HTTP/2 stream is reset, because what it brought could not be worked on", exc_info=error)
        self.reset(INTERNAL_ERROR)

    def _head(self, fields: list[Any], end: bool) -> None:
        if self.id < 0:
            self.method = method_of(fields)
            if not self._writer.number(self):
                self.lose(frames.REFUSED_STREAM, True, "the connection has no stream ids left")
                return
        self.sent_head = True
        self._writer.head(self.id, fields, end)
        if end:
            self._has_ended()

    def _has_ended(self) -> None:
        self.sent_end = True
        if self.got_end:
            self.forget()

    def _append(self, item: Any, end: bool) -> None:
        queue = self._queue
        if queue is None:
            queue = self._queue = deque()
        queue.append(item)
        if end:
            self._ending = True
        if len(queue) == 1:
            self._writer.wait(self)

    def _try(self) -> None:
        """Send now what there is room for, unless others wait for the same."""
        writer = self._writer
        if writer.window > 0 and not writer.is_full():
            self.go_on()
        elif self._window > 0:
            writer.wait(self)

    def __repr__(self) -> str:
        return f"<H2Stream {self.id} unsent={self.unsent} window={self._window} closed={self.closed}>"
