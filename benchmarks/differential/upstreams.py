"""The upstreams: they take requests of both builds, record them, and do what the script of each one says."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Iterable
from typing import Final, cast

from benchmarks.differential.scripts import TAG, Answer, Script

_FRAMING: Final = re.compile(rb"\r\n(?:content-length:[ \t]*(\d+)|(transfer-encoding):)", re.IGNORECASE)
_RESET: Final = struct.pack("ii", 1, 0)
AFTER_CLOSING_S: Final = 0.003
"""A scene goes on so long after an upstream closed a connection: the sidecar knows of it by then."""


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection with RST. What is not sent yet is lost."""
    made = transport.get_extra_info("socket")
    if made is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class Copy:
    """One copy of a request, as an upstream got it."""

    __slots__ = ("body", "ended", "endpoint", "head", "nth", "tunnel", "whole")

    def __init__(self, head: bytes, nth: int, endpoint: str) -> None:
        self.head = head
        self.nth = nth
        """The number of the request on its connection; 0 is the first."""
        self.endpoint = endpoint
        self.body = b""
        self.whole = False
        self.ended = ""
        """How the sidecar closed the connection while the upstream waited for that: `eof` or `reset`."""
        self.tunnel = b""


class Run:
    """A script as one build plays it. The app's side waits here for what its upstreams have seen."""

    __slots__ = ("_gate_open", "_waiting", "_watchers", "busy", "copies", "script")

    def __init__(self, script: Script) -> None:
        self.script = script
        self.copies: list[Copy] = []
        self.busy = 0
        """Answers that have begun and not ended."""
        self._gate_open = False
        self._waiting: list[Callable[[], None]] = []
        self._watchers: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def answer_for(self, head: bytes) -> Answer:
        """The answer to the next copy."""
        script = self.script
        answers = script.answers
        before = len(self.copies)
        if script.parts:
            part = head.split(b" ", 2)[1].split(b"?")[0].split(b"/")[1]
            answers = script.parts.get(part, answers)
            before = sum(1 for copy in self.copies if copy.head.split(b" ", 2)[1].startswith(b"/" + part))
        return answers[min(before, len(answers) - 1)]

    def open_gate(self) -> None:
        """Lets go on what waits for the gate, now or later."""
        self._gate_open = True
        waiting, self._waiting = self._waiting, []
        for goes_on in waiting:
            goes_on()

    def at_gate(self, goes_on: Callable[[], None]) -> bool:
        """Whether the gate is open; if not, `goes_on` is called once it is."""
        if not self._gate_open:
            self._waiting.append(goes_on)
        return self._gate_open

    def until(self, holds: Callable[[], bool]) -> asyncio.Future[None] | None:
        """A future that is done as soon as `holds()`; None if it does already."""
        if holds():
            return None
        made: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append((holds, made))
        return made

    def ended_one(self) -> None:
        """An answer has ended."""
        self.busy -= 1
        self.changed()

    def changed(self) -> None:
        """Something was received, or an answer has ended."""
        if self._watchers:
            left = []
            for holds, future in self._watchers:
                if future.done():
                    continue
                if holds():
                    future.set_result(None)
                else:
                    left.append((holds, future))
            self._watchers = left


class Upstreams:
    """All listeners, on one port of many addresses of 127.0.0.0/8."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.runs: dict[bytes, Run] = {}
        """By letter and number of the tag, as `o000001234`."""
        self.stray: list[tuple[str, bytes]] = []
        """What came and belongs to no script: (endpoint, bytes)."""
        self._servers: dict[str, asyncio.Server] = {}
        self.open: set[UpstreamConnection] = set()

    async def listen(self, addresses: Iterable[str]) -> None:
        """Listens on these addresses, from now on."""
        loop = asyncio.get_running_loop()
        for address in addresses:
            if address not in self._servers:
                self._servers[address] = await loop.create_server(
                    lambda: UpstreamConnection(self), address, self.port, backlog=128
                )

    async def close(self) -> None:
        """Ends every listener and connection."""
        for server in self._servers.values():
            server.close()
        for connection in list(self.open):
            connection.transport.abort()
        self._servers.clear()


class UpstreamConnection(asyncio.Protocol):
    """A connection of a sidecar. It takes one request at a time, as sidecars send no second one before the answer."""

    transport: asyncio.Transport

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams
        self._buffer = b""
        self._count = 0
        self._copy: Copy | None = None
        self._run: Run | None = None
        self._answer: Answer | None = None
        self._at = 0
        self._left = 0
        self._chunked = False
        self._waits = False
        """For a gate, a while, or the end of the connection."""
        self._busy = False
        self._hangs = False
        self._lingers: asyncio.TimerHandle | None = None
        self._answered = False
        self._closed = False
        self._tunnel = False
        self.endpoint = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._upstreams.open.add(self)
        self.endpoint = transport.get_extra_info("sockname")[0]

    def data_received(self, data: bytes) -> None:
        if self._closed:
            return
        copy = self._copy
        if self._tunnel and copy is not None and self._run is not None:
            copy.tunnel += data
            self.transport.write(data)
            self._run.changed()
            return
        self._buffer = self._buffer + data if self._buffer else data
        while self._buffer and not self._closed:
            if self._copy is None:
                if not self._take_head():
                    return
            elif (
                self._copy.whole and self._lingers is not None
            ):  # the answer was whole, and the connection is used again
                self._end_answer()
                continue
            elif self._copy.whole:  # nobody sends so much: it is reported
                self._upstreams.stray.append((self.endpoint, self._buffer))
                self._buffer = b""
                return
            self._take_body()

    def _take_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n") + 4
        if end < 4:
            return False
        head, self._buffer = self._buffer[:end], self._buffer[end:]
        tag = TAG.search(head)
        run = self._upstreams.runs.get(tag[1] + tag[2]) if tag is not None else None
        if run is None:
            self._upstreams.stray.append((self.endpoint, head))
            self._closed = True
            self.transport.abort()
            return False
        copy = Copy(head, self._count, self.endpoint)
        self._count += 1
        self._answer = run.answer_for(head)
        self._copy, self._run = copy, run
        run.copies.append(copy)
        run.busy += 1
        self._busy = True
        self._answered = self._waits = self._chunked = False
        self._at = self._left = 0
        for framing in _FRAMING.finditer(head):
            if framing[2]:
                self._chunked = True
            else:
                self._left = int(framing[1])
        if self._answer.at_head:
            self._go_on()
        return True

    def _take_body(self) -> None:
        copy, run = self._copy, self._run
        if copy is None or run is None:
            return
        if self._chunked:
            copy.body += self._buffer
            self._buffer = b""
            end = chunked_end(copy.body)
            if end >= 0:
                copy.body, self._buffer = copy.body[:end], copy.body[end:]
                copy.whole = True
        else:
            taken = self._buffer[: self._left]
            self._buffer = self._buffer[self._left :]
            copy.body += taken
            self._left -= len(taken)
            copy.whole = not self._left
        run.changed()
        if copy.whole:
            if self._answered:
                self._forget()
            elif not self._waits:
                self._go_on()

    def _go_on(self) -> None:
        """Does what the answer says, up to where it has to wait."""
        answer, copy, run = self._answer, self._copy, self._run
        if answer is None or copy is None or run is None:
            return
        self._waits = False
        if self._closed:
            return
        while self._at < len(answer.ops) and not self._closed:
            kind, value = answer.ops[self._at]
            if kind == "gate" and not run.at_gate(self._go_on):
                self._waits = True
                return
            if kind == "body" and not copy.whole:
                return
            self._at += 1
            if kind == "write":
                self.transport.write(value)
            elif kind == "wait":
                self._waits = True
                asyncio.get_running_loop().call_later(value, self._go_on)
                return
            elif kind == "linger":
                self._waits = True
                self._lingers = asyncio.get_running_loop().call_later(value, self._end)
                return
            elif kind == "close":
                self._end()
                return
            elif kind == "reset":
                self._end(with_reset=True)
                return
            elif kind == "finish":
                self.transport.write_eof()
            elif kind == "tunnel":
                self._tunnel = self._waits = True
                rest, self._buffer = self._buffer, b""
                if rest:
                    self.data_received(rest)
                return
            elif kind == "hang":
                self._waits = self._hangs = True
                return
        self._end_answer()

    def _end(self, *, with_reset: bool = False) -> None:
        """Closes the connection."""
        self._closed = True
        self._lingers = None
        if with_reset:
            reset(self.transport)
        else:
            self.transport.close()
        if self._busy and self._run is not None:
            self._busy = False
            asyncio.get_running_loop().call_later(AFTER_CLOSING_S, self._run.ended_one)
        self._forget()

    def _end_answer(self) -> None:
        if self._lingers is not None:
            self._lingers.cancel()
            self._lingers = None
        self._answered = True
        self._free()
        if self._closed or (self._copy is not None and self._copy.whole):
            self._forget()

    def _free(self) -> None:
        """Nothing is to be awaited of this answer any more."""
        if self._busy and self._run is not None:
            self._busy = False
            self._run.ended_one()

    def _forget(self) -> None:
        self._copy = self._run = self._answer = None

    def eof_received(self) -> bool:
        self._over("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._over("reset" if exc is not None else "eof")
        self._upstreams.open.discard(self)

    def _over(self, how: str) -> None:
        copy = self._copy
        if self._lingers is not None:
            self._lingers.cancel()
            self._lingers = None
        if not self._closed and copy is not None and (self._hangs or self._tunnel):
            copy.ended = how
        if self._buffer and copy is None and not self._closed:
            self._upstreams.stray.append((self.endpoint, self._buffer))
        self._closed = True
        self._free()
        self._forget()


def chunked_end(body: bytes) -> int:
    """Where a chunked body and its trailers end; -1 if they do not yet."""
    at = 0
    while True:
        line_end = body.find(b"\r\n", at)
        if line_end < 0:
            return -1
        size = int(body[at:line_end].split(b";")[0].strip() or b"0", 16)
        if size == 0:
            if body.startswith(b"\r\n", line_end + 2):
                return line_end + 4
            end = body.find(b"\r\n\r\n", line_end)
            return end + 4 if end >= 0 else -1
        at = line_end + 2 + size + 2
        if at > len(body):
            return -1
