"""A raw HTTP client on one socket: sends bytes unchanged, reads answers strictly, and records how each one ended.

It retries nothing and repairs nothing. It plays the app in a test.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

from tests.support.message import (
    HEAD_END,
    BrokenError,
    Fields,
    Headers,
    MalformedError,
    Stream,
    body_framing,
    head_bytes,
    parse_response_head,
)

TEST_ID = "X-Test-Id"
"""A header of every request that `request_bytes` builds, so that an upstream can tell a resent request from a new one.
"""


class NoResponseError(AssertionError):
    """The connection ended, or time ran out, before a complete response head. `how` is `eof`, `reset` or `timeout`."""

    def __init__(self, broken: BrokenError) -> None:
        super().__init__(f"{broken.how} after {broken.so_far!r}")
        self.how = broken.how
        self.so_far = broken.so_far


@dataclass
class Head(Fields):
    """Status line and headers."""

    version: str = ""
    status: int = 0
    phrase: str = ""


@dataclass
class Response(Head):
    """A final response, with the interim responses before it."""

    interim: list[Head] = field(default_factory=list)
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    framing: Literal["none", "length", "chunked", "close"] = "none"
    end: str = "whole"
    """`whole`, or how the body broke off: `eof`, `reset`, `timeout`, `malformed`. A body that ends with the connection
    is whole at the end of file."""

    @property
    def whole(self) -> bool:
        return self.end == "whole"

    @property
    def reason(self) -> str | None:
        """The `x-sidecar-reason`."""
        return self.get("x-sidecar-reason")

    def json(self) -> Any:
        return json.loads(self.body)


def request_bytes(
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    host: str | None = "localhost",
    version: str = "HTTP/1.1",
) -> bytes:
    """A request with Host first, then its own `X-Test-Id`, then `headers`. A body is sent with Content-Length."""
    all_headers = [("Host", host)] if host is not None else []
    all_headers += [(TEST_ID, uuid.uuid4().hex), *headers]
    if body is not None:
        all_headers.append(("Content-Length", str(len(body))))
    return head_bytes(f"{method} {target} {version}", all_headers) + (body or b"")


class Client:
    """One connection. Every wait is bounded by `timeout` seconds."""

    def __init__(self, port: int, *, host: str = "127.0.0.1", timeout: float = 5.0, receive_buffer: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer:
            # Set before connecting: the window is negotiated then, and an explicit size turns autotuning off.
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect((host, port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(lambda: self.socket.recv(1 << 18))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None, **more: Any
    ) -> Response:
        """Sends a request (see `request_bytes`) and reads its answer."""
        self.send(request_bytes(method, target, headers, body, **more))
        return self.read_response(method)

    def read_head(self) -> Head:
        """The next head, interim or final."""
        try:
            head = self.stream.until(HEAD_END)
        except BrokenError as broken:
            raise NoResponseError(BrokenError(broken.how, bytes(self.stream.buffer))) from None
        version, status, phrase, headers = parse_response_head(head)
        return Head(head=head, headers=headers, version=version, status=status, phrase=phrase)

    def read_response(self, method: str = "GET", on_head: Callable[[Head], None] | None = None) -> Response:
        """Reads one final response and the interim ones before it. `on_head` is called between head and body.

        Raises NoResponseError if no complete head arrives, and MalformedError if it is not HTTP. A body that breaks off
        raises nothing; `end` says how it ended.
        """
        interim: list[Head] = []
        head = self.read_head()
        while head.status < 200 and head.status != 101:
            interim.append(head)
            head = self.read_head()
        if on_head is not None:
            on_head(head)
        response = Response(**vars(head), interim=interim)
        framing = body_framing(head)
        if method == "HEAD" or head.status in (101, 204, 304):
            return response
        body = bytearray()
        try:
            if framing == "chunked":
                response.framing = "chunked"
                response.trailers = self.stream.chunked(body)
            elif isinstance(framing, int):
                response.framing = "length"
                self.stream.exactly(framing, body)
            else:
                response.framing = "close"
                while True:
                    self.stream.exactly(1, body)
                    body += self.stream.take(len(self.stream.buffer))
        except BrokenError as broken:
            if response.framing != "close" or broken.how != "eof":
                response.end = broken.how
        except MalformedError:
            response.end = "malformed"
        response.body = bytes(body)
        return response

    def receive(self, count: int) -> bytes:
        """Reads exactly `count` bytes of any kind (of a tunnel)."""
        out = bytearray()
        try:
            self.stream.exactly(count, out)
        except BrokenError as broken:
            raise AssertionError(f"{broken.how} after {len(out)} of {count} bytes: {bytes(out[:200])!r}") from None
        return bytes(out)

    def rest(self) -> tuple[bytes, str]:
        """Everything until the connection ends, and how it ended: `eof`, `reset`, `timeout`."""
        while True:
            try:
                self.stream.more()
            except BrokenError as broken:
                return self.stream.take(len(self.stream.buffer)), broken.how

    def assert_closed(self) -> None:
        """Checks that the other side has closed in order, and has sent nothing before."""
        assert self.rest() == (b"", "eof")

    def assert_open(self, target: str) -> None:
        """Checks that the connection still carries requests: `GET target` is answered."""
        response = self.ask("GET", target)
        assert (response.status, response.end) == (200, "whole")

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Disconnects abruptly."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.close()


def ask(
    port: int,
    method: str,
    target: str,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes | None = None,
    *,
    timeout: float = 5.0,
    **more: Any,
) -> Response:
    """Sends one request on a new connection."""
    with Client(port, timeout=timeout) as client:
        return client.ask(method, target, headers, body, **more)
