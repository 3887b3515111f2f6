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


@pytest.mark.parametrize("grace", [-1, True, 1.5, "30", []])
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
    with pytest.raises(NotAPod, match="spec is no object"):
        pods.containers({})
