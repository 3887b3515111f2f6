"""One connection to an endpoint: sends one request at a time and cuts what comes back into head and body.

Owns response framing and the proof that a connection may be used again. It judges nothing: what happened is told to the
listener of its request, who also says where the body goes (`relay`).
"""

from __future__ import annotations

import asyncio
import os
import select
import ssl
from contextlib import suppress
from email.utils import formatdate
from typing import Final

from sidecar.net.under_way import bytes_under_way
from sidecar.proxy.body_sink import BodySink
from sidecar.proxy.http1.chunked import BadChunk, ChunkScanner
from sidecar.proxy.http1.head_syntax import CHUNKED, UNTIL_CLOSE, BadResponse, Trailers, field_lines_of
from sidecar.proxy.http1.lenient_head import HEAD_END, mend
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead, parse_response, why_no_response
from sidecar.proxy.http1.scan import head_end
from sidecar.proxy.upstream.opening import tls_words
from sidecar.proxy.upstream.service_pool import ServicePool
from sidecar.proxy.upstream.slots import Slot
from sidecar.proxy.upstream.stream import AttemptListener, Lost, UpstreamStream
from sidecar.proxy.watermarks import WRITE_HIGH_WATER
from sidecar.runtime.additions import Additions
from sidecar.runtime.endpoint import Endpoint

HELD_MAX: Final = 64 * 1024
"""Bytes of a body kept while it is not decided whether the response goes to the app."""

CHECK_EVERY: Final = 512
SALVAGE_READS: Final = 64
AGE_JITTER: Final = 0.2

STALE_WITHIN_S: Final = 0.05
"""At least; twice the time that connecting took, where that is longer."""

INTERIM_MAX: Final = 100
"""1xx answers before the final one."""

_IDLE: Final = 0
_HEAD: Final = 1
_BODY: Final = 2
_DONE: Final = 3
_TUNNEL: Final = 4
_CLOSED: Final = 5


class ConnectionOwner(ServicePool):
    """Whose connection it is: a pool of HTTP/1.1."""

    def opened(self, connection: UpstreamConnection) -> None:
        """It is there."""
        raise NotImplementedError

    def closed(self, connection: UpstreamConnection) -> None:
        """It has ended, for whatever reason."""
        raise NotImplementedError

    def release(self, connection: UpstreamConnection, now: float) -> None:
        """Its request is over: it rests, or closes."""
        raise NotImplementedError

    def line_ends_are_mixed(self, where: str) -> None:
        """A head's lines end differently; `where` is the first field that does."""
        raise NotImplementedError

    def most_of_a_head(self) -> tuple[int, int]:
        """How large an answer's head may be: in bytes, and in fields."""
        raise NotImplementedError


class UpstreamConnection(UpstreamStream):
    """A connection, and the one stream that it carries. `transport` is set once it is up."""

    __slots__ = (
        "_buffer",
        "_framed",
        "_held",
        "_held_size",
        "_interims",
        "_left",
        "_method",
        "_mixed",
        "_owner",
        "_paused",
        "_plain",
        "_poll",
        "_scanned",
        "_scanner",
        "_sink",
        "_state",
        "_trailers",
        "_unsent",
        "_websocket",
        "expires_share",
        "idle_since",
        "listener",
        "made",
        "made_at",
        "requests",
        "slot",
        "transport",
    )

    transport: asyncio.Transport
    slot: Slot
    _trailers: Trailers
    """How the pool counts it; set by the pool."""

    def __init__(self, endpoint: Endpoint, owner: ConnectionOwner) -> None:
        self.endpoint = endpoint
        self._owner = owner
        self.listener: AttemptListener | None = None
        self._state = _IDLE
        self._buffer = b""
        self._framed: RequestBody | None = None
        """The present request's body, where we frame it."""
        self._scanner: ChunkScanner | None = None
        self._sink: BodySink | None = None
        self._held: list[bytes] = []
        self._held_size = 0
        self._left = 0
        self._paused = False
        self._poll: select.poll | None = None
        self.response = None
        self.broken = None
        self.heard = False
        self.idle_since = 0.0
        self.made_at = 0.0
        self.requests = 0
        """That it has carried, the present one included."""
        self.expires_share = 1.0
        """The part of `limits.max_connection_age` that this connection lives: they must not all end at once."""
        self.stale_within_s = STALE_WITHIN_S
        self.served = False
        self._interims = 0
        self._mixed = False
        """A head that came mixed line ends, so this connection is not used again."""
        self._scanned = 0
        self._unsent = 0
        self.made = False
        """The connection came up, and is counted with its endpoint until it ends."""
        self.writable = True

    def connected(self, now: float, took_s: float, random: float) -> None:
        """It is up, after so many seconds; `random` is in [0, 1)."""
        self.made_at = now
        self.expires_share = 1.0 - AGE_JITTER * random
        # A TLS handshake adds at least one round trip to that of TCP.
        self.stale_within_s = max(STALE_WITHIN_S, took_s if self.endpoint.tls else 2 * took_s)

    # What an attempt asks for.

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
        if self._state == _CLOSED:
            return False
        self.listener = listener
        self._method = head.method
        self._plain = plain
        if plain:
            self._trailers = ()
        self._websocket = head.websocket
        self._state = _HEAD
        self.heard = False
        self._interims = 0
        self._scanned = 0
        self.requests += 1
        self.response = None
        self.broken = None
        more = additions.http1 or _lines(additions)
        if additions.prefix is not None:
            head.drop_prefix()
        if request_id is not None:
            more += b"\r\nX-Request-Id: " + request_id
        if traceparent is not None:
            more += b"\r\ntraceparent: " + traceparent
        if head.websocket:
            more += b"\r\nConnection: Upgrade\r\nUpgrade: websocket"
        written = head.bytes_for(target, host, more)
        self._framed = None
        if body is None:
            self.transport.write(written)
        elif body.unframed:
            self._framed = body
            self.transport.writelines([written, *_chunks(body.kept, body)])
        elif body.kept:
            self.transport.writelines([written, *body.kept])
        else:
            self.transport.write(written)
        return True

    def send_body(self, pieces: list[bytes], *, end: bool) -> None:
        """After the connection's end it goes nowhere; the listener knows of that."""
        if self._state in (_HEAD, _BODY, _DONE):
            self.transport.writelines(pieces if self._framed is None else _chunks(pieces, self._framed))

    @property
    def ended(self) -> bool:
        """The connection is closed."""
        return self._state == _CLOSED

    @property
    def complete(self) -> bool:
        """The whole response is here."""
        return self._state == _DONE

    def has_all(self, body: RequestBody) -> bool:
        """Whether the whole request has left for the endpoint. One that answers sooner is not sent another."""
        return body.complete and not self.transport.get_write_buffer_size()

    def relay(self, sink: BodySink) -> list[bytes]:
        """From now on the body goes to `sink`; returns what had been held of it."""
        self._sink = sink
        held = self._held
        if held:
            self._held = []
            self._held_size = 0
            if self._paused:
                self.resume_reading()
        return held

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        rest, self._buffer = self._buffer, b""
        return self.transport, rest

    def tunnel_ended(self) -> None:
        """The tunnel closes the transport itself; the connection no longer counts."""
        if self._state != _CLOSED:
            self._end()

    def may_be_reused(self) -> bool:
        response = self.response
        return self._state == _DONE and response is not None and response.keep_alive and not self.transport.is_closing()

    def rest(self, now: float) -> None:
        """Fall idle."""
        self._state = _IDLE
        self.listener = self._sink = self.response = None
        self.idle_since = now
        self.served = True
        if self._held:  # of a response that a retry replaced
            self._held = []
            self._held_size = 0
        self.resume_reading()  # the end of the last body may have come just as its reader was paused

    def drained_since_last_look(self) -> bool:
        """Whether the endpoint has taken something of what waits to be sent to it: then it is slow, not idle."""
        before, self._unsent = self._unsent, bytes_under_way(self.transport)
        return self._unsent < before

    def is_stale(self) -> bool:
        """Ask the kernel whether the idle connection has something to read: its end, or bytes nobody asked for.

        The event loop would find out in its next round; a request that cannot be repeated asks before.
        """
        if self._poll is None:
            socket = self.transport.get_extra_info("socket")
            if socket is None:
                return True
            self._poll = select.poll()
            self._poll.register(socket.fileno(), select.POLLIN | select.POLLRDHUP)
        return bool(self._poll.poll(0))

    def release(self, now: float) -> None:
        self._owner.release(self, now)

    def close(self) -> None:
        """Close at once. The listener, if any, hears nothing more."""
        if self._state != _CLOSED:
            self._end()
            self.transport.abort()

    def pause_reading(self) -> None:
        if not self._paused:
            self._paused = True
            with suppress(RuntimeError):  # the transport is closing
                self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused:
            self._paused = False
            with suppress(RuntimeError):
                self.transport.resume_reading()

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        self.made = True
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == _BODY:
            self._body(data)
        elif state == _HEAD:
            self._head(data)
        elif state == _TUNNEL:
            self._buffer += data
        elif state == _DONE:
            if self.response is not None:
                self.response.keep_alive = False  # the answer at hand stays whole; bytes behind it belong to nobody
        elif state != _CLOSED:
            # Bytes after a response's end, or on an idle connection: never to be taken for the next answer.
            self.close()

    def eof_received(self) -> None:
        self._gone(clean=True)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and not self.endpoint.tls:
            self._salvage()
        # Over TLS, an end that nobody announced is no clean one (RFC 9112, section 9.8): anyone on the way can close
        # the TCP connection. uvloop calls eof_received on a close_notify alone.
        # With TLS 1.3 a service refuses our certificate after the handshake, so its alert comes here.
        why = tls_words(exc) if isinstance(exc, ssl.SSLError) else ""
        self._gone(clean=exc is None and not self.endpoint.tls, why=why)

    def pause_writing(self) -> None:
        self.writable = False
        self._unsent = bytes_under_way(self.transport)
        if self.listener is not None:
            self.listener.pause_upload()

    def resume_writing(self) -> None:
        self.writable = True
        if self.listener is not None:
            self.listener.resume_upload()

    # Framing.

    def _head(self, data: bytes) -> None:
        self.heard = True
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        listener = self.listener
        assert listener is not None
        most, most_fields = self._owner.most_of_a_head()
        while True:
            end = head_end(data, max(self._scanned - 3, 0))
            if not end and not self._has_lenient_end(data):
                return
            self._scanned = 0
            try:
                if not 4 <= end <= most:
                    raise BadResponse("the head is not strict HTTP")
                response = parse_response(data[:end], self._method, most_fields)
            except BadResponse:
                try:
                    response, end = self._read_leniently(data)
                except BadResponse as error:
                    self._fail(Lost("bad_response", str(error)))
                    return
            if response.status >= 200:
                break
            data = data[end:]
            if response.status == 101:
                self._switch(response, data)
                return
            self._interims += 1
            if self._interims > INTERIM_MAX:
                self._fail(Lost("bad_response", f"more than {INTERIM_MAX} interim answers"))
                return
            listener.interim(response)
            if self._state != _HEAD:
                return
            if not data:
                return
        self.response = response
        if self._mixed:
            response.keep_alive = False
        if not response.dated:
            response.add(b"Date", formatdate(usegmt=True).encode())
        length = response.length
        if length == 0:
            self._state = _DONE
            if len(data) > end:
                response.keep_alive = False
        else:
            self._state = _BODY
            if length == CHUNKED:
                self._scanner = ChunkScanner(decode=self._plain, lenient=True)
            else:
                self._left = length
            if len(data) > end:
                self._body(data[end:])
                if self.broken is not None:  # nothing has gone to the app yet, so this can still be a proper answer
                    listener.attempt_lost(Lost("bad_response", self.broken))
                    return
        listener.response_began(response)

    def _has_lenient_end(self, data: bytes) -> bool:
        """Whether there is the end of a head with bare LFs. If not, the rest is awaited, as long as there is hope.

        One that trickles in is looked at again at each line's end.
        """
        since, most = self._scanned, self._owner.most_of_a_head()[0]
        if len(data) > most or not since or len(data) - since >= CHECK_EVERY or b"\n" in data[since:]:
            if HEAD_END.search(data, max(since - 2, 0)):
                return True
            why = why_no_response(data, since)
            if why is None and len(data) > most:
                why = _too_large(most)
            if why is not None:
                self._fail(Lost("bad_response", why))
                return False
            self._scanned = len(data)
        self._buffer = data
        return False

    def _read_leniently(self, data: bytes) -> tuple[ResponseHead, int]:
        """A head that is not strict, put right, and where it ends. Raises BadResponse."""
        found = HEAD_END.search(data)
        end = found.end() if found is not None else len(data)
        most, most_fields = self._owner.most_of_a_head()
        if end > most:
            raise BadResponse(_too_large(most))
        head, mixed_at = mend(data[:end])
        response = parse_response(head, self._method, most_fields)
        if mixed_at is not None:
            # Whoever mixes them may have let somebody write a field: what follows the answer is not to be trusted.
            self._mixed = True
            self._owner.line_ends_are_mixed(mixed_at)
        return response, end

    def _switch(self, response: ResponseHead, rest: bytes) -> None:
        if not (self._websocket and response.websocket):
            self._fail(Lost("bad_response", "a 101 although the request had no Upgrade"))
            return
        assert self.listener is not None
        self._state = _TUNNEL
        self._buffer = rest
        self.response = response
        self.listener.response_began(response)

    def trailers(self) -> Trailers:
        return self._trailers if self._plain else ()

    def _body(self, data: bytes) -> None:
        scanner = self._scanner
        if scanner is not None:
            try:
                pieces, rest = scanner.feed(data)
            except BadChunk as error:
                self._fail(Lost("truncated", f"the body is not properly chunked: {error}"))
                return
            if scanner.done:
                self._scanner = None
                if self._plain:
                    self._trailers = scanner.trailers
                self._state = _DONE
                if rest and self.response is not None:
                    self.response.keep_alive = False
        elif self._left == UNTIL_CLOSE:
            pieces = [data]
        else:
            left = self._left - len(data)
            if left <= 0:
                self._state = _DONE
                if left < 0:
                    data = data[: self._left]
                    if self.response is not None:
                        self.response.keep_alive = False
            self._left = left
            pieces = [data]
        if self._sink is not None:
            if pieces:
                self._sink.write_body(pieces)
            if self._state == _DONE and self.listener is not None:
                self.listener.response_ended(self.trailers())
        else:
            self._held += pieces
            self._held_size += len(data)
            if self._held_size > HELD_MAX and self._state == _BODY:
                self.pause_reading()

    # Ends.

    def _salvage(self) -> None:
        """Read what the upstream said before it reset the connection: often the reason, while we were still sending.

        A failed write makes the event loop drop the transport before it has read; the kernel still has the bytes.
        """
        socket = self.transport.get_extra_info("socket")
        with suppress(OSError, AttributeError, ValueError):
            for _ in range(SALVAGE_READS):
                if self._state not in (_HEAD, _BODY):
                    break
                data = os.read(socket.fileno(), HELD_MAX)
                if not data:
                    break
                self.data_received(data)

    def _gone(self, *, clean: bool, why: str = "") -> None:
        state = self._state
        if state == _HEAD:
            self._fail(Lost("reset", why or "the connection broke before the response head was complete"))
        elif state == _BODY:
            if clean and self._left == UNTIL_CLOSE and self._scanner is None:
                self._state = _DONE
                if self._sink is not None and self.listener is not None:
                    self.listener.response_ended()
            else:
                self._fail(Lost("truncated", "the connection broke in the middle of the body"))
        elif state == _IDLE or (state == _TUNNEL and self.listener is not None):
            self.close()
        elif state == _DONE and self.response is not None:
            self.response.keep_alive = False

    def _fail(self, lost: Lost) -> None:
        waiting = self._state == _HEAD or self._sink is not None
        listener = self.listener
        self.broken = lost.detail
        self.close()
        if waiting and listener is not None:
            listener.attempt_lost(lost)

    def _end(self) -> None:
        self._state = _CLOSED
        self.listener = None
        self._owner.closed(self)

    def __repr__(self) -> str:
        state = ("idle", "head", "body", "done", "tunnel", "closed")[self._state]
        return f"<UpstreamConnection {self.endpoint.label} {state}>"


def _lines(additions: Additions) -> bytes:
    """What the sidecar adds, as field lines, each opened (not closed) by CRLF; kept for the next request."""
    lines = b"\r\nx-sidecar-loop: " + additions.loop_name
    if additions.via:
        lines += b"\r\nVia: 1.1 " + additions.loop_name
    lines += b"\r\nx-envoy-attempt-count: %d" % additions.attempt
    if additions.timeout_ms:
        lines += b"\r\nx-envoy-expected-rq-timeout-ms: %d" % additions.timeout_ms
    if additions.prefix is not None:
        lines += b"\r\nX-Forwarded-Prefix: " + additions.prefix
    additions.http1 = lines
    return lines


def _chunks(pieces: list[bytes], body: RequestBody) -> list[bytes]:
    """A part of a body whose framing is ours, and its end where that has come."""
    framed: list[bytes] = []
    for piece in pieces:
        if piece:
            framed += [b"%x\r\n" % len(piece), piece, b"\r\n"]
    if body.complete:
        framed += [b"0", *field_lines_of(body.trailers), b"\r\n\r\n"]
    return framed


def _too_large(most: int) -> str:
    return f"the response's head is over {most} bytes, which is limits.max_head"
