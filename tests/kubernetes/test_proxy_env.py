from __future__ import annotations

from typing import Any

import jsonpatch
import pytest

from sidecar.kubernetes.proxy_env import proxy_env
from sidecar.kubernetes.settings import InjectorSettings
from tests.kubernetes.samples import pod, sample

SETTINGS = InjectorSettings(no_proxy=("localhost",))
BOTH = [
    {"name": "HTTP_PROXY", "value": "http://localhost:15001"},
    {"name": "http_proxy", "value": "http://localhost:15001"},
    {"name": "NO_PROXY", "value": "localhost"},
    {"name": "no_proxy", "value": "localhost"},
]


def with_proxy(found: dict[str, Any], wanted: bool | tuple[str, ...]) -> tuple[dict[str, Any], list[str]]:
    warnings: list[str] = []
    made = jsonpatch.apply_patch(found, list(proxy_env(found, wanted, SETTINGS, warnings)))
    return made["spec"], warnings


def containers(*names: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, **more} for name in names]


def test_every_container_and_no_init_container() -> None:
    spec, warnings = with_proxy(pod(containers=containers("a", "b"), initContainers=containers("i")), True)
    assert [one["env"] for one in spec["containers"]] == [BOTH, BOTH]
    assert "env" not in spec["initContainers"][0]
    assert warnings == []


def test_those_that_are_named() -> None:
    spec, warnings = with_proxy(pod(containers=containers("a", "b"), initContainers=containers("i")), ("b", "i", "x"))
    assert "env" not in spec["containers"][0]
    assert spec["containers"][1]["env"] == BOTH
    assert spec["initContainers"][0]["env"] == BOTH
    assert warnings == ["annotation sidecar.dev/http-proxy: there is no container x; ignored"]


def test_beside_an_ordinary_sidecar_no_init_container_gets_one() -> None:
    """It runs before the sidecar, so each of its calls would be refused."""
    found, warnings = pod(initContainers=containers("migrate")), list[str]()
    ordinary = InjectorSettings(native=False)
    made = jsonpatch.apply_patch(found, list(proxy_env(found, ("app", "migrate"), ordinary, warnings)))
    assert "env" in made["spec"]["containers"][0]
    assert "env" not in made["spec"]["initContainers"][0]
    (warning,) = warnings
    assert "migrate is an init container, which runs before an ordinary sidecar; ignored" in warning


def test_beside_an_ordinary_sidecar_an_apps_own_native_one_gets_it() -> None:
    found, warnings = pod(initContainers=containers("log", restartPolicy="Always")), list[str]()
    ordinary = InjectorSettings(native=False, no_proxy=SETTINGS.no_proxy)
    made = jsonpatch.apply_patch(found, list(proxy_env(found, ("log",), ordinary, warnings)))
    assert made["spec"]["initContainers"][0]["env"] == BOTH
    assert warnings == []


def test_none() -> None:
    assert with_proxy(pod(), False)[0] == pod()["spec"]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy"])
def test_an_http_proxy_of_its_own_stays(name: str) -> None:
    env = [{"name": name, "value": "http://corp:3128"}]
    spec, warnings = with_proxy(pod(containers=containers("a", env=env)), True)
    assert spec["containers"][0]["env"] == env
    assert warnings == ["container a has its own HTTP_PROXY, which is kept"]


def test_a_no_proxy_of_its_own_stays() -> None:
    spec, warnings = with_proxy(sample("job"), True)
    assert [one["name"] for one in spec["containers"][0]["env"]] == ["NO_PROXY", "HTTP_PROXY", "http_proxy"]
    assert warnings == ["container report has its own NO_PROXY, which is kept"]
