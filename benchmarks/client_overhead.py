"""`python -m benchmarks.client_overhead`: the cost of a call of `sidecar.client`, compared with a bare call of aiohttp.

The kinds of calls take turns in one process, one call after the other, to the same URLs of one sidecar with a fast
upstream. There are two kinds: a call by itself, and a call made while a request is being served, which passes on that
request's id, trace context and deadline. Each is compared with bare aiohttp with the same headers and the same
deadline: once with aiohttp's default session settings, and once with those of the client (no timer for each call, no
cookies).

CPU is that of this process, so it is the client's part alone. Wall time is what an app waits. A ratio is taken within
each round, where machine and caches are the same, and its median counts. The program exits with 1 if a ratio to aiohttp
with default settings is above the bound.
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
from multidict import CIMultiDict, CIMultiDictProxy

from benchmarks.__main__ import machine
from benchmarks.ports import free_ports
from sidecar.client import ServiceClient, serving

BOUND = 1.10
BODY = b'{"id":42,"name":"The Great Hall","city":"Lisbon","capacity":1200,"tags":["indoor","seated"],"open":true}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
PATHS = [f"/events/{number}" for number in range(100)]

Call = Callable[[str], Awaitable[bytes]]


HANDED = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
REQUEST_ID = {"X-Request-Id": "0123456789abcdef0123456789abcdef"}
SECONDS = 5
INCOMING = CIMultiDictProxy(
    CIMultiDict(
        {
            "Host": "app.local:8080",
            "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "Via": "1.1 sidecar",
            **REQUEST_ID,
            **HANDED,
            "x-envoy-attempt-count": "1",
            "x-envoy-expected-rq-timeout-ms": str(SECONDS * 1000),
        }
    )
)
"""Headers of the request being served, in the form that aiohttp's server gives to the middleware."""
OUTGOING = {**REQUEST_ID, **HANDED, "x-envoy-upstream-rq-timeout-ms": str(SECONDS * 1000)}
"""The headers that the client makes of them."""


class Cost(NamedTuple):
    """The cost of one call, in microseconds."""

    cpu_us: float
    wall_us: float


class Costs(NamedTuple):
    """The costs of one round: aiohttp with default settings, aiohttp with the client's settings, and the client."""

    bare: Cost
    tuned: Cost
    client: Cost


Rounds = dict[str, list[Costs]]
"""The rounds, by kind of call."""


def main() -> None:
    """Parses the arguments, measures, prints, and compares with the bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client_overhead", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=500, help="calls of each kind in a round (default: 500)")
    parser.add_argument("--bound", type=float, default=BOUND, help=f"largest ratio to bare aiohttp (default: {BOUND})")
    parser.add_argument("--uvloop", action="store_true", help="use uvloop as the app's loop (default: asyncio's)")
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
    worst = max(ratio(each, of, "bare") for each in rounds.values() for of in Cost._fields)
    if worst > options.bound:
        sys.exit(f"the client costs {worst:.3f} times a bare call; the bound is {options.bound}")


async def measure(base_url: str, rounds: int, calls: int) -> Rounds:
    """The kinds of calls change places from one round to the next."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=2.0)
    async with (
        aiohttp.ClientSession() as default,
        aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as lean,
        ServiceClient("venue", base_url=base_url) as venue,
    ):

        def plain(session: aiohttp.ClientSession) -> Call:
            async def call(path: str) -> bytes:
                # Without `async with`, which costs aiohttp about 5 us more: this is the minimum.
                response = await session.get(f"{base_url}/venue{path}")
                return await response.read()

            return call

        def within_time(session: aiohttp.ClientSession) -> Call:
            async def call(path: str) -> bytes:
                async with asyncio.timeout(SECONDS):
                    response = await session.get(f"{base_url}/venue{path}", headers=OUTGOING)
                    return await response.read()

            return call

        async def client(path: str) -> bytes:
            return (await venue.get(path)).body

        async def client_serving(path: str) -> bytes:
            with serving(INCOMING):
                return (await venue.get(path)).body

        kinds = {
            "a call": (plain(default), plain(lean), client),
            "a call within `serving`": (within_time(default), within_time(lean), client_serving),
        }
        each = [call for kind in kinds.values() for call in kind]
        for call in each:
            await _turn(call, calls)
        found: Rounds = {name: [] for name in kinds}
        for number in range(rounds):
            gc.collect()
            costs = {call: await _turn(call, calls) for call in (reversed(each) if number % 2 else each)}
            for name, kind in kinds.items():
                found[name].append(Costs(*(costs[call] for call in kind)))
        return found


async def _turn(call: Call, calls: int) -> Cost:
    cpu, wall = time.process_time(), time.perf_counter()
    for number in range(calls):
        body = await call(PATHS[number % len(PATHS)])
        assert body == BODY
    return Cost((time.process_time() - cpu) / calls * 1e6, (time.perf_counter() - wall) / calls * 1e6)


def ratio(rounds: list[Costs], of: str, beside: str) -> float:
    """The median ratio of the cost of `of` to the cost of `beside` in the same round."""
    ratios: list[float] = [getattr(each.client, of) / getattr(getattr(each, beside), of) for each in rounds]
    return statistics.median(ratios)


def table(found: Rounds) -> str:
    """The medians in Markdown."""
    rows = [
        "| | | bare aiohttp us | with the client's settings us | `sidecar.client` us | ratio to bare | to the other |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, rounds in found.items():
        for of, title in (("cpu_us", "CPU of the app"), ("wall_us", "wall time")):
            medians = (statistics.median(getattr(cost, of) for cost in costs) for costs in zip(*rounds, strict=True))
            cells = [f"{median:.1f}" for median in medians]
            cells += [f"{ratio(rounds, of, beside):.3f}" for beside in ("bare", "tuned")]
            rows.append(f"| {name} | {title} | {' | '.join(cells)} |")
    return "\n".join(rows)


@contextmanager
def running() -> Iterator[str]:
    """Runs a sidecar and its upstream as processes. Yields the sidecar's URL."""
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
    """Sends one answer for each request. A request arrives in one piece, because it is small."""

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
