"""After a 101: bytes both ways, backpressure, half-close, the idle limit, and one end for both sides."""

from __future__ import annotations

from typing import Any, cast

import pytest

import sidecar.proxy.exchange.tunnel
from sidecar.config.schema import EndpointSpec, Url
from sidecar.proxy.deadlines import Deadlines
from sidecar.proxy.exchange.tunnel import CLOSING_S, Tunnel
from sidecar.proxy.http1.response_head import parse_response
from sidecar.runtime.endpoint import Endpoint
from tests.proxy.fakes import ManualLoop, Wire

IDLE_S = 10.0


SWITCHED = parse_response(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "GET")


class Side:
    """A connection whose transport the tunnel takes over; what it had said before is `early`."""

    endpoint = Endpoint(EndpointSpec(url=Url("http", "venue", 80)), "10.0.0.1")

    def __init__(self, loop: ManualLoop, early: bytes) -> None:
        self.transport = Wire(loop, self)
        self.early = early
        self.closed = 0

    def detach(self) -> tuple[Wire, bytes]:
        self.transport.resume_reading()
        return self.transport, self.early

    def tunnel_closed(self) -> None:
        self.closed += 1


class Bench:
    def __init__(self, patches: pytest.MonkeyPatch, from_app: bytes = b"", from_service: bytes = b"") -> None:
        self.loop = loop = ManualLoop()
        patches.setattr(sidecar.proxy.exchange.tunnel, "monotonic", loop.time)
        self.down, self.up = Side(loop, from_app), Side(loop, from_service)
        self.app, self.service = self.down.transport, self.up.transport
        self.ended = 0
        self.deadlines = Deadlines(cast("Any", loop))
        self.app.pause_reading()  # it may have been, before the 101
        self.tunnel = Tunnel(cast("Any", self.down), cast("Any", self.up), IDLE_S, self.deadlines, self._note_end)

    def _note_end(self) -> None:
        self.ended += 1

    def open(self) -> Bench:
        self.tunnel.open(SWITCHED)
        self.loop.settle()
        self.app.sent[:1] = []
        return self

    @property
    def over(self) -> bool:
        """Both sides are gone, everybody was told once, and nothing is watched any more."""
        return (
            (self.app.lost, self.service.lost, self.ended, self.down.closed) == (True, True, 1, 1)
            and "watched=0" in repr(self.deadlines)
        )  # fmt: skip


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(monkeypatch).open()


def test_what_was_said_before_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(monkeypatch, b"from the app", b"from the service")
    bench.tunnel.open(SWITCHED)
    assert bench.app.heard == (b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nfrom the service")
    assert bench.service.heard == b"from the app"
    assert bench.app.reading


def test_bytes_both_ways(bench: Bench) -> None:
    bench.app.says(b"one", b"two")
    bench.service.says(b"three")
    bench.app.says(b"four")
    assert (bench.service.heard, bench.app.heard) == (b"onetwofour", b"three")


@pytest.mark.parametrize("slow", ["app", "service"])
def test_who_does_not_read_slows_the_other(bench: Bench, slow: str) -> None:
    reader, writer = (bench.app, bench.service) if slow == "app" else (bench.service, bench.app)
    reader.stall()
    writer.says(b"a" * 100_000)
    assert not writer.reading
    writer.says(b"not read yet")
    assert not reader.heard.endswith(b"not read yet")
    assert reader.reading  # the other direction flows on
    reader.says(b"still")
    assert writer.heard.endswith(b"still")
    reader.flow()
    assert writer.reading
    assert reader.heard.endswith(b"not read yet")


@pytest.mark.parametrize("first", ["app", "service"])
def test_half_close_passes_and_the_other_direction_lives(bench: Bench, first: str) -> None:
    leaver, other = (bench.app, bench.service) if first == "app" else (bench.service, bench.app)
    leaver.says(b"last")
    leaver.leaves()
    assert other.heard == b"last"
    assert other.eof_sent
    assert not leaver.eof_sent
    assert bench.ended == 0
    other.says(b"more")
    assert leaver.heard == b"more"
    other.leaves()
    assert bench.over


@pytest.mark.parametrize("first", ["app", "service"])
def test_reset_of_one_side_ends_the_other(bench: Bench, first: str) -> None:
    leaver, other = (bench.app, bench.service) if first == "app" else (bench.service, bench.app)
    leaver.says(b"last")
    leaver.breaks()
    assert other.heard == b"last"
    assert bench.over


def test_last_bytes_have_a_little_while_to_go_out(bench: Bench) -> None:
    bench.service.stall()
    bench.app.says(b"last")
    bench.app.breaks()
    assert not bench.service.lost
    assert bench.ended == 1  # the permit goes back at once
    bench.service.flow()
    assert bench.over


def test_who_never_takes_the_last_bytes_is_cut(bench: Bench) -> None:
    bench.service.stall()
    bench.app.says(b"last")
    bench.app.breaks()
    bench.loop.advance(CLOSING_S - 0.1)
    assert not bench.service.lost
    bench.loop.advance(0.2)
    assert bench.service.how == "abort"
    assert bench.over


def test_idle_tunnel_is_cut(bench: Bench) -> None:
    bench.loop.advance(IDLE_S - 0.1)
    assert bench.app.open
    bench.loop.advance(0.2)
    assert bench.over


@pytest.mark.parametrize("speaker", ["app", "service"])
def test_bytes_of_either_side_keep_it_open(bench: Bench, speaker: str) -> None:
    for _ in range(5):
        bench.loop.advance(IDLE_S * 0.9)
        (bench.app if speaker == "app" else bench.service).says(b"x")
    assert bench.app.open
    bench.loop.advance(IDLE_S * 1.01)
    assert bench.over


def test_abort_cuts_both_at_once(bench: Bench) -> None:
    bench.tunnel.abort("sidecar")
    bench.loop.settle()
    assert (bench.app.how, bench.service.how) == ("abort", "abort")
    assert bench.over


def test_both_break_at_once(bench: Bench) -> None:
    bench.app._end(ConnectionResetError())
    bench.service._end(ConnectionResetError())
    bench.loop.settle()
    assert bench.over


def test_nothing_is_written_to_a_side_that_is_closing(bench: Bench) -> None:
    bench.service.close()
    bench.app.says(b"x")
    assert bench.service.heard == b""
    assert bench.over
