"""An app that opens more connections than there are files: those in use go on, and the sidecar stays alive."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.steps import answer
from tests.support.upstream import Upstream

FEW_FILES = ("sh", "-c", 'ulimit -n 80; exec "$@"', "sh")
ROOM = 16
"""For connections of apps, with so few files."""


def heard(connection: socket.socket) -> bytes:
    """What a connection was told, to its end; empty for one that was reset."""
    connection.settimeout(5)
    found = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(4096):
            found += piece
    return found


def test_connections_that_an_app_leaks_do_not_take_the_sidecar_down() -> None:
    with (
        Upstream(answer(body=b"well")) as upstream,
        Daemon(f"services: {{venue: {{url: 'http://127.0.0.1:{upstream.port}'}}}}", within=FEW_FILES) as daemon,
        ExitStack() as open_ones,
        Client(daemon.proxy_port) as kept,
    ):
        assert kept.ask("GET", "/venue/").status == 200
        leaked = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", daemon.proxy_port), timeout=5))
            for _ in range(300)
        ]
        told = [one for one in map(heard, leaked[ROOM:]) if one]
        assert told
        for one in told:
            assert one.startswith(b"HTTP/1.1 503 ")
            assert b"x-sidecar-reason: overloaded" in one
            assert b"raise it (ulimit -n)" in one
        assert daemon.probe("/livez").status == 200
        assert daemon.probe("/readyz").status == 200
        assert kept.ask("GET", "/venue/").body == b"well"
        eventually(lambda: daemon.metric("sidecar_app_connections") == ROOM)  # others have a second to read it
        warnings = [one for one in daemon.log_lines() if one["event"] == "connections of apps are turned away"]
        assert len(warnings) == 1

        open_ones.close()
        eventually(lambda: daemon.metric("sidecar_app_connections") == 1)
        with Client(daemon.proxy_port) as another:
            assert another.ask("GET", "/venue/").body == b"well"
