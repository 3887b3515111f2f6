"""Starting, refusing to start, probes, log, draining and ending, as whoever runs the process sees them."""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support import steps, wants
from tests.support.client import Client, ask, request_bytes
from tests.support.daemon import Daemon, Ports, has_ipv6, run_to_exit
from tests.support.eventually import eventually
from tests.support.message import head_bytes
from tests.support.rig import Daemons
from tests.support.steps import answer, held, response_head
from tests.support.upstream import Turn, Upstream

UPGRADE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]


def switch_protocols(turn: Turn) -> None:
    """Answers an Upgrade and echoes from then on."""
    turn.read()
    turn.send(response_head(101, [("Connection", "Upgrade"), ("Upgrade", "websocket")]))
    stream = turn.connection.stream
    while True:
        if not stream.buffer:
            stream.more()
        turn.send(stream.take(len(stream.buffer)))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(answer()) as upstream:
        yield upstream


def venue(upstream: Upstream, drain: str = "{delay: 400ms, timeout: 10s}") -> str:
    return f'drain: {drain}\nservices: {{venue: {{endpoints: ["{upstream.url}"]}}}}\n'


# Starting.


def test_starts_in_under_600_ms(upstream: Upstream) -> None:
    """By the clock; or, where the machine is busy with other things, by the processor's time. The best of five."""
    took = []
    for _ in range(5):
        with Daemon(venue(upstream)) as daemon:
            took.append((daemon.start_seconds, daemon.cpu_seconds()))
        by_clock, of_processor = took[-1]
        if by_clock < 0.6 or (of_processor < 0.6 and by_clock < 3):  # the latter, for what waits is slow too
            return
    raise AssertionError(f"seconds by the clock and of the processor: {took}")


def test_bad_configuration_is_told_in_full(upstream: Upstream) -> None:
    config = Ports.free().yaml + (
        "defaults:\n"
        "  timeout: {conect: 1s, attempt: soon}\n"
        "services:\n"
        f'  venue: {{endpoints: ["{upstream.url}"], balancer: alphabetical}}\n'
    )
    ended = run_to_exit(config)
    assert ended.returncode == 2
    for expected in ("conect", "connect", "attempt", "balancer"):
        assert expected in ended.stderr
    assert "Traceback" not in ended.stderr
    assert set(re.findall(r"sidecar\.yaml:(\d+)", ended.stderr)) == {"3", "5"}


def test_no_services_is_a_bad_configuration() -> None:
    ended = run_to_exit(Ports.free().yaml)
    assert ended.returncode == 2
    assert "services" in ended.stderr


def test_what_is_not_yaml() -> None:
    ended = run_to_exit("services: [}")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("listener", ["proxy", "admin", "probe"])
def test_taken_port_is_named(upstream: Upstream, listener: str) -> None:
    """One line says which; the exit code is that of a call that failed."""
    ports = Ports.free()
    port: int = getattr(ports, listener)
    with socket.create_server(("127.0.0.1", port)):
        ended = run_to_exit(ports.yaml + venue(upstream))
    assert ended.returncode in (1, 2)
    (line,) = ended.stderr.strip().splitlines()
    assert f"127.0.0.1:{port}" in line
    assert listener in line


@wants.of_the_machine("IPv6", there=has_ipv6())
def test_listens_on_ipv6(upstream: Upstream, start: Daemons) -> None:
    ports = Ports.free()
    both = f'listen: {{proxy: ["127.0.0.1:{ports.proxy}", "[::1]:{ports.proxy}"], admin: "127.0.0.1:{ports.admin}",'
    config = f'{both} probe: "[::]:{ports.probe}"}}\n' + venue(upstream)
    start(config, ports=OwnListen(ports.proxy, ports.admin, ports.probe))
    for host in ("127.0.0.1", "::1"):
        with Client(ports.proxy, host=host) as client:
            assert client.ask("GET", "/venue/").status == 200


class OwnListen(Ports):
    """For a configuration that has its own `listen`."""

    @property
    def yaml(self) -> str:
        return ""


def test_that_it_is_ready_is_said_with_where_and_by_which_file(upstream: Upstream, start: Daemons) -> None:
    daemon = start(venue(upstream))
    (line,) = eventually(lambda: [one for one in daemon.log_lines() if one["event"] == "ready"] or False)
    assert line["admin"] == f"127.0.0.1:{daemon.ports.admin}"
    assert line["probe"] == f"127.0.0.1:{daemon.ports.probe}"
    assert line["file"].endswith(".yaml")


# While it runs.


def test_probe_listener(upstream: Upstream, start: Daemons) -> None:
    daemon = start(venue(upstream))
    assert daemon.probe("/livez").status == 200
    assert daemon.probe("/readyz").status == 200
    metrics = daemon.probe("/metrics")
    assert metrics.status == 200
    assert metrics.headers["content-type"].startswith("text/plain")
    daemon.metrics(buckets=True)
    assert daemon.probe("/venue/").status == 404
    assert daemon.probe("/livez", method="POST").status in (404, 405)
    assert upstream.hits == 0


def test_log_lines_are_json(upstream: Upstream, start: Daemons) -> None:
    daemon = start("log: {access: all}\n" + venue(upstream))
    upstream.play(answer())
    assert ask(daemon.proxy_port, "GET", "/venue/", [("X-Request-Id", "request-one")]).status == 200
    upstream.play(steps.then_reset(steps.read_request))
    assert ask(daemon.proxy_port, "POST", "/venue/", [("X-Request-Id", "request-two")], b"x").status == 502

    def check() -> None:
        lines = daemon.log_lines()
        for request_id, status in (("request-one", 200), ("request-two", 502)):
            about = [line for line in lines if request_id in line.values()]
            assert len(about) == 1
            assert status in about[0].values()
        assert any("venue" in line.values() for line in lines)

    eventually(check)
    assert daemon.terminate() == 0
    assert daemon.log_lines()
    assert daemon.stderr == ""


def test_warnings_on_the_configuration_are_logged_at_the_start(upstream: Upstream, start: Daemons) -> None:
    cut_short = f"services:\n  venue: {{url: {upstream.url}, timeout: {{attempt: 2s, request: 1s}}}}\n"
    daemon = start(cut_short)
    daemon.terminate()
    (warning,) = [line for line in daemon.log_lines() if line["level"] == "warning"]
    assert warning["event"] == "the configuration has a warning"
    assert warning["detail"].startswith("services.venue: timeout.attempt (2s, line ")


def test_log_of_errors_only(upstream: Upstream, start: Daemons) -> None:
    """The default: what went well is not logged."""
    daemon = start(venue(upstream))
    assert ask(daemon.proxy_port, "GET", "/venue/", [("X-Request-Id", "request-one")]).status == 200
    assert ask(daemon.proxy_port, "GET", "/unknown/", [("X-Request-Id", "request-two")]).status == 404
    upstream.play(answer(500))
    assert ask(daemon.proxy_port, "GET", "/venue/", [("X-Request-Id", "request-three")]).status == 500
    eventually(lambda: any("request-three" in line.values() for line in daemon.log_lines()))
    assert not any("request-one" in line.values() for line in daemon.log_lines())


# Ending.


def in_flight(daemon: Daemon, upstream: Upstream) -> Client:
    """A request that the upstream has and has not answered."""
    client = Client(daemon.proxy_port, timeout=10)
    hits = upstream.hits
    client.send(request_bytes("GET", "/venue/slow"))
    eventually(lambda: upstream.hits == hits + 1)
    return client


def not_ready(daemon: Daemon) -> bool:
    return daemon.probe("/readyz", timeout=1).status == 503


def refuses(daemon: Daemon) -> bool:
    try:
        Client(daemon.proxy_port, timeout=1).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_drains_on_a_signal(upstream: Upstream, start: Daemons, number: int) -> None:
    delay_s = 3
    daemon = start(venue(upstream, f"{{delay: {delay_s}s, timeout: 10s}}"))
    upstream.play(held(answer(body=b"late")), answer(body=b"new"))
    with in_flight(daemon, upstream) as slow, Client(daemon.proxy_port) as idle:
        assert idle.ask("GET", "/venue/").get("connection") is None
        signalled = time.monotonic()
        daemon.signal(number)
        eventually(lambda: not_ready(daemon), timeout=delay_s)
        assert daemon.probe("/livez").status == 200

        # New requests are still served, on new connections and on old ones, which are told to close.
        for client in (Client(daemon.proxy_port), idle):
            with client:
                response = client.ask("GET", "/venue/")
                assert (response.status, response.body) == (200, b"new")
                assert response.get("connection") == "close"
                client.assert_closed()
        assert time.monotonic() - signalled < delay_s, "the machine was too slow for this test"

        eventually(lambda: refuses(daemon), timeout=delay_s + 2)
        assert time.monotonic() - signalled >= delay_s
        assert daemon.process.poll() is None
        upstream.gate.set()
        response = slow.read_response()
        assert (response.status, response.body, response.whole) == (200, b"late", True)
        slow.assert_closed()
    assert daemon.wait(5) == 0
    assert time.monotonic() - signalled < delay_s + 7


def test_idle_connections_are_closed_in_order(upstream: Upstream, start: Daemons) -> None:
    """With nothing in flight it ends after the delay, not after the timeout."""
    daemon = start(venue(upstream, "{delay: 200ms, timeout: 20s}"))
    with Client(daemon.proxy_port) as idle, Client(daemon.proxy_port) as unused:
        idle.assert_open("/venue/")
        began = time.monotonic()
        daemon.signal()
        idle.assert_closed()
        unused.assert_closed()
        assert daemon.wait(5) == 0
        assert 0.2 <= time.monotonic() - began < 5
    eventually(lambda: upstream.open_connections == 0)


def test_body_in_flight_is_finished(upstream: Upstream, start: Daemons) -> None:
    daemon = start(venue(upstream, "{delay: 0s, timeout: 10s}"))
    half = steps.raw(response_head(200, [("Content-Length", "8")]) + b"half")
    upstream.play(steps.then_held(half, lambda turn: turn.send(b"half")))
    with Client(daemon.proxy_port, timeout=10) as client:
        client.send(request_bytes("GET", "/venue/"))

        def then_drain(_: object) -> None:
            daemon.signal()
            eventually(lambda: refuses(daemon))
            upstream.gate.set()

        response = client.read_response(on_head=then_drain)
        assert (response.body, response.whole) == (b"halfhalf", True)
        client.assert_closed()
    assert daemon.wait(5) == 0


def test_tunnels_are_cut_at_the_timeout(upstream: Upstream, start: Daemons) -> None:
    daemon = start(venue(upstream, "{delay: 100ms, timeout: 1s}"))
    upstream.play(switch_protocols)
    with Client(daemon.proxy_port, timeout=10) as client:
        client.send(head_bytes("GET /venue/ws HTTP/1.1", [("Host", "localhost"), *UPGRADE]))
        assert client.read_response().status == 101
        daemon.signal()
        signalled = time.monotonic()
        eventually(lambda: refuses(daemon))
        client.send(b"still here")
        assert client.receive(10) == b"still here"
        assert client.rest()[1] in ("eof", "reset")
        assert time.monotonic() - signalled >= 1
    assert daemon.wait(5) == 0
    eventually(lambda: upstream.connections[0].ended is not None)


def test_request_beyond_the_timeout_is_cut(upstream: Upstream, start: Daemons) -> None:
    daemon = start(venue(upstream, "{delay: 0s, timeout: 500ms}"))
    upstream.play(steps.silence)
    with in_flight(daemon, upstream):
        began = time.monotonic()
        daemon.signal()
        daemon.wait(5)
        assert 0.5 <= time.monotonic() - began < 4


def test_second_signal_ends_it_now(upstream: Upstream, start: Daemons) -> None:
    daemon = start(venue(upstream, "{delay: 5s, timeout: 20s}"))
    upstream.play(steps.silence)
    with in_flight(daemon, upstream):
        daemon.signal()
        eventually(lambda: not_ready(daemon))
        began = time.monotonic()
        daemon.signal()
        daemon.wait(5)
        assert time.monotonic() - began < 2
    assert "Traceback" not in daemon.log


def test_a_signal_after_an_operators_drain_cuts_nobody(upstream: Upstream, start: Daemons) -> None:
    """The kubelet's SIGTERM comes while the drain is under way; the one after it ends the daemon at once."""
    daemon = start(venue(upstream, "{delay: 0s, timeout: 20s}"))
    upstream.play(held(answer(body=b"late")), steps.silence)
    with in_flight(daemon, upstream) as slow, in_flight(daemon, upstream):
        drain(daemon)
        eventually(lambda: refuses(daemon))
        daemon.signal()
        eventually(lambda: daemon.probe("/readyz").status == 503)  # asked after the signal has come
        upstream.gate.set()
        assert slow.read_response().body == b"late"
        assert daemon.process.poll() is None
        began = time.monotonic()
        daemon.signal()
        daemon.wait(5)
        assert time.monotonic() - began < 2


def drain(daemon: Daemon) -> None:
    with Client(daemon.ports.admin) as client:
        headers = [("Content-Type", "application/json")]
        assert client.ask("POST", "/drain", headers, b"{}").status == 202


def test_nothing_is_dropped_under_load(upstream: Upstream, start: Daemons) -> None:
    """Apps that open a connection for each request while it drains: each one connected is answered."""
    daemon = start(venue(upstream, "{delay: 500ms, timeout: 10s}"))
    failures: list[str] = []
    served = [0]

    def app() -> None:
        while True:
            try:
                client = Client(daemon.proxy_port)
            except OSError:
                return
            with client:
                try:
                    assert client.ask("GET", "/venue/").status == 200
                    served[0] += 1
                except (AssertionError, OSError) as error:
                    failures.append(repr(error))
                    return

    with apps(app, 4):
        eventually(lambda: served[0] > 50)
        daemon.signal()
    assert daemon.wait(5) == 0
    # Of each app's connections the last may have come in as the listener closed; it is closed without an answer.
    assert len(failures) <= 4
    assert all("after b''" in failure or "ConnectionResetError" in failure for failure in failures), failures


class apps:  # noqa: N801 - reads as a word of the test
    """Runs `count` threads of one function and waits for them at the end."""

    def __init__(self, run: Callable[[], None], count: int) -> None:
        self._threads = [threading.Thread(target=run, daemon=True) for _ in range(count)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join(10)
