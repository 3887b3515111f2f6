"""Workloads in files: every kind, comments and order kept, and exactly the webhook's patch."""

from __future__ import annotations

import json
from typing import Any

import jsonpatch
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kubernetes.files import TEMPLATES, BadFile, inject
from sidecar.kubernetes.patch import patch
from sidecar.kubernetes.settings import InjectorSettings
from tests.kubernetes.samples import pod, pods, sample
from tests.support.kubernetes_schema import NEWEST, problems

NATIVE = InjectorSettings()
HEADS = {"Deployment": "apps/v1", "StatefulSet": "apps/v1", "DaemonSet": "apps/v1", "ReplicaSet": "apps/v1"}
HEADS |= {"Job": "batch/v1", "CronJob": "batch/v1", "Pod": "v1", "ReplicationController": "v1"}

SHOP = """\
# The shop.
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop  # its name
spec:
  selector: {matchLabels: {app: shop}}
  template:
    metadata:
      labels: {app: shop}
    spec:
      # what it runs
      containers:
        - name: shop   # the app
          image: "shop:1"
          command: ["sh", "-c", 'echo "a"']
      # where it runs
      nodeSelector: {}
---
# nothing to see
apiVersion: v1
kind: Service
metadata: {name: shop}
"""


def workload(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    inner: Any = found
    for step in reversed(TEMPLATES[kind]):
        inner = {step: inner}
    return {"apiVersion": HEADS[kind], "kind": kind, "metadata": {"name": "app"}} | inner


def template(kind: str, found: dict[str, Any]) -> Any:
    for step in TEMPLATES[kind]:
        found = found[step]
    return found


@pytest.mark.parametrize("kind", TEMPLATES)
def test_every_kind(kind: str) -> None:
    made = inject(yaml.safe_dump(workload(kind, pod())), NATIVE)
    assert (made.count, made.notes) == (1, (f"{kind} app: injected",))
    expected = jsonpatch.apply_patch(pod(), list(patch(pod(), NATIVE).patch))
    got = template(kind, yaml.safe_load(made.text))
    assert got["spec"] == expected["spec"]
    assert inject(made.text, NATIVE).text == made.text


def test_a_deployment_stays_valid() -> None:
    made = yaml.safe_load(inject(SHOP, NATIVE).text.split("\n---\n")[1])
    assert problems(made, NEWEST) == []


def test_comments_order_and_quotes_stay() -> None:
    text = inject(SHOP, NATIVE).text
    rest = iter(text.splitlines())
    for line in SHOP.splitlines():
        assert any(line == one for one in rest), f"{line!r} is gone, or elsewhere"


def test_lists_and_several_documents() -> None:
    whole = {"apiVersion": "v1", "kind": "List", "items": [workload("Job", pod()), {"kind": "Service"}]}
    text = "---\n".join(yaml.safe_dump(one) for one in (whole, workload("Pod", pod()), {"a": 1}))
    made = inject(text, NATIVE)
    assert made.count == 2
    first, second, third = yaml.safe_load_all(made.text)
    assert first["items"][0]["spec"]["template"]["spec"]["initContainers"]
    assert first["items"][1] == {"kind": "Service"}
    assert second["spec"]["initContainers"]
    assert third == {"a": 1}


def test_a_document_that_begins_in_the_markers_line() -> None:
    made = inject("--- {kind: Pod, spec: {containers: [{name: a}]}}\n---\na: 1", NATIVE)
    first, second = yaml.safe_load_all(made.text)
    assert first["spec"]["initContainers"]
    assert second == {"a": 1}


def test_json_is_yaml() -> None:
    made = inject(json.dumps(workload("Pod", sample("postgres"))), NATIVE)
    assert yaml.safe_load(made.text)["spec"]["initContainers"][0]["name"] == "sidecar"


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "a: 1\n", "[]\n", "kind: Service   # odd   spacing\n", "--- 1\n--- 2\n"]
)
def test_where_there_is_nothing_to_do_not_a_byte_changes(text: str) -> None:
    made = inject(text, NATIVE)
    assert (made.text, made.count) == (text, 0)


def test_who_refuses_is_told() -> None:
    refusing = workload("Pod", {"spec": pod()["spec"]})
    refusing["metadata"]["annotations"] = {"sidecar.dev/inject": "false", "sidecar.dev/cpuu": "1"}
    made = inject(yaml.safe_dump(refusing), NATIVE)
    assert made.count == 0
    assert made.notes[-1] == "Pod app: left as it is (refused)"
    assert "did you mean sidecar.dev/cpu?" in made.notes[0]


def test_an_alias_gets_an_addition_in_each_place() -> None:
    text = """\
kind: Pod
metadata: {name: a, annotations: {sidecar.dev/http-proxy: "true"}}
spec:
  containers:
  - {name: one, env: &env [{name: A, value: "1"}]}
  - {name: two, env: *env}
"""
    made = yaml.safe_load(inject(text, NATIVE).text)
    for container in made["spec"]["containers"]:
        assert [one["name"] for one in container["env"]] == ["A", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "line 1"),
        ("a: 1\n---\nb: [\n", "line 4"),
        ("--- {a: [}\n", "line 1"),
        (SHOP + "---\nb: ]\n", "line 26"),
        ("a: 1\na: 2\n", "line 2"),
        ("kind: Deployment\n", "has no spec.template"),
        ("kind: Pod\nspec: {containers: [{name: sidecar}]}\n", "another container called sidecar"),
        ("a: !!python/object:os.system x\n--- [\n", "line"),
        ("\x00", "no YAML|special characters"),
    ],
)
def test_what_cannot_be_used(text: str, words: str) -> None:
    with pytest.raises(BadFile, match=words):
        inject(text, NATIVE)


@pytest.mark.parametrize("text", ["\x85", "a\u2028b", "ä\u2029", "ä"])
def test_what_only_some_readers_take_for_a_line_end(text: str) -> None:
    whole = workload("Pod", pod(containers=[{"name": "a", "args": [text]}]))
    made = inject(yaml.safe_dump(whole), NATIVE).text
    assert yaml.safe_load(made)["spec"]["containers"][0]["args"] == [text]
    if text != "ä":
        with pytest.raises(BadFile, match="write it as an escape"):
            inject(yaml.safe_dump(whole, allow_unicode=True), NATIVE)


def test_a_loop_of_aliases_ends() -> None:
    try:
        inject("kind: Pod\nspec: &s {containers: [{name: a}], again: *s}\n", NATIVE)
    except BadFile as bad:
        assert "deep" in str(bad)  # noqa: PT017 - either is right, as long as it ends


@given(pods(), st.sampled_from(["Pod", "Deployment", "CronJob"]))
def test_it_is_the_webhooks_patch(found: dict[str, Any], kind: str) -> None:
    if kind == "Pod":
        found = {"apiVersion": "v1", "kind": "Pod"} | found
    whole = workload(kind, found) if kind != "Pod" else found
    text = yaml.safe_dump(whole, sort_keys=False)
    expected = jsonpatch.apply_patch(found, list(patch(found, NATIVE).patch))
    got = template(kind, yaml.safe_load(inject(text, NATIVE).text))
    assert got == expected
