"""What callers of gRPC see while one of two servers restarts, dies, hangs, slows down or fails: the table of
docs/reliability.md.

`python -m benchmarks.grpc_faults`. The servers are grpcio, in processes of their own, as in the tests.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tests.support.grpc_callers import Callers
from tests.support.grpc_stage import Stage
from tests.support.grpc_upstream import GrpcUpstream

CALLERS = 40
FAULT_S = 5.0

IDEMPOTENT = """
routes: [{match: {path: /test.Echo/Unary}, idempotent: true, unary: true, timeout: {attempt: 500ms}}]
retry: {max_retries: 3, on: [connect_failure, reset, attempt_timeout, UNAVAILABLE, CANCELLED]}
outlier: {base_ejection_time: 1s}
"""
POLICIES = {"defaults": "", "idempotent, unary": IDEMPOTENT}


@dataclass(frozen=True)
class Fault:
    """What happens to one of the two servers, and how it ends."""

    name: str
    begin: Callable[[GrpcUpstream], None]
    end: Callable[[GrpcUpstream], None]


FAULTS = (
    Fault("restarted in order", GrpcUpstream.restart, lambda server: None),
    Fault("killed", GrpcUpstream.kill, GrpcUpstream.start),
    Fault("paused (SIGSTOP)", GrpcUpstream.pause, GrpcUpstream.resume),
    Fault("slow (2 s)", lambda one: one.answer(delay_ms=2000), lambda one: one.answer(delay_ms=5)),
    Fault("answers 14", lambda one: one.answer(status=14, delay_ms=5), lambda one: one.answer(delay_ms=5)),
)


def row(fault: Fault, policy: str) -> str:
    """One run: calls that began while the fault lasted, those that failed, by status, and the slowest of the others."""
    with ExitStack() as stack:
        servers = [stack.enter_context(GrpcUpstream(f"s{number}")) for number in range(2)]
        stage = stack.enter_context(Stage(*servers, policy=POLICIES[policy]))
        for server in servers:
            server.answer(delay_ms=5)
        with Callers(stage.port, CALLERS, channels=4, timeout_s=2.0) as callers:
            callers.more(400)
            began = time.monotonic()
            fault.begin(servers[0])
            time.sleep(max(0.0, began + FAULT_S - time.monotonic()))
            ended = time.monotonic()
            fault.end(servers[0])
            callers.more(200)
        during = [one for one in callers.made if began <= one.began < ended]
        failed = Counter(one.code for one in during if not one.ok)
        late = sum(1 for one in during if not one.ok and one.began >= began + 1)
        slowest = max((one.took_s for one in during if one.ok), default=0.0)
    kinds = ", ".join(f"{count} {code}" for code, count in failed.most_common()) or "none"
    return f"| {fault.name} | {policy} | {len(during)} | {kinds} | {late} | {slowest * 1000:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fault", choices=[one.name for one in FAULTS], help="default: all")
    options = parser.parse_args()
    print(f"{CALLERS} callers, each one call after another a deadline of 2 s, two servers, faults of {FAULT_S:g} s.\n")
    print(
        "| one of two servers | policy | calls meanwhile | failed | of these after the first second | slowest good ms |"
    )
    print("|---|---|---:|---|---:|---:|")
    for fault in FAULTS:
        if options.fault in (None, fault.name):
            for policy in POLICIES:
                print(row(fault, policy))
                sys.stdout.flush()


if __name__ == "__main__":
    main()
