"""Upstreams that can be killed and stopped: each is a process of its own, on a port that it keeps.

This file has both sides: run as a program, it is the upstream, and `EndpointProcess` controls it from the parent. It
uses only the standard library, so that it restarts quickly.

    python benchmarks/endpoints.py PORT NAME LOG

It answers each request with 200 after ANSWER_S. The answer has the name in `x-endpoint`, and the attempt's number in
`x-attempt`. Before it answers, it writes a line with method, `x-test-id` and NAME to LOG, except for health checks.
Lines on its standard input change how it answers; each is confirmed on standard output. It ends when its standard input
ends, and so with its parent.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

HEALTH_PATH = "/health"
ANSWER_S = 0.005

START_S = 20.0
"""How many seconds a process may take until it listens. After that it is an error."""

_FIELD = re.compile(rb"\r\n(x-test-id|content-length|x-envoy-attempt-count):[ \t]*([^\r]*)", re.IGNORECASE)


class EndpointProcess:
    """One upstream on 127.0.0.1. Use it as a context manager. Each change is in force when its method returns."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name = name
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> EndpointProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Starts it, also after it was killed. It answers with 200."""
        command = [sys.executable, "-I", str(Path(__file__).resolve()), str(self.port), self.name, str(self._log)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._confirmed()

    def kill(self) -> None:
        """SIGKILL: its connections are reset, and new ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: the kernel still accepts connections and bytes for it, but nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def answer(self, status: int = 200, delay_s: float = ANSWER_S, *, checks_too: bool = True) -> None:
        """Sets how requests are answered from now on. Health checks still get a 200, unless `checks_too`."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{status} {delay_s} {int(checks_too)}\n".encode())
        self._process.stdin.flush()
        self._confirmed()

    def _confirmed(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise RuntimeError(f"{self.name} on port {self.port} has ended")


class _Server:
    """The upstream itself: how it answers now, and the log of its requests."""

    def __init__(self, name: str, log: int) -> None:
        self.name = name
        self.log = log
        self.status, self.delay_s, self.checks_too = 200, ANSWER_S, True

    def take_order(self, line: str) -> None:
        status, delay_s, checks_too = line.split()
        self.status, self.delay_s, self.checks_too = int(status), float(delay_s), checks_too == "1"

    def answer(self, head: bytes, transport: asyncio.Transport) -> None:
        method, target, _ = head.split(b" ", 2)
        fields = {name.lower(): value for name, value in _FIELD.findall(head)}
        check = target.decode() == HEALTH_PATH
        status, delay_s = (200, ANSWER_S) if check and not self.checks_too else (self.status, self.delay_s)
        if not check:
            line = b"%b %b %b\n" % (method, fields.get(b"x-test-id", b"-"), self.name.encode())
            os.write(self.log, line)  # in one piece, and safely in the file even if this process is killed now
        attempt = fields.get(b"x-envoy-attempt-count", b"1")
        answer = b"HTTP/1.1 %d Status\r\nContent-Length: 2\r\nx-endpoint: %b\r\nx-attempt: %b\r\n\r\nok" % (
            status,
            self.name.encode(),
            attempt,
        )
        asyncio.get_running_loop().call_later(delay_s, _write, transport, answer)


def _write(transport: asyncio.Transport, answer: bytes) -> None:
    if not transport.is_closing():
        transport.write(answer)


class _Connection(asyncio.Protocol):
    """Splits the input into requests. The proxy does not pipeline, so each is answered before the next one arrives."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        fields = {name.lower(): value for name, value in _FIELD.findall(head)}
        length = int(fields.get(b"content-length", 0))
        if len(rest) >= length:
            self._buffer = rest[length:]
            self._server.answer(head, self._transport)


async def _serve(port: int, name: str, log: str) -> None:
    loop = asyncio.get_running_loop()
    server = _Server(name, os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
    ended = loop.create_future()

    def orders() -> None:
        data = os.read(0, 4096)
        for line in data.decode().splitlines():
            server.take_order(line)
            os.write(1, b"ok\n")
        if not data:
            loop.remove_reader(0)
            ended.set_result(None)

    deadline = time.monotonic() + START_S
    while True:
        try:
            listener = await loop.create_server(lambda: _Connection(server), "127.0.0.1", port, backlog=511)
        except OSError:  # another program's outgoing connection may have the port for a moment
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.01)
        else:
            break
    async with listener:
        loop.add_reader(0, orders)
        os.write(1, b"ok\n")
        await ended


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
