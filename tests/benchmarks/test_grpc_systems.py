"""The gRPC cases of the benchmark: their messages, and the configurations of the systems."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.grpc_systems import GRPC_CASES, METHOD, GrpcCase, find_for_grpc
from benchmarks.systems import UPSTREAM_PORTS
from sidecar.config.load import loads


@pytest.mark.parametrize("case", GRPC_CASES, ids=lambda case: case.name)
def test_its_message_is_one_of_grpc(case: GrpcCase, tmp_path: Path) -> None:
    message = case.calls(tmp_path).message.read_bytes()
    assert len(message) == case.up_bytes
    assert (message[0], int.from_bytes(message[1:5], "big")) == (0, case.up_bytes - 5)


def test_the_sidecar_finds_the_calls_by_their_path(tmp_path: Path) -> None:
    systems, _ = find_for_grpc("sidecar", "/bin/true")
    command = systems[0].configure(tmp_path)
    assert command[:2] == ["sidecar", "run"]
    service = loads((tmp_path / "sidecar.yaml").read_text(), "sidecar.yaml", {}).services["venue"]
    assert list(service.grpc) == [METHOD.split("/")[1]]
    assert [endpoint.url.port for endpoint in service.endpoints] == list(UPSTREAM_PORTS)


def test_envoy_speaks_http2_to_the_upstreams(tmp_path: Path) -> None:
    systems, _ = find_for_grpc("sidecar", "/bin/true")
    (envoy,) = (system for system in systems if system.name == "envoy")
    assert envoy.configure(tmp_path)[0] == "/bin/true"
    (cluster,) = json.loads((tmp_path / "envoy.json").read_text())["static_resources"]["clusters"]
    (options,) = cluster["typed_extension_protocol_options"].values()
    assert options["explicit_http_config"] == {"http2_protocol_options": {}}
