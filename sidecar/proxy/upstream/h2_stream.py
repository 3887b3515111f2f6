"""One call on an HTTP/2 connection to an endpoint: the request that goes out, and the answer that comes back.

Owns what is held of an answer while nobody has said where it goes: its head, for as long as `hold_head` asked, and its
body, which the stream's window bounds. It judges nothing: what happened is told to the listener of its request.
"""

from __future__ import annotations

import asyncio
from email.utils import formatdate
from time import monotonic
from typing import Final

from sidecar.proxy.body_sink import BodySink
from sidecar.proxy.h2.frames import CANCEL, PROTOCOL_ERROR
from sidecar.proxy.h2.response import H2ResponseHead, read_response, status_of_trailers
from sidecar.proxy.h2.stream import H2Stream, StreamUser
from sidecar.proxy.http1.chunked import ChunkScanner
from sidecar.proxy.http1.head_syntax import BadResponse, Fields, Trailers
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.upstream.h2_connection import H2UpstreamConnection
from sidecar.proxy.upstream.stream import AttemptListener, Lost, UpstreamStream
from sidecar.runtime.additions import Additions

INTERIM_MAX: Final = 100
"""1xx answers before the final one."""

CLOSED_BY_US: Final = "the connection was closed: "
"""Begins the engine's words for an end of its own, with the error code behind it."""

SMALL: Final = 512
"""Bytes of a piece that the next one is joined to."""

_NEW: Final = 0
_HEAD: Final = 1
_BODY: Final = 2
_DONE: Final = 3
_OVER: Final = 4


class _Events(StreamUser):
    """Passes on what the connection says of a stream: a compiled class has one base, and the stream's is the seam."""

    def __init__(self, upstream: H2UpstreamStream) -> None:
        self.upstream = upstream

    def head_received(self, fields: Fields, end: bool) -> None:
        self.upstream.head_received(fields, end)

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        self.upstream.data_received(data, size, end)

    def trailers_received(self, fields: Fields) -> None:
        self.upstream.trailers_received(fields)

    def stream_lost(self, code: int, unprocessed: bool, why: str) -> None:
        self.upstream.stream_lost(code, unprocessed, why)

    def stream_writable(self) -> None:
        self.upstream.stream_writable()


class H2UpstreamStream(UpstreamStream):
    """Has its place on `connection` from the start. `served`: the connection has rested before."""

    __slots__ = (
        "_body",
        "_connection",
        "_held",
        "_held_size",
        "_hold_s",
        "_hold_timer",
        "_interims",
        "_method",
        "_paused",
        "_scanner",
        "_sent_end",
        "_sink",
        "_state",
        "_stream",
        "_trailers",
        "_unsent",
        "_withheld",
        "listener",
    )

    _method: str

    def __init__(self, connection: H2UpstreamConnection, *, served: bool) -> None:
        self.endpoint = connection.endpoint
        self._connection = connection
        connection.calls += 1
        connection.requests += 1
        self._stream: H2Stream | None = connection.open(_Events(self))
        """None once nothing more is to be said on it."""
        self.listener: AttemptListener | None = None
        self._state = _NEW
        self._body: RequestBody | None = None
        self._scanner: ChunkScanner | None = None
        """Takes off the framing of the request's body, where it has one."""
        self._sent_end = False
        self._hold_s = 0.0
        self._hold_timer: asyncio.TimerHandle | None = None
        """The head is here, and held until it is known what follows it."""
        self._sink: BodySink | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._withheld = 0
        """Bytes of the window that are given back when reading goes on."""
        self._paused = False
        self._trailers: Trailers = ()
        self._interims = 0
        self._unsent = 0
        self.response = None
        self.broken = None
        self.heard = False
        self.served = served
        self.stale_within_s = connection.stale_within_s
        self.writable = True

    # What an attempt asks for.

    def hold_head(self, seconds: float) -> None:
        self._hold_s = seconds

    def send(
        self,
        listener: AttemptListener,
        head: RequestHead,
        target: bytes,
        host: bytes,
        additions: Additions,
        request_id: bytes | None,
        traceparent: bytes | None,
        body: RequestBody | None,
        plain: bool,
    ) -> bool:
        stream = self._stream
        if stream is None:
            return False
        self.listener = listener
        self._method = head.method
        self._state = _HEAD
        if additions.prefix is not None:
            head.drop_prefix()
        more = additions.http2 or _fields(additions)
        if request_id is not None or traceparent is not None or additions.via:
            more = list(more)
            if request_id is not None:
                more.append((b"x-request-id", request_id))
            if traceparent is not None:
                more.append((b"traceparent", traceparent))
            if additions.via:
                more.append((b"via", (b"2 " if head.h2 else b"1.1 ") + additions.loop_name))
        fields = head.fields_for(target, host, self._connection.scheme, more)
        if body is None:
            self._sent_end = True
            stream.send_head(fields, True)
            return True
        self._body = body
        if body.chunked:
            self._scanner = ChunkScanner(decode=True)
        if body.complete and not body.kept and not body.trailers:
            self._sent_end = True
            stream.send_head(fields, True)
        else:
            stream.send_head(fields, False)
            if body.kept or body.complete:
                self._send(list(body.kept), body.complete)  # a copy: what is kept may grow
        return True

    def send_body(self, pieces: list[bytes], *, end: bool) -> None:
        """After the stream's end it goes nowhere; the listener knows of that."""
        if not self._sent_end:
            self._send(pieces, end)

    def _send(self, pieces: list[bytes], end: bool) -> None:
        stream, scanner, body = self._stream, self._scanner, self._body
        if stream is None or body is None:
            return
        if scanner is not None:
            plain: list[bytes] = []
            for piece in pieces:
                plain += scanner.feed(piece)[0]
            pieces = plain
        if end:
            self._sent_end = True
        trailers = body.trailers if scanner is None else scanner.trailers
        if end and trailers:
            if pieces:
                stream.send_data(pieces, False)
            stream.send_trailers(list(trailers))
        elif pieces or end:
            stream.send_data(pieces, end)
        if self.writable and not end and not stream.writable and self.listener is not None:
            self.writable = False
            self._unsent = stream.unsent
            self.listener.pause_upload()

    @property
    def complete(self) -> bool:
        return self._state == _DONE

    def trailers(self) -> Trailers:
        return self._trailers

    def has_all(self, body: RequestBody) -> bool:
        stream = self._stream
        return body.complete and (stream is None or not stream.unsent)

    def relay(self, sink: BodySink) -> list[bytes]:
        self._sink = sink
        held, self._held = self._held, []
        self._withheld += self._held_size
        self._held_size = 0
        if not self._paused:
            self._give_back()
        return held

    def drained_since_last_look(self) -> bool:
        stream = self._stream
        if stream is None:
            return False
        before, self._unsent = self._unsent, stream.unsent
        return self._unsent < before

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            self._give_back()

    def _give_back(self) -> None:
        size, self._withheld = self._withheld, 0
        if size and self._stream is not None:
            self._stream.consumed(size)

    def release(self, now: float) -> None:
        stream = self._stream
        if stream is not None and not (self._state == _DONE and self._sent_end and not stream.unsent):
            stream.reset(CANCEL)
        self._end(now)

    def close(self) -> None:
        stream = self._stream
        if stream is not None:
            stream.reset(CANCEL)  # unless both sides have ended
        self._end(monotonic())

    def _end(self, now: float) -> None:
        if self._state == _OVER:
            return
        self._state = _OVER
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        self._stream = self.listener = self._sink = self._body = None
        self._held = []
        self._connection.left(now)

    # What the connection says.

    def head_received(self, fields: Fields, end: bool) -> None:
        listener = self.listener
        if listener is None:
            return
        self.heard = True
        most_fields = self._connection.most_fields()
        try:
            if len(fields) > most_fields + 1:  # :status is none of them
                raise BadResponse(f"the head has more than {most_fields} fields, which is limits.max_header_fields")
            response = read_response(fields, method=self._method, ended=end)
        except BadResponse as error:
            self._fail(Lost("bad_response", str(error)))
            return
        status = response.status
        if status < 200:
            self._interims += 1
            if self._interims > INTERIM_MAX:
                self._fail(Lost("bad_response", f"more than {INTERIM_MAX} interim answers"))
            else:
                listener.interim(response)
            return
        if not response.dated and not response.grpc:
            response.add(b"date", formatdate(usegmt=True).encode())
        self.response = response
        if end:
            self._state = _DONE
        else:
            self._state = _BODY
            if self._hold_s and response.grpc and response.grpc_status < 0:
                self._hold_timer = asyncio.get_running_loop().call_later(self._hold_s, self._tell_head)
                return
        listener.response_began(response)

    def _tell_head(self) -> None:
        """It has been held for long enough, or what follows it is known."""
        if self._hold_timer is not None:
            self._hold_timer.cancel()
            self._hold_timer = None
        if self.listener is not None and self.response is not None:
            self.listener.response_began(self.response)

    def data_received(self, data: bytes, size: int, end: bool) -> None:
        if self._state != _BODY:
            return
        if end:
            self._state = _DONE
        sink = self._sink
        if sink is None:
            self._hold(data, size)
            if self._hold_timer is not None:
                self._tell_head()
            return
        if data:
            sink.write_body([data])
        if self._paused:
            self._withheld += size
        elif size and self._stream is not None:
            self._stream.consumed(size)
        if end and self.listener is not None:
            self.listener.response_ended(())

    def _hold(self, data: bytes, size: int) -> None:
        held = self._held
        if held and len(held[-1]) < SMALL:  # pieces of a few bytes each would cost many times what they hold
            held[-1] += data
        elif data:
            held.append(data)
        self._held_size += size

    def trailers_received(self, fields: Fields) -> None:
        if self._state != _BODY:
            return
        trailers = self._trailers = _passing(fields)
        self._state = _DONE
        if self._hold_timer is not None:
            response = self.response
            assert isinstance(response, H2ResponseHead)
            response.grpc_status, response.grpc_message, response.pushback = status_of_trailers(trailers)
            self._tell_head()
        elif self._sink is not None and self.listener is not None:
            self.listener.response_ended(trailers)

    def stream_lost(self, code: int, unprocessed: bool, why: str) -> None:
        self._stream = None
        if self._state not in (_HEAD, _BODY):
            return
        self._tell_lost(self._lost(code, unprocessed, why))

    def stream_writable(self) -> None:
        if not self.writable:
            self.writable = True
            if self.listener is not None:
                self.listener.resume_upload()

    # Ends.

    def _lost(self, code: int, unprocessed: bool, why: str) -> Lost:
        headless = self._state == _HEAD or self._hold_timer is not None
        reason = "reset" if headless else "truncated"
        where = "before the response head was complete" if headless else "in the middle of the body"
        fault = why
        if code < 0:
            fault = why.removeprefix(CLOSED_BY_US)
            broke = fault is why or fault.startswith("NO_ERROR")
        else:
            broke = unprocessed or why.startswith("RST_STREAM")
        if not broke:
            reason = "bad_response" if headless else "truncated"
            detail, code = f"what the service sends is not HTTP/2: {fault}", -1
        elif code < 0:
            detail = f"the connection broke {where} ({fault.removeprefix('NO_ERROR, ')})"
        else:
            detail = f"the service ended the call {where} ({why})"
        return Lost(reason, detail, unprocessed=unprocessed, code=code)

    def _fail(self, lost: Lost) -> None:
        """The service's answer cannot be used."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.reset(PROTOCOL_ERROR)
        self._tell_lost(lost)

    def _tell_lost(self, lost: Lost) -> None:
        listener = self.listener
        waiting = self._state == _HEAD or self._hold_timer is not None or self._sink is not None
        self.broken = lost.detail
        self._end(monotonic())
        if waiting and listener is not None:
            listener.attempt_lost(lost)

    def __repr__(self) -> str:
        state = ("new", "head", "body", "done", "over")[self._state]
        return f"<H2UpstreamStream {self.endpoint.label} {state}>"


def _fields(additions: Additions) -> Fields:
    """What the sidecar adds, but for what is each request's own; kept for the next request."""
    fields: Fields = [
        (b"x-sidecar-loop", additions.loop_name),
        (b"x-envoy-attempt-count", b"%d" % additions.attempt),
    ]
    if additions.timeout_ms:
        fields.append((b"x-envoy-expected-rq-timeout-ms", b"%d" % additions.timeout_ms))
    if additions.grpc_timeout is not None:
        fields.append((b"grpc-timeout", additions.grpc_timeout))
    if additions.prefix is not None:
        fields.append((b"x-forwarded-prefix", additions.prefix))
    additions.http2 = fields
    return fields


def _passing(fields: Fields) -> Trailers:
    """The trailers that go on to the app, who must be able to trust what we say as ours."""
    for name, _ in fields:
        if name.startswith(b"x-sidecar-"):
            return tuple(field for field in fields if not field[0].startswith(b"x-sidecar-"))
    return tuple(fields)
