"""A service whose endpoints speak HTTP/2, on a network that does as the test says; and calls to it.

The pool, its connections and the engine are real; the other ends are `h2_peer`'s.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

import sidecar.proxy.upstream.h2_connection
import sidecar.proxy.upstream.h2_pool
import sidecar.proxy.upstream.h2_stream
import sidecar.proxy.upstream.service_pool
from sidecar.config.schema import EndpointSpec, Service, Url
from sidecar.policy.settings import Limits, Policy, Timeouts
from sidecar.proxy.body_sink import BodySink
from sidecar.proxy.h2.request import read_request
from sidecar.proxy.http1.head_syntax import CHUNKED
from sidecar.proxy.http1.request_body import RequestBody
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.http1.response_head import ResponseHead
from sidecar.proxy.upstream.h2_connection import H2UpstreamConnection
from sidecar.proxy.upstream.h2_pool import H2Pool
from sidecar.proxy.upstream.h2_stream import H2UpstreamStream
from sidecar.proxy.upstream.opening import Openings
from sidecar.proxy.upstream.service_pool import Connecting
from sidecar.proxy.upstream.slots import ConnectionBudget
from sidecar.proxy.upstream.stream import AttemptListener, Lost, UpstreamStream
from sidecar.runtime.additions import Additions
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService
from tests.proxy.fakes import Dial, ManualLoop, Wire
from tests.proxy.h2_peer import Fields, Peer

CONNECT_S = 1.0
POOL_IDLE_S = 300.0
AGE_S = 600.0


class Call(AttemptListener, BodySink):
    """An attempt, which relays its answer to itself as soon as it begins, unless it `holds`."""

    def __init__(self, *, holds: bool = False, pauses: bool = False) -> None:
        self.heard: list[str] = []
        self.body = b""
        self.holds = holds
        self.pauses = pauses
        """It takes nothing more once something of the body has come."""
        self.stream: UpstreamStream | None = None
        self.response: ResponseHead | None = None
        self.trailers: object = None
        self.lost: Lost | None = None

    def connected(self, stream: UpstreamStream) -> None:
        self.stream = stream

    def connect_failed(self, reason: str, detail: str) -> None:
        self.heard.append(f"{reason}: {detail}")

    def response_began(self, response: ResponseHead) -> None:
        self.response = response
        self.heard.append(f"began {response.status}")
        if not self.holds:
            self.relay()

    def relay(self) -> None:
        assert self.stream is not None
        for piece in self.stream.relay(self):
            self.body += piece
        if self.stream.complete:
            self.heard.append("complete")
            self.trailers = self.stream.trailers()

    def interim(self, response: ResponseHead) -> None:
        self.heard.append(f"interim {response.status}")

    def response_ended(self, trailers: object = ()) -> None:
        self.heard.append("ended")
        self.trailers = trailers

    def attempt_lost(self, lost: Lost) -> None:
        self.heard.append(f"lost {lost.reason}")
        self.lost = lost

    def pause_upload(self) -> None:
        self.heard.append("pause")

    def resume_upload(self) -> None:
        self.heard.append("resume")

    def write_body(self, pieces: list[bytes]) -> None:
        assert pieces
        assert all(pieces)
        self.body += b"".join(pieces)
        if self.pauses and self.stream is not None:
            self.stream.pause_reading()


class Bench:
    """The service `venue`. `streams` and `window` are what its endpoints say in their SETTINGS."""

    def __init__(
        self,
        endpoints: int = 1,
        *,
        max_connections: int = 4,
        most: int = 1000,
        streams: int | None = None,
        window: int | None = None,
        keepalive: float | None = None,
    ) -> None:
        self.loop = loop = ManualLoop()
        self._keepalive = keepalive
        self.streams, self.window = streams, window
        self.patches = pytest.MonkeyPatch()
        for timed in (
            *(sidecar.proxy.upstream.h2_pool, sidecar.proxy.upstream.h2_stream, sidecar.proxy.upstream.service_pool),
            sidecar.proxy.upstream.h2_connection,
        ):
            self.patches.setattr(timed, "monotonic", loop.time)
        asyncio._set_running_loop(loop)  # type: ignore[arg-type]
        self.spec = EndpointSpec(url=Url("http", "venue-service", 50051))
        self.service = LiveService(self.config(max_connections), loop.now, lambda: 0.0, loop.time)
        self.addresses = [f"10.0.0.{number}" for number in range(1, endpoints + 1)]
        self.publish(self.addresses)
        self.all_endpoints = list(self.service.endpoints)
        self.unreachable: list[str] = []
        self.budget = ConnectionBudget(most)
        self.openings = Openings(cast("Any", loop))
        self.pool = H2Pool(self.service, self.openings, self.budget, self.unreachable.append, lambda: 0.0)
        self._peers: dict[int, Peer] = {}
        loop.after_settling = self.check

    def config(self, max_connections: int) -> Service:
        limits = Limits(
            max_connections=max_connections,
            max_connection_age=AGE_S,
            max_header_fields=50,
            keepalive=self._keepalive,
        )
        policy = Policy(timeout=Timeouts(pool_idle=POOL_IDLE_S), limits=limits)
        return Service(name="venue", endpoints=(self.spec,), policy=policy)

    def publish(self, addresses: list[str]) -> None:
        """What discovery says now."""
        self.service.set_endpoints([(self.spec, address) for address in addresses], self.loop.now)

    @property
    def endpoint(self) -> Endpoint:
        return self.all_endpoints[0]

    @property
    def dials(self) -> list[Dial]:
        return self.loop.dials

    def connection(self, number: int = -1) -> H2UpstreamConnection:
        found = self.dials[number].protocol
        assert isinstance(found, H2UpstreamConnection)
        return found

    def wire(self, number: int = -1) -> Wire:
        wire = self.dials[number].wire
        assert wire is not None
        return wire

    def peer_of(self, number: int = -1) -> Peer:
        """The other end of a connection; it has said its SETTINGS and read what came."""
        number = number % len(self.dials)
        peer = self._peers.get(number)
        if peer is None:
            peer = self._peers[number] = Peer(self.wire(number), streams=self.streams, window=self.window).begin()
        return peer.read()

    @property
    def peer(self) -> Peer:
        return self.peer_of()

    def check(self) -> None:
        """Every count is what is really open."""
        living = [dial.protocol for dial in self.dials if dial.protocol is not None and not dial.protocol.slot.free]
        for endpoint in self.all_endpoints:
            theirs = [one for one in living if one.endpoint is endpoint]
            idle = [one for one in theirs if one.slot.idle]
            assert endpoint.idle == len(idle), f"{endpoint} of {theirs}"
            assert endpoint.active == len(theirs) - len(idle), f"{endpoint} of {theirs}"
            assert all(not one.calls for one in idle), theirs
        pending = sum(dial.pending for dial in self.dials)
        assert self.service.connections == len(living) + pending, f"{self.service.connections}, {living}, {pending}"
        assert self.budget.open == self.service.connections
        lines = self.pool._lines.values()
        assert self.service.waiting == sum(line.waiting.size for line in lines)
        assert sum(line.opening for line in lines) == pending, f"{lines}"

    # What a request does.

    def ask(self, endpoint: Endpoint | None = None, **how: bool) -> tuple[Call, Connecting]:
        call = Call(**how)
        connecting = self.pool.connect(endpoint or self.endpoint, call, CONNECT_S)
        return call, connecting

    def take(self, endpoint: Endpoint | None = None, *, repeatable: bool = True) -> H2UpstreamStream | None:
        return self.pool.take(endpoint or self.endpoint, self.loop.now, repeatable=repeatable)

    def up(self) -> Bench:
        """One connection to the first endpoint, which has said how many calls it takes, and rests."""
        call, _ = self.ask()
        self.loop.settle()
        assert call.stream is not None
        call.stream.close()
        self.peer_of()
        return self

    def stream(self) -> H2UpstreamStream:
        stream = self.take()
        assert stream is not None
        return stream

    def send(
        self,
        head: RequestHead | None = None,
        body: RequestBody | None = None,
        *,
        on: UpstreamStream | None = None,
        hold_s: float = 0.0,
        additions: Additions | None = None,
        request_id: bytes | None = None,
        traceparent: bytes | None = None,
        **how: bool,
    ) -> Call:
        """A call, which the peer has read."""
        call = Call(**how)
        stream = call.stream = on or self.stream()
        if hold_s:
            stream.hold_head(hold_s)
        added = additions or Additions(b"sidecar-1", None, 1, 1000, False)
        sent = stream.send(
            *(call, head or grpc_head(), b"/shop.v1.Venue/Get", b"venue:50051", added),
            *(request_id, traceparent, body, True),
        )
        assert sent
        self.loop.settle()
        return call

    def close(self) -> None:
        self.loop.after_settling = lambda: None  # what is wrong has been said
        try:
            while len(self.openings):
                self.openings.close()
                self.loop.settle()
        finally:
            asyncio._set_running_loop(None)
            self.patches.undo()
            for dial in self.dials:
                if dial.wire is not None:
                    dial.wire.dispose()
        assert not self.loop.failures


def grpc_head(*more: tuple[bytes, bytes]) -> RequestHead:
    fields: Fields = [
        *((b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/shop.v1.Venue/Get"), (b":authority", b"venue")),
        *((b"content-type", b"application/grpc"), (b"te", b"trailers"), *more),
    ]
    return read_request(fields, ended=False)


def whole(*pieces: bytes, trailers: Fields | None = None) -> RequestBody:
    """A body that is here already, as HTTP/2 brings it."""
    body = RequestBody(CHUNKED, 64 * 1024, plain=True)
    for piece in pieces:
        body.arrived(len(piece), end=False)
        body.keep([piece])
    body.complete = True
    body.trailers = tuple(trailers or ())
    return body
