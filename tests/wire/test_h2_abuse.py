"""Apps that abuse HTTP/2 are told so and cut off soon, and nothing of what they began is left. Honest ones are not."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest

from sidecar.proxy.h2.frames import PREFACE, frame
from tests.support import steps
from tests.support.eventually import eventually
from tests.support.h2_app import H2Client
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.upstream import Upstream

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 20s, request: 30s, idle: 20s}
  breaker: {volume_threshold: 100000}
services:
  venue: {endpoints: ["$venue"]}
"""
SOON_S = 2.0
"""For the daemon's answer, on a machine that has other work."""

MOST = 40_000
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
LINE = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/venue/"), (b":authority", b"localhost")]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Rig(CONFIG, "venue") as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(steps.silence)


def block(fields: list[tuple[bytes, bytes]] = LINE) -> bytes:
    """A header block that needs no table, so that it can be sent many times."""
    pieces: list[bytes] = []
    for name, value in fields:
        pieces.append(b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value)
    return b"".join(pieces)


def opening(number: int, *, end: bool = True) -> bytes:
    return frame(HEADERS, 5 if end else 4, number, block())


def rapid_reset(at: int) -> bytes:
    """CVE-2023-44487."""
    return opening(2 * at + 1) + frame(RST_STREAM, 0, 2 * at + 1, struct.pack(">I", 8))


def made_you_reset(at: int) -> bytes:
    """CVE-2025-8671: the peer errs, so that we reset."""
    return opening(2 * at + 1, end=False) + frame(WINDOW_UPDATE, 0, 2 * at + 1, bytes(4))


def endless_block(at: int) -> bytes:
    """CVE-2024-27316 and its like."""
    return frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b") if at else frame(HEADERS, 0, 1, block())


def empty_data(at: int) -> bytes:
    """CVE-2019-9518."""
    return frame(DATA, 0, 1, b"") if at else opening(1, end=False)


def bomb(at: int) -> bytes:
    """One large entry of the table, named thousands of times (CVE-2016-6581)."""
    if not at:
        return opening(1)
    entry = b"\x40\x01a" + b"\x7f" + b"\xa1\x1e" + b"x" * 4000
    return frame(HEADERS, 5, 2 * at + 1, block() + (entry if at == 1 else b"") + b"\xbe" * 12000)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "rapid reset": rapid_reset,
    "made you reset": made_you_reset,
    "CONTINUATION": endless_block,
    "empty DATA": empty_data,
    "HPACK bomb": bomb,
    "PING": lambda at: frame(PING, 0, 0, b"12345678"),
    "SETTINGS": lambda at: frame(SETTINGS, 0, 0, b""),
    "SETTINGS that change windows": lambda at: frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535 + at % 2)),
    "WINDOW_UPDATE": lambda at: frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)),
    "PRIORITY": lambda at: frame(PRIORITY, 0, 2 * at + 1, struct.pack(">IB", 0, 1)),
    "unknown frames": lambda at: frame(0x55, 0, 0, b"x"),
    "streams beyond the most": lambda at: opening(2 * at + 1, end=False),
    "malformed requests": lambda at: frame(HEADERS, 5, 2 * at + 1, block([*LINE, (b"Upper", b"x")])),
}


def counters_are_zero(rig: Rig) -> None:
    def check() -> None:
        metrics = rig.daemon.metrics()
        for name in ("sidecar_app_http2_connections", "sidecar_app_http2_streams"):
            assert metrics.total(name) == 0
        assert metrics.total("sidecar_in_flight_requests", service="venue") == 0
        assert metrics.total("sidecar_endpoint_active_connections", service="venue") == 0

    eventually(check, timeout=10)


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_cut_off(rig: Rig, venue: Upstream, name: str) -> None:
    flood = FLOODS[name]
    cpu = rig.daemon.cpu_seconds()
    heard = bytearray()
    with socket.create_connection(("127.0.0.1", rig.ports.proxy)) as app:
        app.settimeout(SOON_S)
        app.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(SETTINGS, 1, 0, b""))
        app.setblocking(False)
        began = time.monotonic()
        at, waiting, open_ = 0, b"", True
        while open_ and time.monotonic() - began < SOON_S:
            while len(waiting) < 65536 and at < MOST:
                waiting += flood(at)
                at += 1
            try:
                waiting = waiting[app.send(waiting) :]
            except BlockingIOError:
                pass
            except OSError:
                open_ = False
            try:
                data = app.recv(1 << 18)
                heard += data
                open_ = open_ and bool(data)
            except BlockingIOError:
                time.sleep(0.001)
            except OSError:
                open_ = False
    assert not open_, f"{name} goes on after {at} of it"
    assert code_of_goaway(bytes(heard)) in (1, 9, 11)
    assert rig.daemon.cpu_seconds() - cpu < SOON_S
    counters_are_zero(rig)
    venue.play(answer())
    with H2Client(rig.ports.proxy) as client:
        assert client.ask("/venue/").status == 200


def code_of_goaway(heard: bytes) -> int | None:
    at, code = 0, None
    while at + 9 <= len(heard):
        size = int.from_bytes(heard[at : at + 3], "big")
        if heard[at + 3] == GOAWAY:
            code = int.from_bytes(heard[at + 13 : at + 17], "big")
        at += 9 + size
    return code


def test_streams_without_an_end_are_bounded(rig: Rig, venue: Upstream) -> None:
    """256 at a time; those beyond it are refused, and may be sent again."""
    with H2Client(rig.ports.proxy) as client:
        client.until(lambda: 3 in client.app.settings)
        client.app.h2.remote_settings.max_concurrent_streams = 1000
        client.app.h2.remote_settings.acknowledge()
        numbers = [client.app.ask("/venue/", method="POST", end=False) for _ in range(260)]
        client.until(lambda: sum(client.app.answers[number].reset == 7 for number in numbers) == 4)
        assert rig.daemon.metric("sidecar_app_http2_streams") == 256
        for number in numbers[:256]:
            client.app.reset(number)
        client.flush()
        rig.idle("venue")
        venue.play(answer())
        assert client.ask("/venue/").status == 200
    counters_are_zero(rig)


def test_an_honest_app_is_not_taken_for_a_flood(rig: Rig, venue: Upstream) -> None:
    """A PING and small window updates beside every call, as grpcio's estimate of the bandwidth sends them."""
    venue.play(answer())
    with H2Client(rig.ports.proxy) as client:
        for _ in range(3000):
            client.app.h2.ping(b"bdp-ping")
            client.app.h2.increment_flow_control_window(8)
            assert client.ask("/venue/").status == 200
        assert not client.app.goaways


def test_a_peer_that_makes_us_answer_and_reads_nothing(rig: Rig) -> None:
    with socket.create_connection(("127.0.0.1", rig.ports.proxy)) as app:
        app.settimeout(0.2)
        app.sendall(PREFACE + frame(SETTINGS, 0, 0, b"") + frame(SETTINGS, 1, 0, b""))
        line = [*LINE[:2], (b":path", b"/nobody/"), LINE[3]]
        calls = b"".join(frame(HEADERS, 5, 2 * at + 1, block(line)) for at in range(200))
        try:
            for _ in range(50):
                app.sendall(calls)
                calls = b"".join(frame(PING, 0, 0, b"12345678") for _ in range(200))
        except OSError:
            pass
    counters_are_zero(rig)
    assert rig.daemon.metric("sidecar_app_connections") <= 1
