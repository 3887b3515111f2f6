"""A call that the sidecar makes on behalf of an app, through the very same data path as the app's own calls.

Owns the app's side of it, in memory: an `InnerCall` is the transport of a connection of its own, says one request on
it and gathers the one response. Routing, policies and metrics are those of any call, because it is one. What is not a
whole response of bounded size is a failure.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from sidecar.proxy.exchange.body_copy import ByteBudget
from sidecar.proxy.http1.chunked import BadChunk, ChunkScanner
from sidecar.proxy.http1.head_syntax import CHUNKED, BadResponse
from sidecar.proxy.http1.response_head import ResponseHead, parse_response
from sidecar.proxy.problem import Attempt

if TYPE_CHECKING:
    from sidecar.proxy.downstream.http1_connection import Downstream

MAX_BODY: Final = 1024 * 1024
"""Bytes of a response's body that are taken, packed or not."""

PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""Content codings that are undone although nobody asked for them (RFC 9110, section 8.4.1)."""
_GZIP: Final = b"\x1f\x8b"
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS

_REASON = re.compile(rb"\r\nx-sidecar-reason: ([a-z_]+)", re.IGNORECASE)
_CODING = re.compile(rb"\r\ncontent-encoding:[ \t]*([^\r\n]*)", re.IGNORECASE)
_FALLBACK = re.compile(rb"\r\nx-sidecar-fallback: ([^\r\n]+)", re.IGNORECASE)


class InnerCall(asyncio.Transport):
    """One GET. `on_end` hears of its end once, from the event loop, after all it held in the data path is given back.

    `peer` is the app's address, `budget` is what all bodies together may still take; `release` gives it back.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, peer: Any, budget: ByteBudget, on_end: Callable[[InnerCall], None]
    ) -> None:
        super().__init__({"peername": peer} if peer else None)
        self.deadline = inf
        """Seconds of the loop's clock; whoever makes the call looks after it."""
        self.head: ResponseHead | None = None
        self.failure = ""
        """Why there is no whole response: `too_large`, `overloaded`, `truncated`, `bad_response`, or `not_json` for a
        body that does not match its coding; else empty."""
        self.reason = ""
        """The sidecar's own for the response (`x-sidecar-reason`); an upstream's is not let pass."""
        self.fallback = ""
        """What answered in place of the service (`x-sidecar-fallback`), as above; empty where nothing did."""
        self.raw = b""
        """The head of the response, as it came."""
        self.coding = ""
        """The content codings of `body`, lower case; empty where there is none any more."""
        self.attempts: Sequence[Attempt] = ()
        """What was sent to endpoints, and has ended."""
        self.attempts_made = 0
        """How often the request was sent to an endpoint, or began to be."""
        self.ended_at = 0.0
        """Seconds of the loop's clock."""
        self._loop = loop
        self._budget = budget
        self._on_end: Callable[[InnerCall], None] | None = on_end
        self._downstream: Downstream | None = None
        self._start = b""
        self._scanner: ChunkScanner | None = None
        self._whole = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._closing = False

    def start(self, downstream: Downstream, request: bytes) -> None:
        """Say `request` on `downstream`, a connection that nobody has used yet. It has to ask for `Connection: close`:
        the connection's end is the call's."""
        self._downstream = downstream
        downstream.connection_made(self)
        downstream.data_received(request)

    def cancel(self) -> None:
        """Nobody waits for it any more: as if an app had gone away."""
        self._on_end = None
        self.release()
        self.abort()

    def release(self) -> None:
        """Give the body's bytes back."""
        self._budget.left += self._size
        self._size = 0
        self._pieces = []

    @property
    def body(self) -> bytes:
        """Without the framing."""
        if len(self._pieces) > 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0] if self._pieces else b""

    # The transport, as the data path sees it.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing or self._whole:
            return
        try:
            if self.head is None:
                self._take_heads(bytes(data))
            else:
                self._take_body(bytes(data))
        except (BadResponse, BadChunk):
            self._fail("bad_response")

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def write_eof(self) -> None:
        self.close()  # an app that has its answer would close now

    def close(self) -> None:
        self._end()

    def abort(self) -> None:
        self._end()

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        """There is nothing more to read."""

    def resume_reading(self) -> None:
        """As above."""

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """What is written is taken at once."""

    def get_write_buffer_size(self) -> int:
        return 0

    # The response.

    def _take_heads(self, data: bytes) -> None:
        """Up to the final one's end; what follows is body."""
        self._start += data
        while self.head is None:
            head, end, rest = self._start.partition(b"\r\n\r\n")
            if not end:
                return
            self._start = rest
            response = parse_response(head + end, "GET", max_fields=len(head))  # it was bounded when it came in
            if response.status >= 200:
                self.head = response
                self.raw = head
                self.coding = _found(_CODING, head).strip().lower().replace("identity", "")
                self._count()
                self.reason = _found(_REASON, head)
                self.fallback = _found(_FALLBACK, head)
        body, self._start = self._start, b""
        if self.head.length == CHUNKED:
            self._scanner = ChunkScanner(decode=True)
        elif self.head.length > MAX_BODY:
            self._fail("too_large")
            return
        self._take_body(body)

    def _take_body(self, data: bytes) -> None:
        scanner, head = self._scanner, self.head
        assert head is not None
        pieces = [data] if scanner is None else scanner.feed(data)[0]
        for piece in pieces:
            self._pieces.append(piece)
            self._size += len(piece)
            self._budget.left -= len(piece)
        if self._size > MAX_BODY:
            self._fail("too_large")
        elif self._budget.left < 0:
            self._fail("overloaded")
        else:
            self._whole = scanner.done if scanner is not None else self._size == head.length

    def _fail(self, failure: str) -> None:
        self._spoil(failure)
        self.abort()

    def _count(self) -> None:
        handler = self._downstream.answering if self._downstream is not None else None
        if handler is not None:
            self.attempts, self.attempts_made = handler.attempts_so_far()

    def _unpack(self) -> None:
        """Undo a coding that nobody asked for. A few KiB may become a GiB: no more than the bounds is unpacked."""
        if self.coding not in PACKED and not (self.coding == "" and self.body.startswith(_GZIP)):
            return
        most = max(min(MAX_BODY, self._budget.left + self._size), 0)
        unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
        try:
            found = unpacking.decompress(self.body, most + 1)
        except zlib.error:
            self._spoil("not_json")
            return
        if len(found) > most:
            self._spoil("too_large" if most == MAX_BODY else "overloaded")
        elif not unpacking.eof or unpacking.unused_data:
            self._spoil("not_json")
        else:
            self.release()
            self._pieces, self._size, self.coding = [found], len(found), ""
            self._budget.left -= len(found)

    def _spoil(self, failure: str) -> None:
        self.failure = failure
        self.release()

    def _end(self) -> None:
        if not self._closing:
            if self.head is None:
                self._count()
            self.ended_at = monotonic()
            self._closing = True
            self._loop.call_soon(self._ended)  # as every transport does: never from within a call of the data path

    def _ended(self) -> None:
        downstream, self._downstream = self._downstream, None
        if downstream is not None:
            downstream.connection_lost(None)
        if not self._whole and not self.failure:
            self._spoil("truncated")
        if self._whole and self._on_end is not None:
            self._unpack()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    def __repr__(self) -> str:
        return f"<InnerCall {self.head.status if self.head else '-'} {self._size} bytes {self.failure}>"


def _found(field: re.Pattern[bytes], head: bytes) -> str:
    found = field.search(head)
    return found[1].decode("latin-1") if found else ""
