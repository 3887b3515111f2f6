"""A call that the sidecar makes on behalf of an app, through the very same data path as the app's own calls.

Owns the app's side of it, in memory: an `InnerCall` is the stream that is answered, and gathers the one response.
Routing, policies and metrics are those of any call, because it is one. What is not a whole response of bounded size is
a failure.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Final

from sidecar.proxy.body_sink import ByteBudget
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.handler import Dispatcher, Handler
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.http1.head_syntax import BadRequest, Trailers
from sidecar.proxy.http1.request_head import RequestHead, parse_request
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import Attempt, Problem

MAX_BODY: Final = 1024 * 1024
"""Bytes of a response's body that are taken, packed or not."""

PACKED: Final = frozenset({"gzip", "x-gzip", "deflate"})
"""Content codings that are undone although nobody asked for them (RFC 9110, section 8.4.1)."""
_GZIP: Final = b"\x1f\x8b"
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS

_CODING = re.compile(rb"\r\ncontent-encoding:[ \t]*([^\r\n]*)", re.IGNORECASE)
_FALLBACK = re.compile(rb"\r\nx-sidecar-fallback: ([^\r\n]+)", re.IGNORECASE)


class InnerCall(DownstreamStream):
    """One GET. `on_end` hears of its end once, from the event loop, after all it held in the data path is given back.

    `peer` is the app's address, `budget` is what all bodies together may still take; `release` gives it back.
    """

    def __init__(
        self, core: ProxyCore, peer: str | None, budget: ByteBudget, on_end: Callable[[InnerCall], None]
    ) -> None:
        self.deadline = inf
        self.last_activity = 0.0
        self.plain = True
        self.responding = False
        self.sent = 0
        self.writable = True
        self.due = inf
        """Seconds of the loop's clock; whoever makes the call looks after it."""
        self.head: ResponseHead | None = None
        self.failure = ""
        """Why there is no whole response: `too_large`, `overloaded`, `truncated`, or `not_json` for a body that does
        not match its coding; else empty."""
        self.reason = ""
        """The sidecar's own for the response (`x-sidecar-reason`); empty where the service has answered."""
        self.fallback = ""
        """What answered in place of the service (`x-sidecar-fallback`); empty where nothing did."""
        self.fields = b""
        """Of the response, each opened by CRLF."""
        self.coding = ""
        """The content codings of `body`, lower case; empty where there is none any more."""
        self.attempts: Sequence[Attempt] = ()
        """What was sent to endpoints, and has ended."""
        self.attempts_made = 0
        """How often the request was sent to an endpoint, or began to be."""
        self.ended_at = 0.0
        """Seconds of the loop's clock."""
        self._core = core
        self._peer = peer
        self._budget = budget
        self._on_end: Callable[[InnerCall], None] | None = on_end
        self._handler: Handler | None = None
        self._whole = False
        self._pieces: list[bytes] = []
        self._size = 0
        self._leaving = False
        self._over = False

    def start(self, dispatcher: Dispatcher, request: bytes) -> None:
        """Ask: `request` is a head, from its first byte to its blank line."""
        core = self._core
        registry = core.registry
        head: RequestHead | None = None
        try:
            if len(request) > registry.max_head:
                raise BadRequest(431, registry.head_too_large)
            head = parse_request(request, registry.max_header_fields)
            found = dispatcher.dispatch(self, head)
        except BadRequest as refusal:
            request_id = head.request_id if head is not None else None
            found = Problem(
                status=refusal.status,
                reason="bad_request",
                detail=refusal.detail,
                request_id=request_id.decode("latin-1") if request_id else "",
            )
        if isinstance(found, Problem):
            core.recorder.refused(found, head)
            self.answer(found, head)
            self._end()
            return
        self._handler = found
        core.inner.add(found)
        core.deadlines.watch(self)
        found.start()

    def cancel(self) -> None:
        """Nobody waits for it any more: as if an app had gone away."""
        self._on_end = None
        self.release()
        self._leave()

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

    # The stream, as the data path sees it.

    def arm(self, when: float) -> None:
        self._core.deadlines.arm(self, when)

    def deadline_passed(self, now: float) -> None:
        if self._handler is not None:
            self._handler.deadline_passed(now)

    def begin_response(self, request: RequestHead, response: ResponseHead, held: list[bytes]) -> None:
        self.responding = True
        self.head = response
        self.fields = response.lines()
        self.coding = _found(_CODING, self.fields).strip().lower().replace("identity", "")
        self.fallback = _found(_FALLBACK, self.fields)
        self._count()
        if response.length > MAX_BODY:
            self._fail("too_large")
        else:
            self.write_body(held)

    def write_body(self, pieces: list[bytes]) -> None:
        if self._leaving:
            return
        self.last_activity = monotonic()
        for piece in pieces:
            self._pieces.append(piece)
            self._size += len(piece)
            self.sent += len(piece)
            self._budget.left -= len(piece)
        if self._size > MAX_BODY:
            self._fail("too_large")
        elif self._budget.left < 0:
            self._fail("overloaded")

    def end_response(self, trailers: Trailers = ()) -> None:
        self._whole = not self._leaving

    def write_interim(self, response: ResponseHead) -> None:
        """Nobody waits for one."""

    def answer(self, problem: Problem, request: RequestHead | None, *, head_only: bool = False) -> None:
        self.responding = True
        response = self.head = ResponseHead()
        response.status = problem.status
        self.reason = problem.reason
        self._count()
        self._whole = True

    def cut(self, grpc_status: int = 13, detail: str = "") -> None:
        """Not whole: `_ended` sees it."""

    def handler_ended(self) -> None:
        self._end()

    def pause_upload(self) -> None:
        """It has no body."""

    def resume_upload(self) -> None:
        """As above."""

    def unsent(self) -> int:
        return 0

    def peer(self) -> str | None:
        return self._peer

    # Its end.

    def _fail(self, failure: str) -> None:
        self._spoil(failure)
        self._leave()

    def _count(self) -> None:
        if self._handler is not None:
            self.attempts, self.attempts_made = self._handler.attempts_so_far()

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

    def _leave(self) -> None:
        """As an app that closes its connection: never from within a call of the data path."""
        if not self._leaving and not self._over:
            self._leaving = True
            self._note_end()
            self._core.loop.call_soon(self._left)

    def _left(self) -> None:
        if self._handler is not None:
            self._handler.disconnected("the app closed the connection")

    def _end(self) -> None:
        if not self._over:
            self._over = True
            if not self._leaving:
                self._note_end()
            handler, self._handler = self._handler, None
            if handler is not None:
                self._core.inner.discard(handler)
                self._core.deadlines.forget(self)
            self._core.loop.call_soon(self._ended)

    def _note_end(self) -> None:
        if self.head is None:
            self._count()
        self.ended_at = monotonic()

    def _ended(self) -> None:
        if not self._whole and not self.failure:
            self._spoil("truncated")
        if self._whole and self._on_end is not None:
            self._unpack()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end(self)

    def __repr__(self) -> str:
        return f"<InnerCall {self.head.status if self.head else '-'} {self._size} bytes {self.failure}>"


def _found(field: re.Pattern[bytes], fields: bytes) -> str:
    found = field.search(fields)
    return found[1].decode("latin-1") if found else ""
