"""`python -m benchmarks.turns`: how long the control side keeps the event loop from the requests.

Runs the daemon's parts in this process, on a loop that takes the CPU time of each of its turns, and makes all kinds of
work of the control side with many services: scrapes, the admin API, a reload. The figure of each kind is the longest
turn in milliseconds of the loop thread's CPU time; so what else the machine does has little influence. Of several
tries the least is taken. docs/performance.md explains the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from sidecar.config.load import load_with_origins
from sidecar.config.schema import Config
from sidecar.daemon.serve import Daemon
from sidecar.health.chain import CACHED_S
from sidecar.net.bind import bind
from sidecar.runtime.service import LiveService
from sidecar.telemetry.line_writer import LineWriter

TRIES = 3
AGGREGATES = 300
IDLE_S = 5.5
"""The history takes a point every 5 s."""

HEAD = 'listen: {proxy: ["127.0.0.1:0"], admin: "127.0.0.1:0", probe: "127.0.0.1:0"}\ndrain: {delay: 0s}\n'

READS = {
    "GET /metrics": ("probe", "/metrics"),
    "GET /health": ("probe", "/health"),
    "GET /services": ("admin", "/services"),
    "GET /services/{name}": ("admin", "/services/s1"),
    "GET /history": ("admin", "/history"),
    "GET /config": ("admin", "/config"),
    "GET /explain": ("admin", "/explain?target=/s1/x"),
}


class MeasuredLoop(asyncio.SelectorEventLoop):
    """An event loop that knows its longest turn, in seconds of CPU time of its thread."""

    longest_s = 0.0

    def _run_once(self) -> None:
        before = time.thread_time()
        super()._run_once()  # type: ignore[misc]
        self.longest_s = max(self.longest_s, time.thread_time() - before)


def services(count: int, endpoints: int, attempt_s: int = 2, named: str = "s") -> str:
    """YAML of that many services with that many endpoints each. The first one's name begins with `named`."""
    lines = ["services:"]
    for number in range(count):
        urls = ", ".join(f"http://127.{number % 250}.{at // 250}.{at % 250 + 1}:3000" for at in range(endpoints))
        name = f"{named if number == 0 else 's'}{number}"
        lines.append(f"  {name}: {{endpoints: [{urls}], timeout: {{attempt: {attempt_s}s}}, outlier: {{}}}}")
    return "\n".join(lines) + "\n"


def more(count: int, timeout_ms: int) -> str:
    """YAML of that many aggregates of five parts, and that many checks."""
    lines = ["aggregates:"]
    for number in range(count):
        parts = ", ".join(f"p{at}: {{service: s{at + 1}, path: /x}}" for at in range(5))
        lines.append(f"  a{number}: {{timeout: {timeout_ms}ms, parts: {{{parts}}}}}")
    lines.append("checks:")
    lines += [
        f"  c{number}: {{url: 'tcp://127.0.0.1:{number + 1}', timeout: {timeout_ms}ms}}" for number in range(count)
    ]
    return "\n".join(lines) + "\n"


def used(service: LiveService) -> None:
    """Gives a service the counts of one that has had requests."""
    service.counters.request(200, "ok", 0.01)
    service.counters.request(502, "reset", 0.01)
    for endpoint in service.endpoints:
        endpoint.counters.attempts["ok"] = 5
        endpoint.counters.attempts["reset"] = 1


class Measuring:
    """A daemon that runs on a MeasuredLoop."""

    def __init__(self, loop: MeasuredLoop, daemon: Daemon, path: Path, ports: dict[str, int]) -> None:
        self._loop, self._daemon, self._path, self._ports = loop, daemon, path, ports

    async def least(self, work: Callable[[], Awaitable[object]], tries: int = TRIES) -> float:
        """The longest turn during `work`, in milliseconds: the least of several tries."""
        found = []
        for _ in range(tries):
            for service in self._daemon.live.services.values():
                used(service)
            await asyncio.sleep(CACHED_S)
            while self._daemon.scrapes.kept:  # noqa: ASYNC110 - nothing tells the end
                await asyncio.sleep(0.05)
            self._loop.longest_s = 0.0
            await work()
            found.append(self._loop.longest_s * 1000)
        return round(min(found), 2)

    async def ask(self, listener: str, path: str, method: str = "GET") -> bytes:
        def asked() -> bytes:
            connection = http.client.HTTPConnection("127.0.0.1", self._ports[listener], timeout=60)
            try:
                body, headers = (None, {}) if method == "GET" else (b"{}", {"Content-Type": "application/json"})
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                assert response.status == 200, (path, response.status, response.read())
                return response.read()
            finally:
                connection.close()

        return await asyncio.to_thread(asked)

    async def ready(self) -> None:
        """Wait until the last listener that is started serves."""
        while True:
            with suppress(ConnectionError):
                await self.ask("admin", "/livez")
                return
            await asyncio.sleep(0.05)

    async def reload(self, text: str) -> None:
        """Put another file in place, and load it."""
        fresh = self._path.with_suffix(".new")
        fresh.write_text(HEAD + text)
        fresh.replace(self._path)
        await self.ask("admin", "/reload", "POST")


async def _longest_turns(config: Config, path: Path, count: int, endpoints: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MeasuredLoop)
    listen = config.listen
    addresses = {"proxy": listen.proxy, "admin": (listen.admin,), "probe": (listen.probe,)}
    sockets = {name: bind(name, wanted) for name, wanted in addresses.items()}
    ports = {name: found[0].getsockname()[1] for name, found in sockets.items()}
    daemon = Daemon(config, path, load_with_origins(path, {})[1], LineWriter())
    running = asyncio.create_task(daemon.run(sockets))  # noqa: TID251 - awaited below
    measuring = Measuring(loop, daemon, path, ports)
    await measuring.ready()
    found = {"idle": await measuring.least(lambda: asyncio.sleep(IDLE_S), 2)}
    for name, (listener, target) in READS.items():
        found[name] = await measuring.least(partial(measuring.ask, listener, target))
    numbers = iter(range(100))
    found["a reload that changes one service"] = await measuring.least(
        lambda: measuring.reload(services(count, endpoints, named=f"t{next(numbers)}-"))
    )
    found["a reload that changes all services"] = await measuring.least(
        lambda: measuring.reload(services(count, endpoints, attempt_s=3 + next(numbers)))
    )
    found[f"a reload that changes {AGGREGATES} aggregates and as many checks"] = await measuring.least(
        lambda: measuring.reload(services(count, endpoints) + more(AGGREGATES, 1000 + next(numbers)))
    )
    daemon.drain()
    await running
    return found


def longest_turns(count: int, endpoints: int) -> dict[str, float]:
    """Kind of work -> its longest turn in milliseconds."""
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as folder:
        path = Path(folder) / "sidecar.yaml"
        path.write_text(HEAD + services(count, endpoints))
        config, _ = load_with_origins(path, {})
        with asyncio.Runner(loop_factory=MeasuredLoop) as runner:
            return runner.run(_longest_turns(config, path, count, endpoints))


def main() -> None:
    """Parses the arguments, runs and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turns", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--services", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--endpoints", type=int, default=10, help="of each service (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    found = longest_turns(options.services, options.endpoints)
    if options.json:
        json.dump(found, sys.stdout)
        return
    print(f"{options.services} services with {options.endpoints} endpoints each.\n")
    print("| work | longest turn, ms of CPU |\n|---|---:|")
    for name, turn_ms in found.items():
        print(f"| {name} | {turn_ms:.1f} |")


if __name__ == "__main__":
    main()
