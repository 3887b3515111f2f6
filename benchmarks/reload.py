"""`python -m benchmarks.reload`: lost requests and memory growth while the configuration is reloaded.

There are two figures. The storm: a steady open-loop load of GETs and some POSTs runs while one configuration after the
other is loaded. A request counts as lost if it gets anything but its own answer with 200. The growth: the memory of the
process over many more reloads without traffic. docs/reliability.md explains the figures.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import os
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.__main__ import machine
from benchmarks.endpoints import EndpointProcess
from benchmarks.measure import Pinned
from benchmarks.ports import free_ports
from benchmarks.steady import Sent, SteadyLoad, percentile

RATE, POST_RATE = 1000.0, 20.0
RELOADS = 100
EVERY_S = 0.1
GROWTH_RELOADS = 1000
SETTLED_AFTER = 200
"""The growth of memory is counted from this number of reloads on. By then everything that is made once has been made.
"""

IN_FORCE_S = 10.0

_POLICIES = (
    "timeout: {attempt: 4s}",
    "balancer: least_request, outlier: {}",
    "breaker: {volume_threshold: 20, rolling_count_buckets: 5}",
    "routes: [{match: {path: /events}, timeout: {request: 9s}, breaker: {volume_threshold: 5}}]",
    "breaker: {mode: observe}, balancer: peak_ewma, slow_start: 2s",
    "routes: [{match: {path: /events/42}, breaker: {mode: off}}, {match: {path: /events}}]",
    "health: {path: /health, interval: 1s}, fallback: [{stale: 60s}]",
    "limits: {max_concurrent: 512, max_connections: 32}, balancer: random",
    "breaker: {mode: off}, balancer: {hash: {header: x-test-id}}",
)
"""The policy of `venue`. Each reload takes the next one."""


def services(urls: Sequence[str], number: int) -> str:
    """The services of configuration `number`. Two consecutive configurations always differ.

    `venue`, which gets the load, changes its policy and its endpoints. Other services come and go.
    """
    policy = _POLICIES[number % len(_POLICIES)]
    endpoints = [url for at, url in enumerate(urls) if at != number % (len(urls) + 1)]
    listed = ", ".join(f'"{url}"' for url in endpoints)
    lines = [f"  venue: {{endpoints: [{listed}], {policy}}}"]
    lines += [f"  other{at}: {{url: {urls[0]}, timeout: {{idle: {number + 1}s}}}}" for at in range(number % 4)]
    return "services:\n" + "\n".join(lines) + "\n"


def put(path: Path, text: str) -> None:
    """Replaces the file with another one, as an editor does."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


class Reloaded:
    """A sidecar whose configuration is replaced. `head` is the part of the file before the services."""

    def __init__(self, path: Path, head: str, urls: Sequence[str], pid: int, probe_port: int) -> None:
        self._path, self._head, self._urls, self._pid, self._probe_port = path, head, urls, pid, probe_port
        self.number = 0

    def generation(self) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self._probe_port, timeout=5)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read()
        finally:
            connection.close()
        found = re.search(rb"^sidecar_config_generation ([0-9.]+)$", text, re.MULTILINE)
        assert found is not None
        return int(float(found[1]))

    def reload(self) -> None:
        """Loads the next configuration, and returns when it is in force. Raises TimeoutError."""
        before = self.generation()
        self.number += 1
        put(self._path, self._head + services(self._urls, self.number))
        os.kill(self._pid, signal.SIGHUP)
        deadline = time.monotonic() + IN_FORCE_S
        while self.generation() == before:
            if time.monotonic() > deadline:
                raise TimeoutError(f"configuration {self.number} is not in force")
            time.sleep(0.002)


def storm(port: int, reload: Callable[[], None], reloads: int = RELOADS, rate: float = RATE) -> list[Sent]:
    """Makes `reloads` during a steady load of `/venue/events/42`. Returns every request with its result."""
    with SteadyLoad(port, "/venue/events/42", rate, POST_RATE) as load:
        if load.until(lambda sent: sent.ok, 10) is None:
            raise TimeoutError("nothing is answered")
        for _ in range(reloads):
            began = time.monotonic()
            reload()
            time.sleep(max(0.0, EVERY_S - (time.monotonic() - began)))
    return load.sent


def rss_mib(pid: int) -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1024


@contextmanager
def _running(command: list[str], port: int) -> Iterator[tuple[Reloaded, int]]:
    """Runs a fresh sidecar with two endpoints. Yields it and its process id."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-bench-")))
        urls = [
            stack.enter_context(EndpointProcess(f"e{number}", upstream, folder / "requests.log")).url
            for number, upstream in enumerate(free_ports(2))
        ]
        head = (
            f'listen: {{proxy: ["127.0.0.1:{port}"], admin: "127.0.0.1:{port + 1}", probe: "127.0.0.1:{port + 2}"}}\n'
            'log: {access: "off"}\ndrain: {delay: 0s, timeout: 1s}\n'
        )
        config = folder / "sidecar.yaml"
        config.write_text(head + services(urls, 0))
        sidecar = stack.enter_context(Pinned(0, [*command, "run", "--config", str(config)], folder / "sidecar.log"))
        sidecar.await_port(port)
        sidecar.await_port(port + 2)
        yield Reloaded(config, head, urls, sidecar.pid, port + 2), sidecar.pid


def main() -> None:
    """Parses the arguments, runs and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reload", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--reloads", type=int, default=RELOADS, help="reloads in the storm (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=RATE, help="GETs a second (default: %(default)s)")
    parser.add_argument("--growth", type=int, default=GROWTH_RELOADS, help="reloads without traffic; 0 for none")
    parser.add_argument("--sidecar", default=".venv/bin/sidecar", help="the sidecar's command (default: %(default)s)")
    parser.add_argument("--port", type=int, default=19250, help="first of the sidecar's three ports (default: 19250)")
    options = parser.parse_args()

    print(f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {machine()}.\n")
    with _running(options.sidecar.split(), options.port) as (sidecar, _):
        sent = storm(options.port, sidecar.reload, options.reloads, options.rate)
    lost = Counter(one.reason or str(one.status) for one in sent if not one.ok)
    seconds = max(one.ended for one in sent) - min(one.planned for one in sent)
    latency_ms = [one.latency_s * 1000 for one in sent if one.ok]
    print(
        f"Reloads: {options.reloads}, in {seconds:.1f} s. Requests: {len(sent)} ({len(sent) / seconds:.0f} a second)."
    )
    print(f"Lost: {lost.total()}{f' ({dict(lost)})' if lost else ''}.")
    print(f"Latency: p50 {percentile(latency_ms, 50):.1f} ms, p99 {percentile(latency_ms, 99):.1f} ms.")
    if options.growth:
        with _running(options.sidecar.split(), options.port) as (sidecar, pid):
            settled_mib = 0.0
            for number in range(options.growth):
                if number == min(SETTLED_AFTER, options.growth - 1):
                    settled_mib = rss_mib(pid)
                sidecar.reload()
            now_mib = rss_mib(pid)
        print(f"Memory: {settled_mib:.1f} MiB after {SETTLED_AFTER} reloads, {now_mib:.1f} MiB after {options.growth}.")


if __name__ == "__main__":
    main()
