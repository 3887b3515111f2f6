from __future__ import annotations

from typing import Any

import pytest

from sidecar.kubernetes import pod as pods
from sidecar.kubernetes.pod import NotAPod
from tests.kubernetes.samples import pod, sample


def test_of_a_whole_pod() -> None:
    found = sample("ingress")
    assert pods.texts(found, "labels")["pod-template-hash"] == "7d6b8f8c9d"
    assert pods.texts(found, "annotations") == {}
    assert pods.namespace(found) == ""
    assert pods.namespace(sample("postgres")) == "shop"
    assert [one["name"] for one in pods.containers(found)] == ["controller"]
    assert pods.containers(found, "initContainers") == []
    assert pods.grace_s(found) == 300
    assert pods.grace_s(pod()) == 30
    assert not pods.is_windows(found)


@pytest.mark.parametrize("grace", [-1, True, 1.5, "30", [], 2**63])
def test_a_grace_period_is_a_number(grace: Any) -> None:
    with pytest.raises(NotAPod, match="terminationGracePeriodSeconds"):
        pods.grace_s(pod(terminationGracePeriodSeconds=grace))


@pytest.mark.parametrize("wrong", ["x", 1, [1], ["x"], {"a": 1}])
def test_lists_are_of_objects(wrong: Any) -> None:
    with pytest.raises(NotAPod, match="volumes"):
        pods.objects({"volumes": wrong}, "volumes", "spec.volumes")


@pytest.mark.parametrize("metadata", [[], "x", {"labels": []}, {"labels": {"a": None}}, {"labels": {1: "a"}}])
def test_metadata(metadata: Any) -> None:
    with pytest.raises(NotAPod):
        pods.texts({"metadata": metadata}, "labels")


def test_containers_have_names_and_lists() -> None:
    for wrong in ({}, {"name": 1}, {"name": "a", "env": "x"}, {"name": "a", "ports": [1]}):
        with pytest.raises(NotAPod, match=r"spec\.containers\[0\]"):
            pods.containers({"spec": {"containers": [wrong]}})
    with pytest.raises(NotAPod, match="spec is not an object"):
        pods.containers({})


def affinity(*terms: dict[str, Any] | str) -> dict[str, Any]:
    """A term that is a text is `OPERATOR VALUES` for the node's system."""
    made = []
    for term in terms:
        if isinstance(term, str):
            operator, *values = term.split()
            term = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": operator, "values": values}]}
        made.append(term)
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": made}}}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, False),
        ({"os": {"name": "windows"}}, True),
        ({"os": {"name": "linux"}, "affinity": affinity("In windows")}, False),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, True),
        ({"nodeSelector": {"beta.kubernetes.io/os": "windows"}}, True),
        ({"nodeSelector": {"kubernetes.io/os": "linux"}, "securityContext": {"windowsOptions": {"a": "b"}}}, False),
        ({"affinity": affinity("In windows")}, True),
        ({"affinity": affinity("NotIn linux")}, True),
        ({"affinity": affinity("In windows", "NotIn linux")}, True),
        ({"affinity": affinity("In windows", "In linux")}, False),
        ({"affinity": affinity("In windows linux")}, False),
        ({"affinity": affinity("NotIn windows")}, False),
        ({"affinity": affinity("In windows", {"matchFields": []})}, False),
        ({"affinity": affinity()}, False),
        ({"affinity": {"nodeAffinity": None}}, False),
        ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, True),
        ({"securityContext": {"windowsOptions": {}}}, False),
        ({"containers": [{"name": "a", "securityContext": {"windowsOptions": {"runAsUserName": "b"}}}]}, True),
        ({"initContainers": [{"name": "a", "securityContext": {"windowsOptions": {"hostProcess": True}}}]}, True),
    ],
)
def test_what_runs_on_windows(spec: dict[str, Any], expected: bool) -> None:
    assert pods.is_windows(pod(**spec)) is expected


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        ({}, []),
        ({"ports": [{"containerPort": 1}, {"containerPort": 2, "protocol": "UDP"}, {"containerPort": True}]}, [1]),
        ({"livenessProbe": {"httpGet": {"port": 3}}, "readinessProbe": {"tcpSocket": {"port": 4}}}, [3, 4]),
        ({"startupProbe": {"grpc": {"port": 5}}}, [5]),
        ({"startupProbe": {"httpGet": {"port": 6, "host": "elsewhere"}}}, []),
        ({"startupProbe": {"httpGet": {"port": "http"}}, "livenessProbe": {"exec": {}}, "readinessProbe": None}, []),
    ],
)
def test_ports_that_a_container_says_it_has(container: dict[str, Any], expected: list[int]) -> None:
    assert list(pods.ports(container)) == expected


def test_resources_of_the_whole_pod() -> None:
    assert pods.shared_resources(pod()) == set()
    assert pods.shared_resources(pod(resources={"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}})) == {
        "cpu",
        "memory",
    }


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, False),
        ({"hostNetwork": None}, False),
        ({"hostNetwork": True}, True),
        *(({"hostNetwork": word}, True) for word in ("y", "Y", "yes", "Yes", "YES", "on", "On", "ON")),
        *(({"hostNetwork": word}, False) for word in ("n", "N", "no", "No", "NO", "off", "Off", "OFF")),
    ],
)
def test_host_network(spec: dict[str, Any], expected: bool) -> None:
    assert pods.has_host_network(pod(**spec)) is expected


@pytest.mark.parametrize(
    ("context", "expected"), [(None, False), ({}, False), ({"runAsUser": 0}, True), ({"runAsUser": 1000}, False)]
)
def test_who_runs_as_root(context: Any, expected: bool) -> None:
    assert pods.runs_as_root(pod(securityContext=context)) is expected


@pytest.mark.parametrize("wrong", ["yEs", "true", "", 1, 0, [], {}])
def test_host_network_is_true_or_false(wrong: Any) -> None:
    with pytest.raises(NotAPod, match="neither true nor false"):
        pods.has_host_network(pod(hostNetwork=wrong))


@pytest.mark.parametrize(
    "spec",
    [
        {"affinity": "x"},
        {"affinity": affinity({"matchExpressions": "x"})},
        {"securityContext": []},
        {"containers": [{"name": "a", "securityContext": 1}]},
    ],
)
def test_shapes_of_what_says_windows(spec: dict[str, Any]) -> None:
    with pytest.raises(NotAPod):
        pods.is_windows(pod(**spec))
