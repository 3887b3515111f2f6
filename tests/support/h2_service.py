"""A scripted service that speaks HTTP/2, by the package h2, with one thread for each connection.

Each request takes the next step of the script; the last step is repeated for ever. A step is a function of the `Call`.
It is called when the request has ended; one marked by `at_once`, when its head has come.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes

Fields = list[tuple[bytes, bytes]]


class Call:
    """A request, and what a step may answer. All calls of one connection share its thread."""

    def __init__(self, on: _Connection, number: int, fields: Fields) -> None:
        self._on = on
        self.stream = number
        self.fields = fields
        self.body = bytearray()
        self.trailers: Fields = []
        self.complete = False
        self.reset_by_peer: int | None = None
        """The code of its RST_STREAM."""

    def get(self, name: str) -> str | None:
        return next((value.decode("latin-1") for found, value in self.fields if found == name.encode()), None)

    def all(self, name: str) -> list[str]:
        return [value.decode("latin-1") for found, value in self.fields if found == name.encode()]

    @property
    def method(self) -> str:
        return self.get(":method") or ""

    @property
    def target(self) -> str:
        return self.get(":path") or ""

    def head(self, status: int = 200, *fields: tuple[str, str], end: bool = False) -> None:
        """An interim head too. Names and values go out as they are."""
        pairs = [(":status", str(status)), *fields]
        self._on.h2.send_headers(self.stream, pairs, end_stream=end)
        self._on.flush()

    def data(self, data: bytes, *, end: bool = False) -> None:
        """Waits for windows."""
        while data:
            # What ends with the last piece is sent at once: an app that counts bytes may be quicker than a frame.
            room = min(self._on.h2.local_flow_control_window(self.stream), 16384, len(data))
            if not room:
                if not self._on.read() or self.reset_by_peer is not None:
                    return
                continue
            last = end and room == len(data)
            self._on.h2.send_data(self.stream, data[:room], end_stream=last)
            data = data[room:]
            self._on.flush()
            if last:
                return
        if end:
            self._on.h2.end_stream(self.stream)
            self._on.flush()

    def end(self, *trailers: tuple[str, str]) -> None:
        self._on.h2.send_headers(self.stream, list(trailers), end_stream=True)
        self._on.flush()

    def reset(self, code: int = 2) -> None:
        self._on.h2.reset_stream(self.stream, code)
        self._on.flush()

    def more(self) -> bool:
        """Reads until something has come. False at the connection's end."""
        return self._on.read()

    def goaway(self, last: int, code: int = 0) -> None:
        self._on.h2.close_connection(code, last_stream_id=last)
        self._on.flush()

    def close(self, *, reset: bool = False) -> None:
        """Ends the connection."""
        self._on.close(reset=reset)


Step = Callable[[Call], object]


def at_once(step: Step) -> Step:
    """The step is called when the head has come, and reads the rest by `more`."""
    step.at_once = True  # type: ignore[attr-defined]
    return step


def answer(status: int = 200, body: bytes = b"ok", *fields: tuple[str, str], length: bool = True) -> Step:
    def step(call: Call) -> None:
        bodyless = status in (204, 304)
        more = [("content-length", str(len(body)))] if length and not bodyless else []
        none = bodyless or call.method == "HEAD" or not body
        call.head(status, *fields, *more, end=none)
        if not none:
            call.data(body, end=True)

    return step


def echo(call: Call) -> None:
    answer(200, f"{call.method} {call.target}\n".encode("latin-1") + bytes(call.body))(call)


class _Connection:
    def __init__(self, service: H2Service, accepted: socket.socket) -> None:
        self._service = service
        self._socket = accepted
        self._calls: dict[int, Call] = {}
        self._due: list[Call] = []
        config = h2.config.H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        if service.settings:
            self.h2.local_settings = h2.settings.Settings(client=False, initial_values=service.settings)
        self.h2.initiate_connection()
        self.closed = False

    def run(self) -> None:
        self.flush()
        while self.read() or self._due:
            while self._due and not self.closed:
                call = self._due.pop(0)
                self._service.next()(call)
        self.close()

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.sendall(self.h2.data_to_send())

    def read(self) -> bool:
        if self.closed:
            return False
        try:
            data = self._socket.recv(1 << 18)
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return False
        try:
            events = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            self._service.faults.append(repr(error))
            self.flush()
            self.closed = True
            return False
        for event in events:
            self._happened(event)
        self.flush()
        return True

    def _happened(self, event: Any) -> None:
        call = self._calls.get(getattr(event, "stream_id", 0) or 0)
        if isinstance(event, h2.events.RequestReceived):
            call = Call(self, event.stream_id, [(bytes(name), bytes(value)) for name, value in event.headers])
            self._calls[event.stream_id] = call
            self._service.calls.append(call)
            if getattr(self._service.peek(), "at_once", False):
                self._due.append(call)
        elif call is None:
            return
        elif isinstance(event, h2.events.DataReceived):
            call.body += event.data
            if event.flow_controlled_length and self._service.reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            call.trailers = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.StreamReset):
            call.reset_by_peer = int(event.error_code)
        elif isinstance(event, h2.events.StreamEnded):
            call.complete = True
            if not getattr(self._service.peek(), "at_once", False):
                self._due.append(call)

    def close(self, *, reset: bool = False) -> None:
        self.closed = True
        with contextlib.suppress(OSError):
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class H2Service:
    """Listens as soon as it is created. Use as a context manager."""

    def __init__(self, *, streams: int | None = None) -> None:
        self.settings = {} if streams is None else {SettingCodes.MAX_CONCURRENT_STREAMS: streams}
        self.reads = True
        """Whether windows are returned as data comes."""
        self.calls: list[Call] = []
        self.faults: list[str] = []
        """What the package h2 found wrong with what came."""
        self._script: list[Step] = [answer()]
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, name="h2 service", daemon=True).start()

    @property
    def url(self) -> str:
        return f"h2c://127.0.0.1:{self.port}"

    @property
    def last(self) -> Call:
        return self.calls[-1]

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self._connections)

    def play(self, *script: Step) -> H2Service:
        """Forgets what was, and plays this from now on."""
        with self._lock:
            self.calls.clear()
            self._script = list(script)
        return self

    def peek(self) -> Step:
        with self._lock:
            return self._script[0]

    def next(self) -> Step:
        with self._lock:
            return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def stop(self) -> None:
        self._listening.close()
        for connection in self._connections:
            connection.close()

    def __enter__(self) -> H2Service:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _accept(self) -> None:
        while True:
            try:
                accepted, _ = self._listening.accept()
            except OSError:
                return
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = _Connection(self, accepted)
            self._connections.append(connection)
            threading.Thread(target=connection.run, name="h2 service", daemon=True).start()
