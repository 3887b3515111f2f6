"""Starts `tests.support.grpc_server` as a process, and restarts, pauses and kills it; and what apps call it with."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from tests.support.daemon import ROOT, free_ports
from tests.support.eventually import eventually

CLIENT_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.use_local_subchannel_pool", 1),
]
"""An app that repeats nothing itself, so what it sees is the sidecar's doing; a channel has its own connection."""


class GrpcUpstream:
    """Runs as soon as it is created, on a port that it keeps. Use as a context manager."""

    def __init__(
        self,
        name: str = "one",
        *,
        threaded: bool = False,
        grace_s: float = 5.0,
        options: list[tuple[str, int]] | None = None,
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.name = name
        self.port = free_ports(1)[0]
        self.url = f"h2c://127.0.0.1:{self.port}"
        self._folder = tempfile.TemporaryDirectory(prefix="sidecar-grpc-")
        self._log = Path(self._folder.name) / "calls.jsonl"
        self._errors = Path(self._folder.name) / "errors"
        self._command = [sys.executable, "-m", "tests.support.grpc_server"]
        self._command += ["--port", str(self.port), "--name", name, "--log", str(self._log), "--grace", str(grace_s)]
        self._command += ["--options", json.dumps(options or [])]
        if threaded:
            self._command.append("--threaded")
        if certificate is not None:
            self._command += ["--certificate", str(certificate[0]), "--key", str(certificate[1])]
        self._secure = certificate
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> GrpcUpstream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Starts it, also after it has ended; returns when it answers."""
        with self._errors.open("wb") as out:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=out
            )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", self._errors.read_text()

    def stop(self) -> int:
        """SIGTERM, as an orchestrator does it: GOAWAY, its grace for calls, the end. Returns the exit code."""
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)  # with its standard input open: the end of that ends it at once
        self._process.communicate()
        return self._process.returncode

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """SIGKILL: its connections are reset, and new ones are refused."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def pause(self) -> None:
        """SIGSTOP: the kernel still accepts connections and bytes for it, but nothing is answered."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def answer(self, **standing: Any) -> None:
        """What calls get from now on where they do not say (`Wish`); `health` is the status of its health check."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(standing).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"set\n"

    def lines(self, event: str, call: str | None = None) -> list[dict[str, Any]]:
        """What it has written, over all its lives: `begin` or `end`, of all calls or of those with this `x-id`."""
        whole, _, _ = self._log.read_text().rpartition("\n")
        found = [json.loads(line) for line in whole.splitlines()]
        return [line for line in found if line["event"] == event and (call is None or line["id"] == call)]

    def began(self, call: str) -> dict[str, Any]:
        """Waits until this call has begun."""

        def check() -> dict[str, Any]:
            found = self.lines("begin", call)
            assert found, f"{call} has not reached {self.name}"
            return found[-1]

        return eventually(check)

    def ended(self, call: str) -> str:
        """Waits until this call has ended; returns how: a status's name, or `cancelled`."""

        def check() -> str:
            found = self.lines("end", call)
            assert found, f"{call} has not ended at {self.name}"
            return str(found[-1]["how"])

        return eventually(check)

    @property
    def peers(self) -> set[str]:
        """The connections that calls came on."""
        return {line["peer"] for line in self.lines("begin")}


class App:
    """A caller with grpcio, on one channel. Use as a context manager.

    Metadata are keywords: `wish_status=14` is `("wish-status", "14")`.
    """

    def __init__(self, port: int, *, metadata: tuple[tuple[str, str], ...] = (), **options: Any) -> None:
        more = [(f"grpc.{name}", value) for name, value in options.items()]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS + more)
        self.metadata = metadata
        self.unary = self.channel.unary_unary("/test.Echo/Unary")
        self.down = self.channel.unary_stream("/test.Echo/Down")
        self.up = self.channel.stream_unary("/test.Echo/Up")
        self.both = self.channel.stream_stream("/test.Echo/Both")

    def __enter__(self) -> App:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.channel.close()

    def wishes(self, **metadata: str | bytes | int) -> tuple[tuple[str, str | bytes], ...]:
        return *self.metadata, *wishes(**metadata)


def wishes(**metadata: str | bytes | int) -> tuple[tuple[str, str | bytes], ...]:
    """Metadata: `wish_delay_ms=5` is `("wish-delay_ms", "5")`, `x_id="a"` is `("x-id", "a")`."""
    found: list[tuple[str, str | bytes]] = []
    for name, value in metadata.items():
        key = name.replace("_", "-", 1) if name.startswith("wish_") else name.replace("_", "-")
        found.append((key, value if isinstance(value, bytes) else str(value)))
    return tuple(found)
