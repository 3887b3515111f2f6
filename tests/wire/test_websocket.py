"""WebSocket through the daemon: the handshake, the tunnel after it, and every Upgrade that is not to be one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import ServerConnection, serve

from tests.support import steps
from tests.support.client import Client, request_bytes
from tests.support.eventually import eventually, settled
from tests.support.problem import assert_problem
from tests.support.rig import Rig
from tests.support.steps import answer, response_head
from tests.support.upstream import Step, Turn, Upstream

MIB = 1 << 20

CONFIG = """
defaults:
  timeout: {connect: 2s, attempt: 4s, request: 8s, idle: 10s}
  breaker: {volume_threshold: 10000}
services:
  library: {endpoints: ["http://127.0.0.1:%d"]}
  venue: {endpoints: ["$venue"], hosts: [venue-service]}
  single: {endpoints: ["$single"], limits: {max_concurrent: 1}}
  restless: {endpoints: ["$restless"], timeout: {idle: 1s}}
  brief: {endpoints: ["$brief"], timeout: {attempt: 300ms, request: 400ms}}
"""

HANDSHAKE = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
ACCEPTED = response_head(
    101, [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")]
)


def respond(connection: ServerConnection) -> None:
    """The library's server: `/echo` echoes, `/flood` sends 16 messages of 1 MiB, `/bye` says so and closes."""
    try:
        path = connection.request.path if connection.request else ""
        if path == "/flood":
            for number in range(16):
                connection.send(bytes([number]) * MIB)
        elif path == "/bye":
            connection.close(4000, "bye")
        else:
            for message in connection:
                connection.send(message)
    except ConnectionClosed:
        pass


@contextmanager
def library_server() -> Iterator[int]:
    with serve(respond, "127.0.0.1", 0, max_size=None, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join(5)


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with library_server() as port, Rig(CONFIG % port, "venue", "single", "restless", "brief") as rig:
        yield rig


@pytest.fixture
def venue(rig: Rig) -> Upstream:
    return rig["venue"].play(tunnel_echo)


def library_client(rig: Rig, path: str) -> ClientConnection:
    return connect(
        f"ws://127.0.0.1:{rig.ports.proxy}/library{path}", max_size=None, compression=None, proxy=None, open_timeout=5
    )


def tunnel_echo(turn: Turn) -> None:
    """Accepts, then echoes bytes; when the app has ended its side, says goodbye and ends too."""
    turn.read()
    turn.send(ACCEPTED)
    connection = turn.connection
    while data := bytes(connection.stream.buffer) or connection.socket.recv(65_536):
        connection.stream.buffer.clear()
        turn.send(data)
    turn.send(b"goodbye")
    turn.close()


@contextmanager
def tunnel(rig: Rig, service: str = "venue", **more: int) -> Iterator[Client]:
    with rig.client(**more) as client:
        client.send(request_bytes("GET", f"/{service}/ws", HANDSHAKE))
        assert client.read_response().status == 101
        yield client


# With a library at both ends.


def test_messages_both_ways(rig: Rig) -> None:
    with library_client(rig, "/echo") as client:
        for message in ("hello", b"\x00\xff" * 1000, "", "\N{SNOWMAN}" * 50_000):
            client.send(message)
            assert client.recv(timeout=5) == message


def test_large_messages(rig: Rig) -> None:
    with library_client(rig, "/echo") as client:
        message = bytes(range(256)) * (4 * MIB // 256)
        for _ in range(2):
            client.send(message)
            assert client.recv(timeout=10) == message


def test_flood(rig: Rig) -> None:
    with library_client(rig, "/flood") as client:
        assert [message == bytes([number]) * MIB for number, message in enumerate(client)] == [True] * 16


def test_close_codes_pass(rig: Rig) -> None:
    with library_client(rig, "/bye") as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=5)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "bye")


def test_refused_upgrade_as_the_library_sees_it(rig: Rig, venue: Upstream) -> None:
    venue.play(answer(403, b"not you"))
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{rig.ports.proxy}/venue/ws", proxy=None, open_timeout=5)
    assert (refused.value.response.status_code, refused.value.response.body) == (403, b"not you")


# The handshake, byte by byte.


def test_handshake_arrives(rig: Rig, venue: Upstream) -> None:
    with tunnel(rig):
        request = venue.last
    assert (request.method, request.target, request.version) == ("GET", "/ws", "HTTP/1.1")
    assert (request.get("upgrade") or "").lower() == "websocket"
    assert (request.get("connection") or "").lower() == "upgrade"
    for name, value in HANDSHAKE[2:]:
        assert request.get(name) == value
    for name in ("x-sidecar-loop", "x-request-id", "x-envoy-attempt-count"):
        assert request.get(name)
    assert request.get("x-forwarded-prefix") == "/venue"


def test_answer_of_the_handshake(rig: Rig, venue: Upstream) -> None:
    with rig.client() as client:
        client.send(request_bytes("GET", "/ws", HANDSHAKE, host="venue-service"))
        response = client.read_response()
    assert response.status == 101
    assert (response.get("upgrade") or "").lower() == "websocket"
    assert (response.get("connection") or "").lower() == "upgrade"
    assert response.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_bytes_behind_the_head_wait_for_the_101(rig: Rig, venue: Upstream) -> None:
    """Until then they are nobody's: had the upstream refused, they might have been taken for a request."""

    def step(turn: Turn) -> None:
        turn.read()
        turn.wait_for_gate()
        assert turn.connection.stream.buffer == b""
        turn.send(ACCEPTED)
        turn.connection.stream.more()
        turn.send(turn.connection.stream.take(5) + b"!")

    venue.play(step)
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/ws", HANDSHAKE) + b"hello")
        eventually(lambda: venue.hits == 1)
        seen = settled(lambda: venue.bytes_in, still_for=0.2)
        venue.gate.set()
        assert client.read_response().status == 101
        assert client.receive(6) == b"hello!"
        assert venue.bytes_in == seen + 5


def test_bytes_behind_the_101(rig: Rig, venue: Upstream) -> None:
    venue.play(steps.raw(ACCEPTED + b"first words"))
    with tunnel(rig) as client:
        assert client.receive(11) == b"first words"


def test_bytes_behind_the_head_of_a_refused_upgrade(rig: Rig, venue: Upstream) -> None:
    """Whatever they are, no upstream gets them as a request of its own."""
    venue.play(answer(403, b"no"))
    with rig.client() as client:
        client.send(request_bytes("GET", "/venue/ws", HANDSHAKE) + b"\x81\x85\x00\x00\x00\x00hello")
        response = client.read_response()
        assert (response.status, response.body) == (403, b"no")
        rest, how = client.rest()
        assert how == "eof"
        assert rest == b"" or rest.startswith(b"HTTP/1.1 400")
    assert venue.hits == 1
    assert venue.malformed == []


@pytest.mark.parametrize("status", [200, 400, 403, 426, 500])
def test_refused_upgrade_is_plain_http(rig: Rig, venue: Upstream, status: int) -> None:
    venue.play(answer(status, b"no"), answer(body=b"next"))
    with rig.client() as client:
        response = client.ask("GET", "/venue/ws", HANDSHAKE)
        assert (response.status, response.body, response.reason) == (status, b"no", None)
        assert client.ask("GET", "/venue/").body == b"next"
    rig.idle("venue")


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "websocket, h2c", "websocket/13", "foo"])
def test_other_upgrades_are_dropped(rig: Rig, venue: Upstream, upgrade: str) -> None:
    venue.play(answer())
    headers = [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", upgrade), ("HTTP2-Settings", "AAMAAABkAAQAAP__")]
    with rig.client() as client:
        assert client.ask("GET", "/venue/", headers).status == 200
        client.assert_open("/venue/")
    first = venue.requests[0]
    assert first.all("upgrade") + first.all("http2-settings") == []
    assert "upgrade" not in (first.get("connection") or "").lower()


def test_upgrade_without_connection_is_dropped(rig: Rig, venue: Upstream) -> None:
    """Upgrade counts only where Connection names it (RFC 9110, section 7.8)."""
    venue.play(answer())
    assert rig.ask("GET", "/venue/", [("Upgrade", "websocket")]).status == 200
    assert venue.last.all("upgrade") == []


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_upgrade_with_a_body_is_dropped(rig: Rig, venue: Upstream, method: str) -> None:
    venue.play(answer())
    assert rig.ask(method, "/venue/", HANDSHAKE, b"hello").status == 200
    assert venue.last.body == b"hello"
    assert venue.last.all("upgrade") == []


@pytest.mark.parametrize("headers", [[], [("Connection", "Upgrade"), ("Upgrade", "h2c")]], ids=["plain", "h2c"])
def test_unasked_101(rig: Rig, venue: Upstream, headers: list[tuple[str, str]]) -> None:
    venue.play(steps.raw(ACCEPTED + b"LEAK"), answer(body=b"next"))
    with rig.client() as client:
        response = client.ask("GET", "/venue/", headers)
        assert_problem(response, 502, "bad_response", "venue")
        assert b"LEAK" not in response.body
        assert client.ask("GET", "/venue/").body == b"next"
    assert [request.connection for request in venue.requests] == [0, 1]


# The tunnel.


def test_half_close_by_the_app(rig: Rig, venue: Upstream) -> None:
    """The end of one direction is passed on, and the other goes on until its own."""
    with tunnel(rig) as client:
        client.send(b"hello")
        assert client.receive(5) == b"hello"
        client.half_close()
        assert client.rest() == (b"goodbye", "eof")
    rig.idle("venue")


def test_half_close_by_the_upstream(rig: Rig, venue: Upstream) -> None:
    heard = bytearray()

    def step(turn: Turn) -> None:
        turn.read()
        turn.send(ACCEPTED + b"that is all")
        turn.half_close()
        turn.connection.stream.exactly(10, heard)

    venue.play(step)
    with tunnel(rig) as client:
        assert client.rest() == (b"that is all", "eof")
        client.send(b"still here")
        eventually(lambda: heard == b"still here")
    rig.idle("venue")


@pytest.mark.parametrize("leave", [Client.close, Client.reset], ids=["close", "reset"])
def test_app_goes_away(rig: Rig, venue: Upstream, leave: object) -> None:
    venue.play(steps.then(steps.raw(ACCEPTED), Turn.wait_closed))
    with tunnel(rig) as client:
        leave(client)  # type: ignore[operator]
        eventually(lambda: venue.connections[0].ended is not None)
    venue.play(answer())  # Both of its directions end.
    rig.idle("venue")


@pytest.mark.parametrize("end", [steps.close, steps.reset], ids=["close", "reset"])
def test_upstream_goes_away(rig: Rig, venue: Upstream, end: Step) -> None:
    venue.play(steps.then(steps.raw(ACCEPTED), Turn.wait_for_gate, end))
    with tunnel(rig) as client:
        venue.gate.set()
        assert client.rest()[1] in ("eof", "reset")
    rig.idle("venue")


def test_idle_tunnel_is_closed(rig: Rig) -> None:
    upstream = rig["restless"].play(tunnel_echo)
    with tunnel(rig, "restless") as client:
        for _ in range(4):
            time.sleep(0.4)
            last = time.monotonic()
            client.send(b"hello")
            assert client.receive(5) == b"hello"
        assert client.rest()[1] in ("eof", "reset")
        assert time.monotonic() - last >= 0.95
    eventually(lambda: upstream.connections[0].ended is not None or upstream.connections[0].closed)
    rig.idle("restless")


def test_tunnel_outlives_the_other_timeouts(rig: Rig) -> None:
    """`attempt` and `request` end at the 101."""
    rig["brief"].play(tunnel_echo)
    with tunnel(rig, "brief") as client:
        time.sleep(0.6)
        client.send(b"hello")
        assert client.receive(5) == b"hello"
    rig.idle("brief")


def test_reader_that_does_not_read_slows_the_upstream(rig: Rig, venue: Upstream) -> None:
    sent = [0]

    def step(turn: Turn) -> None:
        turn.read()
        turn.send(ACCEPTED)
        for number in range(64):
            turn.send(bytes([number]) * MIB)
            sent[0] += 1
        turn.close()

    venue.play(step)
    with tunnel(rig, receive_buffer=65_536) as client:
        eventually(lambda: sent[0] > 0)
        assert settled(lambda: sent[0]) < 32
        for number in range(64):
            assert client.receive(MIB) == bytes([number]) * MIB
        client.assert_closed()
    rig.idle("venue")


def test_upstream_that_does_not_read_slows_the_app(rig: Rig, venue: Upstream) -> None:
    def step(turn: Turn) -> None:
        turn.read()
        turn.send(ACCEPTED)
        turn.wait_for_gate()
        for number in range(64):
            piece = bytearray()
            turn.connection.stream.exactly(MIB, piece)
            assert piece == bytes([number]) * MIB
        turn.send(b"all of it")
        turn.close()

    venue.play(step)
    sent = [0]

    def flood(client: Client) -> None:
        for number in range(64):
            client.send(bytes([number]) * MIB)
            sent[0] += 1

    with tunnel(rig) as client:
        sending = threading.Thread(target=flood, args=(client,), daemon=True)
        sending.start()
        assert settled(lambda: sent[0]) < 48
        venue.gate.set()
        assert client.receive(9) == b"all of it"
        sending.join(5)
    assert sent[0] == 64
    rig.idle("venue")


# What is counted.


def test_tunnel_is_in_flight_until_its_end(rig: Rig, venue: Upstream) -> None:
    changes = rig.changes()
    with tunnel(rig) as client:
        assert rig.daemon.metric("sidecar_in_flight_requests", service="venue") == 1
        changes.eventually(1, "sidecar_breaker_events_total", service="venue", event="success")
        client.half_close()
        assert client.rest() == (b"goodbye", "eof")
    gain = changes.when_done("venue")
    assert gain("sidecar_requests_total", service="venue", code="101", reason="ok") == 1
    assert gain("sidecar_attempts_total", service="venue", reason="ok") == 1


def test_tunnel_holds_its_permit(rig: Rig) -> None:
    upstream = rig["single"].play(tunnel_echo, answer())
    with tunnel(rig, "single") as client:
        assert_problem(rig.ask("GET", "/single/"), 503, "overloaded", "single")
        client.half_close()
        client.rest()
    rig.idle("single")
    assert rig.ask("GET", "/single/").status == 200
    assert upstream.hits == 2


def test_upgrade_to_nobody(rig: Rig, venue: Upstream) -> None:
    """A handshake gets the sidecar's own answers as any request does."""
    with rig.client() as client:
        assert_problem(client.ask("GET", "/nowhere/ws", HANDSHAKE), 404, "unknown_service")
    venue.play(steps.then_close(steps.read_request))
    with rig.client() as client:
        assert_problem(client.ask("GET", "/venue/ws", HANDSHAKE), 502, "reset", "venue")
