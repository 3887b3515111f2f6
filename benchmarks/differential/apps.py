"""The app's side: plays the steps of a scene against one build, and records what comes back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any, Final, cast

from benchmarks.differential.scripts import Scene, Step, for_new
from benchmarks.differential.upstreams import Run, Upstreams, chunked_end, reset

PATIENCE_S: Final = 8.0
"""For each thing that is awaited. Longer than any timeout in a script."""

NUDGE_S: Final = 0.4
"""Until an app that may have sent too little ends its sending side."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection:[ \t]*close", re.IGNORECASE)

Event = tuple[Any, ...]
"""What an app saw: ("answer", bytes), ("part", bytes) of an answer that broke off, ("bytes", bytes), ("end", how),
("stuck", what was awaited)."""


class AppConnection(asyncio.Protocol):
    """A connection to a sidecar."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.received = b""
        """What came and was not taken yet."""
        self.ended = ""
        """How the sidecar closed it: `eof` or `reset`; empty while it is open."""
        self.switched = False
        """The last answer was a 101."""
        self.spoilt = False
        """No further request may be sent on it."""
        self.watch: Callable[[], None] | None = None
        self.nudge: asyncio.TimerHandle | None = None
        self._future: asyncio.Future[None] | None = None
        self._method = ""
        self._size = -1
        self.on_head: Run | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        self._look()
        if self.watch is not None:
            self.watch()

    def eof_received(self) -> bool:
        if not self.ended:
            self.ended = "eof"
        self._look()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended:
            self.ended = "reset" if exc is not None else "closed"
        self._look()
        if self.watch is not None:
            self.watch()

    def _look(self) -> None:
        future = self._future
        if future is None or future.done():
            return
        if self.nudge is not None:
            self.nudge.cancel()
        if self.ended or (self._size < 0 and self._answer_end() >= 0) or (0 <= self._size <= len(self.received)):
            future.set_result(None)

    def _answer_end(self) -> int:
        """Where the final response in what was received ends; -1 if it is not whole."""
        data, at = self.received, 0
        while True:
            head_end = data.find(b"\r\n\r\n", at) + 4
            if head_end < 4:
                return -1
            status = _STATUS.match(data, at)
            if status is None:
                return len(data)
            code = int(status[1])
            if code >= 200 or code == 101:
                break
            at = head_end
        run, self.on_head = self.on_head, None
        if run is not None:
            run.open_gate()
        if self._method == "HEAD" or code in (204, 304, 101):
            return head_end
        head = data[at:head_end]
        length = _LENGTH.search(head)
        if length is not None:
            end = head_end + int(length[1])
            return end if end <= len(data) else -1
        if _CHUNKED.search(head):
            end = chunked_end(data[head_end:])
            return head_end + end if end >= 0 else -1
        return len(data) if self.ended == "eof" else -1

    def finish(self) -> None:
        """Half-closes."""
        if not self.transport.is_closing():
            self.transport.write_eof()

    async def answer(self, method: str) -> tuple[str, bytes]:
        """("answer", bytes) of the next final response; "part" if the connection ended before it was whole."""
        self._method = method
        end = self._answer_end()
        if end < 0 and not self.ended and not await self._wait(-1):
            return "stuck", self.take(len(self.received))
        end = self._answer_end()
        if end < 0:
            return "part", self.take(len(self.received))
        found = self.take(end)
        if _CLOSE.search(found[: found.rfind(b"\r\n\r\n") + 2]):
            self.spoilt = True
        return "answer", found

    async def so_many(self, size: int) -> tuple[str, bytes]:
        if len(self.received) < size and not self.ended and not await self._wait(size):
            return "stuck", self.take(len(self.received))
        return "bytes", self.take(size)

    async def any_bytes(self) -> None:
        """Waits until something has come, and leaves it there."""
        if not self.received and not self.ended:
            await self._wait(1)

    async def until_ended(self) -> str:
        """How the connection ended."""
        if not self.ended and not await self._wait(1 << 40):
            return "open"
        return self.ended

    async def _wait(self, size: int) -> bool:
        loop = asyncio.get_running_loop()
        self._size = size
        self._future = future = loop.create_future()
        timer = loop.call_later(PATIENCE_S, _give_up, future)
        await future
        timer.cancel()
        self._future = None
        return self.ended != "" or (self._answer_end() >= 0 if size < 0 else size <= len(self.received))

    def take(self, size: int) -> bytes:
        """The next bytes that were received."""
        taken, self.received = self.received[:size], self.received[size:]
        return taken


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Player:
    """Plays the scenes of one episode against one build. Connection 0 stays from one scene to the next."""

    def __init__(self, upstreams: Upstreams, port: int, letter: str) -> None:
        self._upstreams = upstreams
        self._port = port
        self._letter = letter.encode()
        self._connections: dict[int, AppConnection] = {}

    async def play(self, scene: Scene) -> tuple[list[Event], list[Run]]:
        """What the app saw, and what the upstreams did for each script."""
        runs = []
        for script in scene.scripts:
            run = Run(script)
            self._upstreams.runs[self._letter + b"%09d" % script.number] = run
            runs.append(run)
        events: list[Event] = []
        for step in scene.steps:
            if not await self._do(step, events, runs):
                break
        for number, connection in list(self._connections.items()):
            if number:
                await self._leave(number, connection, events, scene)
        kept = self._connections.get(0)
        if kept is not None and (kept.spoilt or kept.ended or kept.received):
            await self._leave(0, kept, events, scene)
        events += [("stuck", "an upstream") for run in runs if run.busy and not await _settled(run)]
        return events, runs

    async def end(self) -> None:
        """Closes what is open."""
        for connection in self._connections.values():
            connection.transport.close()
        self._connections.clear()

    async def _leave(self, number: int, connection: AppConnection, events: list[Event], scene: Scene) -> None:
        """Ends a connection after a scene. What it had left over is recorded."""
        if connection.spoilt and not connection.ended:
            events.append(("end", number, await connection.until_ended()))
        if connection.received and not scene.kind.startswith("malformed"):  # there, what follows may be too late
            events.append(("rest", number, connection.take(len(connection.received))))
        connection.transport.close()
        del self._connections[number]

    async def _do(self, step: Step, events: list[Event], runs: list[Run]) -> bool:
        """One step. False if the scene cannot go on."""
        kind = step[0]
        if kind in {"open", "new"}:
            await self._open(step[1], anew=kind == "new")
            return True
        if kind == "gate":
            runs[step[1]].open_gate()
            return True
        if kind == "seen":
            return await self._seen(runs[step[1]], step[2], events)
        if kind == "sleep":
            await asyncio.sleep(step[1])
            return True
        connection = self._connections[step[1]]
        if kind == "nudge":
            connection.nudge = asyncio.get_running_loop().call_later(NUDGE_S, connection.finish)
        elif kind == "send":
            if connection.transport.is_closing():
                return True
            connection.transport.write(for_new(step[2]) if self._letter == b"n" else step[2])
        elif kind == "answer":
            if len(step) > 3:
                connection.on_head = runs[step[3]]
            what, data = await connection.answer(step[2])
            events.append((what, step[1], data))
            connection.switched = (
                what == "answer" and b" 101 " in data[: data.rfind(b"\r\n\r\n")].rpartition(b"HTTP/")[2][:9]
            )
            if what != "answer":
                events.append(("end", step[1], connection.ended or "open"))
                connection.spoilt = True
        elif kind == "interim":
            await connection.any_bytes()
        elif kind == "switched":
            return connection.switched
        elif kind == "bytes":
            what, data = await connection.so_many(step[2])
            events.append((what, step[1], data))
        elif kind == "finish":
            connection.spoilt = True
            connection.finish()
        elif kind == "close":
            connection.transport.close()
            del self._connections[step[1]]
        elif kind == "reset":
            reset(connection.transport)
            del self._connections[step[1]]
        elif kind == "ended":
            events.append(("end", step[1], await connection.until_ended()))
        else:
            raise ValueError(kind)
        return True

    async def _open(self, number: int, *, anew: bool) -> None:
        connection = self._connections.get(number)
        if connection is not None:
            if not anew and not (connection.ended or connection.spoilt):
                return
            connection.transport.close()
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(AppConnection, "127.0.0.1", self._port)
        self._connections[number] = made

    async def _seen(self, run: Run, size: int, events: list[Event]) -> bool:
        """Goes on too where the sidecar answers first."""
        connections = list(self._connections.values())

        def holds() -> bool:
            if run.copies and len(run.copies[-1].body) >= size:
                return True
            return any(one.received or one.ended for one in connections)

        for one in connections:
            one.watch = run.changed
        held = await _until(run, holds)
        for one in connections:
            one.watch = None
        if not held:
            events.append(("stuck", "for an upstream"))
        return held


async def _settled(run: Run) -> bool:
    return await _until(run, lambda: not run.busy)


async def _until(run: Run, holds: Callable[[], bool]) -> bool:
    future = run.until(holds)
    if future is None:
        return True
    timer = asyncio.get_running_loop().call_later(PATIENCE_S, _give_up, future)
    await future
    timer.cancel()
    return holds()
