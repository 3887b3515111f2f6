"""A scripted HTTP/2 server on sockets, by the package h2, for what no real gRPC server does on demand."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterable
from types import TracebackType

import h2.config
import h2.connection
import h2.events
import h2.exceptions

Pairs = Iterable[tuple[str, str]]
GRPC = (("content-type", "application/grpc"),)
MESSAGE = b"\0\0\0\0\2ok"


class Session:
    """One accepted connection, from 0 on. A script says what it has to say with these methods."""

    def __init__(self, number: int, accepted: socket.socket) -> None:
        self.number = number
        self.socket = accepted
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def head(self, stream: int, pairs: Pairs, status: int = 200, *, end: bool = False) -> None:
        self.h2.send_headers(stream, [(":status", str(status)), *pairs], end_stream=end)
        self.flush()

    def answer(self, stream: int) -> None:
        """A whole answer of gRPC."""
        self.head(stream, GRPC)
        self.h2.send_data(stream, MESSAGE)
        self.h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
        self.flush()

    def reset(self, stream: int, code: int) -> None:
        self.h2.reset_stream(stream, code)
        self.flush()

    def leave(self, last: int) -> None:
        """GOAWAY: streams up to `last` are looked at."""
        frame = b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4, "big") + bytes(4)
        self.socket.sendall(frame)


Script = Callable[[Session, int], None]
"""Called when a request has come whole: with its connection and its stream."""


class H2Server:
    """Listens as soon as it is created. Use as a context manager. `asked` has (connection, stream) of each request."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self.asked: list[tuple[int, int]] = []
        self.sessions: list[Session] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"h2c://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> H2Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(5)
        for session in self.sessions:
            with contextlib.suppress(OSError):
                session.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join(5)

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            session = Session(len(self.sessions), accepted)
            self.sessions.append(session)
            self._threads.append(threading.Thread(target=self._serve, args=(session,)))
            self._threads[-1].start()

    def _serve(self, session: Session) -> None:
        with session.socket, contextlib.suppress(OSError, h2.exceptions.ProtocolError):
            session.h2.initiate_connection()
            session.flush()
            while data := session.socket.recv(1 << 16):
                for event in session.h2.receive_data(data):
                    if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                        session.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded):
                        self.asked.append((session.number, event.stream_id))
                        self._script(session, event.stream_id)
                session.flush()
