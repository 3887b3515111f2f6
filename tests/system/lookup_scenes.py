"""What tests/system/test_lookups.py plays in a world of its own, where some names get no answer from the name server.

Each scene is a function of (folder, kind of resolv.conf); it raises AssertionError where the daemon falls short.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP, SIGTERM
from typing import Final

from tests.support import own_world
from tests.support.client import ask
from tests.support.daemon import free_ports
from tests.support.dns_server import DnsServer, dns_server
from tests.support.eventually import eventually
from tests.support.rig import Rig
from tests.support.steps import answer
from tests.support.traffic import Checked, check_hits
from tests.support.upstream import Turn, Upstream, side_by_side

RESOLV_CONF: Final = {
    "plain": "nameserver 127.0.0.1\n",
    "kubernetes": (
        "nameserver 127.0.0.1\nsearch shop.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
    ),
}
SILENT: Final = 12
"""Names without an answer. Four hold all of libuv's threads."""

SOON_S: Final = 4.0
"""For what takes a moment. A lookup of a silent name takes 10 s, or 40 s with search domains."""

SILENT_SERVICES: Final = "".join(f"  silent{at}: {{url: 'http://silent{at}.test:80'}}\n" for at in range(SILENT))
TOP: Final = 'drain: {delay: 0s}\ndefaults: {breaker: {mode: "off"}}\n'


@contextmanager
def world(folder: str, kind: str) -> Iterator[DnsServer]:
    own_world.settle_in(Path(folder), RESOLV_CONF[kind])
    with dns_server(53, silent="silent") as server:
        yield server


@contextmanager
def daemon(services: str, server: DnsServer, more: str = "", **upstreams: Upstream) -> Iterator[Rig]:
    """With its silent names being looked up, which come first."""
    with Rig(f"{TOP}{more}services:\n{SILENT_SERVICES}{services}", upstreams=upstreams) as rig:
        eventually(lambda: len([name for name, kind, _ in list(server.asked) if name.startswith("silent")]) >= 4)
        yield rig


def serves(rig: Rig, path: str, body: bytes = b"well") -> None:
    eventually(lambda: rig.ask("GET", path).body == body, timeout=SOON_S)


def good_name(folder: str, kind: str) -> None:
    with world(folder, kind) as server, Upstream(answer(body=b"well")) as good:
        server.say("good.test", "A", "127.0.0.1")
        with daemon(f"  good: {{url: 'http://good.test:{good.port}'}}\n", server) as rig:
            serves(rig, "/good/")


def localhost(folder: str, kind: str) -> None:
    with (
        world(folder, kind) as server,
        Upstream(answer(body=b"well")) as good,
        daemon(f"  good: {{url: 'http://localhost:{good.port}'}}\n", server) as rig,
    ):
        serves(rig, "/good/")


def checks_of_addresses(folder: str, kind: str) -> None:
    health = "{path: /health, interval: 500ms, idle_interval: 500ms, timeout: 400ms}"
    with (
        world(folder, kind) as server,
        Upstream(Checked()) as good,
        daemon(f"  good: {{url: '{good.url}', health: {health}}}\n", server) as rig,
    ):
        eventually(lambda: check_hits(good) >= 3, timeout=SOON_S)
        checks = rig.daemon.metrics()
        assert checks.total("sidecar_endpoint_healthy", service="good", endpoint=good.authority) == 1


def redis_says_yes(turn: Turn) -> None:
    """As a Redis without a password answers whatever a check sends."""
    while data := turn.connection.socket.recv(4096):
        turn.send(b"+PONG\r\n" * (b"\r\n" + data).count(b"\r\n*"))


def health_chain(folder: str, kind: str) -> None:
    with world(folder, kind) as server, Upstream(answer()) as good, Upstream(greeting=redis_says_yes) as redis:
        server.say("good.test", "A", "127.0.0.1")
        checks = (
            "checks:\n"
            "  silent: {url: 'http://silent.test/', required: false}\n"
            f"  address: {{url: 'http://127.0.0.1:{good.port}/'}}\n"
            f"  local: {{url: 'tcp://localhost:{good.port}'}}\n"
            f"  name: {{url: 'http://good.test:{good.port}/'}}\n"
            f"  cache: {{url: 'redis://good.test:{redis.port}'}}\n"
            f"  local-cache: {{url: 'redis://localhost:{redis.port}'}}\n"
        )
        with daemon("", server, checks) as rig:

            def passed() -> None:
                found = json.loads(rig.daemon.probe("/health", timeout=7).body)["checks"]
                well = {name for name, one in found.items() if one["status"] == "healthy"}
                assert well == {"address", "local", "name", "cache", "local-cache"}, found

            eventually(passed, timeout=SOON_S)


def new_by_reload(folder: str, kind: str) -> None:
    with world(folder, kind) as server, Upstream(answer(body=b"well")) as good:
        server.say("good.test", "A", "127.0.0.1")
        with daemon("", server) as rig:
            path = rig.daemon.path
            path.write_text(path.read_text() + f"  good: {{url: 'http://good.test:{good.port}'}}\n")
            rig.daemon.signal(SIGHUP)
            serves(rig, "/good/")


def pod_that_moved(folder: str, kind: str) -> None:
    hosts = ("127.0.0.1", "127.0.0.2")
    with world(folder, kind) as server:
        here = side_by_side(*hosts)
        old, new = (here[host].play(answer(body=host.encode())) for host in hosts)
        server.say("good.test", "A", hosts[0])
        with daemon(f"  good: {{url: 'http://good.test:{old.port}'}}\n", server, old=old, new=new) as rig:
            serves(rig, "/good/", hosts[0].encode())
            server.say("good.test", "A", hosts[1])
            old.stop()
            serves(rig, "/good/", hosts[1].encode())


def sigterm(folder: str, kind: str) -> None:
    with world(folder, kind) as server, daemon("", server) as rig:
        began = time.monotonic()
        assert rig.daemon.terminate() == 0
        assert time.monotonic() - began < 2
        assert rig.daemon.log_lines()[-1]["event"] == "stopped"
        assert rig.daemon.stderr == ""


def open_for_writing(fifo: Path) -> int:
    """The descriptor, once somebody reads. As long as nothing is written, that one waits."""
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:  # nobody reads
        raise AssertionError from error


def end_with_all_under_way(folder: str, kind: str) -> None:
    """Lookups of services, of a check, of the collector and of the API server; and the file is read, for ever."""
    kubernetes = "{discovery: {kubernetes: {service: a, namespace: b, port: 1, server: 'http://silent.test:1'}}}"
    more = (
        "tracing: {otlp: 'http://silent.test:4318'}\n"
        "checks: {silent: {url: 'redis://silent.test:1'}, other: {url: 'http://silent.test/'}}\n"
    )
    with world(folder, kind) as server, Upstream(answer()) as good:
        services = (
            f"  good: {{url: '{good.url}'}}\n"
            f"  far: {kubernetes}\n"
            "  named: {discovery: {dns: {name: silent.test, port: 1}}}\n"
        )
        with daemon(services, server, more) as rig, ThreadPoolExecutor() as others:
            assert rig.ask("GET", "/good/").status == 200
            asking = others.submit(rig.daemon.probe, "/health")
            eventually(lambda: server.times("silent.test", "A") >= 1)
            rig.daemon.path.unlink()
            os.mkfifo(rig.daemon.path)
            for _ in range(3):
                rig.daemon.signal(SIGHUP)
            writing = eventually(lambda: open_for_writing(rig.daemon.path))
            began = time.monotonic()
            rig.daemon.signal(SIGTERM)
            eventually(lambda: rig.daemon.log_lines()[-1]["event"] == "stopped", timeout=10)
            stopped = time.monotonic()
            assert rig.daemon.wait() == 0
            assert time.monotonic() - stopped < 1
            assert time.monotonic() - began < 4  # of which up to 1 s is for the last spans
            assert rig.daemon.stderr == ""
            os.close(writing)
            asking.exception(10)


def injector(folder: str, kind: str) -> None:
    """The API server's name is silent: the injector lives, says that it is not ready, and ends at once on SIGTERM."""
    reviews, probes = free_ports(2)
    command = [sys.executable, "-c", "from sidecar.cli.injection import injector; injector()"]
    command += ["--listen", f"127.0.0.1:{reviews}", "--probe", f"127.0.0.1:{probes}", "--end", "100ms"]
    with world(folder, kind) as server:
        started = subprocess.Popen(
            [*command, "--api-server", "http://silent.test:6443"], stdout=subprocess.PIPE, text=True
        )
        try:
            eventually(lambda: any(name.startswith("silent") for name, _, _ in list(server.asked)))
            assert ask(probes, "GET", "/livez").status == 200
            assert ask(probes, "GET", "/readyz").status == 503
            began = time.monotonic()
            started.send_signal(SIGTERM)
            said, _ = started.communicate(timeout=SOON_S)
            assert time.monotonic() - began < 2
        finally:
            started.kill()
        assert started.returncode == 0
        lines = [json.loads(line) for line in said.splitlines()]
        assert lines[-1]["event"] == "stopped"


def late_answer(folder: str, kind: str) -> None:
    """It comes after the lookup has been given up for those who waited."""
    with world(folder, kind) as server, Upstream(answer(body=b"well")) as good:
        server.say("late.test", "A", "127.0.0.1", delay=7)
        server.say("late.test", "AAAA", delay=7)
        with Rig(f"{TOP}services: {{late: {{url: 'http://late.test:{good.port}'}}}}") as rig:
            what = {"service": "late", "result": "failure"}
            eventually(lambda: rig.daemon.metric("sidecar_discovery_updates_total", **what) == 1, timeout=8)
            serves(rig, "/late/")
            assert rig.daemon.metric("sidecar_discovery_updates_total", **what) == 1
            assert server.times("late.test", "A") <= 2  # the system's resolver asks again after 5 s


def idle_names(folder: str, kind: str) -> None:
    """19 of them, for 16 s: each is looked up at the start, and perhaps once more before it counts as idle."""
    names = [f"name{number}.test" for number in range(19)]
    with world(folder, kind) as server, Upstream(answer(body=b"well")) as good:
        for name in names:
            server.say(name, "A", "127.0.0.1")
        services = "".join(f"  s{at}: {{url: 'http://{name}:{good.port}'}}\n" for at, name in enumerate(names))
        with Rig(f"{TOP}services:\n{services}") as rig:
            end = time.monotonic() + 16
            while time.monotonic() < end:
                assert rig.ask("GET", "/s0/").body == b"well"
                time.sleep(0.5)
            asked = {name: server.times(name, "A") for name in names}
            assert asked.pop(names[0]) >= 3, "a service with requests is looked up every 5 s"
            assert max(asked.values()) <= 2, asked
