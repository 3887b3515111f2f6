"""What a pod's hooks and entrypoints run, from outside: exit codes, and what is said on which stream."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from sidecar.cli import life_cycle as commands
from tests.support.daemon import Daemon, free_ports


def run(command: click.Command, *arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(command, list(arguments), **options)


def test_wait_and_prestop_with_a_real_sidecar() -> None:
    with Daemon('services: {venue: {url: "http://127.0.0.1:9"}}') as daemon:
        probe = ["--probe", f"127.0.0.1:{daemon.ports.probe}"]
        assert run(commands.wait, *probe).exit_code == 0
        result = run(commands.prestop, *probe, "--idle", "100ms", "--max", "5s")
        assert (result.exit_code, result.stderr) == (0, "no more calls\n")
        result = run(commands.prestop, *probe, "--idle", "60s", "--max", "100ms")
        assert (result.exit_code, result.stderr) == (0, "calls still come after 0.1 s\n")


def test_wait_and_prestop_without_one() -> None:
    probe = ["--probe", f"127.0.0.1:{free_ports(1)[0]}"]
    result = run(commands.wait, *probe, "--timeout", "100ms")
    assert result.exit_code == 1
    assert "was not ready within 0.1 s" in result.stderr
    assert run(commands.prestop, *probe).stderr == "the sidecar is gone\n"
    assert run(commands.wait, "--probe", "https://x").exit_code == 2


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (202, b'{"draining": true}', None),
        (202, b"", "is not a sidecar's admin listener"),
        (404, b"nothing here", "is not a sidecar's admin listener"),
        (401, b'{"status": 401, "detail": "x"}', "does not accept this token: --token-file FILE"),
        (403, b'{"status": 403, "detail": "not from there"}', "not from there"),
    ],
)
def test_quit_asks_for_the_drain(status: int, answer: bytes, words: str | None, tmp_path: Path) -> None:
    """tests/system/test_quit.py has it with a real sidecar."""
    seen: list[tuple[str, str | None, str | None, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, self.headers["Content-Type"], self.headers["Authorization"], body))
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    (tmp_path / "token").write_text("secret\n")
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        result = run(commands.quit_, "--admin", url, "--token-file", str(tmp_path / "token"))
        thread.join()
    assert result.exit_code == (0 if words is None else 1)
    assert (words or "") in result.stderr
    assert "secret" not in result.output
    assert seen == [("/drain", "application/json", "Bearer secret", b"{}")]


def test_quit_of_one_that_has_ended_is_fine() -> None:
    assert run(commands.quit_, "--admin", f"http://127.0.0.1:{free_ports(1)[0]}").exit_code == 0


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 2"])
def test_quit_of_one_that_ends_in_the_middle_of_it_is_fine(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            listener.close()  # as a process ends: its listener goes first
            with accepted:
                accepted.recv(4096)
                accepted.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        result = run(commands.quit_, "--admin", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("url", ["ftp://x", "http://127.0.0.1:99999", "http://"])
def test_quit_wants_a_url(url: str) -> None:
    result = run(commands.quit_, "--admin", url)
    assert (result.exit_code, result.exception.__class__) == (2, SystemExit), result.output


def test_the_hooks_stay_light() -> None:
    script = """
import sys
from sidecar.cli.life_cycle import wait
try:
    wait(["--timeout", "0s", "--probe", "127.0.0.1:9"])
finally:
    heavy = {"aiohttp", "asyncio", "uvloop", "cryptography", "ruamel", "prometheus_client"}
    print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=20)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr
