"""Runs the sidecar as a process: the installation that runs the tests, started and ended with the test session.

This module owns the ports, the wait until the sidecar serves, and its log. It makes sure that no process is left
behind, however the test run ends.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import site
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import sidecar
from sidecar.testing import log_lines, policy_file
from sidecar.testing.errors import FakeError
from sidecar.testing.strays import Stray, logged

START_S: Final = 60.0
END_S: Final = 5.0
LOOK_S: Final = 0.005
TRIES: Final = 5
"""Another process may have taken a port that was free a moment ago, so starting is tried this often."""

MAX_LOG: Final = 64 * 1024
"""How many bytes of a test's log are shown."""

FLUSHED_S: Final = 0.15
"""The sidecar writes the lines of requests in batches, at most 0.1 s late."""

WRITTEN_S: Final = 2.0
"""How many seconds to wait for lines that must come."""

PORTS: Final = 3

_REAPER: Final = 'read -r _; kill -9 "$1"'


class SidecarProcess:
    """Starts with the constructor, and serves once `wait` has returned. Other work can be done in between."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sidecar.yaml"
        self._folder = folder
        self._log = folder / "sidecar.log"
        self._since = ""
        self._start(free_ports(PORTS))

    def wait(self) -> None:
        """Waits until the sidecar serves. If it does not start, this raises FakeError and leaves nothing behind."""
        for _ in range(TRIES):
            if self._serves():
                return
            words = self.log()
            self.close()
            if "already in use" not in words:
                break
            self._start(free_ports(PORTS))
        else:
            self.close()
        raise FakeError(f"the sidecar did not start:\n{words or 'it printed nothing'}")

    @property
    def listen(self) -> dict[str, Any]:
        proxy, admin, probe = (f"127.0.0.1:{port}" for port in self.ports)
        return {"proxy": [proxy], "admin": admin, "probe": probe}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def admin_port(self) -> int:
        return self.ports[1]

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def ended(self) -> str:
        """How the process ended by itself; empty while it runs."""
        code = self._process.poll()
        if code is None:
            return ""
        if code >= 0:
            return f"exit code {code}"
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"

    def restart(self) -> None:
        """Starts the sidecar again after it ended by itself, on the same ports if they are free. Raises FakeError."""
        self.close()
        self._start(self.ports)
        self.wait()

    def refused(self, count: int) -> list[Stray]:
        """`count` requests that reached no service, read from this test's log once it is written."""
        deadline = _now() + WRITTEN_S
        while True:
            lines = self._log.read_text(encoding="utf-8", errors="replace")
            found = logged(log_lines.since(lines, self._since))
            if len(found) >= count or _now() > deadline:
                return found
            time.sleep(LOOK_S)

    def log(self) -> str:
        """What the sidecar has written since `forget_log`, at most the newest 64 KiB."""
        if not self._log.exists():  # the last test's teardown is reported after the run has removed the folder
            return ""
        with self._log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - MAX_LOG))
            text = stream.read(MAX_LOG).decode(errors="replace")
        return "\n".join(log_lines.since(text, self._since))

    def readable_log(self) -> str:
        """Like `log`, but in short lines, and with the lines of the last requests."""
        if self.running:
            self._went_on()  # so that the sidecar too has finished the requests it has answered
            time.sleep(FLUSHED_S)
            self._went_on()
            time.sleep(LOOK_S)  # a separate thread writes the log
        return "\n".join(log_lines.readable(self.log().splitlines()))

    def forget_log(self) -> None:
        os.truncate(self._log, 0)  # the process opened it for appending
        time.sleep(0.001)  # a request of the test before may have ended in this millisecond, which the log counts by
        self._since = log_lines.stamp(time.clock_gettime(time.CLOCK_REALTIME))  # a test may have frozen its own time

    def close(self) -> None:
        """Kills the process at once: it has no work that needs an orderly end."""
        self._reaper.kill()
        self._reaper.wait(END_S)
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._process.kill()
        self._process.wait(END_S)

    def _start(self, ports: list[int]) -> None:
        """Starts the sidecar in a session of its own. Ctrl-C then reaches only the test run, which ends the sidecar.

        A test run that is killed cannot end anything. But its end of the pipe closes, and the shell at the other end
        then kills the sidecar.
        """
        self.ports = ports
        policy_file.write(self.path, self.listen, {"services": {}})
        with self._log.open("ab") as log:
            os.truncate(self._log, 0)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sidecar", "run", "--config", str(self.path)],
                cwd=self._folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._reaper = subprocess.Popen(
            ["/bin/sh", "-c", _REAPER, "sh", str(self._process.pid)], stdin=subprocess.PIPE, start_new_session=True
        )

    def _went_on(self) -> None:
        """Waits until the sidecar has answered a request, for at most WRITTEN_S: on a busy machine it may be slow."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[2], timeout=WRITTEN_S)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/livez")
            connection.getresponse().read()
        connection.close()

    def _serves(self) -> bool:
        """Read from its own log: another process may have taken the port, and would answer a request to it."""
        deadline = _now() + START_S
        while _now() < deadline:
            if any(_is_ready(line) for line in self._log.read_bytes().splitlines()):
                return True
            if not self.running:
                return False
            time.sleep(LOOK_S)
        return False


def _now() -> float:
    """Seconds of a clock that no test can stop; see `_Loop` of `server`."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def check(path: Path) -> str:
    """The sidecar's message about this file; empty if it accepts the file."""
    command = [sys.executable, "-m", "sidecar", "check", "--config", str(path)]
    found = subprocess.run(
        command, env=_environment(), capture_output=True, text=True, timeout=START_S, check=False, cwd=path.parent
    )
    return (found.stdout + found.stderr).strip() if found.returncode else ""


def _is_ready(line: bytes) -> bool:
    if b'"ready"' not in line:
        return False
    try:
        return bool(json.loads(line).get("event") == "ready")
    except (ValueError, AttributeError):
        return False


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that are free at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _environment() -> dict[str, str]:
    """The environment, plus the folder from which `sidecar` was imported here. A new interpreter may not search it."""
    root = str(Path(sidecar.__file__).resolve().parents[1])
    if root in {str(Path(one).resolve()) for one in (*site.getsitepackages(), site.getusersitepackages())}:
        return dict(os.environ)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{others}" if others else root}
