"""`python -m benchmarks.discovery`: the cost of changing endpoints for the event loop, and the memory that they need.

It prints three tables in Markdown: `LiveService.set_endpoints` alone, by balancer and number of endpoints; an
EndpointSlice event from the socket to the balancer, with 1,000 endpoints in 100 services; and the memory of the daemon
with these, beside that of a daemon with the same services by `url`. In the first two, health checks and ejection are
on. Loop time is CPU time of the loop's thread. Memory is RSS, because PSS depends on what else runs.

The API server is the scripted one of the tests, in a separate process. SIDECAR_COMMAND names the daemon (default: the
sources here). The first two tables measure the imported modules. These are the sources, unless `SIDECAR_COMPILE=1
python setup.py build_ext --inplace` was run in the folder (use a copy of it).
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from sidecar.config.schema import EndpointSpec, Service, Url
from sidecar.discovery.discovered_endpoint import DiscoveredEndpoint
from sidecar.discovery.kubernetes.watcher import Kubernetes
from sidecar.health.active import ActiveChecker, CheckedEndpoint, Result
from sidecar.net.tasks import Tasks
from sidecar.policy.settings import HashSettings, HealthSettings, KubernetesSettings, OutlierSettings, Policy
from sidecar.runtime import service as service_module
from sidecar.runtime.endpoint import Endpoint
from sidecar.runtime.service import LiveService
from tests.support.certificate import make_certificate
from tests.support.daemon import Daemon
from tests.support.kubernetes_api import KubernetesApi

SERVICES, ENDPOINTS = 100, 10
"""The number of services, and the endpoints of each service."""

MOVES = 300
SETTLE_S = 2.0

BALANCERS: dict[str, tuple[Policy, tuple[int, ...]]] = {
    "round_robin": (Policy(), (1,)),
    "round_robin, weights 1 to 3": (Policy(), (1, 2, 3)),
    "least_request": (Policy(balancer="least_request"), (1, 2, 3)),
    "peak_ewma": (Policy(balancer="peak_ewma"), (1, 2, 3)),
    "random": (Policy(balancer="random"), (1, 2, 3)),
    "hash": (Policy(balancer=HashSettings(source=True)), (1,)),
}

Checkers = list[ActiveChecker[Endpoint]]

log = logging.getLogger("benchmarks.discovery")


# One service and its endpoints.


def live(name: str, policy: Policy, checkers: Checkers) -> LiveService:
    """A service as the daemon creates it, but all its checks succeed at once. Close what is added to `checkers`."""
    health = HealthSettings(path="/health", interval=3600.0)
    policy = Policy(balancer=policy.balancer, health=health, outlier=OutlierSettings())
    made = LiveService(Service(name=name, endpoints=(), policy=policy), time.monotonic(), random.random)

    async def check(endpoint: CheckedEndpoint, settings: HealthSettings) -> Result:
        return Result(True, "ok", 0.001)

    made.checker = ActiveChecker(
        name,
        health,
        check=check,
        start=Tasks(log).start,
        on_result=made.checked,
        idle=lambda: False,
    )
    checkers.append(made.checker)
    return made


async def one_set(policy: Policy, weights: tuple[int, ...], number: int) -> list[float]:
    """Milliseconds for each change of one endpoint among `number`."""
    checkers: Checkers = []
    service = live("venue", policy, checkers)

    def found(at: int, address: str) -> tuple[EndpointSpec, str]:
        return EndpointSpec(url=Url("http", "venue", 3002), weight=weights[at % len(weights)]), address

    known = [found(at, f"10.1.{at >> 8}.{at & 255}") for at in range(number)]
    service.set_endpoints(known, time.monotonic())
    took = []
    for move in range(MOVES // 3):
        at = random.randrange(number)
        known[at] = found(at, f"10.2.{move >> 8}.{move & 255}")
        began = time.thread_time()
        service.set_endpoints(known, time.monotonic())
        took.append((time.thread_time() - began) * 1e3)
        await asyncio.sleep(0)
    for checker in checkers:
        checker.close()
    await asyncio.sleep(0)
    return took


async def sets() -> None:
    print("| ms of loop time, median (worst) | 10 endpoints | 100 | 1,000 |\n|---|---:|---:|---:|")
    for name, (policy, weights) in BALANCERS.items():
        cells = []
        for number in (10, 100, 1000):
            took = await one_set(policy, weights, number)
            cells.append(f"{statistics.median(took):.2f} ({max(took):.2f})")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


# The scripted API server, in a separate process.


def addresses(service: int, moved: int) -> list[str]:
    """The addresses of a service after `moved` moves. Each move removes the oldest address and adds one."""
    return [f"127.{1 + service}.{at >> 8}.{at & 255}" for at in range(moved, moved + ENDPOINTS)]


async def serve(tls: ssl.SSLContext | None) -> None:
    """A number on stdin moves an endpoint of that service. Any other input asks for the number of watches."""
    async with KubernetesApi(tls=tls) as api:
        moved = [0] * SERVICES

        def put(service: int) -> None:
            api.put(f"s{service}-1", f"s{service}", addresses(service, moved[service]), namespace="shop")

        for service in range(SERVICES):
            put(service)
        print(api.url, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            if line.strip().isdecimal():
                moved[int(line)] += 1
                put(int(line))
            else:
                print(api.watching, flush=True)


class Server:
    """The process, as seen from here. `ca_file` is the CA to trust, or None for plain HTTP."""

    def __init__(self, process: subprocess.Popen[str], ca_file: Path | None) -> None:
        self._process = process
        self.ca_file = ca_file
        self.url = self._read().strip()

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def _say(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()

    def move(self, service: int) -> None:
        self._say(str(service))

    def watches(self) -> int:
        self._say("watches")
        return int(self._read())

    def settings(self, service: int) -> KubernetesSettings:
        ca_file = str(self.ca_file) if self.ca_file else None
        return KubernetesSettings(service=f"s{service}", namespace="shop", port=3002, server=self.url, ca_file=ca_file)

    def yaml(self, service: int) -> str:
        ca_file = f", ca_file: {self.ca_file}" if self.ca_file else ""
        where = f"service: s{service}, namespace: shop, port: 3002, server: '{self.url}'{ca_file}"
        return f"discovery: {{kubernetes: {{{where}}}}}"


@contextmanager
def api_server(folder: Path, tls: bool) -> Iterator[Server]:
    ca_file = None
    command = [sys.executable, "-m", "benchmarks.discovery", "serve"]
    if tls:
        _, ca_file = make_certificate(folder)
        command.append(str(folder))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process, ca_file)
        finally:
            process.terminate()


# An event, from the socket to the balancer.


async def events(server: Server) -> list[float]:
    """Milliseconds of CPU of the loop's thread from an event to the changed balancer, one event at a time."""
    loop = asyncio.get_running_loop()
    kubernetes, checkers, arrived = Kubernetes(), Checkers(), asyncio.Event()

    def follow(service: LiveService) -> Callable[[list[DiscoveredEndpoint]], None]:
        def push(found: list[DiscoveredEndpoint]) -> None:
            specs = [
                (EndpointSpec(url=one.url, weight=one.weight, priority=one.priority), one.address) for one in found
            ]
            service.set_endpoints(specs, loop.time())
            arrived.set()

        return push

    services = [live(f"s{at}", Policy(), checkers) for at in range(SERVICES)]
    for at, service in enumerate(services):
        kubernetes.watch(server.settings(at), follow(service))
    while any(len(service.endpoints) < ENDPOINTS for service in services):
        arrived.clear()
        await arrived.wait()
    await asyncio.sleep(SETTLE_S)
    assert server.watches() == SERVICES
    took = []
    for _ in range(MOVES):
        arrived.clear()
        began = time.thread_time()
        server.move(random.randrange(SERVICES))
        await arrived.wait()
        took.append((time.thread_time() - began) * 1e3)
    for checker in checkers:
        checker.close()
    kubernetes.close()
    await kubernetes.closed()
    return took


def whole_way(folder: Path) -> None:
    print("| ms of loop time an event | median | p99 | worst |\n|---|---:|---:|---:|")
    for name, tls in (("plain HTTP", False), ("TLS", True)):
        with api_server(folder, tls) as server, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            took = sorted(runner.run(events(server)))
        p99 = took[len(took) * 99 // 100]
        print(f"| {name} | {statistics.median(took):.2f} | {p99:.2f} | {took[-1]:.2f} |", flush=True)


# The daemon's memory.


HEALTH = "defaults: {health: {path: /health, interval: 1h, idle_interval: 1h}, outlier: {consecutive_failures: 5}}\n"


def weigh_one(defaults: str, where: Callable[[int], str], server: Server | None) -> tuple[float, float]:
    """RSS in MiB at rest, and after 1,000 endpoints have moved and a scrape was answered."""
    services = "".join(f"  s{at}: {{{where(at)}}}\n" for at in range(SERVICES))
    with Daemon(f"{defaults}services:\n{services}") as daemon:
        while server is not None and server.watches() < SERVICES:
            time.sleep(0.05)
        time.sleep(SETTLE_S)
        rest = daemon.rss_mib()
        if server is not None:
            for move in range(1000):
                server.move(move % SERVICES)
            time.sleep(SETTLE_S)
        daemon.metrics()
        return rest, daemon.rss_mib()


def in_the_file(service: int) -> str:
    return f"endpoints: {[f'http://{one}:3002' for one in addresses(service, 0)]}"


def weigh_all(folder: Path, defaults: str) -> dict[str, tuple[float, float]]:
    found = {
        "100 endpoints, `url`": weigh_one(defaults, lambda at: f"url: 'http://{addresses(at, 0)[0]}:3002'", None),
        "1,000, `endpoints`": weigh_one(defaults, in_the_file, None),
    }
    for name, tls in (("1,000, Kubernetes by plain HTTP", False), ("1,000, Kubernetes by TLS", True)):
        with api_server(folder, tls) as server:
            found[name] = weigh_one(defaults, server.yaml, server)
    return found


def weigh(folder: Path, rounds: int = 3) -> None:
    print("| RSS of the daemon, MiB | at rest | above `url` | after 1,000 moves and a scrape | above `url` |")
    print("|---|---:|---:|---:|---:|")
    for about, defaults in (("", ""), (", checked", HEALTH)):
        turns = [weigh_all(folder, defaults) for _ in range(rounds)]
        none: list[float] = []
        for name in turns[0]:
            medians = [statistics.median(turn[name][at] for turn in turns) for at in (0, 1)]
            none = none or medians
            cells = [f"{own:.1f} | {own - base:.1f}" for own, base in zip(medians, none, strict=True)]
            print(f"| {name}{about} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    if sys.argv[1:2] == ["serve"]:
        tls = None
        if sys.argv[2:]:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(Path(sys.argv[2]) / "tls.crt", Path(sys.argv[2]) / "tls.key")
        asyncio.run(serve(tls))
        return
    print(f"Compiled: {'no' if str(service_module.__file__).endswith('.py') else 'yes'}.\n")
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as folder:
        asyncio.run(sets())
        print()
        whole_way(Path(folder))
        print()
        weigh(Path(folder))


if __name__ == "__main__":
    main()
