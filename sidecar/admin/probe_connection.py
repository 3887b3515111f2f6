"""HTTP/1.1 of the probe listener: reads one request at a time, answers it, and keeps or closes the connection.

Owns what a connection may hold: a head of 16 KiB, and a response that its client takes within 10 s. Heads are read by
the parser of the data path, so what is not sound is a 400. A body is discarded: nothing here reads one. A body that is
long, chunked or awaits a 100 ends the connection after the response. Idle times, the number of connections and the
share of one client are `sidecar.net.http_listener`'s.

Not aiohttp: it is 13 MiB, and most sidecars need it for nothing else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from email.utils import formatdate
from typing import Final, cast

from sidecar.admin.probe_answers import INTERNAL, READ_ONLY, Answer, text
from sidecar.net.http_listener import HttpListener
from sidecar.net.tasks import Tasks
from sidecar.proxy.http1.head_syntax import CHUNKED, BadRequest
from sidecar.proxy.http1.request_head import RequestHead, check_partial, parse_request

log = logging.getLogger("sidecar.admin")

MAX_HEAD: Final = 16 * 1024
MOST_BODY_BYTES: Final = 64 * 1024
"""A longer body of a request ends its connection."""
PIECE_BYTES: Final = 64 * 1024
LONGEST_WRITE_S: Final = 10.0
"""A client that takes longer for a whole response is disconnected."""
LINGER_S: Final = 1.0
"""How long a connection with an end of ours stays open for the client to read it. Closing it at once with unread bytes
would reset it, and the client would lose the response. A response that is not sent yet has LONGEST_WRITE_S.
"""
MOST_DISCARDED_BYTES: Final = 256 * 1024
"""What such a connection may still receive."""

_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    503: "Service Unavailable",
}


class ProbeServer:
    """Makes connections, and ends them. `at_once` and `in_time` are those of `ProbeAnswers`."""

    listener: HttpListener
    """Set by whoever creates the listener of this server."""

    def __init__(
        self, at_once: Callable[[str, str], Answer | None], in_time: Callable[[str], Awaitable[Answer]]
    ) -> None:
        self.at_once = at_once
        self.in_time = in_time
        self.ending = False
        self.tasks = Tasks(log)
        self.connections: set[ProbeConnection] = set()

    def __call__(self) -> ProbeConnection:
        return ProbeConnection(self)

    def pre_shutdown(self) -> None:
        """Close idle connections now, others after their response."""
        self.ending = True
        for one in list(self.connections):
            one.end_if_idle()

    async def shutdown(self, timeout: float | None = None) -> None:
        """Wait for the responses under way for so many seconds, then disconnect."""
        try:
            async with asyncio.timeout(timeout):
                await self.tasks.ended()
        except TimeoutError:
            self.tasks.cancel()
        for one in list(self.connections):
            one.abort()


class ProbeConnection(asyncio.Protocol):
    """One connection. Its requests are answered one after the other."""

    def __init__(self, server: ProbeServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._body_left = 0
        """Bytes of the last request's body that are still to come."""
        self._busy = False
        """A response is under way, or the next request is looked at in the next turn of the loop."""
        self._lingering: asyncio.TimerHandle | None = None
        """Set once our end is closed; what arrives then is discarded."""
        self._linger_until = 0.0
        self._discarded = 0
        self._writable = asyncio.Event()
        self._writable.set()
        self._answering: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports do not derive from asyncio's
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._received.clear()
        if self._lingering is not None:
            self._lingering.cancel()
        if self._answering is not None:
            self._answering.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()
        if not self._busy:
            self._next_soon()

    def data_received(self, data: bytes) -> None:
        if self._lingering is not None:
            self._discarded += len(data)
            if self._discarded > MOST_DISCARDED_BYTES:
                self.abort()
            return
        if self._transport.is_closing():
            return
        skipped = min(self._body_left, len(data))
        self._body_left -= skipped
        self._received += memoryview(data)[skipped:]
        if not self._busy and self._writable.is_set():
            self._next()
        elif len(self._received) > MAX_HEAD:
            self.abort()  # more requests ahead of their responses than any probe sends

    def end_if_idle(self) -> None:
        if not self._busy and self._lingering is None:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def _next_soon(self) -> None:
        """Look at the next request in the next turn: a client that sends many at once takes turns with the others."""
        self._busy = True
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._busy = False
        if not self._transport.is_closing() and self._lingering is None and self._writable.is_set():
            self._next()

    def _next(self) -> None:
        """Answer the next request, if its head is complete."""
        received = self._received
        if received.startswith(b"\r\n"):  # RFC 9112, section 2.2
            del received[:2]
        if not received:
            return
        end = received.find(b"\r\n\r\n", 0, MAX_HEAD)
        try:
            if end < 0:
                if len(received) >= MAX_HEAD:
                    raise BadRequest(431, f"the head has more than {MAX_HEAD // 1024} KiB")
                check_partial(bytes(received))
                return
            request = parse_request(bytes(received[: end + 4]))
        except BadRequest as problem:
            self._refuse(problem.status)
            return
        del received[: end + 4]
        self._answer(request)

    def _refuse(self, status: int) -> None:
        answer = READ_ONLY if status == 405 else text(status, f"{_phrase(status).lower()}\n")
        with self._server.listener.under_way(self):
            self._transport.write(_head(answer, keep=False) + b"".join(answer.body))
            self._linger()

    def _answer(self, request: RequestHead) -> None:
        keep = _keeps(request) and not self._server.ending
        if keep:
            skipped = min(request.length, len(self._received))
            del self._received[:skipped]
            self._body_left = request.length - skipped
        answer = self._server.at_once(request.method, _path(request.target))
        if answer is None:
            self._busy = True
            self._answering = self._server.tasks.start(self._answer_in_time(request, keep), "probe")
            return
        with self._server.listener.under_way(self):
            body = b"" if request.method == "HEAD" else b"".join(answer.body)
            self._transport.write(_head(answer, keep) + body)
            self._answered(keep)

    async def _answer_in_time(self, request: RequestHead, keep: bool) -> None:
        with self._server.listener.under_way(self):
            try:
                answer = await self._server.in_time(_path(request.target))
            except Exception:
                log.exception("a probe failed because of a bug in the sidecar")
                answer = INTERNAL
            try:
                async with asyncio.timeout(LONGEST_WRITE_S):
                    await self._send(answer, keep, head_alone=request.method == "HEAD")
            except TimeoutError:
                self.abort()
                return
            self._busy = False
            self._answered(keep and not self._server.ending)

    async def _send(self, answer: Answer, keep: bool, *, head_alone: bool) -> None:
        head = _head(answer, keep)
        if head_alone:
            self._transport.write(head)
            return
        for piece in _cut(answer.body):
            self._transport.write(head + piece if head else piece)
            head = b""
            await self._writable.wait()

    def _answered(self, keep: bool) -> None:
        if not keep:
            self._linger()
        elif self._received:
            self._next_soon()

    def _linger(self) -> None:
        """Close, but let the client read what was written."""
        self._received.clear()
        self._linger_until = self._loop.time() + LONGEST_WRITE_S
        self._lingering = self._loop.call_later(LINGER_S, self._lingered)
        if self._transport.can_write_eof():
            self._transport.write_eof()

    def _lingered(self) -> None:
        if self._transport.get_write_buffer_size() and self._loop.time() < self._linger_until:
            self._lingering = self._loop.call_later(LINGER_S, self._lingered)
        else:
            self.abort()


def _keeps(request: RequestHead) -> bool:
    """Whether a further request may follow on the connection."""
    if request.expects_continue or request.length == CHUNKED or request.length > MOST_BODY_BYTES:
        return False
    return request.keep_alive and request.minor == 1


def _path(target: bytes) -> str:
    """The path of a target in whatever form (RFC 9112, section 3.2); compared as it is, percent-encoded or not."""
    path = target.partition(b"?")[0]
    if b"://" in path:
        path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
    return path.decode("latin-1")


def _phrase(status: int) -> str:
    return _PHRASES.get(status, "Error")


def _head(answer: Answer, keep: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {_phrase(answer.status)}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
        f"Content-Length: {sum(map(len, answer.body))}",
        f"Date: {formatdate(usegmt=True)}",
        "Server: sidecar",
    ]
    if not keep:
        lines.append("Connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _cut(body: Sequence[bytes]) -> Iterator[bytes]:
    """The body in pieces of at most PIECE_BYTES; one empty piece at least."""
    if not any(body):
        yield b""
    for one in body:
        for start in range(0, len(one), PIECE_BYTES):
            yield one[start : start + PIECE_BYTES]
