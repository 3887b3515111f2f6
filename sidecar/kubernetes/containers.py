"""The sidecar's container and its volumes, as Kubernetes API objects.

This module owns what is injected. There are two forms, chosen by `InjectorSettings.native`:

- native (Kubernetes 1.29 and newer): an init container with `restartPolicy: Always`. The kubelet starts the following
  containers after its startup probe has succeeded, and ends it after every container of the app has ended. A Job
  completes without it.
- ordinary: the first of the containers. Its `postStart` hook makes the kubelet wait until it is ready (the kubelet
starts
  containers one after the other and waits for the hook). Its `preStop` hook delays SIGTERM until the app makes no more
  calls. The kubelet ends all containers at once, so only the traffic shows when the app has finished.
"""

from __future__ import annotations

from typing import Any, Final

from sidecar.kubernetes.pod import Object, objects
from sidecar.kubernetes.quantity import Resources
from sidecar.kubernetes.settings import PROBE_PORT, InjectorSettings

NAME: Final = "sidecar"
CONFIG_FOLDER: Final = "/etc/sidecar"
TOKEN_FOLDER: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where every client of the Kubernetes API looks for a token. An admission plugin of the API server mounts a token here
in containers that mount none."""

START_S: Final = 60
"""How many seconds the sidecar may take to become ready. It takes less than one, unless the node is short of CPU."""

TOKEN_S: Final = 3607
"""The lifetime of the API server's own tokens. The kubelet renews a token at 80% of it."""

HUNG_S: Final = 5
"""The grace period of a sidecar that its liveness probe has given up. A process that does not answer finishes no
request either, so the pod's grace period (30 s by default) would only delay its restart. Kubernetes knows the key since
1.21; an older API server drops it.
"""

IDLE_S: Final = 2
DRAIN_S: Final = 21
"""How many seconds the sidecar may need after SIGTERM: the defaults of `drain.delay` and `drain.timeout`."""
SPARE_S: Final = 1
"""Seconds for the hook itself to start and to end."""
LONG_GRACE_S: Final = 30
"""The default of Kubernetes, and the shortest grace period with time for the app's last calls and for draining."""
MOST_PRESTOP_S: Final = 24 * 3600

PORT_NAME: Final = "sidecar-probe"


def prestop_s(grace_s: int) -> int:
    """How many seconds of the pod's grace period `preStop` may wait for the app to end; 0 if there is no time.

    Draining gets its time first. If the rest is not enough, both get a half, but this wait never needs more than it
    would get of `LONG_GRACE_S`.
    """
    kept_s = DRAIN_S + SPARE_S
    return min(max(grace_s - kept_s, min(grace_s // 2, LONG_GRACE_S - kept_s)), MOST_PRESTOP_S)


def is_ours(container: Object) -> bool:
    """Whether the container is an injected sidecar, even if the pod's annotations were removed. Raises NotAPod."""
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
    """`token_volume` is empty if no token is mounted. `shared` are the resources that the pod sets as a whole."""
    mounts = [{"name": config_volume, "mountPath": CONFIG_FOLDER, "readOnly": True}]
    if token_volume:
        mounts.append({"name": token_volume, "mountPath": TOKEN_FOLDER, "readOnly": True})
    made: Object = {
        "name": NAME,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": ["run", "--config", f"{CONFIG_FOLDER}/{settings.config_key}"],
        # Only the probe port is declared: the others are on loopback, and Prometheus may scrape any port with a name.
        "ports": [{"name": PORT_NAME, "containerPort": PROBE_PORT, "protocol": "TCP"}],
        "resources": _resources({"cpu": settings.cpu, "memory": settings.memory}, shared),
        "securityContext": _security(settings.user),
        "startupProbe": _probe("/readyz", period_s=1, failures=START_S, timeout_s=1),
        "livenessProbe": _probe("/livez", period_s=10, failures=6, timeout_s=5)
        | {"terminationGracePeriodSeconds": HUNG_S},
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
    """The volume is not optional: a pod whose ConfigMap is missing waits, reports it as an event, and then starts."""
    return {"name": name, "configMap": {"name": settings.config_map}}


def token_volume(name: str) -> Object:
    """The same content as the API server's own `kube-api-access` volume."""
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
    """Leaves out what is `shared`. The API server refuses pods whose containers ask for more than the pod has, and a
    container that asks for nothing may use all of it."""
    own = {name: one for name, one in wanted.items() if name not in shared}
    made: Object = {
        "requests": {name: one.request for name, one in own.items()},
        "limits": {name: one.limit for name, one in own.items() if one.limit},
    }
    return {kind: texts for kind, texts in made.items() if texts}


def _security(user: int | None) -> Object:
    """The Pod Security Standard `restricted`, and a root file system that is read only."""
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
