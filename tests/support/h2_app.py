"""An app that speaks HTTP/2, by the package h2: without sockets (`H2App`), and on one connection (`H2Client`)."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes

Pairs = Iterable[tuple[str, str]]
GRPC = (("content-type", "application/grpc"), ("te", "trailers"))


@dataclass
class Answer:
    """What has come on a stream so far. `reset` is the code of its RST_STREAM."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    ended: bool = False
    reset: int | None = None
    lost: bool = False
    """The connection ended first."""

    def get(self, name: str) -> str | None:
        return next((value for found, value in [*self.headers, *self.trailers] if found == name), None)

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None or self.lost

    @property
    def grpc(self) -> tuple[int, str]:
        """Its grpc-status and grpc-message."""
        return int(self.get("grpc-status") or -1), self.get("grpc-message") or ""


class H2App:
    """Its side of a connection. What it has to say is in `taken`, what came in `answers`, by stream."""

    def __init__(self, *, window: int | None = None, reads: bool = True) -> None:
        config = h2.config.H2Configuration(client_side=True, header_encoding="latin-1")
        self.h2 = h2.connection.H2Connection(config=config)
        machine: Any = self.h2.state_machine
        leave = h2.connection.ConnectionInputs.RECV_GOAWAY
        # By itself it takes a GOAWAY for the end, and hears nothing of the streams that are under way.
        machine._transitions = {
            key: (None, key[0]) if key[1] is leave else value for key, value in machine._transitions.items()
        }
        self.reads = reads
        """Whether the windows are returned as data comes."""
        self.answers: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        """Error code and last stream id, as they came."""
        self.pongs = 0
        self.settings: dict[int, int] = {}
        if window is not None:
            self.h2.local_settings = h2.settings.Settings(
                client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window}
            )
        self.h2.initiate_connection()

    def take(self) -> bytes:
        """What goes out now."""
        return self.h2.data_to_send()

    def ask(
        self,
        target: str = "/venue/",
        headers: Pairs = (),
        body: bytes | None = None,
        *,
        method: str | None = None,
        authority: str = "localhost",
        end: bool = True,
    ) -> int:
        """Begin a request, whole with `end`. Returns the stream's id."""
        number = self.h2.get_next_available_stream_id()
        line = [
            (":method", method or ("GET" if body is None else "POST")),
            *((":scheme", "http"), (":path", target), (":authority", authority)),
        ]
        self.answers[number] = Answer()
        self.h2.send_headers(number, [*line, *headers], end_stream=end and not body)
        if body:
            self.say(number, body, end=end)
        return number

    def call(self, target: str = "/shop.Venue/Get", message: bytes = b"\0\0\0\0\0", **more: Any) -> int:
        """Begin a gRPC call."""
        headers = [*GRPC, *more.pop("headers", ())]
        return self.ask(target, headers, message, method="POST", **more)

    def say(self, number: int, data: bytes, *, end: bool = False) -> None:
        """More of a request's body; as much as the windows allow must be enough."""
        for at in range(0, len(data), 16384):
            self.h2.send_data(number, data[at : at + 16384])
        if end:
            self.h2.end_stream(number)

    def reset(self, number: int, code: int = 8) -> None:
        self.h2.reset_stream(number, code)

    def hear(self, data: bytes) -> None:
        for event in self.h2.receive_data(data):
            self._happened(event)

    def _happened(self, event: h2.events.Event) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0) or 0) or Answer()
        if isinstance(event, h2.events.InformationalResponseReceived):
            answer.interim.append(int(dict(event.headers)[":status"]))
        elif isinstance(event, h2.events.ResponseReceived):
            answer.headers = [(str(name), str(value)) for name, value in event.headers]
            answer.status = int(dict(answer.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.reads and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.TrailersReceived):
            answer.trailers = [(str(name), str(value)) for name, value in event.headers]
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append((int(event.error_code), int(event.last_stream_id or 0)))
        elif isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings |= {int(code): change.new_value for code, change in event.changed_settings.items()}

    def read(self, number: int) -> None:
        """Return the window of what has come on a stream, where `reads` is off."""
        self.h2.acknowledge_received_data(len(self.answers[number].body), number)


class H2Client:
    """One connection to the daemon. Every wait is bounded by `timeout` seconds. `connect` is a CONNECT that comes
    first, and `cut` where the first bytes are sent in two pieces."""

    def __init__(
        self,
        port: int,
        *,
        timeout: float = 5.0,
        connect: bytes = b"",
        cut: int = 0,
        receive_buffer: int = 0,
        **more: Any,
    ) -> None:
        self.app = H2App(**more)
        self.timeout = timeout
        self.closed = False
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if connect:
            self.socket.sendall(connect)
            head = self.socket.recv(1 << 16)
            assert head == b"HTTP/1.1 200 Connection Established\r\n\r\n", head
        if cut:
            said = self.app.take()
            self.socket.sendall(said[:cut])
            self.socket.sendall(said[cut:])
        self.flush()

    def __enter__(self) -> H2Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.socket.close()

    def flush(self) -> None:
        data = self.app.take()
        if data:
            try:
                self.socket.sendall(data)
            except OSError:
                self.closed = True

    def until(self, done: Callable[[], bool]) -> None:
        """Read until that is so. AssertionError where it takes too long, or cannot become so any more."""
        end = time.monotonic() + self.timeout
        self.flush()
        while not done():
            assert not self.closed, f"the connection has ended: {self.app.answers} {self.app.goaways}"
            self.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(1 << 18)
            except TimeoutError:
                raise AssertionError(f"nothing more comes: {self.app.answers} {self.app.goaways}") from None
            except OSError:
                data = b""
            if not data:
                self.closed = True
                for answer in self.app.answers.values():
                    answer.lost = not answer.over
            else:
                self.app.hear(data)
                self.flush()

    def answer(self, number: int) -> Answer:
        """Wait until a stream is over."""
        found = self.app.answers[number]
        self.until(lambda: found.over)
        return found

    def ask(self, *what: Any, **more: Any) -> Answer:
        """A whole request and its answer."""
        return self.answer(self.app.ask(*what, **more))

    def call(self, *what: Any, **more: Any) -> Answer:
        """A whole gRPC call and its answer."""
        return self.answer(self.app.call(*what, **more))

    def until_closed(self) -> None:
        self.until(lambda: self.closed)

    def pass_time(self, seconds: float) -> None:
        """Neither read nor say anything for so long: an app that is busy elsewhere."""
        time.sleep(seconds)

    def reset_connection(self) -> None:
        """The kernel says RST when the socket is closed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
