"""`python -m benchmarks.reliability`: the errors and latencies that a caller sees when endpoints die, hang, slow down,
fail and come back.

For each fault, each size of cluster and each number of failing endpoints, it runs real upstream processes and a fresh
daemon under a steady open-loop load of GETs. The fault begins after a while of normal operation, and then ends. The
result is Markdown, one table for each policy; docs/reliability.md explains it.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.__main__ import machine
from benchmarks.endpoints import EndpointProcess
from benchmarks.measure import Pinned
from benchmarks.ports import free_ports
from benchmarks.steady import Sent, SteadyLoad, percentile

RATE = 200.0
"""GETs a second."""

WELL_S = 1.0
FAULT_S = {"tuned": 7.0, "defaults": 12.0, "no-panic": 7.0}
"""By policy. The defaults' `timeout.attempt` is 5 s, and 4 s of retries after it use up the budget of the last 10 s."""

RETURN_LIMIT_S = 8.0
"""How many seconds after the end of the fault an endpoint may take to return."""

SLOWER_S = 2.0

HEALTH = "health: {path: /health, interval: 1s, timeout: 500ms}"

TUNED = f"timeout: {{attempt: 500ms}}, retry: {{budget: {{ratio: 1}}}}, {HEALTH}"
POLICIES = {
    "tuned": f"{TUNED}, outlier: {{}}",
    "defaults": "",
    "no-panic": f"{TUNED}, outlier: {{panic_threshold: 0%}}",
}
"""Keys of a service besides its endpoints. The last policy matters only if more than half of them fail."""

CLUSTERS = ((2, 1), (2, 2), (3, 1), (3, 2), (3, 3), (5, 1), (5, 2), (5, 3), (5, 4), (5, 5))
"""(endpoints, failing endpoints)"""


@dataclass(frozen=True)
class Fault:
    name: str
    begin: Callable[[EndpointProcess], None]
    end: Callable[[EndpointProcess], None]


FAULTS = (
    Fault("killed", EndpointProcess.kill, EndpointProcess.start),
    Fault("paused", EndpointProcess.pause, EndpointProcess.resume),
    Fault("slow", lambda one: one.answer(delay_s=SLOWER_S), EndpointProcess.answer),
    Fault("503", lambda one: one.answer(503), EndpointProcess.answer),
    Fault("503, checks pass", lambda one: one.answer(503, checks_too=False), EndpointProcess.answer),
)


@dataclass(frozen=True)
class Figures:
    """The results of one run. `during` are the requests that the fault affected: sent or in progress during it."""

    fault: str
    policy: str
    endpoints: int
    failing: int
    during: tuple[Sent, ...]
    back_s: float | None
    """Seconds from the end of the fault until each endpoint that had failed has answered a request. None: over the
    limit."""

    @property
    def reasons(self) -> Counter[str]:
        """Why requests failed: the sidecar's reason, or else the status of the upstream."""
        return Counter(one.reason or str(one.status) for one in self.during if not one.ok)

    def row(self) -> str:
        """The line of the table. Latencies are those of the answers with 200."""
        errors = self.reasons.total()
        share = 100 * errors / len(self.during)
        why = ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common())
        good_ms = [one.latency_s * 1000 for one in self.during if one.ok]
        p50, p99 = (f"{percentile(good_ms, at):,.0f}" if good_ms else "-" for at in (50, 99))
        attempts = sum(one.attempts for one in self.during) / len(self.during)
        back = f"> {RETURN_LIMIT_S:.0f}" if self.back_s is None else f"{self.back_s:.1f}"
        error_rate = f"{share:.1f}%" if errors else "0"
        return (
            f"| {self.fault} | {self.failing} of {self.endpoints} | {errors} | {error_rate} | {why} "
            f"| {p50} | {p99} | {attempts:.2f} | {back} |"
        )


HEADER = """\
| fault | failing | errors | error rate | by reason | p50 ms | p99 ms | attempts/request | back after s |
|---|---|---:|---:|---|---:|---:|---:|---:|"""


def configuration(policy: str, endpoints: list[EndpointProcess], port: int) -> str:
    """The whole YAML of a daemon with this policy. It listens on `port` and the two ports after it."""
    urls = ", ".join(f'"{one.url}"' for one in endpoints)
    more = f", {POLICIES[policy]}" if POLICIES[policy] else ""
    return f"""\
listen: {{proxy: ["127.0.0.1:{port}"], admin: "127.0.0.1:{port + 1}", probe: "127.0.0.1:{port + 2}"}}
log: {{access: "off"}}
drain: {{delay: 0s, timeout: 1s}}
services:
  venue: {{endpoints: [{urls}]{more}}}
"""


def run(fault: Fault, policy: str, total: int, failing: int, command: list[str], port: int) -> Figures:
    """One run, from a cold start to the end of the load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sidecar-bench-")))
        endpoints = [
            stack.enter_context(EndpointProcess(f"e{number}", upstream, folder / "requests.log"))
            for number, upstream in enumerate(free_ports(total))
        ]
        config = folder / "sidecar.yaml"
        config.write_text(configuration(policy, endpoints, port))
        sidecar = stack.enter_context(Pinned(0, [*command, "run", "--config", str(config)], folder / "sidecar.log"))
        sidecar.await_port(port)
        with SteadyLoad(port, "/venue/events/42", RATE) as load:
            time.sleep(WELL_S)
            began = time.monotonic()
            for one in endpoints[:failing]:
                fault.begin(one)
            time.sleep(FAULT_S[policy])
            ending = time.monotonic()
            back_s = _bring_back(fault, endpoints[:failing], load)
        during = tuple(one for one in load.sent if one.ended >= began and one.planned < ending)
        return Figures(fault.name, policy, total, failing, during, back_s)


def _bring_back(fault: Fault, failing: list[EndpointProcess], load: SteadyLoad) -> float | None:
    """Ends the fault. Returns the seconds until the slowest endpoint answered a request again."""
    ended: list[tuple[str, float]] = []
    for one in failing:
        fault.end(one)
        ended.append((one.name, time.monotonic()))
    slowest = 0.0
    deadline = time.monotonic() + RETURN_LIMIT_S
    for name, at in ended:

        def answered(sent: Sent, name: str = name, at: float = at) -> bool:
            return sent.ok and sent.endpoint == name and sent.planned >= at

        first = load.until(answered, deadline - time.monotonic())
        if first is None:
            return None
        slowest = max(slowest, first.ended - at)
    return slowest


def main() -> None:
    """Parses the arguments, runs and prints."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__.partition("\n\n")[2])
    parser.add_argument("--fault", choices=[fault.name for fault in FAULTS], action="append", help="default: all")
    parser.add_argument("--policy", choices=list(POLICIES), action="append", help="default: the first two")
    parser.add_argument("--cluster", metavar="FAILING:ENDPOINTS", action="append", help="as 1:2 (default: ten)")
    parser.add_argument("--sidecar", default=".venv/bin/sidecar", help="the sidecar's command (default: %(default)s)")
    parser.add_argument("--port", type=int, default=19250, help="first of the sidecar's three ports (default: 19250)")
    options = parser.parse_args()

    clusters = [tuple(map(int, reversed(each.split(":")))) for each in options.cluster or ()] or CLUSTERS
    print(f"Measured on {datetime.datetime.now(datetime.UTC):%Y-%m-%d}: {machine()}.")
    print(f"{RATE:.0f} requests a second.")
    for policy in options.policy or ("tuned", "defaults"):
        print(f"\n### {policy}: each fault lasts {FAULT_S[policy]:.0f} s\n\n{HEADER}", flush=True)
        for fault in FAULTS:
            if options.fault and fault.name not in options.fault:
                continue
            if policy == "defaults" and fault.name == "503, checks pass":
                continue  # this policy has no checks, so the result is the same as for 503
            for total, failing in clusters:
                print(run(fault, policy, total, failing, options.sidecar.split(), options.port).row(), flush=True)


if __name__ == "__main__":
    main()
