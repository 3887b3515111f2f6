"""`python -m benchmarks`: runs all systems in turn, round by round, and prints the medians as a Markdown table.

The systems run on core 0. The upstreams and the load share core 1. All systems stay up and take turns (A B C A B C), so
that a machine whose speed changes treats them alike. The sidecar's ratio to a peer is therefore taken within each
round, and its median is the figure to read. CPU per request varies much less than requests per second, and absolute
figures depend on the machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.grpc_systems import GRPC_CASES, GrpcCase, find_for_grpc
from benchmarks.measure import Load, Pinned, load, load_h2
from benchmarks.systems import CASES, UPSTREAM_PORTS, Case, System, find, upstream

PROXY_CORE, LOAD_CORE = 0, 1


@dataclass(frozen=True)
class Turn:
    """The measurements of one system in one round."""

    load: Load
    cpu_us: float
    """CPU time for each request, in microseconds."""
    pss_mib: float


def main() -> None:
    """Parses the arguments, measures and prints."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description=__doc__.partition("\n\n")[2])
    parser.add_argument(
        "--case", choices=[case.name for case in (*CASES, *GRPC_CASES)], action="append", help="default: all"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--duration", type=int, default=3, metavar="SECONDS", help="of one turn (default: 3)")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="from: sidecar envoy haproxy nginx aiohttp")
    parser.add_argument("--sidecar", default=f"{sys.executable} -m sidecar", help="the sidecar's command")
    parser.add_argument("--envoy", help="Envoy's binary (default: $ENVOY, then PATH)")
    options = parser.parse_args()

    wanted = [case for case in (*CASES, *GRPC_CASES) if not options.case or case.name in options.case]
    refuse_unless_possible(any(isinstance(case, GrpcCase) for case in wanted))
    print(f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {machine()}.")
    print(f"Medians of {options.rounds} rounds of {options.duration} s.")
    told: set[str] = set()
    for case in wanted:
        systems, left_out = (find_for_grpc if isinstance(case, GrpcCase) else find)(options.sidecar, options.envoy)
        for line in left_out:
            if line not in told:
                print(line, file=sys.stderr)
        told.update(left_out)
        only = options.only or [system.name for system in systems if system.by_default]
        systems = [system for system in systems if system.name in only]
        with tempfile.TemporaryDirectory(prefix="sidecar-bench-") as folder:
            turns = measure(case, systems, Path(folder), options.rounds, options.duration)
        print(f"\n### {case.name}: {case.about}\n\n{table(turns)}", flush=True)


PACKAGES = {"taskset": "util-linux", "h2load": "nghttp2-client"}
"""Debian's packages where they have another name than the program."""


def refuse_unless_possible(grpc: bool = False) -> None:
    """Ends the program with one clear message if something is missing."""
    tools = ("wrk", "nginx", "taskset", *(("h2load",) if grpc else ()))
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        packages = " ".join(PACKAGES.get(tool, tool) for tool in missing)
        sys.exit(f"bench needs {', '.join(missing)}; on Debian: apt-get install {packages}")
    if not {PROXY_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        sys.exit("bench needs two CPU cores, 0 and 1: one for the systems, one for load and upstreams")


def loader(case: Case | GrpcCase, folder: Path) -> Callable[[str, int], Load]:
    """What sends the requests of a case to a URL, for so many seconds."""
    if isinstance(case, GrpcCase):
        calls = case.calls(folder)
        return lambda url, seconds: load_h2(LOAD_CORE, url, calls, seconds, folder / "h2load.log")
    script = folder / "load.lua"
    script.write_text(case.script())
    return lambda url, seconds: load(LOAD_CORE, url, script, case.connections, seconds)


def measure(
    case: Case | GrpcCase, systems: list[System], folder: Path, rounds: int, duration_s: int
) -> dict[str, list[Turn]]:
    """All turns of one case, by system, in the order of the rounds."""
    send = loader(case, folder)
    serving = case.upstream() if isinstance(case, GrpcCase) else upstream(folder)
    turns: dict[str, list[Turn]] = {system.name: [] for system in systems}
    with ExitStack() as stack:
        process = stack.enter_context(Pinned(LOAD_CORE, serving, folder / "upstream.log"))
        for port in UPSTREAM_PORTS:
            process.await_port(port)
        running = {}
        for system in systems:
            log = folder / f"{system.name}.log"
            running[system.name] = stack.enter_context(Pinned(PROXY_CORE, system.configure(folder), log))
            running[system.name].await_port(system.port)
        for number in range(-1, rounds):  # round -1 fills pools and caches
            for system in systems:
                process = running[system.name]
                url = f"http://127.0.0.1:{system.port}{case.path}"
                before = process.cpu_seconds()
                seen = send(url, 1 if number < 0 else duration_s)
                cpu_us = (process.cpu_seconds() - before) / max(seen.requests, 1) * 1e6
                if number >= 0:
                    turns[system.name].append(Turn(seen, cpu_us, process.pss_mib()))
    return turns


def table(turns: dict[str, list[Turn]]) -> str:
    """The medians of `turns` in Markdown. Memory is that of the last turn; errors are summed."""
    rows = [
        "| system | CPU us/request | requests/s | p50 ms | p99 ms | PSS MiB | errors | sidecar's CPU / its |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, own in turns.items():
        pairs = zip(turns.get("sidecar", ()), own, strict=False)
        ratios = [ours.cpu_us / its.cpu_us for ours, its in pairs if its.cpu_us]
        ratio = f"{statistics.median(ratios):.2f}" if ratios and name != "sidecar" else ""
        rows.append(
            f"| {name} | {statistics.median(t.cpu_us for t in own):.1f} "
            f"| {statistics.median(t.load.per_second for t in own):.0f} "
            f"| {statistics.median(t.load.p50_ms for t in own):.2f} "
            f"| {statistics.median(t.load.p99_ms for t in own):.2f} "
            f"| {own[-1].pss_mib:.1f} | {sum(t.load.errors for t in own)} | {ratio} |"
        )
    return "\n".join(rows)


def machine() -> str:
    """CPU, kernel and Python of this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cpu = f"{len(models)} x {models[0]}" if models else platform.machine()
    return f"{cpu}, Linux {platform.release()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
