"""Measuring tools: processes pinned to a core, CPU time and memory of a process tree from /proc, load from wrk and
h2load.

`benchmarks.__main__` decides what runs and in which order. Linux only.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


class Pinned:
    """A process and its children on one CPU core. Use it as a context manager; it ends the whole tree at its exit."""

    def __init__(self, core: int, command: list[str], log: Path) -> None:
        self._core, self._command, self._log = core, command, log

    def __enter__(self) -> Pinned:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["taskset", "-c", str(self._core), *self._command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_port(self, port: int) -> None:
        """Waits until something listens on `port`. Otherwise it ends the program and shows the end of the log."""
        deadline = time.monotonic() + 20
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        sys.exit(f"{self._command[0]} does not listen on {port}; its log ends with:\n{self._log.read_text()[-2000:]}")

    def cpu_seconds(self) -> float:
        """User and system time so far, of all living processes of the tree."""
        ticks = 0
        for pid in self._tree():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += int(fields[11]) + int(fields[12])
        return ticks / _TICKS_PER_SECOND

    def pss_mib(self) -> float:
        """Resident memory of the tree. A shared page counts by its share (PSS)."""
        kib = 0
        for pid in self._tree():
            try:
                found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            except OSError:
                continue
            kib += int(found[1]) if found else 0
        return kib / 1024

    def _tree(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:  # the list grows during the loop
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    found += map(int, children.read_text().split())
                except OSError:
                    continue
        return found


@dataclass(frozen=True)
class Load:
    """What wrk or h2load measured in one run. Times are in milliseconds. `errors` counts failed sockets, statuses
    outside 2xx and 3xx, and gRPC calls without their message.
    """

    requests: int
    per_second: float
    p50_ms: float
    p99_ms: float
    errors: int


def load(core: int, url: str, script: Path, connections: int, duration_s: int) -> Load:
    """Sends the requests of the wrk `script` to `url` over `connections`, as fast as the answers arrive."""
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{duration_s}s", "--latency", "-s", str(script), url]
    out = subprocess.run(["taskset", "-c", str(core), *wrk], capture_output=True, text=True, check=True).stdout
    errors = sum(
        int(number)
        for line in re.findall(r"^\s*(?:Non-2xx or 3xx responses|Socket errors): (.*)$", out, re.MULTILINE)
        for number in re.findall(r"\d+", line)
    )
    return Load(
        requests=int(_found(r"(\d+) requests in", out)),
        per_second=float(_found(r"Requests/sec:\s+([\d.]+)", out)),
        p50_ms=_milliseconds(_found(r"^\s+50%\s+(\S+)", out)),
        p99_ms=_milliseconds(_found(r"^\s+99%\s+(\S+)", out)),
        errors=errors,
    )


@dataclass(frozen=True)
class Calls:
    """gRPC calls for h2load: their message, and how many bytes the answer to each has."""

    message: Path
    answer_bytes: int
    connections: int
    streams: int


def load_h2(core: int, url: str, calls: Calls, duration_s: int, log: Path) -> Load:
    """Makes gRPC calls to `url`, as fast as the answers arrive. h2load writes each call's time to `log`."""
    log.unlink(missing_ok=True)  # h2load appends
    command = ["h2load", "-t1", f"-c{calls.connections}", f"-m{calls.streams}", f"-D{duration_s}"]
    command += [f"--data={calls.message}", f"--log-file={log}", "-H", "content-type: application/grpc"]
    command += ["-H", "te: trailers", "-H", "user-agent: grpc-python/1.85.3 grpc-c/54.0.0 (linux; chttp2)"]
    command += ["-H", "grpc-accept-encoding: identity, deflate, gzip", "-H", "authorization: Bearer " + "t" * 160]
    command += ["-H", "x-request-id: 0b7a61a4-1f3c-4c55-8d52-6a8f4f5b2c10", "-H", "x-tenant: acme"]
    command += ["-H", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", url]
    out = subprocess.run(["taskset", "-c", str(core), *command], capture_output=True, text=True, check=True).stdout
    return h2_figures(out, log.read_text(), calls.answer_bytes)


def h2_figures(out: str, log: str, answer_bytes: int) -> Load:
    """Reads what h2load has printed, and its log: lines of start, status and microseconds.

    A call that a proxy refuses has a 200 as well, so calls are counted by the bytes of their messages.
    """
    done, good = int(_found(r"started, (\d+) done", out)), int(_found(r"(\d+) succeeded", out))
    whole = int(_found(r"headers .*\((\d+)\) data$", out)) // answer_bytes
    took_us = sorted(int(line.rpartition("\t")[2]) for line in log.splitlines()) or [0]
    return Load(
        requests=done,
        per_second=float(_found(r"([\d.]+) req/s", out)),
        p50_ms=took_us[len(took_us) // 2] / 1e3,
        p99_ms=took_us[len(took_us) * 99 // 100] / 1e3,
        errors=done - min(good, whole),
    )


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        sys.exit(f"the load generator printed nothing like {pattern!r}:\n{text}")
    return match[1]


def _milliseconds(text: str) -> float:
    number, unit = text.rstrip("musin"), text.lstrip("0123456789.")
    return float(number) * _UNITS[unit]
