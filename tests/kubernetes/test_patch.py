"""The patch on pods of charts and on generated ones: valid, idempotent, nothing lost; then question by question."""

from __future__ import annotations

import copy
import time
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import __version__
from sidecar.kubernetes.patch import Result, patch
from sidecar.kubernetes.settings import InjectorSettings
from tests.kubernetes.samples import NAMES, annotated, broken_pods, pod, pods, sample
from tests.support.kubernetes_schema import NATIVE_OLDEST, NEWEST, OLDEST, pod_problems

NATIVE = InjectorSettings()
ORDINARY = InjectorSettings(native=False)
DISCOVERY = InjectorSettings(kubernetes_discovery=True, image_pull_secrets=("hub", "ours"), user=None)
INJECTED = [name for name in NAMES if name != "node_exporter"]

settings_of_all_kinds = st.sampled_from(
    [NATIVE, ORDINARY, DISCOVERY, InjectorSettings(native=False, kubernetes_discovery=True)]
)


def patched(found: dict[str, Any], settings: InjectorSettings = NATIVE, **options: Any) -> dict[str, Any]:
    before = copy.deepcopy(found)
    result = patch(found, settings, **options)
    assert found == before, "the pod itself was changed"
    assert result.denied is None, result
    assert result.skipped is None, result
    made = jsonpatch.apply_patch(found, list(result.patch))
    assert isinstance(made, dict)
    return made


def sidecar_of(made: dict[str, Any], kind: str = "initContainers") -> dict[str, Any]:
    found = made["spec"][kind][0]
    assert found["name"] == "sidecar"
    assert isinstance(found, dict)
    return found


def kept(before: Any, after: Any, path: str = "") -> None:
    """Everything of `before` is in `after`, lists in their order; a null may have become a value."""
    if isinstance(before, dict):
        assert isinstance(after, dict), path
        for key, value in before.items():
            assert key in after, f"{path}.{key}"
            kept(value, after[key], f"{path}.{key}")
    elif isinstance(before, list):
        assert isinstance(after, list), path
        rest = iter(after)
        for place, value in enumerate(before):
            if isinstance(value, dict) and "name" in value:
                mine = next((one for one in rest if one.get("name") == value["name"]), None)
                assert mine is not None, f"{path}[{place}] {value['name']}"
                kept(value, mine, f"{path}[{place}]")
            else:
                assert value == next(rest, None), f"{path}[{place}]"
    elif before is not None:
        assert before == after, path


def versions(settings: InjectorSettings) -> tuple[str, ...]:
    return (NATIVE_OLDEST, NEWEST) if settings.native else (OLDEST, NEWEST)


def holds(found: dict[str, Any], settings: InjectorSettings) -> None:
    """What has to be true of any pod that can have a sidecar."""
    made = patched(found, settings)
    for version in versions(settings):
        if not pod_problems(found, version):
            assert pod_problems(made, version) == []
    kept(found, made)
    again = patch(made, settings)
    assert again == Result(skipped="injected")
    kind = "initContainers" if settings.native else "containers"
    assert len(made["spec"][kind]) == len(found["spec"].get(kind) or []) + 1
    sidecar_of(made, kind)
    assert made["metadata"]["annotations"]["sidecar.dev/injected"] == __version__


@pytest.mark.parametrize("settings", [NATIVE, ORDINARY, DISCOVERY], ids=["native", "ordinary", "discovery"])
@pytest.mark.parametrize("name", INJECTED)
def test_the_pods_of_charts(name: str, settings: InjectorSettings) -> None:
    found = sample(name)
    if name != "init_containers" or settings.native:
        for version in versions(settings):
            assert pod_problems(found, version) == [], "the sample itself"
    holds(found, settings)


@given(pods(), settings_of_all_kinds)
def test_any_pod(found: dict[str, Any], settings: InjectorSettings) -> None:
    assert pod_problems(found, NEWEST) == [], "the generated pod itself"
    holds(found, settings)


@given(broken_pods(), settings_of_all_kinds)
def test_what_is_no_pod_is_never_an_exception(found: Any, settings: InjectorSettings) -> None:
    if not isinstance(found, dict):
        return  # the review looks at that
    result = patch(found, settings)
    assert sum([bool(result.patch), result.denied is not None, result.skipped is not None]) == 1
    if result.patch:
        jsonpatch.apply_patch(found, list(result.patch))


def test_the_container_of_a_native_sidecar() -> None:
    made = patched(sample("smallest"))
    assert sidecar_of(made) == {
        "name": "sidecar",
        "image": f"service-sidecar:{__version__}",
        "imagePullPolicy": "IfNotPresent",
        "args": ["run", "--config", "/etc/sidecar/sidecar.yaml"],
        "restartPolicy": "Always",
        "ports": [{"name": "sidecar-probe", "containerPort": 15021, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "runAsGroup": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "startupProbe": {
            "httpGet": {"path": "/readyz", "port": 15021, "scheme": "HTTP"},
            "periodSeconds": 1,
            "timeoutSeconds": 1,
            "failureThreshold": 60,
        },
        "livenessProbe": {
            "httpGet": {"path": "/livez", "port": 15021, "scheme": "HTTP"},
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
            "terminationGracePeriodSeconds": 5,
        },
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": 15021, "scheme": "HTTP"},
            "periodSeconds": 5,
            "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "sidecar-config", "mountPath": "/etc/sidecar", "readOnly": True}],
    }
    assert made["spec"]["volumes"] == [{"name": "sidecar-config", "configMap": {"name": "sidecar-config"}}]
    assert "lifecycle" not in sidecar_of(made)


def test_it_comes_before_the_init_containers_of_the_app() -> None:
    made = patched(sample("init_containers"))
    assert [one["name"] for one in made["spec"]["initContainers"]] == ["sidecar", "log-shipper", "wait-for-database"]
    assert [one["name"] for one in made["spec"]["containers"]] == ["wordpress", "cron"]


def test_an_ordinary_sidecar_is_the_first_container_and_has_hooks() -> None:
    made = patched(sample("postgres"), ORDINARY)
    assert [one["name"] for one in made["spec"]["containers"]] == ["sidecar", "postgresql"]
    one = sidecar_of(made, "containers")
    assert one["lifecycle"] == {
        "postStart": {"exec": {"command": ["sidecar", "wait", "--timeout", "60s"]}},
        "preStop": {"exec": {"command": ["sidecar", "prestop", "--idle", "2s", "--max", "8s"]}},
    }
    assert "restartPolicy" not in one
    assert made["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "postgresql"
    assert "initContainers" not in made["spec"]


def test_a_default_container_that_is_named_stays() -> None:
    found = pod(annotations={"kubectl.kubernetes.io/default-container": "worker"})
    made = patched(found, ORDINARY)
    assert made["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "worker"


@pytest.mark.parametrize(
    ("grace_s", "command"),
    [
        (0, None),
        (1, None),
        (2, ["--idle", "1s", "--max", "1s"]),
        (10, ["--idle", "2s", "--max", "5s"]),
        (29, ["--idle", "2s", "--max", "8s"]),
        (30, ["--idle", "2s", "--max", "8s"]),
        (31, ["--idle", "2s", "--max", "9s"]),
        (300, ["--idle", "2s", "--max", "278s"]),
    ],
)
def test_the_wait_before_the_end_leaves_time_for_draining(grace_s: int, command: list[str] | None) -> None:
    hooks = sidecar_of(patched(pod(terminationGracePeriodSeconds=grace_s), ORDINARY), "containers")["lifecycle"]
    assert hooks.get("preStop") == (command and {"exec": {"command": ["sidecar", "prestop", *command]}})


@pytest.mark.parametrize(
    ("grace_s", "native", "ordinary"),
    [
        (0, True, True),
        (4, True, True),
        (5, False, True),
        (29, False, True),
        (30, False, False),
        (None, False, False),
        (2**63 - 1, False, False),
    ],
)
def test_a_grace_period_without_time_to_drain_is_a_warning(grace_s: int | None, native: bool, ordinary: bool) -> None:
    for settings, warned in ((NATIVE, native), (ORDINARY, ordinary)):
        result = patch(pod(terminationGracePeriodSeconds=grace_s), settings)
        assert any("terminationGracePeriodSeconds" in one for one in result.warnings) is warned
        assert result.patch


def test_the_token_is_mounted_where_discovery_is_on() -> None:
    made = patched(sample("ingress"), DISCOVERY)
    assert {
        "name": "sidecar-token",
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
        "readOnly": True,
    } in (sidecar_of(made)["volumeMounts"])
    token = made["spec"]["volumes"][-1]
    assert [next(iter(source)) for source in token["projected"]["sources"]] == [
        "serviceAccountToken",
        "configMap",
        "downwardAPI",
    ]
    assert len(made["spec"]["volumes"]) == len(sample("ingress")["spec"]["volumes"]) + 2


def test_names_of_volumes_that_are_taken_are_not_taken_again() -> None:
    volumes = [{"name": name, "emptyDir": {}} for name in ("sidecar-config", "sidecar-config-2", "sidecar-token")]
    made = patched(pod(volumes=volumes), DISCOVERY)
    assert [one["name"] for one in made["spec"]["volumes"][3:]] == ["sidecar-config-3", "sidecar-token-2"]
    assert [one["name"] for one in sidecar_of(made)["volumeMounts"]] == ["sidecar-config-3", "sidecar-token-2"]


def test_pull_secrets_are_added_once_and_a_user_may_be_the_clusters_choice() -> None:
    made = patched(sample("init_containers"), DISCOVERY)
    assert made["spec"]["imagePullSecrets"] == [{"name": "hub"}, {"name": "ours"}]
    assert "runAsUser" not in sidecar_of(made)["securityContext"]


def test_the_pods_wishes() -> None:
    asked = annotated(
        config="mine/policy.yaml",
        image="registry.example.com:5000/sidecar:2",
        cpu="1/2",
        memory="96Mi",
        log_level="debug",
    )
    made = patched(asked)
    one = sidecar_of(made)
    assert one["image"] == "registry.example.com:5000/sidecar:2"
    assert one["args"][-1] == "/etc/sidecar/policy.yaml"
    assert one["resources"] == {"requests": {"cpu": "1", "memory": "96Mi"}, "limits": {"cpu": "2", "memory": "96Mi"}}
    assert one["env"] == [{"name": "SIDECAR_LOG_LEVEL", "value": "debug"}]
    assert made["spec"]["volumes"][0]["configMap"] == {"name": "mine"}


def test_what_cannot_have_one_is_skipped_and_says_so_to_who_asked() -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("host_network", pod(hostNetwork=True)),
        ("own_namespace", pod(namespace="sidecar-system")),
        ("static_pod", pod(annotations={"kubernetes.io/config.mirror": "5f1d"})),
        ("windows", pod(os={"name": "windows"})),
        ("windows", pod(nodeSelector={"kubernetes.io/os": "windows"})),
        ("windows", pod(securityContext={"windowsOptions": {"hostProcess": True}})),
    ]
    for word, found in cases:
        assert patch(found, NATIVE) == Result(skipped=word)
        found["metadata"].setdefault("annotations", {})["sidecar.dev/inject"] = "true"
        result = patch(found, NATIVE)
        assert result.skipped == word
        assert len(result.warnings) == 1
        assert result.warnings[0].startswith("no sidecar was injected: ")


def test_the_hosts_network_of_a_chart() -> None:
    assert patch(sample("node_exporter"), NATIVE) == Result(skipped="host_network")


def test_the_namespace_of_the_request_counts_where_the_pod_has_none() -> None:
    assert patch(pod(), NATIVE, namespace="sidecar-system").skipped == "own_namespace"
    assert patch(pod(namespace="shop"), NATIVE, namespace="sidecar-system").patch


@pytest.mark.parametrize("only_if_asked", [False, True])
@pytest.mark.parametrize(
    ("found", "in_labelled", "elsewhere"),
    [
        (pod(), None, "not_asked"),
        (annotated(inject="true"), None, None),
        (annotated(inject="false"), "refused", "refused"),
        (annotated(inject="yes"), None, "not_asked"),
        (pod(labels={"sidecar.dev/inject": "true"}), None, None),
        (pod(labels={"sidecar.dev/inject": "false"}), "refused", "refused"),
        (annotated(inject="False"), "refused", "refused"),
        (annotated(inject="off"), None, "not_asked"),
        (pod(labels={"sidecar.dev/inject": "false"}, annotations={"sidecar.dev/inject": "true"}), "refused", "refused"),
        (pod(labels={"sidecar.dev/inject": "true"}, annotations={"sidecar.dev/inject": "false"}), "refused", "refused"),
    ],
)
def test_who_gets_one(
    found: dict[str, Any], in_labelled: str | None, elsewhere: str | None, only_if_asked: bool
) -> None:
    result = patch(found, NATIVE, only_if_asked=only_if_asked)
    assert result.skipped == (elsewhere if only_if_asked else in_labelled)
    assert bool(result.patch) is (result.skipped is None)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (pod(containers=[{"name": "sidecar"}]), "another container called sidecar"),
        (pod(initContainers=[{"name": "sidecar"}]), "another container called sidecar"),
        (
            pod(containers=[{"name": "a", "ports": [{"containerPort": 15001}]}]),
            "container a or a probe of it uses port 15001",
        ),
        (pod(containers=[{"name": "a", "ports": [{"containerPort": 15021, "protocol": "TCP"}]}]), "port 15021"),
        (pod(containers=[{"name": "a", "ports": [{"containerPort": 15000}]}]), "port 15000"),
        (pod(containers=[{"name": "a", "livenessProbe": {"httpGet": {"port": 15000}}}]), "port 15000"),
        (pod(containers=[{"name": "a", "startupProbe": {"tcpSocket": {"port": 15001}}}]), "port 15001"),
        (pod(initContainers=[{"name": "a", "readinessProbe": {"grpc": {"port": 15021}}}]), "port 15021"),
        (pod(initContainers=[{"name": "istio-proxy", "restartPolicy": "Always"}]), "Istio's proxy"),
        (pod(containers=[{"name": "a"}, {"name": "istio-proxy"}]), "Istio's proxy"),
        (pod(annotations={"sidecar.istio.io/status": "{}"}), "Istio's proxy"),
        (pod(initContainers=[{"name": "kuma-sidecar", "restartPolicy": "Always"}]), "Kuma's proxy"),
        (pod(containers=[{"name": "a"}, {"name": "kuma-sidecar"}]), "kuma.io/sidecar-injection: disabled"),
        (pod(annotations={"consul.hashicorp.com/transparent-proxy-status": "enabled"}), "Consul's transparent proxy"),
        (pod(containers=[]), "no containers"),
        (annotated(config="My Map"), "sidecar.dev/config is 'My Map'"),
        (annotated(config="mine/.."), "a ConfigMap's key"),
        (annotated(image="UPPER:1"), "sidecar.dev/image is 'UPPER:1'"),
    ],
)
def test_what_is_denied(found: dict[str, Any], words: str) -> None:
    result = patch(found, NATIVE)
    assert result.denied is not None
    assert words in result.denied
    assert not result.patch


@pytest.mark.parametrize(("uid", "expected"), [(0, 65532), (1000, None), (None, None)])
def test_where_the_cluster_assigns_users_a_pod_of_root_gets_one_that_is_not(
    uid: int | None, expected: int | None
) -> None:
    """`runAsNonRoot` and the pod's `runAsUser: 0` together would be a container that no kubelet starts."""
    made = patched(pod(securityContext={"runAsUser": uid}), InjectorSettings(user=None))
    assert sidecar_of(made)["securityContext"].get("runAsUser") == expected
    assert made["spec"]["securityContext"] == {"runAsUser": uid}


def test_consul_without_its_transparent_proxy_is_no_reason() -> None:
    injected = {"consul.hashicorp.com/connect-inject-status": "injected"}
    assert patch(pod(annotations=injected, containers=[{"name": "a"}, {"name": "consul-dataplane"}]), NATIVE).patch


@pytest.mark.parametrize("settings", [NATIVE, ORDINARY], ids=["native", "ordinary"])
def test_istio_that_comes_after_us_is_denied_when_we_are_asked_again(settings: InjectorSettings) -> None:
    made = patched(pod(), settings)
    made["spec"]["containers"].append({"name": "istio-proxy"})
    assert "Istio's proxy" in (patch(made, settings).denied or "")
    made["metadata"]["annotations"] = {"sidecar.dev/inject": "false"}
    assert "Istio's proxy" in (patch(made, settings).denied or "")


@pytest.mark.parametrize("settings", [NATIVE, ORDINARY], ids=["native", "ordinary"])
def test_a_copy_without_its_annotations_is_left_alone(settings: InjectorSettings) -> None:
    """`kubectl debug POD --copy-to NAME` keeps the containers and drops annotations and labels."""
    copied = {"metadata": {"name": "debug"}, "spec": patched(pod(), settings)["spec"]}
    assert patch(copied, settings) == Result(skipped="injected")
    for one in (*copied["spec"].get("initContainers", ()), *copied["spec"]["containers"]):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            one.pop(probe, None)
    assert patch(copied, settings) == Result(skipped="injected")


RESOURCES = {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"cpu": "100m", "memory": "128Mi"}}


def test_resources_of_the_pod_as_a_whole_are_shared() -> None:
    made = patched(pod(resources=RESOURCES))
    assert sidecar_of(made)["resources"] == {}
    assert made["spec"]["resources"] == RESOURCES
    assert sidecar_of(patched(pod(resources={"limits": {"memory": "1Gi"}})))["resources"] == {
        "requests": {"cpu": "50m"}
    }
    assert sidecar_of(patched(pod(resources={})))["resources"]["limits"] == {"memory": "256Mi"}
    asked = patch(pod(resources=RESOURCES, annotations={"sidecar.dev/cpu": "1/2"}), NATIVE)
    assert asked.warnings == (
        "annotation sidecar.dev/cpu: the sidecar shares the cpu of the pod as a whole (spec.resources); ignored",
    )


def test_a_pod_of_many_parts_does_not_take_long() -> None:
    count = 30_000
    begin = time.process_time()
    for found in (
        pod(
            volumes=[{"name": f"sidecar-config-{number}"} for number in range(2, count)] + [{"name": "sidecar-config"}]
        ),
        pod(annotations={f"sidecar.dev/inject-cpu{number}": "" for number in range(count)}),
        pod(
            annotations={"sidecar.dev/http-proxy": "true"},
            containers=[{"name": f"a{number}", "env": [{"name": "NO_PROXY"}]} for number in range(count)],
        ),
        pod(containers=[{"name": "a", "ports": [{"containerPort": number} for number in range(16_000, 46_000)]}]),
        pod(imagePullSecrets=[{"name": f"a{number}"} for number in range(count)]),
    ):
        assert patch(found, DISCOVERY).patch
    assert time.process_time() - begin < 5


def test_a_port_of_another_protocol_is_free() -> None:
    assert patch(pod(containers=[{"name": "a", "ports": [{"containerPort": 15001, "protocol": "UDP"}]}]), NATIVE).patch


def test_who_refuses_is_not_denied_for_anything_else() -> None:
    found = annotated(inject="false", image="UPPER")
    assert patch(found, NATIVE).denied is None


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"spec": None},
        {"spec": {"containers": "app"}},
        {"spec": {"containers": [{}]}},
        {"spec": {"containers": [{"name": "a", "env": {}}]}},
        {"spec": {"containers": [{"name": "a"}], "volumes": 7}},
        {"spec": {"containers": [{"name": "a"}]}, "metadata": []},
        {"spec": {"containers": [{"name": "a"}]}, "metadata": {"annotations": {"a": 1}}},
        {"spec": {"containers": [{"name": "a"}], "terminationGracePeriodSeconds": "30"}},
    ],
)
def test_what_is_no_pod_is_left_to_the_api_server(found: dict[str, Any]) -> None:
    result = patch(found, NATIVE)
    assert result.skipped == "malformed"
    assert len(result.warnings) == 1


def test_names_of_any_type_are_read() -> None:
    odd = [{"name": []}, {"name": {}}, {"name": 1}, {}]
    assert patch(pod(volumes=odd, imagePullSecrets=odd), DISCOVERY).patch
    assert patch(
        pod(containers=[{"name": "a", "env": odd, "ports": [{"containerPort": [], "protocol": []}]}]), NATIVE
    ).patch


def test_missing_and_null_lists_are_made() -> None:
    for nothing in ({}, {"volumes": None, "initContainers": None}, {"volumes": [], "initContainers": []}):
        made = patched(pod(**nothing))
        assert len(made["spec"]["volumes"]) == 1
        assert len(made["spec"]["initContainers"]) == 1
    assert patched({"spec": pod()["spec"]})["metadata"] == {"annotations": {"sidecar.dev/injected": __version__}}
    assert patched({"metadata": None, "spec": pod()["spec"]})["metadata"]["annotations"]
