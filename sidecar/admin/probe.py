"""The probe listener, on a thread and an event loop of its own.

A kubelet that gets no answer in time takes the pod out of its Service, and then restarts the sidecar. Both make an
overload worse. So `/livez` and `/readyz` are answered by a thread that does next to nothing else, whatever the event
loop of the requests has to do. `/metrics` and `/health` are made on that loop, in slices. This thread hands over the
question and the answer, and never works while a request waits for the interpreter.

Owns the thread, and what passes between the two loops. `probe_answers` owns what is answered, `probe_connection` the
connections.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from sidecar.admin.probe_answers import INTERNAL, Answer, ProbeAnswers, text
from sidecar.admin.probe_connection import ProbeServer
from sidecar.net import threads
from sidecar.net.http_listener import Bounds, HttpListener
from sidecar.net.loop import Loop
from sidecar.net.tasks import Tasks

log = logging.getLogger("sidecar.admin")

LONGEST_ANSWER_S: Final = 30.0
"""The longest wait for the event loop of the requests."""
END_S: Final = 1.0
"""How long responses under way may take at the end."""

_TOO_LATE: Final = text(503, "the sidecar could not answer in time\n")
_ENDING: Final = text(503, "the sidecar ends\n")


class Probes:
    """Serves on sockets that are already bound. Create, start and close it on the event loop of the requests."""

    def __init__(self, answers: ProbeAnswers, bounds: Bounds | None = None) -> None:
        self.answers = answers
        self._bounds = bounds
        self._main = asyncio.get_running_loop()
        self._tasks = Tasks(log)
        self._thread: _ProbeLoop | None = None
        self._started: asyncio.Future[None] = self._main.create_future()
        self._ended: asyncio.Future[None] = self._main.create_future()

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        self._thread = _ProbeLoop(self, sockets, self._bounds)
        threads.start(self._main, self._thread.run, self._told_the_end, "probes")
        await self._started

    def ask(self, path: str) -> None:
        """Answer one question of the thread. On the event loop of the requests."""
        self._tasks.start(self._answer(path), "probe")

    def ask_from_thread(self, path: str) -> None:
        """Have a question answered soon. On the thread."""
        with suppress(RuntimeError):  # the loop is closed
            self._main.call_soon_threadsafe(self.ask, path)

    def serves_from_thread(self) -> None:
        """Tell that connections are accepted. On the thread."""
        with suppress(RuntimeError):
            self._main.call_soon_threadsafe(_done, self._started)

    async def close(self) -> None:
        """Accept no more, let responses under way end, and wait for the thread, but not for ever."""
        if self._thread is not None:
            self._thread.stop()
            with suppress(TimeoutError):
                async with asyncio.timeout(2 * END_S):
                    await asyncio.shield(self._ended)
        self._tasks.cancel()
        await self._tasks.ended()

    async def _answer(self, path: str) -> None:
        answer = _ENDING
        try:
            answer = await self.answers.in_time(path)
        except Exception:
            log.exception("a probe failed because of a bug in the sidecar")
            answer = INTERNAL
        finally:
            if self._thread is not None:
                self._thread.answered(path, answer)

    def _told_the_end(self, _: None, error: Exception | None) -> None:
        if error is not None and not self._started.done():
            self._started.set_exception(error)
        elif error is not None:
            log.error("the probe listener failed", exc_info=error)
        _done(self._ended)


class _ProbeLoop:
    """What runs in the thread. Methods without a remark are for that thread."""

    def __init__(
        self,
        probes: Probes,
        sockets: Sequence[socket.socket],
        bounds: Bounds | None,
    ) -> None:
        self._probes = probes
        self._sockets = sockets
        self._bounds = bounds
        self._loop = Loop()
        self._stopped = asyncio.Event()
        self._asked: dict[str, asyncio.Future[Answer]] = {}
        """Questions to the other loop without an answer yet, by path. Whoever asks the same meanwhile shares it."""

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    def stop(self) -> None:
        """From the other thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopped.set)

    def answered(self, path: str, answer: Answer) -> None:
        """From the other thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._pass_on, path, answer)

    async def _serve(self) -> None:
        server = ProbeServer(self._probes.answers.at_once, self._in_time)
        server.listener = HttpListener(server, self._bounds)
        await server.listener.start(self._sockets)
        self._probes.serves_from_thread()
        await self._stopped.wait()
        await server.listener.end(END_S)

    async def _in_time(self, path: str) -> Answer:
        """As `ProbeAnswers.in_time`, which the other loop does."""
        asked = self._asked.get(path)
        if asked is None:
            asked = self._asked[path] = self._loop.create_future()
            self._probes.ask_from_thread(path)
        try:
            async with asyncio.timeout(LONGEST_ANSWER_S):
                return await asyncio.shield(asked)
        except TimeoutError:
            return _TOO_LATE

    def _pass_on(self, path: str, answer: Answer) -> None:
        asked = self._asked.pop(path, None)
        if asked is not None and not asked.done():
            asked.set_result(answer)


def _done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
