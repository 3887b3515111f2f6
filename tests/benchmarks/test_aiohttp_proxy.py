"""The peer that is made of aiohttp passes requests and answers on: else its figure would mean nothing."""

from __future__ import annotations

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.endpoints import EndpointProcess
from benchmarks.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    own, upstream = free_ports(2)
    command = [sys.executable, "-m", "benchmarks.aiohttp_proxy", str(own), str(upstream)]
    with EndpointProcess("e0", upstream, tmp_path / "requests.log"):
        process = subprocess.Popen(command, cwd=ROOT)
        try:
            yield own
        finally:
            process.kill()
            process.wait()


def asked(port: int, method: str, body: bytes | None) -> tuple[int, str | None, bytes]:
    """Once it listens."""
    deadline = time.monotonic() + 20
    while True:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            try:
                connection.request(method, "/venue/events/42", body=body)
            except ConnectionRefusedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
                continue
            answer = connection.getresponse()
            return answer.status, answer.getheader("x-endpoint"), answer.read()


@pytest.mark.parametrize(("method", "body"), [("GET", None), ("POST", b"x" * 10240)])
def test_it_passes_on(port: int, method: str, body: bytes | None) -> None:
    assert asked(port, method, body) == (200, "e0", b"ok")
