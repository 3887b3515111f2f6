"""Runs the real daemon as a process: starts it with a YAML text, observes it from outside, and ends it.

It knows the daemon only by its contract: command line, listeners, metrics, log lines, signals.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Ports:
    proxy: int
    admin: int
    probe: int
    listen: str = ""
    """Further keys of `listen`, as YAML."""

    @staticmethod
    def free(listen: str = "") -> Ports:
        proxy, admin, probe = free_ports(3)
        return Ports(proxy, admin, probe, listen)

    @property
    def yaml(self) -> str:
        return (
            f'listen: {{proxy: ["127.0.0.1:{self.proxy}"], admin: "127.0.0.1:{self.admin}",'
            f' probe: "127.0.0.1:{self.probe}", {self.listen}}}\n'
        )


class Metrics(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """One scrape: (name, labels) -> value."""

    def total(self, name: str, /, **labels: str) -> float:
        """The sum of the series of `name` with these labels, whatever other labels they have."""
        wanted = set(labels.items())
        return sum(value for (found, bears), value in self.items() if found == name and wanted <= bears)


@dataclass
class Probed:
    """An answer of the probe listener."""

    status: int
    headers: dict[str, str]
    body: bytes


READY_S = 60.0
"""A bound for a daemon that never gets ready. A busy machine has been seen to take more than 15 s."""

SIDECAR = shlex.split(os.environ.get("SIDECAR_COMMAND", "")) or [sys.executable, "-m", "sidecar"]
"""The daemon under test: the installed command if SIDECAR_COMMAND names it (as in `make test`), else the sources here.
"""


def command(config: Path) -> list[str]:
    return [*SIDECAR, "run", "--config", str(config)]


@dataclass
class Daemon:
    """A daemon that runs with `config`, a YAML text without `listen`. Use as a context manager."""

    config: str
    ports: Ports = field(default_factory=Ports.free)
    wait_ready: bool = True
    within: tuple[str, ...] = ()
    """A command that runs the daemon's command, appended to it, in a separate environment."""
    write: Callable[[Path, str], object] = Path.write_text
    """How the file is stored, for a daemon that finds it behind links."""
    start_seconds: float = 0.0
    """Seconds from the start of the process until the first 200 of `/readyz`."""

    def __post_init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sidecar-test-")
        folder = Path(self._folder.name)
        self.path = folder / "sidecar.yaml"
        self.write(self.path, self.ports.yaml + self.config)
        self._last_words = ""
        self._out, self._err = folder / "stdout", folder / "stderr"
        began = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*self.within, *command(self.path)], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
        if self.wait_ready:
            try:
                self._wait_ready(began + READY_S)
            except BaseException:
                self.__exit__(None, None, None)
                raise
            self.start_seconds = time.monotonic() - began

    def _wait_ready(self, deadline: float) -> None:
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended with {self.process.returncode}\n{self.log}")
            try:
                if self.probe("/readyz", timeout=1).status == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"the daemon is not ready\n{self.log}")
            time.sleep(0.005)

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        self._last_words = self.log
        self._folder.cleanup()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def proxy_port(self) -> int:
        return self.ports.proxy

    @property
    def probe_port(self) -> int:
        return self.ports.probe

    @property
    def stderr(self) -> str:
        return self._err.read_text(errors="replace")

    @property
    def stdout(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def log(self) -> str:
        """Both outputs, for the reader of a failed test. They are also available after the end."""
        if self._last_words:
            return self._last_words
        return f"--- stdout ---\n{self.stdout}\n--- stderr ---\n{self.stderr}"

    def log_lines(self) -> list[dict[str, Any]]:
        """The complete lines of stdout. Each one must be a JSON object."""
        whole, _, _ = self.stdout.rpartition("\n")
        lines = [json.loads(line) for line in whole.splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def probe(self, path: str, *, method: str = "GET", timeout: float = 5.0) -> Probed:
        """Sends a request to the probe listener, on a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports.probe, timeout=timeout)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Probed(answer.status, headers, answer.read())
        finally:
            connection.close()

    def metrics(self, *, buckets: bool = False) -> Metrics:
        """One scrape, of figures as they are now. Histogram buckets, most of its lines, are left out by default to save
        parsing time.
        """
        while "age" in (scraped := self.probe("/metrics")).headers:
            time.sleep(0.01)  # a busy machine takes long for a text, and one that took long is kept for a while
        assert scraped.status == 200, scraped
        lines = scraped.body.decode().splitlines(keepends=True)
        text = "".join(line for line in lines if buckets or "_bucket{" not in line)
        return Metrics(
            ((sample.name, frozenset(sample.labels.items())), sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        )

    def metric(self, name: str, /, **labels: str) -> float:
        """`Metrics.total` of a new scrape."""
        return self.metrics().total(name, **labels)

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def _status_mib(self, key: str) -> float:
        match = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        assert match is not None, key
        return int(match[1]) / 1024

    def rss_mib(self) -> float:
        return self._status_mib("VmRSS")

    def peak_rss_mib(self) -> float:
        """The highest RSS since `forget_peak_rss`."""
        return self._status_mib("VmHWM")

    def forget_peak_rss(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def pss_mib(self) -> float:
        match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{self.pid}/smaps_rollup").read_text(), re.MULTILINE)
        assert match is not None
        return int(match[1]) / 1024

    def signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 10.0) -> int:
        """Waits for the process to end by itself. Returns its exit code."""
        return self.process.wait(timeout)

    def terminate(self, timeout: float = 30.0) -> int:
        """Sends SIGTERM. Returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """Kills the process if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of a process since its start."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_to_exit(config: str, *, timeout: float = 10.0) -> subprocess.CompletedProcess[str]:
    """Starts the daemon with a YAML text that must prevent the start. Returns exit code and outputs."""
    with tempfile.TemporaryDirectory(prefix="sidecar-test-") as folder:
        path = Path(folder) / "sidecar.yaml"
        path.write_text(config)
        return subprocess.run(
            command(path),
            check=False,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


__all__ = [
    "ROOT", "Daemon", "Metrics", "Ports", "Probed", "command", "cpu_seconds", "free_ports", "has_ipv6", "run_to_exit",
]  # fmt: skip
