"""Bodies far larger than the daemon may grow: they stream, and whoever reads slowly slows whoever sends.

Linux only: the daemon's memory is read from /proc.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import wants
from tests.support.client import Client, request_bytes
from tests.support.eventually import eventually, settled
from tests.support.rig import Rig
from tests.support.steps import answer, response_head
from tests.support.upstream import Step, Turn

pytestmark = wants.of_the_machine("memory's figures in /proc", there=Path("/proc/self/clear_refs").exists())

MIB = 1 << 20
GIB = 1 << 30
MAY_GROW_MIB = 16

CONFIG = """
defaults: {timeout: {attempt: 20s, request: 30s, idle: 20s}}
services:
  venue: {endpoints: ["$venue"]}
"""

PAYLOAD = bytes(range(251)) * (MIB // 251) + bytes(MIB % 251)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue") as rig:
        rig["venue"].play(answer())
        # What the first request brings in (buffers, lazily imported parts) is not growth.
        assert rig.ask("POST", "/venue/", body=bytes(4 * MIB), timeout=20).status == 200
        yield rig


@contextmanager
def grows_little(rig: Rig) -> Iterator[None]:
    """The daemon's highest RSS within the block is less than 16 MiB above its RSS before."""
    rig.daemon.forget_peak_rss()
    before = rig.daemon.rss_mib()
    yield
    assert rig.daemon.peak_rss_mib() - before < MAY_GROW_MIB


class Feed:
    """Sends blocks of 1 MiB, each begun with its number, so that a lost or repeated one shows."""

    def __init__(self, send: Callable[[memoryview], object], *, chunked: bool = False) -> None:
        self._send = send
        self._block = bytearray(PAYLOAD)
        self._head = b"%x\r\n" % MIB if chunked else b""
        self._tail = b"\r\n" if chunked else b""

    def blocks(self, count: int) -> None:
        for number in range(count):
            self._block[:8] = number.to_bytes(8, "big")
            whole = self._head + self._block + self._tail if self._head else self._block
            self._send(memoryview(whole))


class Check:
    """Takes a body in pieces and holds it against what `Feed` sends."""

    def __init__(self) -> None:
        self.taken = 0
        self._block = bytearray()

    def __call__(self, piece: bytes | memoryview) -> None:
        self.taken += len(piece)
        self._block += piece
        while len(self._block) >= MIB:
            number = int.from_bytes(self._block[:8], "big")
            expected = (self.taken - len(self._block)) // MIB
            assert number == expected, (number, expected)
            if number % 64 == 0:
                assert self._block[8:MIB] == PAYLOAD[8:]
            del self._block[:MIB]


def upload_check(check: Check, size: int) -> Step:
    """Reads a body of `size` bytes by length without keeping it, then answers."""

    def step(turn: Turn) -> None:
        assert turn.read_head().get("content-length") == str(size)
        take(turn.connection.stream.buffer, turn.connection.socket.recv_into, check, size)
        turn.send(response_head(200, [("Content-Length", "2")]) + b"ok")

    return step


def take(buffered: bytearray, recv_into: Callable[[memoryview], int], check: Check, size: int) -> None:
    """Passes `size` bytes to `check`, those that are `buffered` first."""
    check(bytes(buffered))
    buffered.clear()
    room = memoryview(bytearray(MIB))
    while check.taken < size:
        count = recv_into(room)
        assert count, f"ended after {check.taken} bytes"
        check(room[:count])
    assert check.taken == size


def test_upload_of_1_gib(rig: Rig) -> None:
    check = Check()
    rig["venue"].play(upload_check(check, GIB))
    with grows_little(rig), rig.client(timeout=20) as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", str(GIB))]))
        Feed(client.socket.sendall).blocks(GIB // MIB)
        assert client.read_response().body == b"ok"
    assert check.taken == GIB


def test_download_of_1_gib(rig: Rig) -> None:
    def step(turn: Turn) -> None:
        turn.read()
        turn.send(response_head(200, [("Content-Length", str(GIB))]))
        Feed(turn.connection.socket.sendall).blocks(GIB // MIB)

    rig["venue"].play(step)
    check = Check()
    with grows_little(rig), rig.client(timeout=20) as client:
        client.send(request_bytes("GET", "/venue/"))
        assert client.read_head().get("content-length") == str(GIB)
        take(client.stream.buffer, client.socket.recv_into, check, GIB)


def test_chunked_upload(rig: Rig) -> None:
    size = 48 * MIB

    def step(turn: Turn) -> None:
        request = turn.read()
        check = Check()
        check(request.body)
        turn.send(response_head(200, [("Content-Length", "8")]) + b"%08d" % check.taken)

    rig["venue"].play(step)
    with grows_little(rig), rig.client(timeout=20) as client:
        client.send(request_bytes("POST", "/venue/", [("Transfer-Encoding", "chunked")]))
        Feed(client.socket.sendall, chunked=True).blocks(size // MIB)
        client.send(b"0\r\n\r\n")
        assert client.read_response().body == b"%08d" % size


def test_chunked_download(rig: Rig) -> None:
    size = 48 * MIB

    def step(turn: Turn) -> None:
        turn.read()
        turn.send(response_head(200, [("Transfer-Encoding", "chunked")]))
        Feed(turn.connection.socket.sendall, chunked=True).blocks(size // MIB)
        turn.send(b"0\r\n\r\n")

    rig["venue"].play(step)
    with grows_little(rig), rig.client(timeout=20) as client:
        client.send(request_bytes("GET", "/venue/"))
        response = client.read_response()
    assert response.whole
    check = Check()
    check(response.body)
    assert check.taken == size


# A reader that does not read. Buffers of both ends are fixed and small; what is in between is the kernel's (4 MiB at
# most for each of the daemon's two sockets, by default) and the daemon's own.
STALLED_MIB = 16
BUFFER = 64 * 1024


def test_slow_reader_of_a_download_slows_the_upstream(rig: Rig) -> None:
    size = 64 * MIB
    sent = [0]

    def step(turn: Turn) -> None:
        turn.read()
        turn.send(response_head(200, [("Content-Length", str(size))]))
        for _ in range(size // BUFFER):
            turn.send(PAYLOAD[:BUFFER])
            sent[0] += BUFFER

    rig["venue"].play(step)
    with grows_little(rig), rig.client(timeout=20, receive_buffer=BUFFER) as client:
        client.send(request_bytes("GET", "/venue/"))
        eventually(lambda: sent[0] > 0)
        assert settled(lambda: sent[0]) < STALLED_MIB * MIB
        response = client.read_response()
    assert (len(response.body), response.end) == (size, "whole")
    assert response.body == PAYLOAD[:BUFFER] * (size // BUFFER)


def test_slow_upstream_slows_an_upload(rig: Rig) -> None:
    size = 64 * MIB
    upstream = rig["venue"]
    sent = [0]

    def step(turn: Turn) -> None:
        turn.read_head()
        turn.wait_for_gate()
        request = turn.read()
        turn.send(response_head(200, [("Content-Length", "8")]) + b"%08d" % len(request.body))

    upstream.play(step)

    def upload(client: Client) -> None:
        for _ in range(size // BUFFER):
            client.send(PAYLOAD[:BUFFER])
            sent[0] += BUFFER

    with grows_little(rig), rig.client(timeout=20) as client:
        client.send(request_bytes("POST", "/venue/", [("Content-Length", str(size))]))
        sending = threading.Thread(target=upload, args=(client,), daemon=True)
        sending.start()
        eventually(lambda: upstream.hits == 1)
        assert settled(lambda: sent[0]) < size // 2
        upstream.gate.set()
        assert client.read_response().body == b"%08d" % size
        sending.join(10)
    assert upstream.last.body == PAYLOAD[:BUFFER] * (size // BUFFER)


def test_stalled_reader_does_not_stop_others(rig: Rig) -> None:
    """While one app does not read, another one's request takes no longer."""

    def step(turn: Turn) -> None:
        turn.read()
        turn.send(response_head(200, [("Content-Length", str(64 * MIB))]))
        for _ in range(64):
            turn.send(PAYLOAD)

    upstream = rig["venue"].play(step, answer())
    with rig.client(receive_buffer=BUFFER) as stalled:
        stalled.send(request_bytes("GET", "/venue/"))
        eventually(lambda: upstream.hits == 1)
        settled(lambda: rig.daemon.metric("sidecar_in_flight_requests", service="venue") == 1)
        began = time.monotonic()
        assert rig.ask("GET", "/venue/").status == 200
        assert time.monotonic() - began < 3
    rig.idle("venue")
    eventually(lambda: upstream.connections[0].ended is not None)
