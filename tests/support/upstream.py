"""A scripted upstream on raw sockets, with one thread for each connection; and addresses without an upstream.

It does exactly what the steps of the script say (`tests.support.steps`), right or wrong, and records what it receives.
Each request takes the next step of the script; the last step is repeated for ever.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.message import (
    HEAD_END,
    BrokenError,
    Fields,
    Headers,
    MalformedError,
    Stream,
    body_framing,
    parse_request_head,
)


@dataclass
class Received(Fields):
    """A request as received. `complete` is True once its body was read to its end."""

    connection: int = 0
    method: str = ""
    target: str = ""
    version: str = ""
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    complete: bool = False
    at: float = 0.0


class Connection:
    """One accepted connection. `ended` is how the daemon closed it (`eof`, `reset`), or None while it is open."""

    def __init__(self, number: int, accepted: socket.socket) -> None:
        self.number = number
        self.socket = accepted
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self._receive)
        self.bytes_in = 0
        self.served = 0
        self.ended: str | None = None
        self.closed = False
        """This side has closed it."""

    def _receive(self) -> bytes:
        data = self.socket.recv(1 << 18)
        self.bytes_in += len(data)
        return data

    def wait_readable(self) -> None:
        """Waits for a request's first byte without reading it. The kernel resets a connection that is closed unread."""
        if not self.stream.buffer:
            try:
                first = self.socket.recv(1, socket.MSG_PEEK)
            except OSError:
                raise BrokenError("reset") from None
            if not first:
                raise BrokenError("eof")

    def close(self) -> None:
        self.closed = True
        self.socket.close()


class Turn:
    """The argument of a step: a connection on which a request has begun to arrive."""

    def __init__(self, upstream: Upstream, connection: Connection) -> None:
        self.upstream = upstream
        self.connection = connection
        self.request: Received | None = None
        self.gate = upstream.gate

    def read_head(self) -> Received:
        """Reads and records the head. A second call returns the same request."""
        if self.request is None:
            head = self.connection.stream.until(HEAD_END)
            method, target, version, headers = parse_request_head(head)
            self.request = Received(
                head=head,
                headers=headers,
                connection=self.connection.number,
                method=method,
                target=target,
                version=version,
                at=time.monotonic(),
            )
            self.upstream.requests.append(self.request)
        return self.request

    def read(self) -> Received:
        """Reads and records the whole request. A second call returns the same one."""
        request = self.read_head()
        if request.complete:
            return request
        framing = body_framing(request)
        body = bytearray()
        try:
            if framing == "chunked":
                request.trailers = self.connection.stream.chunked(body)
            elif isinstance(framing, int):
                self.connection.stream.exactly(framing, body)
        finally:
            request.body = bytes(body)
        request.complete = True
        return request

    def send(self, data: bytes) -> None:
        self.connection.socket.sendall(data)

    def wait_for_gate(self) -> None:
        """Waits until the test opens the upstream's gate (`upstream.gate.set()`)."""
        if not self.gate.wait(20):
            raise AssertionError("nobody opened the gate")

    def half_close(self) -> None:
        self.connection.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.connection.close()

    def reset(self) -> None:
        self.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def wait_closed(self) -> None:
        """Discards what still arrives until the daemon has closed its side. BrokenError then ends the turn."""
        while True:
            self.connection.stream.more()
            self.connection.stream.buffer.clear()


Step = Callable[[Turn], None]


class Upstream:
    """Listens as soon as it is created, on a free loopback port or on the given `host` and `port`."""

    def __init__(self, *script: Step, greeting: Step | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self._script = script
        self._greeting = greeting
        """Runs when a connection is accepted, before any request."""
        self._lock = threading.Lock()
        self._taken = 0
        self._threads: dict[Connection, threading.Thread] = {}
        self.requests: list[Received] = []
        self.connections: list[Connection] = []
        self.malformed: list[str] = []
        """Received data that was not HTTP."""
        self.gate = threading.Event()
        self._listener = socket.create_server((host, port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.authority = f"{host}:{self.port}"
        self.url = f"http://{self.authority}"
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def __enter__(self) -> Upstream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def hits(self) -> int:
        """The number of requests whose complete head has arrived."""
        return len(self.requests)

    @property
    def last(self) -> Received:
        return self.requests[-1]

    @property
    def bytes_in(self) -> int:
        return sum(connection.bytes_in for connection in self.connections)

    @property
    def open_connections(self) -> int:
        """The connections that the daemon has not closed."""
        return sum(connection.ended is None and not connection.closed for connection in self.connections)

    @property
    def begun_and_open(self) -> int:
        """Open connections on which something was received (a new one may wait in the daemon's pool for its first)."""
        return sum(each.bytes_in > 0 and each.ended is None and not each.closed for each in self.connections)

    def reached(self, hits: int) -> bool:
        return self.hits == hits

    def left(self, number: int) -> bool:
        """Whether the daemon has closed this connection."""
        return self.connections[number].ended is not None

    def play(self, *script: Step, greeting: Step | None = None) -> Upstream:
        """Starts a new scene: ends old connections, resets records and gate; the next request takes `script[0]`."""
        self._end_connections()
        with self._lock:
            self._script, self._greeting, self._taken = script, greeting, 0
            self.requests, self.connections, self.malformed = [], [], []
            self.gate = threading.Event()
        return self

    def stop(self) -> None:
        """Closes every connection and the listener. Its port then refuses connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        self._end_connections()

    def _end_connections(self) -> None:
        self.gate.set()
        with self._lock:
            threads = list(self._threads.items())
        for how, patience in ((socket.SHUT_WR, 2.0), (socket.SHUT_RDWR, 2.0)):
            for connection, _ in threads:
                with contextlib.suppress(OSError):
                    connection.socket.shutdown(how)
            until = time.monotonic() + patience
            for _, thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
            threads = [(connection, thread) for connection, thread in threads if thread.is_alive()]
            if not threads:
                return

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                connection = Connection(len(self.connections), accepted)
                self.connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection, self._greeting), daemon=True)
                self._threads[connection] = thread
                thread.start()  # under the lock, because a thread that has not started cannot be joined

    def _next_step(self) -> Step:
        with self._lock:
            assert self._script, "no scene is played yet"
            step = self._script[min(self._taken, len(self._script) - 1)]
            self._taken += 1
            return step

    def _serve(self, connection: Connection, greeting: Step | None) -> None:
        malformed = self.malformed
        try:
            if greeting is not None:
                greeting(Turn(self, connection))
            while not connection.closed:
                connection.wait_readable()
                self._next_step()(Turn(self, connection))
                connection.served += 1
        except BrokenError as broken:
            connection.ended = broken.how
        except OSError:
            connection.ended = "reset"
        except AssertionError as error:
            malformed.append(str(error))
        finally:
            connection.close()
            with self._lock:
                self._threads.pop(connection, None)


def side_by_side(*hosts: str) -> dict[str, Upstream]:
    """An upstream on each of these loopback addresses, all with the same port, like the addresses of one name."""
    while True:
        found: dict[str, Upstream] = {}
        try:
            for host in hosts:
                found[host] = Upstream(host=host, port=next(iter(found.values())).port if found else 0)
        except OSError:
            for one in found.values():
                one.stop()
        else:
            return found


class RefusedPort:
    """A port that is reserved and refuses connections: bound, but not listening."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"

    def __enter__(self) -> RefusedPort:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def listen_with_one_answer(self, body: bytes) -> None:
        """Starts listening, for one request."""
        self._socket.listen()
        self._thread = threading.Thread(target=self._answer_one, args=(body,), daemon=True)
        self._thread.start()

    def _answer_one(self, body: bytes) -> None:
        with contextlib.suppress(OSError):
            accepted, _ = self._socket.accept()
            with accepted:
                accepted.recv(1 << 16)
                accepted.sendall(
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                )

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class ConnectBlackHole:
    """A port where connecting neither succeeds nor fails: its queue is full, so the kernel drops every SYN."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        self.authority = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.authority}"
        self._fillers: list[socket.socket] = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._fillers.append(filler)

    def __enter__(self) -> ConnectBlackHole:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        for filler in self._fillers:
            filler.close()
        self._listener.close()


__all__ = [
    "ConnectBlackHole",
    "Connection",
    "MalformedError",
    "Received",
    "RefusedPort",
    "Step",
    "Turn",
    "Upstream",
    "side_by_side",
]
