"""The upstream of the gRPC benchmarks: real grpcio takes it for a gRPC server."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import grpc
import pytest

from benchmarks.ports import free_ports
from tests.support.daemon import ROOT
from tests.support.grpc_upstream import CLIENT_OPTIONS


@pytest.fixture(params=[(), ("--down",)], ids=["small", "down"])
def upstream(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Its port, and the bytes of its answers."""
    port = free_ports(1)[0]
    command = [sys.executable, "-m", "benchmarks.h2_upstream", str(port), *request.param]
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield port, (1 << 20) - 5 if request.param else 145
    finally:
        process.kill()
        process.wait()


def test_it_answers_calls_one_after_another_and_at_once(upstream: tuple[int, int]) -> None:
    port, size = upstream
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS) as channel:
        get = channel.unary_unary("/venue.Venue/Get")
        assert len(get(b"", timeout=20, wait_for_ready=True)) == size
        calls = [get.future(b"q" * 100, timeout=20) for _ in range(20)]
        assert [len(call.result()) for call in calls] == [size] * 20
        assert {call.code() for call in calls} == {grpc.StatusCode.OK}


def test_it_takes_long_messages(upstream: tuple[int, int]) -> None:
    port, size = upstream
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=CLIENT_OPTIONS) as channel:
        get = channel.unary_unary("/venue.Venue/Get")
        for _ in range(3):
            assert len(get(b"q" * 10_000_000, timeout=20, wait_for_ready=True)) == size
