"""`python -m benchmarks.control`: what requests notice of the work of the control side.

A daemon with many services gets a steady open-loop load of one of them. Meanwhile it is scraped, its configuration is
read, and it loads another one, once a second each. The latency of the requests in each phase is compared with that in a
quiet phase of the same round: the phases take turns, and the median of the differences counts. docs/performance.md
explains the figures; `benchmarks.turns` has those of the loop alone.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import re
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.__main__ import machine
from benchmarks.endpoints import EndpointProcess
from benchmarks.measure import Pinned
from benchmarks.ports import free_ports
from benchmarks.reload import put
from benchmarks.steady import SteadyLoad, percentile
from benchmarks.turns import services

RATE = 300.0
PHASE_S = 10.0
EVERY_S = 1.0
SETTLE_S = 5.0
"""After the start, which is no part of any phase."""


def ask(port: int, path: str) -> str:
    """One GET, with its whole answer. Raises AssertionError for any status but 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        content = response.read()
        assert response.status == 200, (path, response.status, content[:200])
        return content.decode()
    finally:
        connection.close()


def generation(port: int) -> int:
    """How many configurations the daemon has applied."""
    found = re.search(r"^sidecar_config_generation ([0-9]+)", ask(port, "/metrics"), re.MULTILINE)
    assert found is not None
    return int(found[1])


def latencies_ms(port: int, work: Callable[[], object], seconds: float, rate: float) -> list[float]:
    """Milliseconds of each request during a phase in which `work` is done once a second."""
    with SteadyLoad(port, "/venue/events/42", rate) as load:
        if load.until(lambda sent: sent.ok, 10) is None:
            raise TimeoutError("nothing is answered")
        load.sent.clear()
        ends = time.monotonic() + seconds
        while (began := time.monotonic()) < ends:
            work()
            time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
        sent = list(load.sent)
    failed = [one for one in sent if not one.ok]
    assert not failed, failed[:3]
    return [one.latency_s * 1000 for one in sent]


def main() -> None:
    """Parses the arguments, runs and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.control", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--services", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--endpoints", type=int, default=10, help="of each service (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=RATE, help="requests a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=PHASE_S, help="of each phase (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="of all phases (default: %(default)s)")
    parser.add_argument("--sidecar", default=".venv/bin/sidecar", help="the sidecar's command (default: %(default)s)")
    options = parser.parse_args()
    proxy, admin, probe, upstream = free_ports(4)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-bench-")))
        url = stack.enter_context(EndpointProcess("e0", upstream, folder / "requests.log")).url
        listen = f'proxy: ["127.0.0.1:{proxy}"], admin: "127.0.0.1:{admin}", probe: "127.0.0.1:{probe}"'

        def text(attempt_s: int) -> str:
            many = services(options.services, options.endpoints, attempt_s)
            return (
                f'listen: {{{listen}}}\nlog: {{access: "off"}}\ndrain: {{delay: 0s}}\n{many}  venue: {{url: {url}}}\n'
            )

        path = folder / "sidecar.yaml"
        path.write_text(text(2))
        numbers = iter(range(3, 10**6))

        def reload() -> None:
            put(path, text(next(numbers)))  # the watch on the file does the rest

        phases: dict[str, Callable[[], object]] = {
            "quiet": lambda: None,
            "`GET /metrics`": lambda: ask(probe, "/metrics"),
            "`GET /config`": lambda: ask(admin, "/config"),
            "a reload that changes all services": reload,
        }
        sidecar = stack.enter_context(
            Pinned(0, [*options.sidecar.split(), "run", "--config", str(path)], folder / "sidecar.log")
        )
        sidecar.await_port(proxy)
        sidecar.await_port(probe)
        time.sleep(SETTLE_S)
        found: dict[str, list[list[float]]] = {name: [] for name in phases}
        for _ in range(options.rounds):
            for name, work in phases.items():
                time.sleep(EVERY_S)  # a reload may be under way
                found[name].append(latencies_ms(proxy, work, options.seconds, options.rate))
        reloads = generation(probe) - 1
    print(f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {machine()}.\n")
    print(
        f"{options.services} services with {options.endpoints} endpoints each; {options.rate:g} requests a second;"
        f" {reloads} reloads.\n"
    )
    print("| once a second | requests | p50 ms | p99 ms of each round | median p99 ms | worse than quiet, ms |")
    print("|---|---:|---:|---|---:|---:|")
    quiet = [percentile(times, 99) for times in found["quiet"]]
    for name, rounds in found.items():
        p50 = median(percentile(times, 50) for times in rounds)
        p99 = [percentile(times, 99) for times in rounds]
        worse = median(one - calm for one, calm in zip(p99, quiet, strict=True))
        each = ", ".join(f"{one:.1f}" for one in p99)
        print(f"| {name} | {sum(map(len, rounds))} | {p50:.1f} | {each} | {median(p99):.1f} | {worse:.1f} |")


if __name__ == "__main__":
    main()
