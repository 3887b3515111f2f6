"""An app that opens more connections than there are files: those in use go on, and the sidecar stays alive."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.steps import answer, silence
from tests.support.upstream import Upstream

FEW_FILES = ("sh", "-c", 'ulimit -n 80; exec "$@"', "sh")
ROOM = 16
"""For connections of apps, with so few files."""


def connected(port: int, stack: ExitStack) -> socket.socket | None:
    """A connection that stays until the end of `stack`; None for one that was reset at once."""
    try:
        return stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
    except ConnectionResetError:
        return None


def heard(connection: socket.socket) -> bytes | None:
    """What a connection was told, to its end; None for one that was reset."""
    connection.settimeout(5)
    found = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(4096):
            found += piece
        return found
    return found or None


def test_connections_that_an_app_leaks_do_not_take_the_sidecar_down() -> None:
    with (
        Upstream(answer(body=b"well")) as upstream,
        Daemon(f"services: {{venue: {{url: 'http://127.0.0.1:{upstream.port}'}}}}", within=FEW_FILES) as daemon,
        ExitStack() as open_ones,
        Client(daemon.proxy_port) as kept,
    ):
        assert kept.ask("GET", "/venue/").status == 200
        leaked = [connected(daemon.proxy_port, open_ones) for _ in range(300)]
        told = [one for one in map(heard, filter(None, leaked[ROOM:])) if one is not None]
        assert told
        for one in told:
            assert one.startswith(b"HTTP/1.1 503 ")
            assert b"x-sidecar-reason: overloaded" in one
            assert b"raise it (ulimit -n)" in one
        assert daemon.probe("/livez").status == 200
        assert daemon.probe("/readyz").status == 200
        assert kept.ask("GET", "/venue/").body == b"well"
        eventually(lambda: daemon.metric("sidecar_app_connections") == ROOM)  # others have a second to read it
        warnings = [one for one in daemon.log_lines() if one["event"] == "connections from apps are refused"]
        assert len(warnings) == 1

        open_ones.close()
        eventually(lambda: daemon.metric("sidecar_app_connections") == 1)
        with Client(daemon.proxy_port) as another:
            assert another.ask("GET", "/venue/").body == b"well"


def test_connections_to_many_services_in_turn_do_not_take_the_sidecar_down() -> None:
    """Each of an app's leaves one to each service behind, idle: together more than there are files."""
    files, services, kept = 160, 4, 40
    with ExitStack() as stack:
        upstreams = [stack.enter_context(Upstream(answer(body=b"well"))) for _ in range(services)]
        lines = "".join(f"  s{number}: {{url: '{one.url}'}}\n" for number, one in enumerate(upstreams))
        within = ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh")
        daemon = stack.enter_context(Daemon(f"services:\n{lines}", within=within))
        apps = [stack.enter_context(Client(daemon.proxy_port)) for _ in range(kept)]
        for number in range(services):
            for app in apps:
                app.send(b"GET /s%d/ HTTP/1.1\r\nHost: localhost\r\n\r\n" % number)
            assert [app.read_response().status for app in apps] == [200] * kept
            assert daemon.probe("/livez").status == 200
        assert daemon.metric("process_open_fds") < files - 16


def test_neither_calls_nor_watchers_lock_the_others_out() -> None:
    """Every call is in flight on both sides, and clients of several addresses hold the probe and the admin listener."""
    files, calls, each = 160, 44, 8
    within = ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh")
    with ExitStack() as stack:
        upstream = stack.enter_context(Upstream(silence))
        config = f"services: {{venue: {{url: '{upstream.url}', timeout: {{attempt: 60s, request: 60s}}}}}}"
        daemon = stack.enter_context(Daemon(config, within=within))
        for _ in range(calls):
            client = stack.enter_context(Client(daemon.proxy_port))
            client.send(b"GET /venue/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        eventually(lambda: daemon.metric("sidecar_in_flight_requests") == calls)
        for port in (daemon.probe_port, daemon.ports.admin):
            for number in range(4 * each):
                wire = socket.socket()
                stack.enter_context(wire)
                wire.settimeout(5)
                wire.bind((f"127.0.0.{2 + number % 4}", 0))
                with suppress(ConnectionResetError):
                    wire.connect(("127.0.0.1", port))
        assert daemon.probe("/livez").status == 200
        assert daemon.metric("process_open_fds") < files - 4
        refused = stack.enter_context(Client(daemon.proxy_port))
        refused.send(b"GET /venue/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert refused.read_response().status == 503
