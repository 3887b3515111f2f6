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


@pytest.mark.parametrize("odd", [None, 3, {}, [None, 3, {}, {"metadata": {"name": 3}}]])
def test_a_claim_takes_no_volume_of_the_sidecar(odd: object) -> None:
    """The controller puts a volume for each claim into the pod, in the place of one that is called so."""
    found = workload("StatefulSet", pod())
    claims = [{"metadata": {"name": "sidecar-config"}}]
    found["spec"]["volumeClaimTemplates"] = claims
    got = yaml.safe_load(inject(yaml.safe_dump(found), NATIVE).text)["spec"]
    ours = [one["name"] for one in got["template"]["spec"]["volumes"] if "configMap" in one]
    assert ours == ["sidecar-config-2"]
    (container,) = (one for one in got["template"]["spec"]["initContainers"] if one["name"] == "sidecar")
    assert container["volumeMounts"][0]["name"] == "sidecar-config-2"
    assert got["volumeClaimTemplates"] == claims

    found["spec"]["volumeClaimTemplates"] = odd
    assert inject(yaml.safe_dump(found), NATIVE).count == 1


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


@pytest.mark.parametrize("indent", [None, 2, 4, "\t"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_json_stays_json(indent: int | str | None, end: str) -> None:
    whole = workload("Pod", sample("postgres"))
    whole["metadata"]["note"] = "ä \u2028 \ud800 \x7f \U0001f600"
    text = json.dumps(whole, indent=indent) + end
    made = inject(text, NATIVE).text
    again = json.loads(made)
    assert again["spec"]["initContainers"][0]["name"] == "sidecar"
    assert again["metadata"]["note"] == whole["metadata"]["note"]
    assert made.encode().count(b"\n") == (made.count("\n") if indent else end.count("\n"))
    assert made.endswith("}" + end)
    if indent:
        assert made.splitlines()[:3] == text.splitlines()[:3]


def test_json_among_other_documents() -> None:
    one = json.dumps({"kind": "Pod", "spec": {"containers": [{"name": "a"}]}})
    made = inject(f"--- # one\n{one}\n---\na: 1\n---\n{one}", NATIVE)
    assert made.count == 2
    assert [len(found) for found in yaml.safe_load_all(made.text)] == [3, 1, 3]
    assert made.text.splitlines()[1].startswith('{"kind": "Pod"')


def test_a_flow_mapping_that_is_no_json_stays_yaml() -> None:
    made = inject("{kind: Pod, spec: {containers: [{name: a}]}}\n", NATIVE)
    assert yaml.safe_load(made.text)["spec"]["initContainers"]


@given(pods(), st.sampled_from(["Pod", "Deployment", "CronJob"]))
def test_json_gets_the_webhooks_patch(found: dict[str, Any], kind: str) -> None:
    whole = workload(kind, found) if kind != "Pod" else {"apiVersion": "v1", "kind": "Pod"} | found
    expected = jsonpatch.apply_patch(found, list(patch(found, NATIVE).patch))
    got = template(kind, json.loads(inject(json.dumps(whole), NATIVE).text))
    assert {key: got[key] for key in expected} == expected


@pytest.mark.parametrize(
    "text", [SHOP, "kind: Pod\nspec:\n  containers:\n  - name: a\n    args:\n    - |\n      x\n      y\n"]
)
def test_crlf_stays_crlf(text: str) -> None:
    made = inject(text.replace("\n", "\r\n"), NATIVE)
    assert made == inject(text, NATIVE).__replace__(text=inject(text, NATIVE).text.replace("\n", "\r\n"))
    with pytest.raises(BadFile, match="some in LF"):
        inject(text.replace("\n", "\r\n", 5), NATIVE)
    assert inject("a: 1\r\nb: 1\n", NATIVE).text == "a: 1\r\nb: 1\n"


@pytest.mark.parametrize(
    "line",
    [
        "image: {{ .Values.image }}",
        "{{- if .Values.env }}",
        "{{ toYaml .Values.x | indent 4 }}",
        "args: [{{ .Values.x }}]",
        "{% if x %}",
        "args: {{ .Values.image }}-{{ .Values.tag }}",
    ],
)
def test_a_template_is_refused(line: str) -> None:
    before = "kind: Pod\nspec:\n  containers:\n  - name: a\n"
    for text, number in ((f"{before}    {line}\n", 5), (f"a: 1\n---\n{before}    {line}\n    tty: true\n", 7)):
        with pytest.raises(BadFile, match=rf"^line ({number}|{number + 1}): this is a template: render it first"):
            inject(text, NATIVE)


def test_what_only_looks_like_a_template_is_none() -> None:
    text = SHOP.replace('"shop:1"', '"{{workflow.image}}"')
    assert '"{{workflow.image}}"' in inject(text, NATIVE).text


@pytest.mark.parametrize(
    "found",
    [
        {"kind": "Rollout", "spec": {"template": {"spec": {"containers": []}}}},
        {"kind": "PodTemplate", "template": {"spec": {"containers": [{}]}}},
        {"kind": "CronRollout", "spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": []}}}}}},
        {"kind": "RolloutList", "items": [{"kind": "Rollout", "spec": {"template": {"spec": {"containers": []}}}}]},
    ],
)
def test_kinds_that_are_not_known_are_told(found: dict[str, Any]) -> None:
    text = json.dumps(found)
    made = inject(text, NATIVE)
    assert (made.text, made.count) == (text, 0)
    assert len(made.notes) == 1
    assert "left as it is (an unknown kind, although it has a pod template)" in made.notes[0]


def test_a_kind_of_the_same_name_from_elsewhere_is_left_alone_and_told() -> None:
    """A Job of Volcano has its pods in `spec.tasks`: it is no reason to refuse what else is in the file."""
    job = {"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": {"name": "v"}, "spec": {"tasks": []}}
    made = inject("---\n".join(yaml.safe_dump(one) for one in (job, workload("Pod", pod()))), NATIVE)
    assert made.notes == (
        "Job v: left as it is (of batch.volcano.sh/v1alpha1, an unknown group)",
        "Pod app: injected",
    )


@pytest.mark.parametrize("kind", TEMPLATES)
def test_items_of_a_typed_list_are_of_its_kind(kind: str) -> None:
    """As `kubectl get --raw` gives them: kubectl takes them so."""
    item = workload(kind, pod())
    del item["kind"], item["apiVersion"]
    whole = {"apiVersion": HEADS[kind], "kind": f"{kind}List", "metadata": {}, "items": [item]}
    made = inject(json.dumps(whole), NATIVE)
    assert made.notes == (f"{kind} app: injected",)
    (got,) = json.loads(made.text)["items"]
    assert template(kind, got)["spec"]["initContainers"][0]["name"] == "sidecar"
    assert "kind" not in got


HOST_NETWORK = "kind: Pod\nmetadata: {{name: a}}\nspec: {{hostNetwork: {word}, containers: [{{name: a}}]}}\n"


@pytest.mark.parametrize("word", ["yes", "on", "True", '"true"'])
def test_host_network_in_words_that_only_some_readers_take_for_true(word: str) -> None:
    """To kubectl, which reads YAML 1.1, `yes` is true; here it is a text."""
    text = HOST_NETWORK.format(word=word)
    made = inject(text, NATIVE)
    assert (made.text, made.count) == (text, 0)


@pytest.mark.parametrize("word", ["no", "off"])
def test_no_host_network_in_words_that_only_some_readers_take_for_false(word: str) -> None:
    made = inject(HOST_NETWORK.format(word=word), NATIVE)
    assert made.count == 1
    assert f"hostNetwork: {word}," in made.text


def test_pull_secrets_take_the_service_accounts_away() -> None:
    secret = InjectorSettings(image_pull_secrets=("ours",))
    (warning, _) = inject(yaml.safe_dump(workload("Pod", pod(imagePullSecrets=[]))), secret).notes
    assert "service account no longer apply" in warning
    assert len(inject(yaml.safe_dump(workload("Pod", pod(imagePullSecrets=[{"name": "own"}]))), secret).notes) == 1


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


def test_pods_that_share_by_an_alias_get_theirs_each() -> None:
    text = """\
kind: List
items:
- kind: Pod
  metadata: {name: a}
  spec: &spec
    volumes: &volumes [{name: v, emptyDir: {}}]
    containers: &containers [{name: one}]
- kind: Pod
  metadata: {name: b}
  spec: {volumes: *volumes, containers: *containers}
- kind: Pod
  metadata: {name: c}
  spec: *spec
"""
    for settings in (NATIVE, InjectorSettings(native=False)):
        found = yaml.safe_load(inject(text, settings).text)["items"]
        for before, after in zip(yaml.safe_load(text)["items"], found, strict=True):
            expected = jsonpatch.apply_patch(before, list(patch(before, settings).patch))
            assert after == expected


def test_what_is_outside_of_the_pod_stays() -> None:
    whole = "kind: Job\nmetadata: {annotations: &a {x: y}}\nspec: {template: {metadata: {annotations: *a}, spec: "
    made = yaml.safe_load(inject(whole + "{containers: [{name: a}]}}}\n", NATIVE).text)
    assert made["metadata"] == {"annotations": {"x": "y"}}
    assert len(made["spec"]["template"]["metadata"]["annotations"]) == 2


def test_an_anchor_may_be_used_again() -> None:
    """With warnings as errors, as here, a warning of the YAML library would be one."""
    text = """\
kind: Pod
spec:
  containers:
  - {name: a, env: &env [{name: A, value: "1"}]}
  - {name: b, env: &env [{name: B, value: "2"}]}
  - {name: c, env: *env}
"""
    made = yaml.safe_load(inject(text, NATIVE).text)
    assert [one["env"][0]["name"] for one in made["spec"]["containers"]] == ["A", "B", "B"]


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 12))]
    with pytest.raises(BadFile, match="its aliases, written out"):
        inject("\n".join(["kind: Pod", *lines, "spec: {containers: [{name: a}]}"]), NATIVE)


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
        ("\x00", "not YAML|special characters"),
        ("\ufeffkind: Pod\n", "line 1: it begins with a byte order mark"),
        ("a: 1\n---\n\ufeffkind: Pod\n", "line 3: it begins with a byte order mark"),
        ("a: 1\n? [1]\n: 2\n", "line 1: a list or a mapping cannot be a key"),
        ("? {a: {b: c}}\n: 2\n", "a list or a mapping cannot be a key"),
        ("a: {}\n? {a: [{b: c}]}\n", "a list or a mapping cannot be a key"),
        ("kind: Pod\nname: {{ .x }}\n? {a: {b: c}}\n", "this is a template"),
        ('{"kind": "Pod", "kind": "Job"}', "the key kind occurs twice"),
        ('{"kind": "Pod", "x": 1e999, "spec": {"containers": [{"name": "a"}]}}', "a number that is out of range"),
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


def test_a_pod_that_is_merged_into_another_is_refused() -> None:
    text = """apiVersion: v1
kind: List
items:
  - apiVersion: v1
    kind: Pod
    metadata: {name: one}
    spec: &spec
      containers: [{name: app, image: app}]
  - apiVersion: v1
    kind: Pod
    metadata: {name: two}
    spec:
      <<: *spec
      restartPolicy: Never
"""
    with pytest.raises(BadFile, match="merged into another"):
        inject(text, InjectorSettings())


@pytest.mark.parametrize("tagged", ["!mine app", "!!python/object:x app", "!include {file: x}"])
def test_a_tag_that_only_its_author_knows_is_refused_in_words(tagged: str) -> None:
    text = (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: one}}\nspec:\n  containers: [{{name: app, image: {tagged}}}]\n"
    )
    with pytest.raises(BadFile):
        inject(text, InjectorSettings())
