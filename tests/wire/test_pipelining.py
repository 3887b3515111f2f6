"""Many requests on one connection: in order, at a cost that does not grow with their number, in bounded memory."""

from __future__ import annotations

import socket
import threading

from tests.support.client import request_bytes
from tests.support.rig import Rig
from tests.support.steps import answer

CONFIG = """
services:
  venue: {endpoints: ["$venue"]}
"""

REQUESTS = 20_000


def test_a_long_pipeline_is_answered_whole() -> None:
    """Those that wait are not copied for each that is answered."""
    one = request_bytes("GET", "/nobody/here")
    with Rig(CONFIG, "venue") as rig, socket.create_connection(("127.0.0.1", rig.ports.proxy)) as app:
        app.settimeout(30)
        writer = threading.Thread(target=app.sendall, args=(one * REQUESTS,))
        writer.start()
        answers = tail = 0
        rest = b""
        while answers < REQUESTS:
            data = app.recv(1 << 20)
            assert data
            rest = rest[-16:] + data
            answers += rest.count(b"HTTP/1.1 404 ")
            tail = len(rest) - 16
            rest = rest[tail:] if b"HTTP/1.1 404 " not in rest[-16:] else b""
        writer.join(10)
        assert rig.daemon.peak_rss_mib() < 80


def test_an_app_that_reads_no_answers_is_not_answered_without_end() -> None:
    one = request_bytes("GET", "/venue/") * 200
    with Rig(CONFIG, "venue") as rig:
        rig["venue"].play(answer(body=bytes(30_000)))
        rig.ask("GET", "/venue/")
        before = rig.daemon.rss_mib()
        with socket.create_connection(("127.0.0.1", rig.ports.proxy)) as app:
            app.settimeout(1)
            try:
                while True:
                    app.sendall(one)
            except TimeoutError:
                pass
            assert rig.daemon.rss_mib() - before < 16
