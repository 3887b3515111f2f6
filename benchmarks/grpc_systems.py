"""The gRPC cases: their calls, and the configurations of the systems that can pass gRPC on, for the same two upstreams.

As `benchmarks.systems` for HTTP/1.1: the same policies, cleartext HTTP/2 on both sides, and calls found by their path.
The upstream is `benchmarks.h2_upstream`.
"""

from __future__ import annotations

import shutil
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Calls
from benchmarks.systems import UPSTREAM_PORTS, System, envoy, envoy_binary, haproxy, nginx, serve

METHOD = "/venue.Venue/Get"
MIB = 1 << 20


@dataclass(frozen=True)
class GrpcCase:
    """One kind of call. Sizes are those of a message with its prefix of five bytes."""

    name: str
    about: str
    connections: int = 8
    streams: int = 1
    up_bytes: int = 69
    down_bytes: int = 150
    path: str = METHOD

    def calls(self, folder: Path) -> Calls:
        message = folder / "message"
        message.write_bytes(b"\0" + struct.pack(">I", self.up_bytes - 5) + b"q" * (self.up_bytes - 5))
        return Calls(message, self.down_bytes, self.connections, self.streams)

    def upstream(self) -> list[str]:
        more = ["--down"] if self.down_bytes == MIB else []
        return [sys.executable, "-m", "benchmarks.h2_upstream", *more, *map(str, UPSTREAM_PORTS)]


GRPC_CASES = (
    GrpcCase("grpc", "unary calls, 64 bytes up and 145 down, 8 connections with 16 streams each", streams=16),
    GrpcCase("grpc1", "the same, one call at a time", connections=1),
    GrpcCase("grpc-down", "an answer of 1 MiB, 8 connections", down_bytes=MIB),
    GrpcCase("grpc-up", "a message of 1 MiB, 8 connections", up_bytes=MIB),
)


def find_for_grpc(sidecar: str, envoy_command: str | None) -> tuple[list[System], list[str]]:
    """The systems that can run here, the sidecar first; and for each one that cannot, a line about what it needs."""
    systems = [System("sidecar", 19340, lambda folder: _sidecar(folder, 19340, sidecar))]
    left_out = []
    binary = envoy_binary(envoy_command)
    if binary:
        systems.append(System("envoy", 19330, lambda folder: _envoy(folder, 19330, binary)))
    else:
        left_out.append("envoy: not found; name its binary with --envoy or in ENVOY")
    if shutil.which("haproxy"):
        systems.append(System("haproxy", 19320, lambda folder: _haproxy(folder, 19320)))
    else:
        left_out.append("haproxy: not installed; on Debian: apt-get install haproxy")
    systems.append(System("nginx", 19310, lambda folder: _nginx(folder, 19310)))
    return systems, left_out


def _sidecar(folder: Path, port: int, command: str) -> list[str]:
    one, two = UPSTREAM_PORTS
    venue = f'{{endpoints: ["h2c://127.0.0.1:{one}", "h2c://127.0.0.1:{two}"], grpc: [venue.Venue]}}'
    return serve(folder, port, command, venue)


def _nginx(folder: Path, port: int) -> list[str]:
    servers = " ".join(f"server 127.0.0.1:{port};" for port in UPSTREAM_PORTS)
    return nginx(
        folder,
        "proxy",
        f"""
        client_max_body_size 16m;
        upstream venue {{ {servers} keepalive 256; keepalive_requests 100000000; }}
        server {{
          listen 127.0.0.1:{port} http2 backlog=4096;
          location / {{
            grpc_pass grpc://venue;
            grpc_connect_timeout 1s;
            grpc_next_upstream error timeout http_502 http_503 http_504;
          }}
        }}""",
    )


def _haproxy(folder: Path, port: int) -> list[str]:
    return haproxy(folder, port, "proto h2", "")


def _envoy(folder: Path, port: int, binary: str) -> list[str]:
    retry = {"retry_on": "connect-failure,refused-stream,unavailable", "num_retries": 2}
    route = {"cluster": "venue", "timeout": "15s", "retry_policy": retry}
    http2: dict[str, object] = {
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
    }
    return envoy(folder, port, binary, {"match": {"prefix": "/"}, "route": route}, http2)


__all__ = ["GRPC_CASES", "GrpcCase", "find_for_grpc"]
