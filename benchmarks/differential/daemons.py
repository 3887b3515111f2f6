"""The two builds: each runs as a process of its own with the same file."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

READY_S: Final = 60.0
QUIET_S: Final = 2.0
"""Until nothing may be in flight any more."""


class Build:
    """A daemon that runs `command`, from `__enter__` to `__exit__`."""

    def __init__(
        self, command: str, config: dict[str, Any], port: int, folder: Path, *, core: int | None = None
    ) -> None:
        self.port = port
        self.probe_port = port + 2
        self._core = core
        self._path = folder / f"sidecar-{port}.yaml"
        listen = {"proxy": [f"127.0.0.1:{port}"], "admin": f"127.0.0.1:{port + 1}", "probe": f"127.0.0.1:{port + 2}"}
        self._path.write_text(json.dumps({"listen": listen, **config}))
        self._log_path = folder / f"log-{port}"
        self._command = [*shlex.split(command), "run", "--config", str(self._path)]
        self._process: subprocess.Popen[bytes] | None = None
        self.exit_code: int | None = None

    def __enter__(self) -> Build:
        with self._log_path.open("wb") as out:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )
        if self._core is not None:
            os.sched_setaffinity(self._process.pid, {self._core})
        return self

    def wait_ready(self) -> None:
        """Raises RuntimeError if the daemon does not get ready."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                if self.ask("/readyz")[0] == 200:
                    return
            except OSError:
                pass
            if time.monotonic() > deadline or (self._process is not None and self._process.poll() is not None):
                raise RuntimeError(f"{self._command} is not ready:\n{self._log_path.read_text()[-3000:]}")
            time.sleep(0.02)

    def ask(self, path: str) -> tuple[int, str]:
        """(status, text) of the probe listener."""
        connection = http.client.HTTPConnection("127.0.0.1", self.probe_port, timeout=20)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            text = answer.read().decode()
            return (answer.status, text) if answer.getheader("age") is None else (202, text)
        finally:
            connection.close()

    def metrics(self) -> str:
        """A scrape that shows the present state, once nothing is in flight or QUIET_S are over."""
        deadline = time.monotonic() + QUIET_S
        while True:
            status, text = self.ask("/metrics")
            busy = [
                line
                for line in text.splitlines()
                if line.startswith(("sidecar_in_flight_requests{", "sidecar_tunnels{"))
                and float(line.rpartition(" ")[2])
            ]
            if (status == 200 and not busy) or time.monotonic() > deadline:
                return text
            time.sleep(0.1)

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> list[str]:
        """Ends it. Returns the lines of its log."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
            try:
                self.exit_code = self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.exit_code = self._process.wait(10)
            self._process = None
        return self._log_path.read_text(errors="replace").splitlines()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
