"""A real Redis for a test: Debian's redis-server, on its own port and with its own folder.

It never uses the system's Redis, because a test stops and starts it.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

from tests.support import wants
from tests.support.daemon import free_ports
from tests.support.eventually import eventually


class RedisServer:
    """Runs as soon as it is created. Use as a context manager. Skips the test if there is no redis-server.

    `certificate` is (certificate file, key file); with it the port speaks only TLS. `options` are lines of redis.conf.
    """

    def __init__(self, *options: str, password: str = "", certificate: tuple[Path, Path] | None = None) -> None:
        wants.skip_without("redis-server")
        self._folder = tempfile.TemporaryDirectory(prefix="sidecar-redis-")
        self.port = free_ports(1)[0]
        self.password = password
        lines = ["bind 127.0.0.1", f"dir {self._folder.name}", 'save ""', "appendonly no", "daemonize no", *options]
        if password:
            lines.append(f"requirepass {password}")
        if certificate is None:
            lines.append(f"port {self.port}")
        else:
            lines += ["port 0", f"tls-port {self.port}", "tls-auth-clients no"]
            lines += [f"tls-cert-file {certificate[0]}", f"tls-key-file {certificate[1]}"]
        self._config = Path(self._folder.name) / "redis.conf"
        self._config.write_text("\n".join(lines) + "\n")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def __enter__(self) -> RedisServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()
        self._folder.cleanup()

    def start(self) -> None:
        """Starts it on the same port as before; returns when it accepts connections."""
        log = Path(self._folder.name) / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                ["redis-server", str(self._config)], stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT
            )

        def connects() -> None:
            assert self._process is not None
            assert self._process.poll() is None, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError as error:
                raise AssertionError(f"redis-server takes no connection: {error}") from None

        try:
            eventually(connects, timeout=10)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Sends SIGTERM, as an init system does; returns when the process has ended."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    def pause(self) -> None:
        """SIGSTOP: its port still accepts connections, but nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *commands: str) -> str:
        """The raw answer to inline commands on a plain connection."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            said = [f"AUTH {self.password}"] if self.password else []
            connection.sendall("".join(f"{line}\r\n" for line in [*said, *commands, "QUIT"]).encode())
            answer = b""
            while data := connection.recv(1 << 16):
                answer += data
        return answer.decode()
