"""`python -m benchmarks.client_overhead`: what a call of `sidecar.client` costs beside a bare one of aiohttp.

Both take turns in one process, one call after the other, to the same URLs of one sidecar with a fast upstream.
CPU is this process's own, so it is the client's part alone; wall time is what an app waits. The ratio is taken within
each round, where machine and caches are the same for both, and its median counts. Exits with 1 above the bound.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import gc
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import aiohttp
import uvloop

from benchmarks.__main__ import machine
from benchmarks.ports import free_ports
from sidecar.client import ServiceClient

BOUND = 1.10
BODY = b'{"id":42,"name":"The Great Hall","city":"Lisbon","capacity":1200,"tags":["indoor","seated"],"open":true}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
PATHS = [f"/events/{number}" for number in range(100)]

Call = Callable[[str], Awaitable[bytes]]


class Cost(NamedTuple):
    """Of one call, in microseconds."""

    cpu_us: float
    wall_us: float


def main() -> None:
    """Parse the arguments, measure, print, judge."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client_overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=500, help="of each kind in a round (default: 500)")
    parser.add_argument("--bound", type=float, default=BOUND, help=f"of both median ratios (default: {BOUND})")
    parser.add_argument("--uvloop", action="store_true", help="the app's loop; asyncio's unless given")
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        uvloop.run(_serve(options.upstream))
        return
    with running() as base_url:
        run = uvloop.run if options.uvloop else asyncio.run
        rounds = run(measure(base_url, options.rounds, options.calls))
    print(f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {machine()}, aiohttp {aiohttp.__version__}.")
    loop = "uvloop" if options.uvloop else "asyncio"
    print(f"{options.rounds} rounds of {options.calls} calls of each kind, on {loop}.\n")
    print(table(rounds))
    worst = max(ratio(rounds, "cpu_us"), ratio(rounds, "wall_us"))
    if worst > options.bound:
        sys.exit(f"the client costs {worst:.3f} times a bare call; the bound is {options.bound}")


async def measure(base_url: str, rounds: int, calls: int) -> list[tuple[Cost, Cost]]:
    """(bare, client) of each round; they change places from one round to the next."""
    async with aiohttp.ClientSession() as session, ServiceClient("venue", base_url=base_url) as venue:

        async def bare(path: str) -> bytes:
            # Not in `async with`, which costs aiohttp some 5 us more: this is the least that it can be.
            response = await session.get(f"{base_url}/venue{path}")
            return await response.read()

        async def client(path: str) -> bytes:
            return (await venue.get(path)).body

        await _turn(bare, calls)
        await _turn(client, calls)
        found = []
        for number in range(rounds):
            gc.collect()
            first, second = (bare, client) if number % 2 else (client, bare)
            costs = {first: await _turn(first, calls), second: await _turn(second, calls)}
            found.append((costs[bare], costs[client]))
        return found


async def _turn(call: Call, calls: int) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(calls):
        body = await call(PATHS[number % len(PATHS)])
        assert body == BODY
    return Cost((time.process_time() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6)


def ratio(rounds: list[tuple[Cost, Cost]], of: str) -> float:
    """The median of what the client cost beside the bare call of the same round."""
    ratios: list[float] = [getattr(client, of) / getattr(bare, of) for bare, client in rounds]
    return statistics.median(ratios)


def table(rounds: list[tuple[Cost, Cost]]) -> str:
    """The medians in Markdown."""
    rows = ["| | bare aiohttp us | sidecar.client us | median ratio |", "|---|---:|---:|---:|"]
    for of, name in (("cpu_us", "CPU of the app"), ("wall_us", "wall time")):
        bare, client = (statistics.median(getattr(pair[index], of) for pair in rounds) for index in (0, 1))
        rows.append(f"| {name} | {bare:.1f} | {client:.1f} | {ratio(rounds, of):.3f} |")
    return "\n".join(rows)


@contextmanager
def running() -> Iterator[str]:
    """A sidecar and the upstream behind it, as processes; the sidecar's URL."""
    upstream, proxy, admin, probe = free_ports(4)
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as folder:
        config = Path(folder) / "sidecar.yaml"
        config.write_text(
            f'listen: {{proxy: ["127.0.0.1:{proxy}"], admin: "127.0.0.1:{admin}", probe: "127.0.0.1:{probe}"}}\n'
            f'services: {{venue: {{endpoints: ["http://127.0.0.1:{upstream}"]}}}}\n'
        )
        commands = [
            [sys.executable, "-m", "benchmarks.client_overhead", "--upstream", str(upstream)],
            [sys.executable, "-m", "sidecar", "run", "--config", str(config)],
        ]
        started = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
        try:
            for port in (upstream, proxy):
                _await_port(port)
            yield f"http://127.0.0.1:{proxy}"
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait(30)


def _await_port(port: int) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 0.2).close()
        except OSError:
            if time.monotonic() > until:
                sys.exit(f"nothing listens on {port}")
            time.sleep(0.05)
        else:
            return


class _Upstream(asyncio.Protocol):
    """One answer for each request; a request comes whole, for it is small."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(ANSWER)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Upstream, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
