"""A gRPC server as a process of its own: `python -m tests.support.grpc_server --port P --name N [--threaded] ...`.

Real grpcio with handlers of bytes, so no code has to be generated. What a call does is said by its metadata (`Wish`),
or, for all calls, by the last line of its standard input. What it sees is written as JSON lines to `--log`.

| method | kind |
|---|---|
| `/test.Echo/Unary` | the request's bytes, or `wish-size` others |
| `/test.Echo/Down` | `wish-count` answers to one request |
| `/test.Echo/Up` | the number of messages and of their bytes, as `3 300` |
| `/test.Echo/Both` | each message as it comes |
| `/grpc.health.v1.Health/Check` | the standard health check; `health` of the last line is its status |
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
]
SERVING, NOT_SERVING = 1, 2
CODES = {code.value[0]: code for code in grpc.StatusCode}
Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass
class Wish:
    """What a call asks for: `("wish-delay_ms", "200")` in its metadata."""

    delay_ms: int = 0
    """Before the answer, or between two messages of a stream."""
    status: int = 0
    """A grpc-status in place of the (rest of the) answer."""
    details: str = ""
    size: int = -1
    """Bytes of each answer; -1: those of the request."""
    count: int = 1
    """Answers of `Down`; `status` comes after so many."""
    headers_first: int = 0
    """HEADERS go at once, so that a status is told in trailers and not trailers-only."""
    trailer_bytes: int = 0
    pushback_ms: str = ""
    """`grpc-retry-pushback-ms` beside the status."""
    fail_first: int = 0
    """`status` is told for so many calls with this `x-id`, and then no more."""


class Book:
    """What the server has seen, and what all calls get."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.standing: dict[str, Any] = {}
        self.health = SERVING
        self._log = log.open("a", buffering=1)
        self._lock = threading.Lock()
        self._times: dict[str, int] = {}

    def begin(self, method: str, context: Any) -> Call:
        call = Call(self, method, context)
        with self._lock:
            times = self._times[call.id] = self._times.get(call.id, 0) + 1
        if times > call.wish.fail_first > 0:
            call.wish.status = 0
        self.write("begin", call, peer=context.peer(), left_s=context.time_remaining(), metadata=call.texts())
        return call

    def write(self, event: str, call: Call, **more: Any) -> None:
        line = {"event": event, "server": self.name, "id": call.id, "method": call.method, "at": time.monotonic()}
        self._log.write(json.dumps(line | more) + "\n")

    def take_orders(self) -> None:
        """Each line of the standard input is JSON: what calls get from now on. At its end, the parent has gone."""
        for line in sys.stdin:
            wanted = json.loads(line)
            self.health = wanted.pop("health", SERVING)
            self.standing = wanted
            say("set")
        os._exit(0)

    def checked(self) -> bytes:
        """HealthCheckResponse{status}."""
        return bytes([0x08, self.health])


class Call:
    """One call: its wish, and its metadata back."""

    def __init__(self, book: Book, method: str, context: Any) -> None:
        self.book, self.method = book, method
        self.metadata: Metadata = tuple((key, value) for key, value in context.invocation_metadata())
        said = {
            key.removeprefix("wish-").removesuffix("-bin"): value.decode() if isinstance(value, bytes) else value
            for key, value in self.metadata
            if key.startswith("wish-")
        }
        types = {name: type(value) for name, value in vars(Wish()).items()}
        self.wish = Wish(**{name: types[name](value) for name, value in (book.standing | said).items()})
        self.id = next((str(value) for key, value in self.metadata if key == "x-id"), "")

    def texts(self) -> dict[str, str]:
        return {key: value for key, value in self.metadata if isinstance(value, str)}

    def first(self) -> Metadata:
        """The initial metadata: who answers, and each `x-` of the call."""
        return (("served-by", self.book.name), *(pair for pair in self.metadata if pair[0].startswith("x-")))

    def last(self) -> Metadata:
        """The trailing metadata."""
        wish = self.wish
        found: list[tuple[str, str | bytes]] = [("trailing-by", self.book.name), ("trailing-bin", bytes(range(256)))]
        if wish.trailer_bytes:
            found.append(("trailing-long", "t" * wish.trailer_bytes))
        if wish.pushback_ms:
            found.append(("grpc-retry-pushback-ms", wish.pushback_ms))
        return tuple(found)

    def answer(self, request: bytes) -> bytes:
        return request if self.wish.size < 0 else b"a" * self.wish.size

    @property
    def code(self) -> grpc.StatusCode:
        return CODES[self.wish.status]

    def end(self, how: str) -> None:
        self.book.write("end", self, how=how)


def counted(messages: Iterable[bytes]) -> bytes:
    sizes = [len(message) for message in messages]
    return f"{len(sizes)} {sum(sizes)}".encode()


class Threaded(grpc.GenericRpcHandler):
    """The handlers of a server with threads."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        match details.method:
            case "/test.Echo/Unary":
                return grpc.unary_unary_rpc_method_handler(self.unary)
            case "/test.Echo/Down":
                return grpc.unary_stream_rpc_method_handler(self.down)
            case "/test.Echo/Up":
                return grpc.stream_unary_rpc_method_handler(self.up)
            case "/test.Echo/Both":
                return grpc.stream_stream_rpc_method_handler(self.both)
            case "/grpc.health.v1.Health/Check":
                return grpc.unary_unary_rpc_method_handler(lambda message, _: self.book.checked())
        return None

    def _begin(self, method: str, context: Any) -> tuple[Call, threading.Event]:
        call = self.book.begin(method, context)
        ended = threading.Event()
        if not context.add_callback(ended.set):
            ended.set()
        if call.wish.headers_first:
            context.send_initial_metadata(call.first())
        return call, ended

    def _wait(self, call: Call, context: Any, ended: threading.Event) -> None:
        if ended.wait(call.wish.delay_ms / 1000):
            call.end("cancelled")
            context.abort(grpc.StatusCode.CANCELLED, "the caller has left")

    def _finish(self, call: Call, context: Any) -> None:
        context.set_trailing_metadata(call.last())
        call.end(call.code.name)
        if call.wish.status:
            context.abort(call.code, call.wish.details)

    def unary(self, request: bytes, context: Any) -> bytes:
        call, ended = self._begin("Unary", context)
        self._wait(call, context, ended)
        if not (call.wish.headers_first or call.wish.status):
            context.send_initial_metadata(call.first())
        self._finish(call, context)
        return call.answer(request)

    def down(self, request: bytes, context: Any) -> Iterator[bytes]:
        call, ended = self._begin("Down", context)
        for number in range(call.wish.count):
            if number:
                self._wait(call, context, ended)
            yield call.answer(request)
            if ended.is_set():
                self._wait(call, context, ended)
        self._finish(call, context)

    def up(self, requests: Iterator[bytes], context: Any) -> bytes:
        call, ended = self._begin("Up", context)
        try:
            found = counted(requests)
        except Exception:
            call.end("cancelled")
            raise
        self._wait(call, context, ended)
        self._finish(call, context)
        return found

    def both(self, requests: Iterator[bytes], context: Any) -> Iterator[bytes]:
        call, ended = self._begin("Both", context)
        try:
            for request in requests:
                yield call.answer(request)
        except Exception:
            call.end("cancelled")
            raise
        self._wait(call, context, ended)
        self._finish(call, context)


class Awaited(grpc.GenericRpcHandler):
    """The handlers of a server on asyncio."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        match details.method:
            case "/test.Echo/Unary":
                return grpc.unary_unary_rpc_method_handler(self.unary)
            case "/test.Echo/Down":
                return grpc.unary_stream_rpc_method_handler(self.down)
            case "/test.Echo/Up":
                return grpc.stream_unary_rpc_method_handler(self.up)
            case "/test.Echo/Both":
                return grpc.stream_stream_rpc_method_handler(self.both)
            case "/grpc.health.v1.Health/Check":
                return grpc.unary_unary_rpc_method_handler(self.check)
        return None

    async def check(self, message: bytes, context: Any) -> bytes:
        return self.book.checked()

    async def _begin(self, method: str, context: Any) -> Call:
        call = self.book.begin(method, context)
        if call.wish.headers_first:
            await context.send_initial_metadata(call.first())
        return call

    async def _wait(self, call: Call) -> None:
        try:
            await asyncio.sleep(call.wish.delay_ms / 1000)
        except asyncio.CancelledError:
            call.end("cancelled")
            raise

    async def _finish(self, call: Call, context: Any) -> None:
        context.set_trailing_metadata(call.last())
        call.end(call.code.name)
        if call.wish.status:
            await context.abort(call.code, call.wish.details, call.last())

    async def unary(self, request: bytes, context: Any) -> bytes:
        call = await self._begin("Unary", context)
        await self._wait(call)
        if not (call.wish.headers_first or call.wish.status):
            await context.send_initial_metadata(call.first())
        await self._finish(call, context)
        return call.answer(request)

    async def down(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        call = await self._begin("Down", context)
        try:
            for number in range(call.wish.count):
                if number:
                    await asyncio.sleep(call.wish.delay_ms / 1000)
                yield call.answer(request)
        except (asyncio.CancelledError, GeneratorExit):
            call.end("cancelled")
            raise
        await self._finish(call, context)

    async def up(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        call = await self._begin("Up", context)
        try:
            found = counted([request async for request in requests])
        except asyncio.CancelledError:
            call.end("cancelled")
            raise
        await self._wait(call)
        await self._finish(call, context)
        return found

    async def both(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        call = await self._begin("Both", context)
        try:
            async for request in requests:
                yield call.answer(request)
        except (asyncio.CancelledError, GeneratorExit):
            call.end("cancelled")
            raise
        await self._wait(call)
        await self._finish(call, context)


def add_port(server: Any, options: argparse.Namespace) -> None:
    address = f"127.0.0.1:{options.port}"
    if options.certificate:
        pem = (Path(options.key).read_bytes(), Path(options.certificate).read_bytes())
        port = server.add_secure_port(address, grpc.ssl_server_credentials([pem]))
    else:
        port = server.add_insecure_port(address)
    assert port == options.port, address


def run_threaded(book: Book, options: argparse.Namespace) -> None:
    server = grpc.server(
        futures.ThreadPoolExecutor(options.threads), (Threaded(book),), options=OPTIONS + options.options
    )
    add_port(server, options)
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    server.start()
    say("ready")
    asked.wait()
    server.stop(options.grace).wait()


async def run_awaited(book: Book, options: argparse.Namespace) -> None:
    server = grpc.aio.server(options=OPTIONS + options.options)
    server.add_generic_rpc_handlers((Awaited(book),))
    add_port(server, options)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    await server.start()
    say("ready")
    await asked.wait()
    await server.stop(options.grace)


def say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--threaded", action="store_true")
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--grace", type=float, default=5.0, help="seconds of patience with calls after SIGTERM")
    parser.add_argument("--options", type=json.loads, default=[], help="channel arguments, as JSON pairs")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options = parser.parse_args()
    options.options = [tuple(pair) for pair in options.options]
    book = Book(options.name, options.log)
    threading.Thread(target=book.take_orders, daemon=True).start()
    if options.threaded:
        run_threaded(book, options)
    else:
        asyncio.run(run_awaited(book, options))


if __name__ == "__main__":
    main()
