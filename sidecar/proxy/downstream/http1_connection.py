"""One connection from the app: its requests one after the other, and the way back for their answers.

Owns the order of requests on a connection, when it is kept and when it is closed (how, is `closing`'s). What answers a
request is the dispatcher's to say, and what becomes of it its handler's business.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Final

from sidecar.net.under_way import bytes_under_way
from sidecar.proxy.downstream.closing import (
    DRAIN_S,
    LINGER_S,
    Closing,
    hung_up,
    nothing_unread,
    reset,
    send_before_close,
    worth_draining,
)
from sidecar.proxy.downstream.handler import Dispatcher, Handler
from sidecar.proxy.downstream.registry import Registry
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.http1.head_syntax import UNTIL_CLOSE, BadRequest, Trailers
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import ConnectAsked, RequestHead, check_partial, parse_request
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.http1.scan import head_end
from sidecar.proxy.problem import Problem
from sidecar.proxy.watermarks import WRITE_HIGH_WATER

HEAD_TIMEOUT_S: Final = 10.0
MAX_PIPELINED: Final = 64 * 1024
"""Bytes of further requests (or of a tunnel not open yet) that are read while one is in flight."""

CHECK_EVERY: Final = 512
"""A head that trickles in is looked at again at each line's end, and after so many bytes."""

NEWCOMER_S: Final = 0.25
"""How long a connection that was accepted just before the listener closed may take to send its first request."""

H2_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\n"
"""What HTTP/2 begins with (RFC 9113, section 3.4), as far as it looks like a head of HTTP/1.1."""

UPLOAD: Final = 1
PIPELINED: Final = 2
UNREAD: Final = 4
"""Why reading is paused: the upstream does not take the body, too many requests wait, the app does not take answers."""

_READY: Final = 0
_EXCHANGE: Final = 1
_DRAINING: Final = 2
_LINGERING: Final = 3
_CLOSING: Final = 4
_TUNNEL: Final = 5
_CLOSED: Final = 6


class DownstreamConnection(DownstreamStream):
    """A connection, and the one stream that it carries. Watched by the deadlines for as long as it is open."""

    __slots__ = (
        "_at",
        "_body",
        "_buffer",
        "_checked",
        "_client_idle_s",
        "_closing",
        "_deadlines",
        "_dispatcher",
        "_fresh_until",
        "_half_closed",
        "_handler",
        "_keep",
        "_paused",
        "_phase",
        "_pumping",
        "_reading_head",
        "_rechunk",
        "_recorder",
        "_registry",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._recorder = registry.recorder
        self._deadlines = registry.deadlines
        self._dispatcher: Dispatcher = registry.dispatcher
        self._phase = _READY
        self._buffer = b""
        """What has come and is not taken yet, from `_at` on."""
        self._at = 0
        self._checked = 0
        """Up to where an incomplete head has been looked at."""
        self._handler: Handler | None = None
        self._body: RequestBody | None = None
        self._client_idle_s = registry.client_idle_s
        self._closing: Closing | None = None
        self._half_closed = False
        self._keep = True
        self._pumping = False
        self._reading_head = False
        self._paused = 0
        self._rechunk = False
        self.deadline = inf
        self.last_activity = 0.0
        self.plain = False
        self.responding = False
        self.sent = 0
        self.writable = True

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        now = monotonic()
        self._fresh_until = now + NEWCOMER_S
        self.deadline = now + self._client_idle_s
        self._registry.opened(self)

    def data_received(self, data: bytes) -> None:
        phase = self._phase
        if phase == _READY:
            self._append(data)
            self._pump()
        elif phase == _EXCHANGE:
            self._during_exchange(data)
        elif phase == _DRAINING:
            self._drain(data)
        elif phase == _LINGERING:
            assert self._closing is not None
            if not self._closing.discard(len(data)):
                # Nor closed: a reset would overtake our answer, which an app that still sends may not have read.
                self.pause_reading(UNREAD)

    def eof_received(self) -> bool:
        if self._phase == _EXCHANGE:
            handler = self._handler
            assert handler is not None
            if handler.half_close and (self._body is None or self._body.complete):
                self._half_closed = True
                return True
            self._keep = False
            self._take_rest()
            handler.disconnected("the app closed the connection")
            return False
        if self._phase == _READY and self in self._registry.waiting:
            return self._left_before_its_turn()
        if self._phase == _READY and self._waiting:
            self._refuse(BadRequest(400, "the connection ended before the request head was complete"))
        return self._phase == _CLOSING

    def _left_before_its_turn(self) -> bool:
        """The app ends its sending while a request waits. Whether to keep the connection, for an app that may do so."""
        del self._registry.waiting[self]
        if self._registry.serves_half_closed:
            self._begin()  # only its route knows whether the app may still wait for the answer
            if self._phase == _EXCHANGE:
                return self.eof_received()
        else:
            self._recorder.gone()
            self._close()
        return self._phase == _CLOSING

    def connection_lost(self, exc: Exception | None) -> None:
        handler = self._handler
        if self in self._registry.waiting:
            self._recorder.gone()
        self._phase = _CLOSED
        self._registry.closed(self)
        if handler is not None:
            handler.disconnected("the app closed the connection")

    def pause_writing(self) -> None:
        self.writable = False
        if self._handler is not None:
            self._handler.pause_download()

    def resume_writing(self) -> None:
        self.writable = True
        if self._handler is not None:
            self._handler.resume_download()
        self.resume_reading(UNREAD)
        if self._phase == _READY and self._waiting:
            self._pump()

    def deadline_passed(self, now: float) -> None:
        if self._phase == _EXCHANGE:
            assert self._handler is not None
            self._handler.deadline_passed(now)
        elif self._phase == _READY and self._reading_head:
            self._refuse(BadRequest(408, f"the head took longer than {HEAD_TIMEOUT_S:g} s"))
        elif self._phase == _READY:
            self._close()
        elif self._closing is not None and self._closing.goes_on(now):
            self.arm(now + LINGER_S)
        else:
            self.transport.abort()

    # Requests.

    @property
    def _waiting(self) -> int:
        """Bytes that have come and are not taken yet."""
        return len(self._buffer) - self._at

    def _append(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data if self._waiting else data
        self._at = 0

    def _take_rest(self) -> bytes:
        rest = self._buffer[self._at :] if self._at else self._buffer
        self._buffer = b""
        self._at = 0
        return rest

    def _pump(self) -> None:
        """Start requests for as long as there are whole heads, none is in flight, and the app takes its answers."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._phase == _READY and self._at < len(self._buffer):
                if not self.writable:
                    self.pause_reading(UNREAD)
                    break
                if not self._registry.may_begin(self):
                    break
                if not self._begin():
                    break
        finally:
            self._pumping = False

    def turn_came(self) -> None:
        """A request that waited for a turn of the loop may begin."""
        self._pump()

    def _begin(self) -> bool:
        """Take one request off the buffer; False where its head is not whole."""
        data, at = self._buffer, self._at
        if data[at] == 0x0D and data.startswith(b"\r\n", at):  # RFC 9112, section 2.2: one empty line is let pass
            at += 2
            if at == len(data):
                self._take_rest()
                return False
        end = head_end(data, max(at, at + self._checked - 3))
        if not end:
            self._await_head(data[at:] if at else data)
            return False
        self._checked = 0
        try:
            if end - at > self._registry.max_head:
                raise BadRequest(431, self._registry.head_too_large)
            request = parse_request(data[at:end], self._registry.max_header_fields)
        except BadRequest as refusal:
            return self._is_no_request(refusal, end)
        if end == len(data):
            self._buffer = b""
            self._at = 0
        else:
            self._at = end
        self._fresh_until = 0.0
        try:
            handler = self._dispatcher.dispatch(self, request)
        except BadRequest as refusal:
            self._refuse(refusal, request)
            return False
        if isinstance(handler, Problem):
            self._stray(request, handler)
            return True
        self._phase = _EXCHANGE
        self._body = body = handler.body
        self.plain = request.minor == 0
        self.responding = False
        self._client_idle_s = handler.client_idle_s
        self._handler = handler
        if body is not None and self._buffer:
            try:
                pieces, self._buffer = body.take(self._take_rest())
            except BadRequest as refusal:
                self._handler = None
                self._refuse(refusal, request, handler.service_name)
                return False
            body.keep(pieces)
        handler.start()
        return True

    def _is_no_request(self, refusal: BadRequest, end: int) -> bool:
        """A head, up to `end`, that the HTTP/1.1 parser refuses. Whether to go on with what stands behind it."""
        if isinstance(refusal, ConnectAsked):
            try:
                self._dispatcher = self._dispatcher.for_authority(refusal.authority)
            except BadRequest as no_service:
                refusal = no_service
            else:
                self._at = end
                self._is_connected()
                return True
        elif self._is_fresh and self._buffer[self._at : end] == H2_PREFACE:
            self._becomes_http2()
            return False
        self._refuse(refusal)
        return False

    @property
    def _is_fresh(self) -> bool:
        """Nothing was asked yet on it: HTTP/2 begins with a connection, and not on one."""
        return self._fresh_until > 0.0

    def _becomes_http2(self) -> None:
        """The app speaks HTTP/2, and has known before that we do (RFC 9113, section 3.3)."""
        # Imported by the first connection that needs it: where all speak HTTP/1.1, it takes no memory.
        from sidecar.proxy.downstream.h2_connection import H2DownstreamConnection

        self.resume_reading(UPLOAD | PIPELINED | UNREAD)
        self._phase = _CLOSED
        self._registry.closed(self)
        H2DownstreamConnection(self._registry, self._dispatcher).take_over(self.transport, self._take_rest())

    def _is_connected(self) -> None:
        """After a CONNECT: what follows is read as a new connection (RFC 9110, section 9.3.6)."""
        self.transport.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        now = monotonic()
        self._fresh_until = now + NEWCOMER_S
        self._reading_head = False
        self.arm(now + self._client_idle_s)

    def _await_head(self, data: bytes) -> None:
        """What there is of a head, from its beginning, is not all of it."""
        try:
            if len(data) > self._registry.max_head:
                raise BadRequest(431, self._registry.head_too_large)
            if data != b"\r" and (
                len(data) - self._checked >= CHECK_EVERY or not self._checked or b"\n" in data[self._checked :]
            ):
                check_partial(data, self._checked)
                self._checked = len(data)
        except BadRequest as refusal:
            if not self._is_fresh or not H2_PREFACE.startswith(data):
                self._refuse(refusal)
                return
        if not self._reading_head:  # the first bytes of a head start its clock; further ones do not push it on
            self._reading_head = True
            self.arm(monotonic() + HEAD_TIMEOUT_S)

    def _during_exchange(self, data: bytes) -> None:
        handler = self._handler
        assert handler is not None
        body = self._body
        if body is not None and not body.complete:
            try:
                pieces, rest = body.take(data)
            except BadRequest as refusal:
                handler.refused(refusal)
                return
            handler.body_received(pieces)
            if not rest:
                return
            data = rest
        self._append(data)
        if self._waiting > MAX_PIPELINED:
            self.pause_reading(PIPELINED)

    # What the handler asks for.

    def arm(self, when: float) -> None:
        self.deadline = when
        if when < self._deadlines.horizon:
            self._deadlines.notice(self)

    def unsent(self) -> int:
        return bytes_under_way(self.transport)

    def peer(self) -> str | None:
        peername = self.transport.get_extra_info("peername")
        return str(peername[0]) if peername else None

    def begin_response(self, request: RequestHead, response: ResponseHead, held: list[bytes]) -> None:
        """Send the final response's head, and what there is of its body, framed as the app's version of HTTP wants."""
        self.responding = True
        self._rechunk = False
        keep = request.keep_alive and not self._registry.draining
        if self._body is not None and not self._body.complete:
            keep = keep and worth_draining(request, self._body)
        length = response.length
        framing = b""
        if length < 0:
            if request.minor == 0:
                keep = False  # HTTP/1.0 knows no chunks: its end is the connection's
            else:
                framing = b"\r\nTransfer-Encoding: chunked"
                self._rechunk = length == UNTIL_CLOSE
        self._keep = keep
        if not keep:
            framing += b"\r\nConnection: close"
        elif request.minor == 0:
            framing += b"\r\nConnection: keep-alive"
        head = response.bytes_for(framing)
        self.sent = 0
        if not held:
            self._write(head, last=not keep and length == 0)
        elif self._rechunk:
            self.transport.write(head)
            self.write_body(held)
        elif len(held) == 1 and len(held[0]) < 4096:
            self.sent = len(held[0])
            self._write(head + held[0], last=not keep and length == self.sent)
        else:
            for piece in held:
                self.sent += len(piece)
            self.transport.writelines([head, *held])

    def _write(self, data: bytes, *, last: bool) -> None:
        """`last`: nothing follows but the connection's end."""
        if last:
            data = send_before_close(self.transport, data)
            if not data:
                return
        self.transport.write(data)

    def write_body(self, pieces: list[bytes]) -> None:
        """The next part of the response's body, as the upstream's framing left it."""
        self.last_activity = monotonic()
        for piece in pieces:
            self.sent += len(piece)
        if self._rechunk:
            for piece in pieces:
                if piece:
                    self.transport.writelines([b"%x\r\n" % len(piece), piece, b"\r\n"])
        elif len(pieces) == 1:
            self.transport.write(pieces[0])
        else:
            self.transport.writelines(pieces)

    def end_response(self, trailers: Trailers = ()) -> None:
        """The response is whole. Trailers need chunks, which HTTP/1.0 does not know, nor a body of known length."""
        if self._rechunk:
            lines = [name + b": " + value + b"\r\n" for name, value in trailers]
            self.transport.write(b"".join([b"0\r\n", *lines, b"\r\n"]))

    def write_interim(self, response: ResponseHead) -> None:
        self.transport.write(response.bytes_for(b""))

    def answer(self, problem: Problem, request: RequestHead | None, *, head_only: bool = False) -> None:
        """Send an answer of our own; `head_only` or an answer to HEAD leaves its body out.

        Without a request the connection cannot be kept: nobody knows where the next one would begin.
        """
        self.responding = True
        self._rechunk = False
        keep = request is not None and request.keep_alive and not self._registry.draining
        if request is not None and self._body is not None and not self._body.complete:
            keep = keep and worth_draining(request, self._body)
        self._keep = keep
        body = problem.body()
        head = problem.head(len(body))
        if not keep:
            head += b"\r\nConnection: close"
        elif request is not None and request.minor == 0:
            head += b"\r\nConnection: keep-alive"
        if head_only or (request is not None and request.method == "HEAD"):
            body = b""
        self.sent = len(body)
        self.transport.write(head + b"\r\n\r\n" + body)

    def cut(self, grpc_status: int = 13, detail: str = "") -> None:
        """Break off in the middle of a response, so that the app cannot take it for a whole one."""
        handler = self._handler
        if handler is not None and handler.head.minor == 0:
            # Where the connection's end is the body's end, only a reset says that it is not.
            self._phase = _CLOSING
            reset(self.transport)
        else:
            self._close()

    def handler_ended(self) -> None:
        """The request is over, its permits are given back: on to the next request, or to the connection's end."""
        self._handler = None
        body, self._body = self._body, None
        if self._phase != _EXCHANGE:
            return
        if body is not None and not body.complete:
            if self._keep:
                self._body = body
                self._phase = _DRAINING
                self.arm(monotonic() + DRAIN_S)
                self.resume_reading(UPLOAD)
            else:
                self._linger()
        elif not self._keep:
            if self._waiting:
                self._linger()
            else:
                self._close()
        else:
            self._ready()

    def _ready(self) -> None:
        self._phase = _READY
        self._reading_head = False
        if self._half_closed and not self._waiting:
            self._close()
            return
        self.arm(monotonic() + self._client_idle_s)
        self.resume_reading(UPLOAD)
        if self._at < len(self._buffer):
            self._pump()
        if self._waiting <= MAX_PIPELINED or self._phase == _READY:  # a head that is not whole may be larger than that
            self.resume_reading(PIPELINED)

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """A tunnel takes the transport. Reading goes on."""
        self._phase = _TUNNEL
        self.arm(inf)
        self.resume_reading(UPLOAD | PIPELINED | UNREAD)
        return self.transport, self._take_rest()

    def tunnel_closed(self) -> None:
        self._phase = _CLOSED
        self._registry.closed(self)

    def pause_upload(self) -> None:
        self.pause_reading(UPLOAD)

    def resume_upload(self) -> None:
        self.resume_reading(UPLOAD)

    def pause_reading(self, reason: int) -> None:
        if not self._paused:
            with suppress(RuntimeError):
                self.transport.pause_reading()
            self._registry.paused.add(self)
        self._paused |= reason

    def resume_reading(self, reason: int) -> None:
        """One reason is gone; reading goes on once all are."""
        if self._paused & reason:
            self._paused &= ~reason
            if not self._paused:
                with suppress(RuntimeError):
                    self.transport.resume_reading()
                self._registry.paused.discard(self)

    def check_hang_up(self) -> None:
        """While reading is paused nobody tells that the app has left: ask the kernel."""
        handler = self._handler
        if handler is not None and hung_up(self.transport, half_close=handler.half_close):
            self._keep = False
            self._take_rest()
            handler.disconnected("the app closed the connection")

    # Closing.

    @property
    def at_rest(self) -> bool:
        """No request is under way, nor is one waiting in the kernel to be read."""
        return self._phase == _READY and not self._waiting and nothing_unread(self.transport)

    def close_at_rest(self) -> None:
        """The proxy ends: go where no request is under way. Who has only just come may still say what for."""
        if self.at_rest and monotonic() >= self._fresh_until:
            self._close()

    def turn_away(self, problem: Problem | None) -> None:
        """There is no room for this connection, whatever it would have asked. None is no answer."""
        if problem is None:
            reset(self.transport)
            return
        self.answer(problem, None)
        self._linger()

    def abort(self) -> None:
        """The proxy ends: it is not the app that went away, and its request's record should not say so."""
        handler = self._handler
        if handler is not None:
            self._keep = False
            self._take_rest()
            handler.disconnected("the sidecar stopped before the answer was complete")
        self.transport.abort()

    def _drain(self, data: bytes) -> None:
        body = self._body
        assert body is not None
        try:
            _, rest = body.take(data)
        except BadRequest:
            self._linger()
            return
        if body.complete:
            self._body = None
            self._append(rest)
            self._ready()

    def _refuse(self, refusal: BadRequest, request: RequestHead | None = None, service: str = "") -> None:
        """Answer what is not a request, and close in order."""
        request_id = request.request_id if request is not None else None
        problem = Problem(
            status=refusal.status,
            reason="bad_request",
            detail=refusal.detail,
            service=service,
            request_id=request_id.decode("latin-1") if request_id else "",
        )
        self._recorder.refused(problem, request)
        head_only = self._buffer.startswith(b"HEAD ", self._at) if request is None else request.method == "HEAD"
        self.answer(problem, None, head_only=head_only)
        self._linger()

    def _stray(self, request: RequestHead, problem: Problem) -> None:
        """Answer a request that no service takes; the connection is fit for the next one."""
        self._recorder.refused(problem, request)
        if request.length:
            self._body = body = RequestBody(request.length, 0)
            if self._waiting:
                try:
                    _, self._buffer = body.take(self._take_rest())
                except BadRequest:
                    self._keep = False
        self.answer(problem, request)
        self._phase = _EXCHANGE
        self.handler_ended()

    def _linger(self) -> None:
        self._begin_closing(_LINGERING)
        self._take_rest()
        self.resume_reading(UPLOAD | PIPELINED | UNREAD)
        with suppress(RuntimeError, NotImplementedError):
            self.transport.write_eof()

    def _close(self) -> None:
        """Close once what was written has gone out; the deadline ends the wait for an app that does not read."""
        if self.transport.get_write_buffer_size():
            self._begin_closing(_CLOSING)
        else:
            self._phase = _CLOSING
        self.transport.close()

    def _begin_closing(self, phase: int) -> None:
        self._phase = phase
        self._closing = Closing(self.transport, self._client_idle_s)
        self.arm(monotonic() + LINGER_S)

    def __repr__(self) -> str:
        phase = ("ready", "exchange", "draining", "lingering", "closing", "tunnel", "closed")[self._phase]
        return f"<DownstreamConnection {phase} buffered={self._waiting} {self._handler or ''}>"
