"""The scenes of the benchmark of many services and endpoints: what they configure, and whom wrk asks."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from benchmarks.scale import SCENES, Scene, address
from sidecar.config.load import load


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.about)
def test_each_scene_is_a_configuration(scene: Scene, tmp_path: Path) -> None:
    path = tmp_path / "sidecar.yaml"
    path.write_text(scene.config(19310))
    config = load(path, {})
    assert len(config.services) == scene.services
    assert {len(service.endpoints) for service in config.services.values()} == {scene.endpoints}
    assert {service.policy.limits.max_connections for service in config.services.values()} == {scene.limit}


def test_each_endpoint_has_an_address_of_its_own_on_the_loopback() -> None:
    hosts = [address(number).removeprefix("http://").partition(":")[0] for number in range(70_000)]
    assert len(set(hosts)) == len(hosts)
    assert all(ipaddress.ip_address(host).is_loopback for host in hosts)


def test_the_load_goes_to_each_service() -> None:
    script = Scene("many", services=7).script()
    assert "for number = 0, 6 do" in script
    assert "% 7" in script
