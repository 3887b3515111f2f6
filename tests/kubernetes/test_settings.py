from __future__ import annotations

from sidecar.config.load import load
from sidecar.kubernetes.annotations import is_config_map, is_image
from sidecar.kubernetes.quantity import cpu, memory
from sidecar.kubernetes.settings import ADMIN_PORT, PROBE_PORT, PROXY_PORT, InjectorSettings
from tests.support.daemon import ROOT


def test_the_ports_are_those_of_the_reference_configuration() -> None:
    listen = load(ROOT / "config" / "sidecar.yaml", {}).listen
    assert (listen.proxy[0].port, listen.admin.port, listen.probe.port) == (PROXY_PORT, ADMIN_PORT, PROBE_PORT)


def test_the_defaults_are_good_values() -> None:
    settings = InjectorSettings()
    assert is_image(settings.image)
    assert is_config_map(settings.config_map)
    assert cpu(settings.cpu.request)
    assert memory(settings.memory.request) < memory(settings.memory.limit)
