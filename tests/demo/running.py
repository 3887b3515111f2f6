"""`sidecar demo` as a process on free ports. Owns its life; what to send it is the tests' business."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from sidecar.demo.show import SERVICES
from tests.support import wants
from tests.support.daemon import READY_S, ROOT, Ports
from tests.support.eventually import eventually
from tests.support.operator import Operator
from tests.support.urls import opened


class RunningDemo:
    """Use as a context manager: entered when `/readyz` says so and each endpoint answers, killed on the way out.

    It leads a process group of its own, so that a test can press Ctrl-C as a terminal does, on the whole group.
    """

    def __init__(self, *arguments: str) -> None:
        self.ports = Ports.free()
        self._arguments = arguments

    def __enter__(self) -> RunningDemo:
        self._folder = tempfile.TemporaryDirectory(prefix="sidecar-demo-")
        self._log = Path(self._folder.name) / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*demo_command(self.ports), *self._arguments],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "TMPDIR": self._folder.name},
            )
        try:
            eventually(self._ready, timeout=READY_S)
            self.endpoints = {
                service: (int(first), int(second))
                for service, first, second in re.findall(r"(\w+)\s\((?:ports )?(\d+) and (\d+)\)", self.log)
            }
            # A first call waits in the socket's backlog for a child that still starts: through the sidecar, which gives
            # an attempt one second, it might go to the other endpoint.
            for port in [port for pair in self.endpoints.values() for port in pair]:
                opened(f"http://127.0.0.1:{port}/").close()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self._folder.cleanup()

    @property
    def operator(self) -> Operator:
        """Somebody who types a page's commands in the repository, for whom this demo has the usual ports."""
        own = {15001: self.ports.proxy, 15000: self.ports.admin, 15021: self.ports.probe}
        upstreams = [port for service in SERVICES for port in self.endpoints[service]]
        own |= {19101 + place: port for place, port in enumerate(upstreams)}
        hosts = ("localhost", "127.0.0.1")
        names = {f"{host}:{usual}": f"{host}:{port}" for usual, port in own.items() for host in hosts}
        folder = {"/tmp/sidecar-demo-": f"{self._folder.name}/sidecar-demo-"}
        return Operator(ROOT, names | folder, admin=f"http://127.0.0.1:{self.ports.admin}")

    @property
    def configuration(self) -> Path:
        """The demo's copy of its file, which it reads again when it changes."""
        (path,) = Path(self._folder.name).glob("sidecar-demo-*/sidecar.yaml")
        return path

    @property
    def left_behind(self) -> list[Path]:
        """What there is in the directory for temporary files, the demo's own."""
        return [path for path in Path(self._folder.name).iterdir() if path != self._log]

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _ready(self) -> bool:
        if self.process.poll() is not None:
            # Not an AssertionError: there is nothing to wait for any more.
            raise RuntimeError(f"the demo ended with {self.process.returncode}\n{self.log}")
        try:
            with opened(f"http://127.0.0.1:{self.ports.probe}/readyz") as answer:
                return answer.status == 200
        except OSError:
            return False


def demo_command(ports: Ports) -> list[str]:
    """`sidecar demo` with these ports for the daemon, and any that are free for the upstreams."""
    return [
        *(sys.executable, "-m", "sidecar", "demo", "--upstream-port", "0", "--seed", "1"),
        *("--proxy-port", str(ports.proxy), "--admin-port", str(ports.admin), "--probe-port", str(ports.probe)),
    ]


def shell(script: str) -> str:
    """What `script`, of commands of curl and the sidecar, prints when bash runs it, at most 30 s."""
    wants.skip_without("curl")
    return subprocess.run(["bash", "-c", script], stdout=subprocess.PIPE, text=True, timeout=30, cwd=ROOT).stdout
