"""Sockets of the gRPC fakes: one grpcio server for the whole run, and a port for each fake in front of it.

A fake's port is a relay in the fakes' event loop: it passes bytes to the server and back, and knows by its own port
which fake a connection belongs to. So a fake can reset its connections, refuse them and listen again, which a server of
grpcio cannot do; and a new fake costs a port, not a server. `grpc_script` decides what is answered.

grpcio (the extra `grpc`) is imported with the first gRPC fake of a run.
"""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from importlib import import_module
from inspect import iscoroutine
from typing import Any, Final, ParamSpec, TypeVar

from multidict import MultiDict, MultiDictProxy

from sidecar.testing.errors import FakeError
from sidecar.testing.grpc_answers import GrpcAnswer, as_message, from_function, grpc_answer
from sidecar.testing.grpc_calls import GrpcCall
from sidecar.testing.grpc_script import GrpcScripts
from sidecar.testing.sockets import HANG_S, abort, bound, told

_READ: Final = 64 * 1024
_FOREVER_S: Final = 1e8
"""grpcio says so many seconds, and more, where a call has no deadline."""

_OPTIONS: Final = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 0),
    ("grpc.http2.max_ping_strikes", 0),
]
"""No limit is tighter than the sidecar's."""

P = ParamSpec("P")
T = TypeVar("T")


class _Threads(Executor):
    """A thread for each call. A function of a test may wait for ever, and the test run can still end."""

    def submit(self, do: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(do(*args, **kwargs))
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, name="fake gRPC call", daemon=True).start()
        return done


class _Connection:
    """A connection from the sidecar, and the one to the server behind it."""

    def __init__(self, scripts: GrpcScripts, transport: asyncio.BaseTransport) -> None:
        self.scripts = scripts
        self._transport = transport

    def reset(self) -> None:
        abort(self._transport)


class GrpcServer:
    """The server behind all gRPC fakes of a run. Raises FakeError if grpcio is missing."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            grpc = import_module("grpc")
        except ImportError as error:
            raise FakeError(f"gRPC fakes need grpcio: pip install 'service-sidecar[grpc]' ({error})") from None
        self._grpc: Any = grpc  # it has no types of its own
        self._loop = loop
        self.connections: dict[int, _Connection] = {}
        """By the port that the server sees."""
        answer = self._answer

        class Handler(grpc.GenericRpcHandler):  # type: ignore[misc, name-defined, unused-ignore]
            def service(self, call: Any) -> Any:
                # On the wire, a unary call is a stream of one message.
                return grpc.stream_stream_rpc_method_handler(partial(answer, call.method))

        self._server = grpc.server(_Threads(), handlers=[Handler()], options=_OPTIONS)
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def close(self) -> None:
        self._server.stop(None)

    def _answer(self, path: str, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """One call, in a thread of its own. What it yields are the messages."""
        connection = self.connections.get(int(context.peer().rpartition(":")[2]))
        if connection is None:  # it has been reset
            context.cancel()
            return
        over = threading.Event()
        context.add_callback(over.set)
        yield from _Talk(self, connection, path, requests, context, over).run()

    def status(self, name: str) -> Any:
        return self._grpc.StatusCode[name]

    def reset(self, connection: _Connection) -> None:
        self._loop.call_soon_threadsafe(connection.reset)

    def wait_for(self, coroutine: Any) -> object:
        """The result of a function that is an `async def`."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class _Talk:
    """What a fake does in one call."""

    def __init__(
        self,
        server: GrpcServer,
        connection: _Connection,
        path: str,
        requests: Iterator[bytes],
        context: Any,
        over: threading.Event,
    ) -> None:
        self._server = server
        self._connection = connection
        self._scripts = connection.scripts
        self._path = path
        self._requests = requests
        self._context = context
        self._over = over

    def run(self) -> Iterator[bytes]:
        heard: list[bytes] = []
        call = self._call(heard)
        begun = self._scripts.begin(call)
        if begun is None:
            try:
                heard.extend(self._requests)
            except Exception:  # of grpcio's own: the call is over
                self._scripts.gave_up(call)
                return
            begun = self._scripts.take(self._call(heard))
        call, given = begun
        if given.delay_s and self._over.wait(given.delay_s):
            return
        yield from self._do(call, given, heard)

    def _do(self, call: GrpcCall, given: GrpcAnswer, heard: list[bytes]) -> Iterator[bytes]:
        if given.how == "converses":
            yield from self._converse(call, given, heard)
        elif given.how == "resets":
            self._server.reset(self._connection)
            self._over.wait(HANG_S)
        elif given.how == "hangs":
            self._over.wait(HANG_S)
            self._end(grpc_answer(status="DEADLINE_EXCEEDED", details="the fake has been silent for its longest time"))
        else:
            yield from self._send(self._made(call, given) if given.made_by is not None else given)

    def _send(self, given: GrpcAnswer) -> Iterator[bytes]:
        """The messages, and then the status."""
        self._begin(given)
        for number, message in enumerate(given.messages):
            if number and given.every_s and self._over.wait(given.every_s):
                return
            yield message
        self._end(given)

    def _converse(self, call: GrpcCall, given: GrpcAnswer, heard: list[bytes]) -> Iterator[bytes]:
        def messages() -> Iterator[bytes]:
            yield from list(heard)
            for message in self._requests:
                heard.append(message)
                yield message

        if given.made_by is None:
            return
        talk: Any = given.made_by(call, messages())
        try:
            for said in talk:
                if isinstance(said, GrpcAnswer):
                    yield from self._send(said)
                    return
                yield as_message(said)
        except Exception as error:
            if not self._over.is_set():  # else it is the app that ended the call
                self._end(self._failed(call, error))

    def _made(self, call: GrpcCall, given: GrpcAnswer) -> GrpcAnswer:
        """The answer of a script's function."""
        if given.made_by is None:
            return given
        try:
            result = given.made_by(call)
            return from_function(self._server.wait_for(result) if iscoroutine(result) else result)
        except Exception as error:
            return self._failed(call, error)

    def _failed(self, call: GrpcCall, error: Exception) -> GrpcAnswer:
        words = told(error, __file__)
        self._scripts.problem(f"{self._scripts.name}: the function that answers {call} failed:\n{words}")
        return grpc_answer(status="UNKNOWN", details=f"the function that answers failed: {type(error).__name__}")

    def _call(self, heard: list[bytes]) -> GrpcCall:
        fields = [(name, value) for name, value in self._context.invocation_metadata() if not name.startswith(":")]
        left = float(self._context.time_remaining())
        return GrpcCall(
            self._scripts.name,
            self._path,
            MultiDictProxy(MultiDict(fields)),
            heard,
            time.monotonic(),
            left if left < _FOREVER_S else None,
        )

    def _begin(self, given: GrpcAnswer) -> None:
        if given.headers:
            with suppress(Exception):  # the call is over
                self._context.send_initial_metadata(given.headers)

    def _end(self, given: GrpcAnswer) -> None:
        self._context.set_trailing_metadata(given.trailers)
        self._context.set_code(self._server.status(given.status))
        self._context.set_details(given.details)


class GrpcListener:
    """One gRPC fake's port, for one test. Create and use it in the fakes' event loop."""

    def __init__(self, scripts: GrpcScripts, server: GrpcServer) -> None:
        self.port = 0
        self._scripts = scripts
        self._behind = server
        self._open: set[_Connection] = set()
        self._listening: asyncio.Server | None = None
        self._reserved: socket.socket | None = None

    async def up(self) -> None:
        """Listens. From the second time on, the port is the same as before."""
        if self._listening is not None:
            return
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None
        self._listening = await asyncio.start_server(self._relay, sock=bound(self.port), backlog=1024, limit=_READ)
        self.port = self._listening.sockets[0].getsockname()[1]

    def down(self) -> None:
        """Refuses connections, and resets the open ones. The port stays reserved: bound, but not listening."""
        if self._listening is None:
            return
        self._close_listening()
        self._reserved = bound(self.port)

    def close(self) -> None:
        if self._listening is not None:
            self._close_listening()
        if self._reserved is not None:
            self._reserved.close()
            self._reserved = None

    def _close_listening(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for connection in list(self._open):
            connection.reset()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Passes the bytes of one connection on, both ways. If one side ends, so does the other."""
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._behind.port, limit=_READ)
        port = inner_writer.get_extra_info("sockname")[1]
        connection = _Connection(self._scripts, writer.transport)
        self._behind.connections[port] = connection
        self._open.add(connection)
        if self._listening is None:  # it was closed meanwhile
            connection.reset()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, inner_writer))
                both.create_task(_copy(inner_reader, writer))
        finally:
            self._open.discard(connection)
            self._behind.connections.pop(port, None)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        with suppress(OSError):
            while data := await source.read(_READ):
                target.write(data)
                await target.drain()
    finally:
        target.close()
