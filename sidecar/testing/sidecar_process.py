"""The sidecar as a process: the same installation that runs the tests, started for a session and ended with it.

Owns ports, the wait until it serves, its log, and that none is left behind, whatever becomes of the test run.
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

START_S: Final = 15.0
END_S: Final = 5.0
LOOK_S: Final = 0.005
TRIES: Final = 5
"""A port that was free a moment ago may be taken by somebody else."""

MAX_LOG: Final = 64 * 1024
"""Bytes of a test's log that are shown."""

FLUSHED_S: Final = 0.15
"""The sidecar writes the lines of requests together, at most 0.1 s late."""

WRITTEN_S: Final = 2.0
"""How long lines that must come are waited for."""

PORTS: Final = 3

_REAPER: Final = 'read -r _; kill -9 "$1"'


class SidecarProcess:
    """Starts with the constructor, and serves once `wait` has returned: there is something to import meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "sidecar.yaml"
        self._folder = folder
        self._log = folder / "sidecar.log"
        self._since = ""
        self._start(free_ports(PORTS))

    def wait(self) -> None:
        """Until it serves. Raises FakeError where it does not start; then nothing of it is left."""
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
        raise FakeError(f"the sidecar did not start:\n{words or 'it said nothing'}")

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
        """How it ended by itself, in words; empty while it runs."""
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
        """One that ended by itself, on the same ports if they are still free. Raises FakeError."""
        self.close()
        self._start(self.ports)
        self.wait()

    def refused(self, count: int) -> list[Stray]:
        """So many requests that came to no service, as the log of this test has them once it is written."""
        deadline = time.monotonic() + WRITTEN_S
        while True:
            lines = self._log.read_text(encoding="utf-8", errors="replace")
            found = logged(log_lines.since(lines, self._since))
            if len(found) >= count or time.monotonic() > deadline:
                return found
            time.sleep(LOOK_S)

    def log(self) -> str:
        """What it wrote since `forget_log`, the newest 64 KiB of it."""
        if not self._log.exists():  # the last test's teardown is told of after the run's own, which removed the folder
            return ""
        with self._log.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - MAX_LOG))
            text = stream.read(MAX_LOG).decode(errors="replace")
        return "\n".join(log_lines.since(text, self._since))

    def readable_log(self) -> str:
        """As `log`, in short lines, and with those of the last requests."""
        if self.running:
            self._went_on()  # so that what it has answered is over for it too
            time.sleep(FLUSHED_S)
            self._went_on()
            time.sleep(LOOK_S)  # its log is a thread of its own
        return "\n".join(log_lines.readable(self.log().splitlines()))

    def forget_log(self) -> None:
        self._since = log_lines.stamp(time.time())
        os.truncate(self._log, 0)  # the process appends

    def close(self) -> None:
        """End it now: it has nothing that would need an orderly end."""
        self._reaper.kill()
        self._reaper.wait(END_S)
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._process.kill()
        self._process.wait(END_S)

    def _start(self, ports: list[int]) -> None:
        """In a session of their own: Ctrl-C is for the test run, which then ends them.

        A test run that is killed ends nobody; its end of the pipe closes all the same, and the shell at the other end
        kills the sidecar.
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
        """Waits until it has answered, or WRITTEN_S: on a busy machine it may be late with all that it does."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[2], timeout=WRITTEN_S)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/livez")
            connection.getresponse().read()
        connection.close()

    def _serves(self) -> bool:
        """Told by its own log and not by asking its port, where after a lost race somebody else would answer."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if any(_is_ready(line) for line in self._log.read_bytes().splitlines()):
                return True
            if not self.running:
                return False
            time.sleep(LOOK_S)
        return False


def check(path: Path) -> str:
    """What the sidecar says of this file; empty where it would take it."""
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
    """Ports of 127.0.0.1 that nobody has at this moment, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _environment() -> dict[str, str]:
    """With the place from which `sidecar` was imported here, where a new interpreter would not look by itself."""
    root = str(Path(sidecar.__file__).resolve().parents[1])
    if root in {str(Path(one).resolve()) for one in (*site.getsitepackages(), site.getusersitepackages())}:
        return dict(os.environ)
    others = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{others}" if others else root}
