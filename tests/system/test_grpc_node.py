"""Apps and services in Node: @grpc/grpc-js on either side of the real daemon, with grpcio on the other.

Each also runs without the daemon in between. The package comes from an index, as tests/node/package-lock.json pins it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.support import surroundings, wants
from tests.support.grpc_stage import Stage, failure, value
from tests.support.grpc_upstream import GrpcUpstream, wishes

SOURCES = Path(__file__).resolve().parents[1] / "node"
S = 20.0

pytestmark = [pytest.mark.packaging, wants.program("node", "npm")]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of tests/node, with its packages."""
    folder = tmp_path_factory.mktemp("node") / "scripts"
    shutil.copytree(SOURCES, folder)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    ran = subprocess.run(command, cwd=folder, env=dict(surroundings.FOUND), capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


@dataclass
class NodeServer:
    port: int

    @property
    def url(self) -> str:
        return f"h2c://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def node_server(scripts: Path) -> Iterator[NodeServer]:
    command = ["node", "server.js"]
    with subprocess.Popen(command, cwd=scripts, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        yield NodeServer(int(process.stdout.readline()))
        process.stdin.close()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "sidecar"])
def test_an_app_in_node(scripts: Path, direct: bool) -> None:
    with GrpcUpstream() as upstream, Stage(upstream, direct=direct) as stage:
        ran = subprocess.run(
            ["node", "client.js", str(stage.port)], cwd=scripts, env=os.environ, capture_output=True, timeout=60
        )
        assert ran.returncode == 0, ran.stderr.decode()
        said = json.loads(ran.stdout)
        assert upstream.ended("js-late") == upstream.ended("js-cancelled") == "cancelled"
    assert said == {
        "unary": ["hello", 0, "one"],
        "binary": [0, 255, 10, 13],
        "large": True,
        "many": 1000,
        "down": 200,
        "up": "300 3000000",
        "both": ",".join(map(str, range(50))),
        "errors": [[5, "none \u20ac", "one"]] * 2,
        "late": grpc.StatusCode.DEADLINE_EXCEEDED.value[0],
        "cancelled": grpc.StatusCode.CANCELLED.value[0],
    }


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "sidecar"])
def test_a_service_in_node(node_server: NodeServer, direct: bool) -> None:
    with Stage(node_server, direct=direct) as stage, stage.app() as app:
        answer, call = app.unary.with_call(b"hello", timeout=S)
        assert (answer, value(call.trailing_metadata(), "trailing-by")) == (b"hello", "node")
        assert value(call.trailing_metadata(), "trailing-bin") == bytes(range(256))
        assert app.unary(b"7" * 3_000_000, timeout=S) == b"7" * 3_000_000
        calls = [app.unary.future(b"%d" % number, timeout=S) for number in range(1000)]
        assert [one.result() for one in calls] == [b"%d" % number for number in range(1000)]
        assert list(app.down(b"m", metadata=wishes(wish_count=200), timeout=S)) == [b"m"] * 200
        assert app.up(iter([b"x" * 10_000] * 300), timeout=S) == b"300 3000000"
        assert list(app.both(iter([b"a", b"b"]), timeout=S)) == [b"a", b"b"]
        for first in (0, 1):
            asked = wishes(wish_status=5, wish_headers_first=first)
            error = failure(lambda asked=asked: app.unary(b"", metadata=asked, timeout=S))
            assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "none \u20ac")
            assert value(error.trailing_metadata(), "trailing-by") == "node"
        slow = wishes(wish_delay_ms=10_000)
        late = failure(lambda: app.unary(b"", metadata=slow, timeout=0.3))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
