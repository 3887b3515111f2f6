"""deploy/k8s: everything renders, validates against the oldest and the newest Kubernetes, and keeps its promises."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sidecar import __version__
from sidecar.config.load import loads
from sidecar.kubernetes.annotations import INJECT
from sidecar.kubernetes.authority import KEYS
from sidecar.kubernetes.patch import patch
from sidecar.kubernetes.settings import InjectorSettings
from sidecar.kubernetes.webhook import PATHS
from tests.support import custom_resources, wants
from tests.support.daemon import ROOT
from tests.support.kubernetes_schema import NATIVE_OLDEST, NEWEST, OLDEST, problems, spec_problems
from tests.support.kustomize import is_component, key, render

FOLDER = ROOT / "deploy" / "k8s"
FOLDERS = sorted(path.parent for path in FOLDER.rglob("kustomization.yaml"))
PLACES = [str(folder.relative_to(FOLDER)) for folder in FOLDERS if not is_component(folder)]
COMPONENTS = [str(folder.relative_to(FOLDER)) for folder in FOLDERS if is_component(folder)]
NATIVE = {"base", "overlays/cert-manager", "overlays/fail-closed"}
"""For clusters that know native sidecars, and conditions of webhooks."""


def has_kubectl() -> bool:
    """One that knows components: Debian 12's kubernetes-client, of version 1.20, does not."""
    if shutil.which("kubectl") is None:
        return False
    command = ["kubectl", "version", "--client", "--output=json"]
    version = json.loads(subprocess.run(command, capture_output=True, timeout=60, check=True).stdout)["clientVersion"]
    return (int(version["major"]), int(re.match(r"\d+", version["minor"])[0])) >= (1, 21)  # type: ignore[index]


KUBECTL = has_kubectl()
needs_kubectl = wants.of_the_machine("kubectl 1.21 or newer", there=KUBECTL)


def rendered(place: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    objects = render(FOLDER / place)
    found = {key(one): one for one in objects}
    assert len(found) == len(objects), "something is there twice"
    return found


def kubectl_kustomize(folder: Path) -> list[dict[str, Any]]:
    run = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return list(yaml.safe_load_all(run.stdout))


def path_to(place: str, folder: Path) -> str:
    """kustomize reads relative paths alone."""
    return os.path.relpath(FOLDER / place, folder.resolve())


def pod_spec(one: dict[str, Any]) -> dict[str, Any]:
    found = one["spec"]["template"]["spec"]
    assert isinstance(found, dict)
    return found


def test_there_is_what_the_documentation_names() -> None:
    assert PLACES == [
        "base",
        "discovery",
        "example",
        "overlays/cert-manager",
        "overlays/fail-closed",
        "overlays/no-native-sidecar",
        "policy",
    ]
    assert COMPONENTS == ["components/cert-manager", "components/fail-closed", "components/no-native-sidecar"]


@pytest.mark.parametrize("newest", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_every_object_validates(place: str, newest: bool) -> None:
    version = NEWEST if newest else NATIVE_OLDEST if place in NATIVE else OLDEST
    for one in rendered(place).values():
        found = custom_resources.problems(one) if custom_resources.is_custom(one) else problems(one, version)
        assert found == [], one["metadata"]
        if one["kind"] == "Deployment":
            assert spec_problems(pod_spec(one)) == []


@needs_kubectl  # which the renderer is held to
@pytest.mark.parametrize("place", PLACES)
def test_kubectl_renders_the_same(place: str) -> None:
    theirs = {key(one): one for one in kubectl_kustomize(FOLDER / place)}
    assert theirs == rendered(place)


@pytest.mark.parametrize("place", PLACES)
def test_references_lead_somewhere(place: str) -> None:
    objects = rendered(place)
    for (kind, namespace, _), one in objects.items():
        if kind == "Deployment" and (account := pod_spec(one).get("serviceAccountName")):
            assert ("ServiceAccount", namespace, account) in objects
        if kind in ("RoleBinding", "ClusterRoleBinding"):
            ref = one["roleRef"]
            assert (ref["kind"], namespace if ref["kind"] == "Role" else "", ref["name"]) in objects
        if kind == "MutatingWebhookConfiguration":
            for webhook in one["webhooks"]:
                service = webhook["clientConfig"]["service"]
                (port,) = objects["Service", service["namespace"], service["name"]]["spec"]["ports"]
                assert port["port"] == service["port"]
                assert service["path"] in PATHS
        if kind == "Service":
            hit = [
                other
                for (other_kind, there, _), other in objects.items()
                if other_kind == "Deployment"
                and there == namespace
                and one["spec"]["selector"].items() <= other["spec"]["template"]["metadata"]["labels"].items()
            ]
            assert len(hit) == 1
            names = {port["name"] for port in pod_spec(hit[0])["containers"][0]["ports"]}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= names


def test_the_injector_may_do_two_things_and_no_more() -> None:
    rules = [
        rule for (kind, *_), one in rendered("base").items() if kind in ("Role", "ClusterRole") for rule in one["rules"]
    ]
    assert sorted((rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in rules) == [
        (["mutatingwebhookconfigurations"], ["sidecar-injector"], ["get", "patch"]),
        (["secrets"], ["sidecar-injector-tls"], ["get", "update"]),
    ]


def test_the_secret_is_empty_so_that_applying_it_again_takes_nothing_away() -> None:
    secret = rendered("base")["Secret", "sidecar-system", "sidecar-injector-tls"]
    assert "data" not in secret
    assert "stringData" not in secret
    assert set(KEYS.values()) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}


def test_one_injector_may_go_at_a_time_and_they_are_on_nodes_of_their_own() -> None:
    objects = rendered("base")
    deployment = objects["Deployment", "sidecar-system", "sidecar-injector"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["replicas"] == 2
    affinity = pod_spec(deployment)["affinity"]["podAntiAffinity"]
    (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert preferred["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= labels.items()
    budget = objects["PodDisruptionBudget", "sidecar-system", "sidecar-injector"]["spec"]
    assert budget["minAvailable"] == 1
    assert budget["selector"]["matchLabels"].items() <= labels.items()


def test_the_network_policy_lets_in_what_the_injector_listens_on_and_out_what_it_asks() -> None:
    objects = rendered("base")
    (container,) = pod_spec(objects["Deployment", "sidecar-system", "sidecar-injector"])["containers"]
    policy = objects["NetworkPolicy", "sidecar-system", "sidecar-injector"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert let_in == {port["containerPort"] for port in container["ports"]}
    let_out = {(port["protocol"], port["port"]) for rule in policy["egress"] for port in rule["ports"]}
    assert let_out == {("TCP", 443), ("TCP", 6443), ("TCP", 53), ("UDP", 53)}


def test_the_injector_is_never_asked_about_itself() -> None:
    objects = rendered("base")
    labels = objects["Namespace", "", "sidecar-system"]["metadata"]["labels"]
    assert labels["sidecar.dev/inject"] == "false"
    for webhook in objects["MutatingWebhookConfiguration", "", "sidecar-injector"]["webhooks"]:
        (named,) = [
            one
            for one in webhook["namespaceSelector"]["matchExpressions"]
            if one["key"] == "kubernetes.io/metadata.name"
        ]
        assert named["operator"] == "NotIn"
        assert {"sidecar-system", "kube-system"} <= set(named["values"])


def test_who_is_asked_for_by_which_webhook() -> None:
    webhooks = rendered("base")["MutatingWebhookConfiguration", "", "sidecar-injector"]["webhooks"]
    paths = {one["name"]: one["clientConfig"]["service"]["path"] for one in webhooks}
    assert paths == {"namespace.sidecar.dev": "/inject", "pod.sidecar.dev": "/inject/asked"}
    assert {one["failurePolicy"] for one in webhooks} == {"Ignore"}
    assert {one["sideEffects"] for one in webhooks} == {"None"}


@pytest.mark.parametrize("place", ["base", "overlays/no-native-sidecar"])
def test_who_does_not_ask_is_not_asked_about(place: str) -> None:
    """Else each pod of the cluster would wait for the injector; versions before 1.28 cannot say so."""
    in_labelled, elsewhere = rendered(place)["MutatingWebhookConfiguration", "", "sidecar-injector"]["webhooks"]
    assert "matchConditions" not in in_labelled
    assert ("matchConditions" in elsewhere) == (place in NATIVE)
    for one in elsewhere.get("matchConditions", []):
        assert one["expression"] == " || ".join(
            f"has(object.metadata.{where}) && {json.dumps(INJECT)} in object.metadata.{where}"
            for where in ("annotations", "labels")
        )


@needs_kubectl  # the renderer knows no namespace
@pytest.mark.parametrize("place", sorted(NATIVE - {"overlays/cert-manager"} | {"overlays/no-native-sidecar"}))
def test_it_can_be_put_into_another_namespace(place: str, tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text(f"namespace: elsewhere\nresources: [{path_to(place, tmp_path)}]\n")
    objects = {key(one): one for one in kubectl_kustomize(tmp_path)}
    spec = pod_spec(objects["Deployment", "elsewhere", "sidecar-injector"])
    (env,) = [one for one in spec["containers"][0]["env"] if one["name"] == "SIDECAR_INJECTOR_NAMESPACE"]
    assert env["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert objects["Namespace", "", "elsewhere"]["metadata"]["labels"]["sidecar.dev/inject"] == "false"
    for webhook in objects["MutatingWebhookConfiguration", "", "sidecar-injector"]["webhooks"]:
        assert webhook["clientConfig"]["service"]["namespace"] == "elsewhere"
        # What keeps its own pods from it is the namespace's label; the name in the selectors says it once more.
        (labelled,) = [
            one for one in webhook["namespaceSelector"]["matchExpressions"] if one["key"] == "sidecar.dev/inject"
        ]
        assert ("false" in labelled["values"]) == (labelled["operator"] == "NotIn")
    for kind in ("RoleBinding", "ClusterRoleBinding"):
        (subject,) = objects[kind, "elsewhere" if kind == "RoleBinding" else "", "sidecar-injector"]["subjects"]
        assert subject["namespace"] == "elsewhere"
    assert {where for _, where, _ in objects} == {"", "elsewhere"}


def test_the_overlays_change_what_they_say() -> None:
    closed = rendered("overlays/fail-closed")["MutatingWebhookConfiguration", "", "sidecar-injector"]
    assert [one["failurePolicy"] for one in closed["webhooks"]] == ["Fail", "Ignore"]
    spec = pod_spec(rendered("overlays/fail-closed")["Deployment", "sidecar-system", "sidecar-injector"])
    assert {"name": "SIDECAR_INJECTOR_FAIL_CLOSED", "value": "true"} in spec["containers"][0]["env"]
    old = pod_spec(rendered("overlays/no-native-sidecar")["Deployment", "sidecar-system", "sidecar-injector"])
    assert {"name": "SIDECAR_INJECTOR_NATIVE", "value": "false"} in old["containers"][0]["env"]
    managed = rendered("overlays/cert-manager")
    assert not {kind for kind, *_ in managed} & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding", "Secret"}
    spec = pod_spec(managed["Deployment", "sidecar-system", "sidecar-injector"])
    secret = managed["Certificate", "sidecar-system", "sidecar-injector"]["spec"]["secretName"]
    assert spec["volumes"] == [{"name": "tls", "secret": {"secretName": secret}}]
    assert spec["automountServiceAccountToken"] is False


@pytest.mark.parametrize("order", list(itertools.permutations(COMPONENTS)), ids=str)
def test_the_components_go_together_in_any_order(order: tuple[str, ...], tmp_path: Path) -> None:
    """As for cert-manager's certificates and no pod without its sidecar: two overlays cannot be added up."""
    text = {"resources": [path_to("base", tmp_path)], "components": [path_to(one, tmp_path) for one in order]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"kind": "Kustomization"} | text))
    objects = {key(one): one for one in render(tmp_path)}
    if KUBECTL:
        assert objects == {key(one): one for one in kubectl_kustomize(tmp_path)}
    env = pod_spec(objects["Deployment", "sidecar-system", "sidecar-injector"])["containers"][0]["env"]
    given = {one["name"]: one.get("value") for one in env}
    assert len(given) == len(env)
    assert given["SIDECAR_INJECTOR_NATIVE"] == "false"
    assert given["SIDECAR_INJECTOR_FAIL_CLOSED"] == "true"
    assert given["SIDECAR_INJECTOR_CERTIFICATES"] == "/tls"
    configuration = objects["MutatingWebhookConfiguration", "", "sidecar-injector"]
    assert [one["failurePolicy"] for one in configuration["webhooks"]] == ["Fail", "Ignore"]
    assert not any("matchConditions" in one for one in configuration["webhooks"])
    assert configuration["metadata"]["annotations"].keys() == {"cert-manager.io/inject-ca-from"}
    assert not {kind for kind, *_ in objects} & {"Role", "ClusterRole", "Secret"}


def test_an_overlay_is_the_base_with_one_component() -> None:
    for component in COMPONENTS:
        overlay = FOLDER / component.replace("components", "overlays")
        found = yaml.safe_load((overlay / "kustomization.yaml").read_text())
        assert found["resources"] == ["../../base"]
        assert found["components"] == [f"../../{component}"]
        assert "patches" not in found


def test_what_cert_manager_renews_is_trusted_before_it_is_served() -> None:
    """caBundle changes at once, and what the kubelet mounts a minute later: so what is trusted has to stay the same.

    A certificate that signed itself would be another CA at each renewal. And the CA keeps its key, so that what the old
    one has signed is as good to the new one.
    """
    objects = rendered("overlays/cert-manager")
    issuers = {name: one["spec"] for (kind, _, name), one in objects.items() if kind == "Issuer"}
    certificates = {name: one["spec"] for (kind, _, name), one in objects.items() if kind == "Certificate"}
    annotations = objects["MutatingWebhookConfiguration", "", "sidecar-injector"]["metadata"]["annotations"]
    namespace, _, trusted = annotations["cert-manager.io/inject-ca-from"].partition("/")
    serving = certificates.pop(trusted)
    (volume,) = pod_spec(objects["Deployment", namespace, "sidecar-injector"])["volumes"]
    assert serving["secretName"] == volume["secret"]["secretName"]
    assert {f"sidecar-injector.{namespace}.svc"} <= set(serving["dnsNames"])
    (ca,) = certificates.values()
    assert ca["isCA"]
    assert issuers[serving["issuerRef"]["name"]] == {"ca": {"secretName": ca["secretName"]}}
    assert issuers[ca["issuerRef"]["name"]] == {"selfSigned": {}}
    assert ca["privateKey"]["rotationPolicy"] == "Never"
    assert ca["secretName"] != serving["secretName"]


def test_the_environment_of_the_injector_is_understood() -> None:
    from click.testing import CliRunner

    from sidecar.cli.injection import injector

    known = {option.envvar for option in injector.params}  # type: ignore[attr-defined]
    for place in NATIVE | {"overlays/no-native-sidecar"}:
        env = pod_spec(rendered(place)["Deployment", "sidecar-system", "sidecar-injector"])["containers"][0]["env"]
        assert {one["name"] for one in env} <= known
        given = {one["name"]: one.get("value", "sidecar-system") for one in env}
        result = CliRunner().invoke(injector, ["--help"], env=given)
        assert result.exit_code == 0


def test_images_are_of_this_version() -> None:
    spec = pod_spec(rendered("base")["Deployment", "sidecar-system", "sidecar-injector"])
    (container,) = spec["containers"]
    env = {one["name"]: one.get("value") for one in container["env"]}
    assert container["image"] == f"service-sidecar-injector:{__version__}"
    assert env["SIDECAR_INJECTOR_IMAGE"] == InjectorSettings().image == f"service-sidecar:{__version__}"


@needs_kubectl  # the renderer knows no images
def test_the_documented_kustomization_puts_both_images_elsewhere(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "kubernetes.md").read_text()
    (block,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "\nimages:\n" in block]
    (tmp_path / "kustomization.yaml").write_text(block.replace("deploy/k8s/base", path_to("base", tmp_path)))
    (spec,) = [pod_spec(one) for one in kubectl_kustomize(tmp_path) if one["kind"] == "Deployment"]
    (container,) = spec["containers"]
    assert container["image"] == f"registry.example/service-sidecar-injector:{__version__}"
    assert {
        "name": "SIDECAR_INJECTOR_IMAGE",
        "value": f"registry.example/service-sidecar:{__version__}",
    } in container["env"]


@pytest.mark.parametrize("native", [True, False])
def test_the_pods_of_the_example_can_be_injected(native: bool) -> None:
    import jsonpatch

    for (kind, namespace, _), one in rendered("example").items():
        if kind != "Deployment":
            continue
        result = patch(one["spec"]["template"], InjectorSettings(native=native), namespace=namespace)
        assert result.warnings == ()
        made = jsonpatch.apply_patch(one["spec"]["template"], list(result.patch))
        for version in (NATIVE_OLDEST if native else OLDEST, NEWEST):
            assert problems({"apiVersion": "v1", "kind": "Pod"} | made, version) == []
        compile(pod_spec(one)["containers"][0]["args"][0], "app", "exec")


def test_the_policies_are_good_ones() -> None:
    policy = rendered("policy")["ConfigMap", "", "sidecar-config"]["data"]["sidecar.yaml"]
    assert policy == (ROOT / "config" / "sidecar.yaml").read_text(), "copy config/sidecar.yaml to deploy/k8s/policy/"
    example = rendered("example")["ConfigMap", "sidecar-example", "sidecar-config"]["data"]["sidecar.yaml"]
    assert set(loads(example, "sidecar.yaml", {}).services) == {"venue", "event"}
    assert loads(example, "sidecar.yaml", {"SIDECAR_LOG_LEVEL": "debug"}).log.level == "debug"
