"""`python -m benchmarks.scale`: what a request costs with many services, and with many endpoints in one service.

It prints one table in Markdown: the CPU time of a request in microseconds, by number of services and of endpoints. With
`--sidecar` given more than once, builds take turns, and there is a column for each. The sidecar runs on core 0; wrk and
the upstream, one nginx that all endpoints lead to, share core 1.

    services        Requests go to all services in turn, over connections that are kept.
    endpoints       One service, round robin, over connections that are kept: `max_connections` is above their number.
                    With weights that add up to more than a short cycle has.
    at the limit    One service that may have LIMIT connections, and more endpoints: nearly each request opens one, in
                    place of the one that has been idle longest.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.__main__ import LOAD_CORE, PROXY_CORE, machine, refuse_unless_possible
from benchmarks.measure import Pinned, load
from benchmarks.systems import nginx

UPSTREAM_PORT, FIRST_PORT = 19301, 19310
CONNECTIONS = 32
LIMIT = 500


@dataclass(frozen=True)
class Scene:
    """So many services with so many endpoints each, of weights from 1 on. `limit`: of each service's connections."""

    about: str
    services: int = 1
    endpoints: int = 1
    weights: int = 1
    limit: int = 20_000

    def config(self, port: int) -> str:
        lines = [
            f'listen: {{proxy: ["127.0.0.1:{port}"], admin: "127.0.0.1:{port + 1}", probe: "127.0.0.1:{port + 2}"}}',
            f"defaults: {{limits: {{max_connections: {self.limit}}}, timeout: {{pool_idle: 60s}}}}",
            "services:",
        ]
        for number in range(self.services):
            first = number * self.endpoints
            numbers = range(first, first + self.endpoints)
            found = [f"{{url: {address(at)}, weight: {1 + at % self.weights}}}" for at in numbers]
            lines.append(f"  s{number}: {{endpoints: [{', '.join(found)}]}}")
        return "\n".join(lines) + "\n"

    def script(self) -> str:
        """For wrk: one service after the other."""
        return f"""\
local requests, at = {{}}, 0
init = function()
  for number = 0, {self.services - 1} do
    requests[number] = wrk.format("GET", "/s" .. number .. "/events/42?expand=1")
  end
end
request = function()
  at = (at + 1) % {self.services}
  return requests[at]
end
"""


def address(number: int) -> str:
    """The URL of an endpoint: one of the many addresses of the loopback interface."""
    return f"http://127.{1 + number // 62_500}.{number // 250 % 250}.{1 + number % 250}:{UPSTREAM_PORT}"


SCENES = (
    Scene("1 service of 1 endpoint"),
    *(Scene(f"{number:,} services", services=number) for number in (100, 1_000)),
    *(Scene(f"{number:,} endpoints", endpoints=number) for number in (100, 1_000, 5_000)),
    Scene("3,000 endpoints, weights 1 to 3", endpoints=3_000, weights=3),
    *(Scene(f"{number:,} endpoints, at the limit", endpoints=number, limit=LIMIT) for number in (1_000, 10_000)),
)


def upstream(folder: Path) -> list[str]:
    """One nginx for all addresses of the loopback interface, and for no others."""
    server = f"""
        server {{
          listen 0.0.0.0:{UPSTREAM_PORT} backlog=4096;
          allow 127.0.0.0/8;
          deny all;
          location / {{ default_type application/json; return 200 '{{"id": 42}}'; }}
        }}"""
    return nginx(folder, "upstream", server, connections=16_000)


def measure(scene: Scene, builds: list[str], rounds: int, duration_s: int) -> list[float]:
    """The median of each build, in microseconds of CPU time a request."""
    found: list[list[float]] = [[] for _ in builds]
    with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        script = folder / "load.lua"
        script.write_text(scene.script())
        stack.enter_context(Pinned(LOAD_CORE, upstream(folder), folder / "upstream.log")).await_port(UPSTREAM_PORT)
        running = []
        for at, build in enumerate(builds):
            port = FIRST_PORT + 3 * at
            config = folder / f"{at}.yaml"
            config.write_text(scene.config(port))
            command = [*build.split(), "run", "--config", str(config)]
            running.append(stack.enter_context(Pinned(PROXY_CORE, command, folder / f"{at}.log")))
            running[-1].await_port(port)
        for number in range(-1, rounds):  # round -1 opens the connections
            for at, process in enumerate(running):
                before = process.cpu_seconds()
                seen = load(LOAD_CORE, f"http://127.0.0.1:{FIRST_PORT + 3 * at}/", script, CONNECTIONS, duration_s)
                if seen.errors:
                    sys.exit(f"{scene.about}, {builds[at]}: {seen.errors} errors")
                if number >= 0:
                    found[at].append((process.cpu_seconds() - before) / max(seen.requests, 1) * 1e6)
    return [statistics.median(one) for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--sidecar", action="append", help=f"a command (default: {sys.executable} -m sidecar)")
    parser.add_argument("--only", metavar="WORD", help="scenes that have this word in their name")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--duration", type=int, default=3, metavar="SECONDS", help="of one turn (default: 3)")
    options = parser.parse_args()
    refuse_unless_possible()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for the upstream; the sidecar raises its own
    builds = options.sidecar or [f"{sys.executable} -m sidecar"]
    print(f"Measured on {machine()}. Medians of {options.rounds} rounds of {options.duration} s.\n")
    print(f"| CPU us/request | {' | '.join(builds)} |\n|---|{'---:|' * len(builds)}")
    for scene in SCENES:
        if options.only is None or options.only in scene.about:
            figures = measure(scene, builds, options.rounds, options.duration)
            print(f"| {scene.about} | {' | '.join(f'{figure:.1f}' for figure in figures)} |", flush=True)


if __name__ == "__main__":
    main()
