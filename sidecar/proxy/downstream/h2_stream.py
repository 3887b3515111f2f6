"""One stream of an app's HTTP/2 connection: the request that comes on it, and the way back for its answer.

Owns what is held of a request's body while nobody takes it (the stream's window bounds it), and how the stream ends so
that the app can tell a whole answer from one that broke off. What answers a request is the dispatcher's to say.
"""

from __future__ import annotations

import asyncio
import logging
from math import inf
from time import monotonic
from typing import Final, Protocol

from sidecar.net.under_way import bytes_under_way
from sidecar.policy.grpc import encode_message
from sidecar.proxy.downstream.closing import LINGER_S
from sidecar.proxy.downstream.handler import Dispatcher, Handler
from sidecar.proxy.downstream.registry import Registry
from sidecar.proxy.downstream.stream import DownstreamStream
from sidecar.proxy.h2.frames import CANCEL, INTERNAL_ERROR, NO_ERROR
from sidecar.proxy.h2.request import H2RequestHead, is_grpc, read_request
from sidecar.proxy.h2.stream import H2Stream, StreamUser
from sidecar.proxy.http1.chunked import may_be_trailer
from sidecar.proxy.http1.head_syntax import BadRequest, Fields, Trailers, lower_fields
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.problem import Problem

CONNECT_REFUSED: Final = "there is no CONNECT on a stream: the sidecar opens connections for HTTP/1.1 CONNECTs alone"
_NO_FIELDS: Final[frozenset[bytes]] = frozenset()

log = logging.getLogger("sidecar.proxy")


class Carrier(Protocol):
    """The connection, as its streams see it."""

    transport: asyncio.Transport

    @property
    def blocked(self) -> bool:
        """The app does not read what has been written."""

    def retire(self) -> None:
        """The app is to make its next requests on another connection."""

    def left(self, client_idle_s: float) -> None:
        """A stream is over; so long the connection may rest."""


class StreamEvents(StreamUser):
    """Passes on what the connection says of a stream: a compiled class has one base, and the stream's is the seam."""

    def __init__(self, stream: H2DownstreamStream) -> None:
        self.to = stream

    def head_received(self, fields: Fields, end: bool) -> None:
        self.to.head_received(fields, end)

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        self.to.data_received(data, size, end)

    def trailers_received(self, fields: Fields) -> None:
        self.to.trailers_received(fields)

    def stream_lost(self, code: int, unprocessed: bool, why: str) -> None:
        self.to.stream_lost(code, why)

    def stream_writable(self) -> None:
        self.to.stream_writable()


class H2DownstreamStream(DownstreamStream):
    """Watched by the deadlines from its request's beginning until all of its answer has gone."""

    __slots__ = (
        "_body",
        "_carrier",
        "_client_idle_s",
        "_deadlines",
        "_dispatcher",
        "_early",
        "_early_end",
        "_early_trailers",
        "_grpc",
        "_handler",
        "_head",
        "_over",
        "_owed",
        "_progress_at",
        "_registry",
        "_stream",
        "_unsent",
        "_upload_paused",
    )

    def __init__(self, carrier: Carrier, stream: H2Stream, registry: Registry, dispatcher: Dispatcher) -> None:
        self._carrier = carrier
        self._stream = stream
        self._registry = registry
        self._deadlines = registry.deadlines
        self._dispatcher = dispatcher
        self._handler: Handler | None = None
        self._head: H2RequestHead | None = None
        self._grpc = False
        self._body: RequestBody | None = None
        self._owed = 0
        """Bytes of the stream's window that are given back when the upload goes on."""
        self._upload_paused = False
        self._early: list[bytes] | None = None
        """What has come of the body while the request waits for a turn of the loop; else None."""
        self._early_end = False
        self._early_trailers: Fields = []
        self._client_idle_s = registry.client_idle_s
        self._over = False
        self._unsent = 0
        self._progress_at = 0.0
        self.deadline = inf
        self.last_activity = 0.0
        self.plain = True
        self.responding = False
        self.sent = 0
        self.writable = True

    def events(self) -> StreamUser:
        return StreamEvents(self)

    # What the app sends.

    def head_received(self, fields: Fields, end: bool) -> None:
        registry = self._registry
        try:
            head = read_request(fields, ended=end, max_fields=registry.max_header_fields)
        except BadRequest as refusal:
            self._grpc = _is_grpc(fields)
            is_connect = (b":method", b"CONNECT") in fields
            self._refuse(BadRequest(405, CONNECT_REFUSED) if is_connect else refusal, None)
            return
        self._head = head
        self._grpc = head.grpc
        if registry.may_begin(self):
            self._begin(head)
        else:
            self._early = []

    def refuse_too_large(self, fields: Fields) -> None:
        """`fields` are the first of a head that is above the limit."""
        self._grpc = _is_grpc(fields)
        self._refuse(BadRequest(431, self._registry.head_too_large), None)

    def turn_came(self) -> None:
        """The request, which waited for a turn of the loop, may begin."""
        head = self._head
        if head is not None:
            self._begin(head)

    def _begin(self, head: H2RequestHead) -> None:
        early, self._early = self._early, None
        try:
            handler = self._dispatcher.dispatch(self, head)
        except BadRequest as refusal:
            self._refuse(refusal, head)
            return
        except Exception as error:
            log.error("a request failed because of a bug in the sidecar", exc_info=error)
            self._answer_and_end(
                Problem(status=500, reason="internal", detail="a bug in the sidecar; its log has the details")
            )
            return
        if isinstance(handler, Problem):
            self._registry.recorder.refused(handler, head)
            self._answer_and_end(handler)
            return
        self._handler = handler
        self._client_idle_s = handler.client_idle_s
        self._body = body = handler.body
        if early is not None and body is not None:
            self._take_early(body, early)
        self._deadlines.watch(self)
        handler.start()
        if not self._upload_paused:
            self._give_back()

    def _take_early(self, body: RequestBody, early: list[bytes]) -> None:
        if self._early_trailers:
            body.trailers = tuple(self._early_trailers)
        size = 0
        for piece in early:
            size += len(piece)
        if size or self._early_end:
            body.arrived(size, end=self._early_end)
            body.keep(early)

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        self._owed += size
        early = self._early
        if early is not None:
            if data:
                early.append(data)
            self._early_end = end
            return
        handler, body = self._handler, self._body
        if handler is None or body is None:
            self._nobody_takes_it()
            return
        body.arrived(len(data), end=end)
        handler.body_received([data] if data else [])
        if not self._upload_paused:
            self._give_back()

    def trailers_received(self, fields: Fields) -> None:
        kept = [field for field in fields if may_be_trailer(field[0])]
        if self._early is not None:
            self._early_trailers = kept
            self._early_end = True
            return
        handler, body = self._handler, self._body
        if handler is not None and body is not None:
            body.trailers = tuple(kept)
            body.arrived(0, end=True)
            handler.body_received([])

    def stream_lost(self, code: int, why: str) -> None:
        if self._early is not None:
            self._early = None
            self._registry.waiting.pop(self, None)
            self._registry.recorder.gone()
        handler = self._handler
        if handler is None:
            self._is_over()
        elif code < 0:
            handler.disconnected("the app closed the connection")
        else:
            handler.disconnected(f"the app ended the stream: {why}")

    def stream_writable(self) -> None:
        self.writable = True
        if self._handler is not None:
            self._handler.resume_download()

    def _give_back(self) -> None:
        """The app may send as much again as has been taken."""
        owed, self._owed = self._owed, 0
        if owed:
            self._stream.consumed(owed)

    def _nobody_takes_it(self) -> None:
        """The answer does not need what the app still sends: tell it so once the answer is out."""
        if self._handler is None and self._stream.sent_end:
            self._end_with(NO_ERROR)

    # What the handler asks for.

    def arm(self, when: float) -> None:
        self.deadline = when
        if when < self._deadlines.horizon:
            self._deadlines.notice(self)

    def begin_response(self, request: RequestHead, response: ResponseHead, held: list[bytes]) -> None:
        self.responding = True
        if self._registry.draining:
            self._carrier.retire()
        # Over HTTP/1.1 a length of nothing is the end; here trailers may still follow.
        end = response.ended if response.h2 else response.length == 0
        self._stream.send_head(response.fields_for([]), end)
        if held:
            self.write_body(held)

    def write_body(self, pieces: list[bytes]) -> None:
        self.last_activity = monotonic()
        for piece in pieces:
            self.sent += len(piece)
        stream = self._stream
        stream.send_data(pieces, False)
        if self.writable and not stream.writable:
            self.writable = False
            if self._handler is not None:
                self._handler.pause_download()

    def end_response(self, trailers: Trailers = ()) -> None:
        """A stream that has ended with its head hears nothing of this."""
        if trailers:
            self._stream.send_trailers([(name.lower(), value) for name, value in trailers])
        else:
            self._stream.send_data([], True)

    def write_interim(self, response: ResponseHead) -> None:
        self._stream.send_head(response.fields_for([]), False)

    def answer(self, problem: Problem, request: RequestHead | None, *, head_only: bool = False) -> None:
        """A gRPC call gets its status in a head without a body (trailers-only), any other request problem details."""
        self.responding = True
        if self._registry.draining:
            self._carrier.retire()
        stream, head = self._stream, self._head
        if self._grpc:
            stream.send_head(problem.grpc_fields(), True)
            return
        body = problem.body()
        lines = problem.head(len(body))
        fields = [(b":status", b"%d" % problem.status), *lower_fields(lines[lines.index(b"\r\n") :], _NO_FIELDS)]
        if head_only or (head is not None and head.method == "HEAD"):
            stream.send_head(fields, True)
            return
        self.sent = len(body)
        stream.send_head(fields, False)
        stream.send_data([body], True)

    def cut(self, grpc_status: int = 13, detail: str = "") -> None:
        """An app that does not read would not get to the trailers: its stream is reset, and so is one of no gRPC."""
        if self._grpc and self.writable:
            fields = [(b"grpc-status", b"%d" % grpc_status)]
            if detail:
                fields.append((b"grpc-message", encode_message(detail)))
            self._stream.send_trailers(fields)
        else:
            self._stream.reset(INTERNAL_ERROR if self.writable else CANCEL)

    def handler_ended(self) -> None:
        """The request is over, its permits are given back. What is still to be sent of its answer is looked after."""
        self._handler = None
        self._body = None
        stream = self._stream
        if stream.closed:
            self._is_over()
        elif not self.responding:
            self._end_with(INTERNAL_ERROR)
        elif stream.sent_end:
            self._end_with(NO_ERROR)  # RFC 9113, section 8.1: the rest of the request is not needed
        else:
            self._unsent = stream.unsent
            self._progress_at = monotonic()
            self._deadlines.watch(self)  # one that was answered at once is not yet
            self.arm(self._progress_at + LINGER_S)

    def pause_upload(self) -> None:
        self._upload_paused = True

    def resume_upload(self) -> None:
        self._upload_paused = False
        self._give_back()

    def unsent(self) -> int:
        waiting = self._stream.unsent
        return waiting + bytes_under_way(self._carrier.transport) if self._carrier.blocked else waiting

    def peer(self) -> str | None:
        peername = self._carrier.transport.get_extra_info("peername")
        return str(peername[0]) if peername else None

    # Its end.

    def deadline_passed(self, now: float) -> None:
        handler = self._handler
        if handler is not None:
            handler.deadline_passed(now)
            return
        stream = self._stream
        if stream.closed:
            self._is_over()
        elif stream.sent_end:
            self._end_with(NO_ERROR)
        else:
            unsent = self.unsent()
            if unsent < self._unsent:
                self._progress_at = now
            self._unsent = unsent
            if now - self._progress_at >= self._client_idle_s:
                self._end_with(CANCEL)  # the app takes nothing
            else:
                self.arm(now + LINGER_S)

    def abort(self) -> None:
        """The proxy ends: it is not the app that went away, and its request's record should not say so."""
        handler = self._handler
        if handler is not None:
            handler.disconnected("the sidecar stopped before the answer was complete")

    def _end_with(self, code: int) -> None:
        self._stream.reset(code)
        self._is_over()

    def _is_over(self) -> None:
        if not self._over:
            self._over = True
            self._deadlines.forget(self)
            self._carrier.left(self._client_idle_s)

    def _refuse(self, refusal: BadRequest, head: H2RequestHead | None) -> None:
        request_id = head.request_id if head is not None else None
        problem = Problem(
            status=refusal.status,
            reason="bad_request",
            detail=refusal.detail,
            request_id=request_id.decode("latin-1") if request_id else "",
        )
        self._registry.recorder.refused(problem, head)
        self._answer_and_end(problem)

    def _answer_and_end(self, problem: Problem) -> None:
        self.answer(problem, None)
        self.handler_ended()

    def __repr__(self) -> str:
        return f"<H2DownstreamStream {self._stream.id} {self._handler or ''}>"


def _is_grpc(fields: Fields) -> bool:
    return any(name == b"content-type" and is_grpc(value) for name, value in fields)
