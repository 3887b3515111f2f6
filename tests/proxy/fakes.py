"""An event loop whose time a test moves by hand, transports whose other end it holds, and a whole data path on both.

Owns everything around the data path: clock, network, the app and the upstreams. A test reads as a dialogue: what one
side says, what the other hears. After each step every count of the data path is held against what is really open.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

import pytest

import sidecar.proxy.downstream.closing
import sidecar.proxy.downstream.h2_connection
import sidecar.proxy.downstream.h2_stream
import sidecar.proxy.downstream.http1_connection
import sidecar.proxy.exchange.aggregate
import sidecar.proxy.exchange.exchange
import sidecar.proxy.exchange.inner_call
import sidecar.proxy.exchange.outcome
import sidecar.proxy.exchange.service_call
import sidecar.proxy.exchange.stale
import sidecar.proxy.exchange.tunnel
import sidecar.proxy.upstream.h2_connection
import sidecar.proxy.upstream.h2_pool
import sidecar.proxy.upstream.h2_stream
import sidecar.proxy.upstream.pool
import sidecar.proxy.upstream.service_pool
from sidecar.config.schema import Aggregate, Config, EndpointSpec, Listen, Route, Service, Url
from sidecar.policy.settings import Policy, RetrySettings, Timeouts
from sidecar.proxy.core import ProxyCore
from sidecar.proxy.downstream.http1_connection import DownstreamConnection
from sidecar.proxy.exchange.dispatch import Dispatch
from sidecar.proxy.http1.request_head import RequestHead
from sidecar.proxy.upstream.h2_connection import H2UpstreamConnection
from sidecar.proxy.upstream.http1_connection import UpstreamConnection
from sidecar.runtime.additions import Additions
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.live import Live
from sidecar.runtime.service import LiveService
from sidecar.telemetry.access_log import AccessLog

START = 1000.0


class Timer:
    """What is to be called, and when."""

    def __init__(self, when: float, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.when = when
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def run(self) -> None:
        if not self.cancelled:
            self.callback(*self.args)


class ManualLoop:
    """As much of an event loop as the data path uses. Nothing runs but in `settle` and `advance`."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self.network: Callable[[Dial], None] = Dial.accept
        """What happens to a connection as soon as it is asked for."""
        self.close_late: Callable[[Wire], None] = Wire.close
        """What becomes of a connection that came up too late: asyncio closes it, uvloop does so without a word."""
        self.dials: list[Dial] = []
        self.failures: list[dict[str, Any]] = []
        self.after_settling: Callable[[], None] = lambda: None
        self._ready: deque[Timer] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._numbers = itertools.count()

    # What asyncio and the data path ask of a loop.

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: object = None) -> Timer:
        timer = Timer(self.now, callback, args)
        self._ready.append(timer)
        return timer

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: object = None) -> Timer:
        timer = Timer(when, callback, args)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: object = None) -> Timer:
        return self.call_at(self.now + delay, callback, *args)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def create_task(self, work: Coroutine[Any, Any, Any], *, name: str | None = None, **_: Any) -> asyncio.Task[Any]:
        return asyncio.Task(work, loop=self, name=name)  # type: ignore[arg-type]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.failures.append(context)

    async def create_connection(
        self,
        factory: Callable[[], Any],
        host: str,
        port: int,
        *,
        ssl: object = None,
        server_hostname: str | None = None,
    ) -> tuple[Wire, Any]:
        dial = Dial(self, factory, host, port, server_hostname)
        self.dials.append(dial)
        self.network(dial)
        try:
            wire, protocol = await dial.outcome
        except asyncio.CancelledError:
            dial.cancelled = True
            if dial.wire is not None:
                self.close_late(dial.wire)
            raise
        return wire, protocol

    # What a test asks of it.

    def settle(self) -> None:
        """Run what is due now, and what follows from it."""
        for _ in range(100_000):
            while self._timers and self._timers[0][0] <= self.now:
                self._ready.append(heapq.heappop(self._timers)[2])
            if not self._ready:
                break
            self._ready.popleft().run()
        else:
            raise AssertionError("it does not come to rest")
        self.after_settling()

    def advance(self, seconds: float) -> None:
        """Let time pass, each timer in its turn."""
        end = self.now + seconds
        self.settle()
        while self._timers and self._timers[0][0] <= end:
            self.now = max(self.now, self._timers[0][0])
            self.settle()
        self.now = end

    def run(self, work: Coroutine[Any, Any, Any], *, at_most_s: float = 1000.0) -> Any:
        """Let time pass until `work` is done."""
        task = self.create_task(work)
        end = self.now + at_most_s
        self.settle()
        while not task.done():
            assert self._timers, "it waits for something that will not come"
            assert self._timers[0][0] <= end, "it takes too long"
            self.now = max(self.now, self._timers[0][0])
            self.settle()
        return task.result()


class Dial:
    """A connection that was asked for. `accept` and `refuse` say what becomes of it."""

    def __init__(
        self, loop: ManualLoop, factory: Callable[[], Any], host: str, port: int, server_name: str | None
    ) -> None:
        self.loop = loop
        self.factory = factory
        self.host = host
        self.port = port
        self.server_name = server_name
        self.outcome = loop.create_future()
        self.protocol: Any = None
        self.wire: Wire | None = None
        self.cancelled = False

    def accept(self) -> None:
        self.come_up()
        self.outcome.set_result((self.wire, self.protocol))

    def come_up(self) -> None:
        """The connection is there, and the one who asked has not been told yet."""
        self.protocol = self.factory()
        self.wire = Wire(self.loop, self.protocol)
        self.protocol.connection_made(self.wire)

    def refuse(self) -> None:
        self.outcome.set_exception(ConnectionRefusedError(111, "Connection refused"))

    def hang(self) -> None:
        """Nothing happens until the test says so."""

    @property
    def pending(self) -> bool:
        return self.protocol is None and not self.outcome.done() and not self.cancelled


class Wire:
    """A transport, and its other end: `says`, `leaves` and `breaks` are what the peer does, `heard` is what it got."""

    def __init__(self, loop: ManualLoop, protocol: Any) -> None:
        self.loop = loop
        self.protocol = protocol
        self.sent: list[bytes] = []
        self.reading = True
        self.eof_sent = False
        self.how: str | None = None
        """How our side ended it: `close` or `abort`."""
        self.lost = False
        self.stalled = False
        self.buffered = 0
        self.high = 64 * 1024
        self._full = False
        self._incoming: deque[bytes | None] = deque()
        self._pair: tuple[socket.socket, socket.socket] | None = None

    # The transport.

    def write(self, data: bytes) -> None:
        assert type(data) is bytes
        assert not self.eof_sent, "written after the end"
        if self.how is not None:
            return
        self.sent.append(data)
        if self.stalled:
            self.buffered += len(data)
            if self.buffered > self.high and not self._full:
                self._full = True
                self.protocol.pause_writing()

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.write(b"".join(pieces))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_sent = True

    def pause_reading(self) -> None:
        if self.how is not None:
            raise RuntimeError("the transport is closing")
        self.reading = False

    def resume_reading(self) -> None:
        if self.how is not None:
            raise RuntimeError("the transport is closing")
        self.reading = True
        self.loop.call_soon(self._deliver)

    def close(self) -> None:
        if self.how is None:
            self.how = "close"
            if not self.buffered:
                self.loop.call_soon(self._end, None)

    def abort(self) -> None:
        if self.how != "abort":
            self.how = "abort"
            self.buffered = 0
            self.loop.call_soon(self._end, None)

    def vanish(self) -> None:
        """It ends, and the protocol is not told."""
        self.how = "close"
        self.lost = True

    def is_closing(self) -> bool:
        return self.how is not None or self.lost

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high = high or 0

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def __del__(self) -> None:
        for one in self._pair or ():
            one.close()

    def get_extra_info(self, name: str, default: object = None) -> object:
        if name != "socket":
            return default
        if self._pair is None:
            self._pair = socket.socketpair()
            self._pair[0].setblocking(False)
        return self._pair[0]

    # Its other end.

    @property
    def peer(self) -> socket.socket:
        """What the kernel has to be told through, where the data path asks the kernel."""
        self.get_extra_info("socket")
        assert self._pair is not None
        return self._pair[1]

    @property
    def heard(self) -> bytes:
        if self._pair is not None and self.peer.fileno() >= 0:
            with suppress(BlockingIOError):
                self.sent.append(self.peer.recv(1 << 20, socket.MSG_DONTWAIT))  # sent past the transport
        return b"".join(self.sent)

    def take(self) -> bytes:
        """What was heard since the last time."""
        heard = self.heard
        self.sent.clear()
        return heard

    @property
    def open(self) -> bool:
        return self.how is None and not self.lost

    def says(self, *pieces: bytes) -> Wire:
        """Each piece arrives by itself."""
        for piece in pieces:
            self._incoming.append(piece)
            self._deliver()
        self.loop.settle()
        return self

    def leaves(self) -> None:
        """An orderly end of what the peer sends."""
        self._incoming.append(None)
        self._deliver()
        self.loop.settle()

    def breaks(self) -> None:
        """A reset."""
        self._end(ConnectionResetError(104, "Connection reset by peer"))
        self.loop.settle()

    def stall(self) -> None:
        """The peer takes nothing more."""
        self.stalled = True

    def flow(self) -> None:
        """The peer has taken everything."""
        self.stalled = False
        self.buffered = 0
        if self.how == "close":
            self.loop.call_soon(self._end, None)
        elif self._full:
            self._full = False
            self.protocol.resume_writing()
        self.loop.settle()

    def dispose(self) -> None:
        if self._pair is not None:
            for end in self._pair:
                end.close()

    def _deliver(self) -> None:
        while self._incoming and self.reading and self.open:
            data = self._incoming.popleft()
            if data is not None:
                self.protocol.data_received(data)
            elif not self.protocol.eof_received():
                self.close()

    def _end(self, error: Exception | None) -> None:
        if not self.lost:
            self.lost = True
            self.how = self.how or "lost"
            self.protocol.connection_lost(error)


TIMED = (
    *(
        sidecar.proxy.exchange.outcome,
        sidecar.proxy.exchange.service_call,
        sidecar.proxy.downstream.h2_connection,
        sidecar.proxy.downstream.h2_stream,
        sidecar.proxy.downstream.http1_connection,
        sidecar.proxy.exchange.exchange,
        sidecar.proxy.exchange.inner_call,
        sidecar.proxy.upstream.pool,
        sidecar.proxy.upstream.service_pool,
        sidecar.proxy.upstream.h2_connection,
        sidecar.proxy.upstream.h2_pool,
        sidecar.proxy.upstream.h2_stream,
    ),
    *(
        sidecar.proxy.exchange.aggregate,
        sidecar.proxy.downstream.closing,
        sidecar.proxy.exchange.stale,
        sidecar.proxy.exchange.tunnel,
    ),
)
"""The modules that ask what time it is."""


def _spec_of(name: str) -> EndpointSpec:
    return EndpointSpec(url=Url("http", name, 3002))


PATIENT = Policy(timeout=Timeouts(attempt=1.0, request=4.0), retry=RetrySettings())


class World:
    """A data path with one service, `venue`, whose endpoints are 10.0.0.1, 10.0.0.2 and so on at port 3002.

    `others` are further services by name, each with one endpoint: 10.0.1.1, 10.0.2.1 and so on.
    """

    def __init__(
        self,
        policy: Policy = PATIENT,
        *,
        endpoints: int = 1,
        routes: tuple[Route, ...] = (),
        access: Any = "off",
        others: dict[str, Policy] | None = None,
        aggregates: dict[str, Aggregate] | None = None,
    ) -> None:
        self._aggregates = aggregates or {}
        self._others = others or {}
        self.policy = policy
        self._count = endpoints
        self._routes = routes
        self._access = access
        self._patches = pytest.MonkeyPatch()
        self._apps: list[Wire] = []
        self.lines: list[dict[str, Any]] = []
        """What the access log says."""

    def __enter__(self) -> World:
        loop = self.loop = ManualLoop()
        asyncio._set_running_loop(loop)  # type: ignore[arg-type]
        for module in TIMED:
            self._patches.setattr(module, "monotonic", loop.time)
        spec = EndpointSpec(url=Url("http", "venue-service", 3002))
        service = Service(name="venue", endpoints=(spec,), policy=self.policy, routes=self._routes)
        services = {"venue": service}
        for name, policy in self._others.items():
            services[name] = Service(name=name, endpoints=(_spec_of(name),), policy=policy)
        config = Config(listen=Listen(), defaults=self.policy, services=services, aggregates=self._aggregates)
        self.live = Live(config, loop.now, lambda: 0.0)
        self.service: LiveService = self.live.services["venue"]
        self.service.set_endpoints([(spec, f"10.0.0.{number}") for number in range(1, self._count + 1)], loop.now)
        for number, name in enumerate(self._others, 1):
            self.live.services[name].set_endpoints([(_spec_of(name), f"10.0.{number}.1")], loop.now)
        self.access_log = AccessLog(self._access, self._log, loop)  # type: ignore[arg-type]
        self.core = ProxyCore(self.live, self.access_log, random=lambda: 0.5)
        self.core.registry.dispatcher = Dispatch(self.core)
        loop.after_settling = self.check
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self.loop.run(self.core.close())
                self.loop.settle()
                self.check_at_rest()
                assert not self.core.registry.connections
                assert not self.core.inner
                assert all(service.connections == 0 for service in self.live.services.values())
                assert not self.loop.failures
            else:
                self.loop.after_settling = lambda: None
                self.loop.run(self.core.close())
        finally:
            asyncio._set_running_loop(None)
            self._patches.undo()
            for wire in (*self._apps, *(dial.wire for dial in self.loop.dials if dial.wire is not None)):
                wire.dispose()

    def _log(self, lines: bytes) -> None:
        self.lines += [json.loads(line) for line in lines.splitlines()]

    # Both sides.

    def app(self) -> Wire:
        """A new connection from the app."""
        downstream = DownstreamConnection(self.core.registry)
        wire = Wire(self.loop, downstream)
        downstream.connection_made(wire)  # type: ignore[arg-type]
        self._apps.append(wire)
        return wire

    def asks(self, head: str | bytes = "GET /venue/", *fields: str, body: bytes = b"") -> Wire:
        """A new connection from the app, and a request on it."""
        return self.app().says(request(head, *fields, body=body))

    @property
    def upstreams(self) -> list[Wire]:
        """The connections to endpoints, in the order in which they were opened."""
        return [dial.wire for dial in self.loop.dials if dial.wire is not None]

    @property
    def upstream(self) -> Wire:
        """The newest of them."""
        return self.upstreams[-1]

    def pass_time(self, seconds: float) -> None:
        self.loop.advance(seconds)

    def settle(self) -> None:
        self.loop.settle()

    # What must hold.

    def check(self) -> None:
        """Every count is that of what is really there."""
        for service in self.live.services.values():
            endpoints = [*service.endpoints, *service._departed]
            hosts = {endpoint.address for endpoint in endpoints}
            dials = [dial for dial in self.loop.dials if dial.host in hosts]
            check_counts(service, endpoints, [dial.protocol for dial in dials if dial.protocol is not None], dials)

    def check_at_rest(self) -> None:
        """No request is under way, and none has left anything behind."""
        self.check()
        assert not self.core.tunnels
        assert not self.core.registry.paused
        assert not self.core.registry.waiting
        assert self.core.registry.http2_streams == 0
        for service in self.live.services.values():
            assert service.limit.in_flight == 0
            assert service.counters.tunnels == 0
            assert not service.waiting
            assert [endpoint.active for endpoint in service.endpoints] == [0] * len(service.endpoints)
            assert service.connections == sum(endpoint.idle for endpoint in service.endpoints)
            for breaker in service.breakers:
                assert breaker.state != "half_open" or "0 probes in flight" in repr(breaker)

    def reasons(self) -> dict[tuple[int, str], int]:
        """What was recorded of requests: how many for each status and reason."""
        return self.service.counters.requests

    def retries(self) -> dict[str, int]:
        return self.service.counters.retries

    def attempts(self) -> list[dict[str, int]]:
        """What was counted of attempts, for each endpoint."""
        return [endpoint.counters.attempts for endpoint in self.service.endpoints]

    def breaker(self) -> tuple[int, int]:
        """The successes and failures that the breaker was told."""
        breaker = self.service.default_route.breaker
        return breaker.counters.successes, breaker.counters.failures


def check_counts(
    service: LiveService,
    endpoints: Sequence[Endpoint],
    connections: Sequence[UpstreamConnection | H2UpstreamConnection],
    dials: Sequence[Dial],
    most: int | None = None,
) -> None:
    """`active`, `idle` and `connections` are what is really open, and no more than `most`."""
    living = [one for one in connections if not (one.ended if isinstance(one, UpstreamConnection) else one.slot.free)]
    for endpoint in endpoints:
        theirs = [connection for connection in living if connection.endpoint is endpoint]
        idle = [connection for connection in theirs if connection.slot.idle]
        assert endpoint.idle == len(idle), f"{endpoint} of {theirs}"
        assert endpoint.active == len(theirs) - len(idle), f"{endpoint} of {theirs}"
    pending = sum(dial.pending for dial in dials)
    assert service.connections == len(living) + pending, (
        f"{service.connections} counted, {living} and {pending} opening"
    )
    assert service.connections <= (service.max_connections if most is None else most)


def send_on(
    connection: UpstreamConnection,
    listener: Any,
    method: str = "GET",
    *,
    plain: bool = False,
    websocket: bool = False,
    body: list[bytes] | None = None,
) -> bool:
    """Begin a plain request on a connection to an endpoint."""
    head = RequestHead()
    head.method, head.target, head.pieces, head.websocket = method, b"/", [], websocket
    additions = Additions(b"sidecar-1", None, 1, 1000, False)
    return connection.send(listener, head, b"/", b"venue", additions, None, None, body, plain)


def request(head: str | bytes = "GET /venue/", *fields: str, body: bytes = b"") -> bytes:
    """`head` is method and target, with the version where it is not 1.1; a body goes by Content-Length."""
    if isinstance(head, bytes):
        return head
    line = head if " HTTP/" in head else f"{head} HTTP/1.1"
    lines = [line, "Host: localhost", *fields]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def ok(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """An answer by Content-Length."""
    lines = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def status(answer: bytes) -> int:
    assert answer.startswith(b"HTTP/1.1 "), answer
    return int(answer[9:12])


def problem(answer: bytes) -> dict[str, Any]:
    """The problem that an answer of our own bears."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nContent-Type: application/problem+json" in head, answer
    found = json.loads(body)
    assert isinstance(found, dict)
    assert b"\r\nx-sidecar-reason: " + found["reason"].encode() in head
    assert b"%d" % found["status"] == head[9:12]
    return found


def field_of(head: bytes, name: str) -> list[str]:
    """The values of a field, in order."""
    lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    pairs = [line.split(":", 1) for line in lines]
    return [value.strip() for found, value in pairs if found.lower() == name.lower()]
