"""Sockets of the fakes: a thread with its own event loop, where each fake service listens on 127.0.0.1.

This module defines how an answer, a reset, a cut or a silence looks on the wire. `script` decides what is answered. The
thread is separate from the test's, so that a test, sync or async, can wait for the app while the fakes answer.

Each answer closes its connection (`Connection: close`). If a kept-alive connection turns out to be dead, the sidecar
sends the request again, in addition to its retries. The number of attempts that a test counts would then depend on
earlier calls.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from inspect import isawaitable, iscoroutine
from typing import Any, Final, TypeVar

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

from sidecar.testing.answers import Answer, answer, from_function
from sidecar.testing.calls import Call
from sidecar.testing.script import ServiceScript
from sidecar.testing.sockets import HANG_S, Port, abort, bound, told

_HTTP: Final[dict[str, Any]] = {
    "access_log": None,
    "auto_decompress": False,
    "max_line_size": 65536,
    "max_field_size": 65536,
    "max_headers": 1000,
}
"""Bodies are kept as received, and no limit is tighter than the sidecar's."""

STEP_S: Final = 10.0
"""How many seconds the test's thread waits for this one."""

MAX_BODY: Final = 16 * 1024 * 1024
MAX_BODIES: Final = 64 * 1024 * 1024
"""How many bytes of bodies are kept: of one request, and of one fake in one test. The rest is read and dropped."""

MISSING_BYTES: Final = 1024
"""How many bytes a truncated body's Content-Length promises beyond those sent."""

T = TypeVar("T")


class _Loop(asyncio.SelectorEventLoop):
    """A loop with a clock that no test can stop. Packages that freeze time, and tests that patch it, replace
    `time.monotonic`: with asyncio's own loop, a delay would then never end.
    """

    def time(self) -> float:
        return time.clock_gettime(time.CLOCK_MONOTONIC)


class Listener:
    """One fake's port, for one test. Create and use it in the server's event loop."""

    def __init__(self, script: ServiceScript, loop: asyncio.AbstractEventLoop) -> None:
        self.port = 0
        self._script = script
        self._loop = loop
        self._kept = 0
        self._http = web.Server(self._handle, handler_cancellation=True, **_HTTP)
        self._server: asyncio.Server | None = None
        self._reserved: socket.socket | None = None

    async def up(self) -> None:
        """Listens. From the second time on, the port is the same as before."""
        if self._server is not None:
            return
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        self._server = await self._loop.create_server(self._http, sock=bound(self.port), backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def down(self) -> None:
        """Refuses connections, and resets the open ones. The port stays reserved: bound, but not listening."""
        if self._server is None:
            return
        self._close_listening()
        self._reserved = bound(self.port)

    def close(self) -> None:
        if self._server is not None:
            self._close_listening()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _close_listening(self) -> None:
        assert self._server is not None
        self._server.close()
        self._server = None
        for connection in self._http.connections:
            if connection.transport is not None:
                abort(connection.transport)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body, size = await self._read(request)
        call = Call(
            self._script.name,
            request.method,
            request.rel_url.raw_path,
            MultiDictProxy(MultiDict(request.query)),
            CIMultiDictProxy(CIMultiDict(request.headers)),
            body,
            time.monotonic(),
            size,
        )
        call, given = self._script.take(call)
        if given.delay_s:
            await asyncio.sleep(given.delay_s)
        if given.made_by is not None:
            given = await self._made(call, given.made_by)
        return await self._do(request, given)

    async def _read(self, request: web.BaseRequest) -> tuple[bytes, int]:
        pieces, size, room = [], 0, min(MAX_BODY, MAX_BODIES - self._kept)
        async for piece in request.content.iter_any():
            if size < room:
                pieces.append(piece[: room - size])
            size += len(piece)
        body = b"".join(pieces)
        self._kept += len(body)
        return body, size

    async def _made(self, call: Call, function: Callable[[Call], object]) -> Answer:
        """The answer of a script's function. An `async def` is awaited in this loop."""
        try:
            result = await self._in_a_thread(lambda: function(call))
            return from_function(await result if isawaitable(result) else result)
        except Exception as error:
            words = told(error, __file__)
            self._script.problem(f"{self._script.name}: the function that answers {call} failed:\n{words}")
            return answer(500, body=f"the function that answers failed: {type(error).__name__}\n")

    async def _in_a_thread(self, do: Callable[[], object]) -> object:
        """Runs `do` in its own thread. It may wait; if it waits for ever, the test run can still end. The threads of an
        executor would prevent that.
        """
        done: asyncio.Future[object] = self._loop.create_future()

        def settle(result: object, error: Exception | None) -> None:
            if done.done():
                _drop(result)
            elif error is not None:
                done.set_exception(error)
            else:
                done.set_result(result)

        def run() -> None:
            result: object = None
            failed: Exception | None = None
            try:
                result = do()
            except Exception as error:
                failed = error
            try:
                self._loop.call_soon_threadsafe(settle, result, failed)
            except RuntimeError:  # the loop is closed
                _drop(result)

        threading.Thread(target=run, name=f"fake {self._script.name}", daemon=True).start()
        try:
            return await done
        except asyncio.CancelledError:
            # There may still be a result: the connection may have been lost between the result and this point.
            if done.done() and not done.cancelled() and done.exception() is None:
                _drop(done.result())
            raise

    async def _do(self, request: web.BaseRequest, given: Answer) -> web.StreamResponse:
        match given.how:
            case "answers":
                return _response(given)
            case "drips":
                return await self._drip(request, given)
            case "truncates":
                headers = CIMultiDict(given.headers)
                headers["Content-Length"] = str(len(given.body) + MISSING_BYTES)
                response = web.StreamResponse(status=given.status, headers=headers)
                await response.prepare(request)
                if request.method != "HEAD":
                    await response.write(given.body)
                if request.transport is not None:
                    request.transport.close()
            case "closes":
                if request.transport is not None:
                    request.transport.close()
            case "resets":
                if request.transport is not None:
                    abort(request.transport)
            case "hangs":
                pass
        await asyncio.sleep(HANG_S)  # cancelled as soon as the connection is gone
        return web.Response(status=504, text="the fake has been silent for its longest time\n")

    async def _drip(self, request: web.BaseRequest, given: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=given.status, headers=CIMultiDict(given.headers))
        response.force_close()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for number, piece in enumerate(given.pieces if request.method != "HEAD" else ()):
            if number:
                await asyncio.sleep(given.every_s)
            await response.write(piece)
        await response.write_eof()
        return response


class FakeServer:
    """The fakes' thread. Call its methods from the test's thread; each one waits for a bounded time."""

    def __init__(self) -> None:
        self.loop = _Loop()  # independent of the event loop policy that the app has installed
        self._thread = threading.Thread(target=self._run, name="sidecar fakes", daemon=True)
        self._thread.start()

    def listen(self, script: ServiceScript) -> Listener:
        """Opens a port for this fake. The fake answers from now on."""
        return self._wait(self._listen(script))

    def up(self, port: Port) -> None:
        self._wait(port.up())

    def down(self, port: Port) -> None:
        self._wait(_now(port.down))

    def close_all(self, ports: Iterable[Port]) -> None:
        def close() -> None:
            for port in ports:
                port.close()

        self._wait(_now(close))

    def close(self) -> None:
        """Ends the thread and cuts all connections."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(STEP_S)

    async def _listen(self, script: ServiceScript) -> Listener:
        listener = Listener(script, self.loop)
        await listener.up()
        return listener

    def _wait(self, doing: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(doing, self.loop).result(STEP_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.close()


async def _now(do: Callable[[], T]) -> T:
    return do()


def _response(given: Answer) -> web.Response:
    response = web.Response(status=given.status, headers=CIMultiDict(given.headers), body=given.body)
    response.force_close()
    return response


def _drop(result: object) -> None:
    """Closes a coroutine that nobody will await any more."""
    if iscoroutine(result):
        result.close()
