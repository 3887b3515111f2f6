"""The sidecar's container and its volumes, as the API has them.

Owns what is injected. Two forms, by `InjectorSettings.native`:

- native (Kubernetes 1.29 on): an init container with `restartPolicy: Always`. The kubelet starts what follows it once
  its startup probe has succeeded, ends it after every container of the app has ended, and a Job completes without it.
- ordinary: the first of the containers. Its `postStart` keeps the kubelet from starting the next one until it is ready
  (the kubelet starts containers one after the other and waits for the hook), and its `preStop` keeps SIGTERM from it
  until the app calls no more. The kubelet ends all containers at once, so nothing but the traffic can tell.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.kubernetes.pod import Object, objects
from sidecar.kubernetes.quantity import Resources
from sidecar.kubernetes.settings import PROBE_PORT, InjectorSettings

NAME: Final = "sidecar"
CONFIG_FOLDER: Final = "/etc/sidecar"
TOKEN_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where every client of the API looks. An admission plugin of the API server mounts a token here into containers that
mount none."""

START_S: Final = 60
"""How long the sidecar may take to get ready: it takes under one, on a node that is not starved."""

TOKEN_S: Final = 3607
"""As the API server's own tokens: kubelet renews it at 80% of that."""

IDLE_S: Final = 2
DRAIN_S: Final = 21
"""What the sidecar may need after SIGTERM: `drain.delay` and `drain.timeout`, as they are by default."""
SPARE_S: Final = 1
"""For the hook itself to start and to end."""
LONG_GRACE_S: Final = 30
"""Kubernetes' default, and the shortest grace period that has time for both the app's last calls and for draining."""
MOST_PRESTOP_S: Final = 24 * 3600

PORT_NAME: Final = "sidecar-probe"


def prestop_s(grace_s: int) -> int:
    """How long `preStop` may wait for the app to end, of a pod's whole grace period; 0 where there is no time.

    Draining gets its time first. Where there is not enough for that, each gets a half, of which this one needs no more
    than it would have of `LONG_GRACE_S`.
    """
    kept_s = DRAIN_S + SPARE_S
    return min(max(grace_s - kept_s, min(grace_s // 2, LONG_GRACE_S - kept_s)), MOST_PRESTOP_S)


def is_ours(container: Object) -> bool:
    """Whether it is a sidecar that was injected, whatever became of its pod's annotations. Raises NotAPod."""
    return container.get("name") == NAME and any(
        port.get("name") == PORT_NAME and port.get("containerPort") == PROBE_PORT
        for port in objects(container, "ports", f"the ports of {NAME}")
    )


def container(
    settings: InjectorSettings,
    *,
    log_level: str,
    grace_s: int,
    config_volume: str,
    token_volume: str,
    shared: frozenset[str] = frozenset(),
) -> Object:
    """`token_volume` is empty where no token is mounted; `shared` is what the pod as a whole has resources of."""
    mounts = [{"name": config_volume, "mountPath": CONFIG_FOLDER, "readOnly": True}]
    if token_volume:
        mounts.append({"name": token_volume, "mountPath": TOKEN_FOLDER, "readOnly": True})
    made: Object = {
        "name": NAME,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["run", "--config", f"{CONFIG_FOLDER}/{settings.config_key}"],
        # Only the probes' port: the others are on loopback, and a port that is named gets scraped.
        "ports": [{"name": PORT_NAME, "containerPort": PROBE_PORT, "protocol": "TCP"}],
        "resources": _resources({"cpu": settings.cpu, "memory": settings.memory}, shared),
        "securityContext": _security(settings.user),
        "startupProbe": _probe("/readyz", period_s=1, failures=START_S, timeout_s=1),
        "livenessProbe": _probe("/livez", period_s=10, failures=6, timeout_s=5),
        "readinessProbe": _probe("/readyz", period_s=5, failures=2, timeout_s=2),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if log_level:
        made["env"] = [{"name": "SIDECAR_LOG_LEVEL", "value": log_level}]
    if settings.native:
        made["restartPolicy"] = "Always"
    else:
        made["lifecycle"] = _hooks(grace_s)
    return made


def config_volume(settings: InjectorSettings, name: str) -> Object:
    """Not optional: a pod waits for a ConfigMap that is missing, says so in its events, and starts once it is there."""
    return {"name": name, "configMap": {"name": settings.config_map}}


def token_volume(name: str) -> Object:
    """What the API server's own `kube-api-access` volume has in it."""
    return {
        "name": name,
        "projected": {
            "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_S}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
            ]
        },
    }


def _hooks(grace_s: int) -> Object:
    hooks: Object = {"postStart": {"exec": {"command": ["sidecar", "wait", "--timeout", f"{START_S}s"]}}}
    if longest_s := prestop_s(grace_s):
        command = ["sidecar", "prestop", "--idle", f"{min(IDLE_S, longest_s)}s", "--max", f"{longest_s}s"]
        hooks["preStop"] = {"exec": {"command": command}}
    return hooks


def _resources(wanted: dict[str, Resources], shared: frozenset[str]) -> Object:
    """None of what is `shared`: the API server refuses pods whose containers ask for more than the pod has, and a
    container that asks for nothing has a part in all of it."""
    own = {name: one for name, one in wanted.items() if name not in shared}
    made: Object = {
        "requests": {name: one.request for name, one in own.items()},
        "limits": {name: one.limit for name, one in own.items() if one.limit},
    }
    return {kind: texts for kind, texts in made.items() if texts}


def _security(user: int | None) -> Object:
    """The `restricted` Pod Security Standard, and a root file system that cannot be written to."""
    made: dict[str, Any] = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if user is not None:
        made |= {"runAsUser": user, "runAsGroup": user}
    return made


def _probe(path: str, *, period_s: int, failures: int, timeout_s: int) -> Object:
    return {
        "httpGet": {"path": path, "port": PROBE_PORT, "scheme": "HTTP"},
        "periodSeconds": period_s,
        "timeoutSeconds": timeout_s,
        "failureThreshold": failures,
    }
