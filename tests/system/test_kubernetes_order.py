"""The life of a pod as processes, in the order of a kubelet: start, probe, app, SIGTERM; native, ordinary, and a Job.

The app calls all the time: quick calls, slow ones, bodies that stream in and out. Some of each are in flight when it is
told to end; it finishes those, and calls once more while it shuts down. No call may fail, no body may be cut, and every
process has to exit 0.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from tests.support.daemon import ROOT, Daemon
from tests.support.eventually import eventually

TIMES = int(os.environ.get("SIDECAR_LIFE_CYCLES", "1"))
"""50 for the figure in docs/kubernetes.md."""

Record = Callable[[str, object], None]
GRACE_S = 30
LOAD_S = 0.8
"""How long the app calls before it is told to end: in the middle of the second round of slow calls."""
SLOW_S = 0.6
PIECES, PIECE = 12, b"0123456789abcdef" * 256
IN_FLIGHT = 8
"""Of the slow and the streaming ones: at any time, but for the moment between two calls."""

APP = f"""
import http.client, json, signal, sys, threading, time
port, last_after = int(sys.argv[1]), float(sys.argv[2])
PIECES, PIECE, SLOW_S = {PIECES}, {PIECE!r}, {SLOW_S}
end = threading.Event()
lock = threading.Lock()
told = dict(calls=0, failed=[], in_flight=0, at_sigterm=0)

def on_sigterm(*_):
    told["at_sigterm"] = told["in_flight"]
    end.set()

signal.signal(signal.SIGTERM, on_sigterm)

def pieces():
    for _ in range(PIECES):
        time.sleep(SLOW_S / PIECES)
        yield PIECE

def call(path, wanted, body=None, kept=None):
    told["in_flight"] += 1
    connection = kept or http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET" if body is None else "POST", "/venue/" + path, body and body())
        answer = connection.getresponse()
        got = answer.read()  # raises where it is cut
        problem = None if (answer.status, got) == (200, wanted) else (answer.status, len(got), repr(got[:200]))
    except (OSError, http.client.HTTPException) as error:
        problem = repr(error)
    if kept is None or problem:
        connection.close()
    with lock:
        told["in_flight"] -= 1
        told["calls"] += 1
        if problem:
            told["failed"].append([path, problem])

def work(*args, keep=False):
    kept = http.client.HTTPConnection("127.0.0.1", port, timeout=10) if keep else None
    while not end.is_set() and not told["failed"]:
        call(*args, kept=kept)

quick, slow, stream = ("quick", b"ok"), ("slow", b"late"), ("stream", PIECE * PIECES)
upload = ("upload", str(len(PIECE) * PIECES).encode(), pieces)
call(*quick)  # at once: its egress has to work from the first moment
kinds = [(quick, True)] * 4 + [(quick, False)] * 4 + [(slow, False)] * 4 + [(stream, True)] * 2 + [(upload, False)] * 2
threads = [threading.Thread(target=work, args=args, kwargs=dict(keep=keep)) for args, keep in kinds]
began = time.monotonic()
[one.start() for one in threads]
print("started", flush=True)
[one.join() for one in threads]
told["seconds"] = time.monotonic() - began
time.sleep(last_after)
call(*quick)
print(json.dumps(told), flush=True)
sys.exit(1 if told["failed"] else 0)
"""


class Venue:
    """The service that is called, in a thread of its own. `slow` is how many slow and streaming calls it has."""

    def __init__(self) -> None:
        self.slow = 0
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Venue:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _start(self) -> None:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/quick":
            await asyncio.sleep(0.01)
            return web.Response(body=b"ok")
        self.slow += 1
        try:
            if request.path == "/upload":
                return web.Response(text=str(len(await request.read())))
            if request.path == "/slow":
                await asyncio.sleep(SLOW_S)
                return web.Response(body=b"late")
            response = web.StreamResponse()
            await response.prepare(request)
            for _ in range(PIECES):
                await asyncio.sleep(SLOW_S / PIECES)
                await response.write(PIECE)
            return response
        finally:
            self.slow -= 1


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    with Venue() as venue:
        yield venue


def config(venue: Venue) -> str:
    return f'drain: {{delay: 100ms}}\nservices: {{venue: {{url: "http://127.0.0.1:{venue.port}"}}}}\n'


def command(name: str, daemon: Daemon, *arguments: str) -> list[str]:
    probe = ["--probe", f"http://127.0.0.1:{daemon.ports.probe}"]
    return [sys.executable, "-c", f"from sidecar.cli.life_cycle import {name}; {name}()", *probe, *arguments]


@contextmanager
def app_of(daemon: Daemon, last_after_s: float) -> Iterator[subprocess.Popen[str]]:
    app = subprocess.Popen(
        [sys.executable, "-c", APP, str(daemon.proxy_port), str(last_after_s)], stdout=subprocess.PIPE, text=True
    )
    assert app.stdout is not None
    try:
        assert app.stdout.readline() == "started\n"
        yield app
    finally:
        app.kill()
        app.communicate()


def under_load(venue: Venue) -> None:
    time.sleep(LOAD_S)
    eventually(lambda: venue.slow == IN_FLIGHT, every=0.001)


def ended_well(app: subprocess.Popen[str], record: Record) -> None:
    said, _ = app.communicate(timeout=GRACE_S)
    told: dict[str, Any] = json.loads(said)
    assert (told["failed"], app.returncode) == ([], 0), told
    assert told["at_sigterm"] >= IN_FLIGHT - 1, told
    assert told["calls"] > 50, told
    record("calls_per_second", told["calls"] / told["seconds"])  # --junitxml=FILE -o junit_family=xunit1
    record("in_flight_at_sigterm", told["at_sigterm"])


def ended_in_order(daemon: Daemon, exit_code: int) -> None:
    assert exit_code == 0, daemon.log
    assert daemon.log_lines()[-1]["cut_requests"] == 0


@pytest.mark.parametrize("turn", range(TIMES))
def test_native(venue: Venue, turn: int, record_property: Record) -> None:
    with Daemon(config(venue), wait_ready=False) as daemon:
        subprocess.run(command("wait", daemon), cwd=ROOT, check=True, timeout=60)  # the startup probe
        with app_of(daemon, last_after_s=0.2) as app:
            under_load(venue)
            app.terminate()
            ended_well(app, record_property)
        began = time.monotonic()
        ended_in_order(daemon, daemon.terminate(GRACE_S))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize("turn", range(TIMES))
def test_ordinary(venue: Venue, turn: int, record_property: Record) -> None:
    """SIGTERM to the app and the sidecar's preStop hook begin at once; the sidecar gets its SIGTERM after the hook."""
    with Daemon(config(venue), wait_ready=False) as daemon:
        subprocess.run(command("wait", daemon, "--timeout", "60s"), cwd=ROOT, check=True, timeout=60)  # postStart
        with app_of(daemon, last_after_s=0.6) as app:
            under_load(venue)
            hook = subprocess.Popen(command("prestop", daemon, "--idle", "1s", "--max", "15s"), cwd=ROOT)
            app.terminate()
            assert hook.wait(GRACE_S) == 0
            ended_in_order(daemon, daemon.terminate(GRACE_S))
            ended_well(app, record_property)


@pytest.mark.parametrize("turn", range(TIMES))
def test_a_sidecar_that_is_ended_with_calls_in_flight_finishes_them(venue: Venue, turn: int) -> None:
    """As where `--max` is over before the app has ended: both get their SIGTERM at one moment, under full load."""
    with Daemon(config(venue)) as daemon, app_of(daemon, last_after_s=0.0) as app:
        under_load(venue)
        app.terminate()
        ended_in_order(daemon, daemon.terminate(GRACE_S))
        told = json.loads(app.communicate(timeout=GRACE_S)[0])
        assert told["at_sigterm"] >= IN_FLIGHT - 1
        # The last call comes when the slowest of the others has ended, and may find nobody.
        assert [path for path, _ in told["failed"]] in ([], ["quick"]), told
        assert told["calls"] > 50, told


def test_a_job_with_an_ordinary_sidecar_ends(venue: Venue) -> None:
    """The main process ends, its last command is `sidecar quit`, and then the sidecar's container ends by itself."""
    admin = ["-m", "sidecar", "quit", "--admin"]
    with Daemon(config(venue), wait_ready=False) as daemon:
        subprocess.run(command("wait", daemon, "--timeout", "60s"), cwd=ROOT, check=True, timeout=60)  # postStart
        report = "import sys, urllib.request as u; assert u.urlopen(sys.argv[1]).read() == b'late'; sys.exit(3)"
        url = f"http://127.0.0.1:{daemon.proxy_port}/venue/slow"
        code = subprocess.run([sys.executable, "-c", report, url], timeout=GRACE_S).returncode
        subprocess.run(
            [sys.executable, *admin, f"http://127.0.0.1:{daemon.ports.admin}"], cwd=ROOT, check=True, timeout=60
        )
        ended_in_order(daemon, daemon.wait(GRACE_S))
    assert code == 3, "its own exit code is the Job's"
