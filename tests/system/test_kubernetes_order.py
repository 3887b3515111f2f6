"""The life of a pod as processes, in the order of a kubelet: start, probe, app, SIGTERM; native and ordinary.

The app calls all the time, and once more while it shuts down. No call may fail, and every process has to exit 0.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.daemon import ROOT, Daemon

TIMES = int(os.environ.get("SIDECAR_LIFE_CYCLES", "2"))
"""50 for the figure in docs/kubernetes.md."""

GRACE_S = 30

APP = """
import http.client, signal, sys, threading, time
port, last_after = int(sys.argv[1]), float(sys.argv[2])
end = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: end.set())
count = failed = 0

def call():
    global count, failed
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/venue/x")
        answer = connection.getresponse()
        ok = answer.status == 200 and answer.read() == b"ok"
    except OSError:
        ok = False
    connection.close()
    count += 1
    failed += not ok

def work():
    while not end.is_set():
        call()

call()  # at once: its egress has to work from the first moment
print("started", flush=True)
threads = [threading.Thread(target=work) for _ in range(4)]
[one.start() for one in threads]
[one.join() for one in threads]
time.sleep(last_after)
call()
print(count, failed, flush=True)
sys.exit(1 if failed else 0)
"""


class Venue(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(0.02)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def config() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Venue) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f'drain: {{delay: 100ms}}\nservices: {{venue: {{url: "http://127.0.0.1:{server.server_port}"}}}}\n'
        server.shutdown()
        thread.join()


def command(name: str, daemon: Daemon, *arguments: str) -> list[str]:
    probe = ["--probe", f"http://127.0.0.1:{daemon.ports.probe}"]
    return [sys.executable, "-c", f"from sidecar.cli.kubernetes import {name}; {name}()", *probe, *arguments]


def started_app(daemon: Daemon, last_after_s: float) -> subprocess.Popen[str]:
    app = subprocess.Popen(
        [sys.executable, "-c", APP, str(daemon.proxy_port), str(last_after_s)], stdout=subprocess.PIPE, text=True
    )
    assert app.stdout is not None
    assert app.stdout.readline() == "started\n"
    return app


def ended_well(app: subprocess.Popen[str]) -> None:
    told, _ = app.communicate(timeout=GRACE_S)
    count, failed = map(int, told.split())
    assert (failed, app.returncode) == (0, 0), f"{failed} of {count} calls failed"
    assert count > 10


@pytest.mark.parametrize("turn", range(TIMES))
def test_native(config: str, turn: int) -> None:
    with Daemon(config, wait_ready=False) as daemon:
        subprocess.run(command("wait", daemon), cwd=ROOT, check=True, timeout=60)  # the startup probe
        app = started_app(daemon, last_after_s=0.2)
        time.sleep(0.3)
        app.terminate()
        ended_well(app)
        began = time.monotonic()
        assert daemon.terminate(GRACE_S) == 0, daemon.log
        assert time.monotonic() - began < 5
        assert daemon.log_lines()[-1]["cut_requests"] == 0


@pytest.mark.parametrize("turn", range(TIMES))
def test_ordinary(config: str, turn: int) -> None:
    """SIGTERM to the app and the sidecar's preStop hook begin at once; the sidecar gets its SIGTERM after the hook."""
    with Daemon(config, wait_ready=False) as daemon:
        subprocess.run(command("wait", daemon, "--timeout", "60s"), cwd=ROOT, check=True, timeout=60)  # postStart
        app = started_app(daemon, last_after_s=0.6)
        time.sleep(0.3)
        hook = subprocess.Popen(command("prestop", daemon, "--idle", "1s", "--max", "15s"), cwd=ROOT)
        app.terminate()
        assert hook.wait(GRACE_S) == 0
        assert daemon.terminate(GRACE_S) == 0, daemon.log
        ended_well(app)
        assert daemon.log_lines()[-1]["cut_requests"] == 0
