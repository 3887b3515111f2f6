"""Prometheus finds injected sidecars, native and ordinary, with the labels that the alerts and the dashboard use.

The relabelling is carried out here on the targets that Prometheus' pod role makes of a pod: one for each port that a
container declares, init containers too.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonpatch
import pytest
import yaml

from sidecar.kubernetes.patch import patch
from sidecar.kubernetes.settings import InjectorSettings
from tests.kubernetes.samples import pod
from tests.support import custom_resources
from tests.support.daemon import ROOT
from tests.support.promtool import needs_promtool, promtool

FOLDER = ROOT / "deploy/prometheus"
SCRAPE, MONITOR = FOLDER / "scrape.yaml", FOLDER / "podmonitor.yaml"

Labels = dict[str, str]
OPERATORS_OWN: list[dict[str, Any]] = [
    {"source_labels": ["__meta_kubernetes_pod_phase"], "regex": "(Failed|Succeeded)", "action": "drop"},
    {"source_labels": ["__meta_kubernetes_namespace"], "target_label": "namespace"},
    {"source_labels": ["__meta_kubernetes_pod_container_name"], "target_label": "container"},
    {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
    {"target_label": "job", "replacement": "sidecar-system/sidecar"},
]
"""What the operator puts before a PodMonitor's relabelings, and its two rules on the port."""


def targets(found: dict[str, Any], phase: str) -> list[Labels]:
    spec = found["spec"]
    made = []
    for init, containers in ((False, spec["containers"]), (True, spec.get("initContainers", []))):
        for container in containers:
            for port in container.get("ports", []):
                about = {
                    "namespace": "shop",
                    "pod_name": found["metadata"]["name"],
                    "pod_phase": phase,
                    "pod_container_init": str(init).lower(),
                    "pod_container_name": container["name"],
                    "pod_container_port_name": port.get("name", ""),
                }
                address = f"10.0.0.7:{port['containerPort']}"
                made.append({"__address__": address} | {f"__meta_kubernetes_{key}": about[key] for key in about})
    return made


def relabelled(labels: Labels, rules: list[dict[str, Any]]) -> Labels | None:
    """As Prometheus does with these actions: keep, drop, labeldrop, replace."""
    for rule in rules:
        action, whole = rule.get("action", "replace"), re.compile(rule.get("regex", "(.*)"))
        if action == "labeldrop":
            labels = {name: value for name, value in labels.items() if not whole.fullmatch(name)}
            continue
        match = whole.fullmatch(";".join(labels.get(name, "") for name in rule.get("source_labels", [])))
        if action in ("keep", "drop"):
            if (match is None) is (action == "keep"):
                return None
            continue
        assert action == "replace"
        if match is not None:
            labels = labels | {rule["target_label"]: match.expand(rule.get("replacement", r"\1"))}
    return {name: value for name, value in labels.items() if not name.startswith("__meta_")}


def of_scrape_config() -> tuple[Labels, list[dict[str, Any]]]:
    (config,) = yaml.safe_load(SCRAPE.read_text())["scrape_configs"]
    assert config["kubernetes_sd_configs"] == [{"role": "pod"}]
    return {"job": config["job_name"]}, config["relabel_configs"]


def of_pod_monitor() -> tuple[Labels, list[dict[str, Any]]]:
    monitor = yaml.safe_load(MONITOR.read_text())
    assert (monitor["apiVersion"], monitor["kind"]) == ("monitoring.coreos.com/v1", "PodMonitor")
    assert monitor["spec"]["namespaceSelector"] == {"any": True}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert set(endpoint) == {"port", "path", "relabelings"}
    keep = {"source_labels": ["__meta_kubernetes_pod_container_port_name"], "regex": endpoint["port"], "action": "keep"}
    names = {"targetLabel": "target_label", "sourceLabels": "source_labels"}
    given = [{names.get(key, key): value for key, value in rule.items()} for rule in endpoint["relabelings"]]
    return {}, [keep, *OPERATORS_OWN, {"target_label": "endpoint", "replacement": endpoint["port"]}, *given]


@pytest.mark.parametrize("config", [of_scrape_config, of_pod_monitor])
@pytest.mark.parametrize("native", [True, False])
def test_an_injected_pod_is_one_target_with_job_namespace_and_pod(config: Any, native: bool) -> None:
    begin, rules = config()
    given = pod(containers=[{"name": "app", "image": "x", "ports": [{"name": "http", "containerPort": 8080}]}])
    made = patch(given, InjectorSettings(native=native), namespace="shop", only_if_asked=False)
    injected = jsonpatch.apply_patch(given, list(made.patch))
    found = [relabelled(begin | one, rules) for one in targets(injected, "Running")]
    (labels,) = [one for one in found if one is not None]
    labels.pop("container", None)  # the operator's, and nobody's way
    assert labels == {"__address__": "10.0.0.7:15021", "job": "sidecar", "namespace": "shop", "pod": "app"}
    assert [relabelled(begin | one, rules) for one in targets(injected, "Succeeded")] == [None] * len(found)
    assert [relabelled(begin | one, rules) for one in targets(given, "Running")] == [None]


def test_the_pod_monitor_is_one_that_the_operator_takes() -> None:
    assert custom_resources.problems(yaml.safe_load(MONITOR.read_text())) == []


@needs_promtool
def test_prometheus_takes_the_scrape_config(tmp_path: Path) -> None:
    """All but the discovery itself, which Debian's build of Prometheus does not have."""
    config = yaml.safe_load(SCRAPE.read_text())
    assert config["scrape_configs"][0].pop("kubernetes_sd_configs")
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    promtool("check", "config", tmp_path / "prometheus.yaml")


def test_no_label_of_the_scrape_is_one_of_the_metrics() -> None:
    """Such a label would be renamed to `exported_...`, and the alerts by it would find nothing."""
    text = (ROOT / "docs/metrics.md").read_text()
    rows = re.findall(r"^\| `sidecar_\w+` \| \w+ \| ([^|]+) \|", text, re.MULTILINE)
    own = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {"service", "endpoint"} <= own
    assert not own & {"job", "namespace", "pod", "container", "instance"}
