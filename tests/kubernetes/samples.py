"""Pods for tests: those of well-known charts, as files beside this one, and generated ones of every shape."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

FOLDER = Path(__file__).parent / "pods"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))


def sample(name: str) -> dict[str, Any]:
    """The pod of tests/kubernetes/pods/NAME.yaml."""
    found = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    assert isinstance(found, dict)
    return copy.deepcopy(found)


def pod(**spec: Any) -> dict[str, Any]:
    """A pod of one container, `app`, with these further keys in its spec; `annotations` and `labels` are metadata."""
    metadata: dict[str, Any] = {"name": "app"}
    for key in ("annotations", "labels", "namespace"):
        if key in spec:
            metadata[key] = spec.pop(key)
    return {"metadata": metadata, "spec": {"containers": [{"name": "app", "image": "nginx"}]} | spec}


def annotated(**annotations: str) -> dict[str, Any]:
    """`annotated(log_level="debug")` has `sidecar.dev/log-level: debug`."""
    return pod(annotations={f"sidecar.dev/{name.replace('_', '-')}": text for name, text in annotations.items()})


labels = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
some_text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=12)
keys = st.from_regex(r"([a-z]{1,8}\.(io|dev)/)?[a-zA-Z][-a-zA-Z0-9_.~]{0,6}", fullmatch=True)
ports = st.integers(1, 14999) | st.integers(15022, 65535)


def with_optional(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[dict[str, Any]]:
    """An object; each optional member may be absent, null or a value, as Go and people write it."""
    members = {name: st.none() | value for name, value in optional.items()}
    return st.fixed_dictionaries(required, optional=members)


env = st.lists(
    st.builds(
        lambda name, value: {"name": name, "value": value},
        st.sampled_from(["HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "A", "B", "PATH"]),
        some_text,
    ),
    max_size=4,
)


def container(names: st.SearchStrategy[str], volumes: list[str]) -> st.SearchStrategy[dict[str, Any]]:
    mounts = st.lists(st.sampled_from(volumes), max_size=2, unique=True) if volumes else st.just([])
    return with_optional(
        {"name": names, "image": st.just("nginx:1.27")},
        args=st.lists(some_text, max_size=2),
        env=env,
        ports=st.lists(st.builds(lambda n: {"containerPort": n, "protocol": "TCP"}, ports), max_size=2),
        resources=st.sampled_from([{}, {"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}}]),
        volumeMounts=mounts.map(lambda names: [{"name": n, "mountPath": f"/mnt/{n}"} for n in names]),
        imagePullPolicy=st.sampled_from(["Always", "IfNotPresent"]),
    )


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """Any pod that an API server would accept, with room for a sidecar: no name and no port is taken."""
    volumes = draw(st.lists(st.sampled_from(["data", "sidecar-config", "sidecar-token", "tmp"]), unique=True))
    names = draw(st.lists(labels.filter(lambda name: name != "sidecar"), min_size=1, max_size=5, unique=True))
    split = draw(st.integers(1, len(names)))
    containers = [draw(container(st.just(name), volumes)) for name in names[:split]]
    init = [draw(container(st.just(name), volumes)) for name in names[split:]]
    annotations = draw(st.dictionaries(keys, some_text, max_size=3))
    if draw(st.booleans()):
        annotations |= draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "sidecar.dev/http-proxy": st.sampled_from(
                        ["true", "false", ",".join(names), names[-1], "x,y", "?"]
                    ),
                    "sidecar.dev/cpu": st.sampled_from(["100m", "1/2", "2/1", "lots"]) | some_text,
                    "sidecar.dev/memory": st.sampled_from(["96Mi", "96Mi/1Gi", "1"]) | some_text,
                    "sidecar.dev/log-level": st.sampled_from(["debug", "loud"]),
                    "sidecar.dev/inject": st.sampled_from(["true", "yes"])
                    | some_text.filter(lambda t: t.strip().lower() != "false"),
                    "sidecar.dev/config": st.sampled_from(["mine", "mine/policy.yaml"]),
                },
            )
        )
    metadata = draw(
        with_optional(
            {"name": labels},
            annotations=st.just(annotations),
            labels=st.dictionaries(keys, labels, max_size=2),
            creationTimestamp=st.none(),
        )
    )
    spec = draw(
        with_optional(
            {"containers": st.just(containers)},
            terminationGracePeriodSeconds=st.integers(0, 600),
            imagePullSecrets=st.just([{"name": "hub"}]),
            securityContext=st.sampled_from([{}, {"runAsUser": 1000}]),
            restartPolicy=st.sampled_from(["Always", "OnFailure", "Never"]),
            hostNetwork=st.just(False),
            nodeSelector=st.just({"kubernetes.io/os": "linux"}),
        )
    )
    for name, value in (("volumes", [{"name": n, "emptyDir": {}} for n in volumes]), ("initContainers", init)):
        if value or draw(st.booleans()):
            spec[name] = value or draw(st.sampled_from([None, []]))
    return {"metadata": metadata, "spec": spec}


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | some_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(some_text, inner, max_size=3),
    max_leaves=8,
)
"""Any JSON value."""


@st.composite
def broken_pods(draw: st.DrawFn) -> Any:
    """A pod in which one value, anywhere, is something else; or no pod at all."""
    found: Any = draw(pods())
    target: Any = found
    while True:
        places = list(target) if isinstance(target, dict) else list(range(len(target)))
        if not places:
            return draw(anything)
        place = draw(st.sampled_from(places))
        if not isinstance(target[place], dict | list) or draw(st.booleans()):
            target[place] = draw(anything)
            return found
        target = target[place]
