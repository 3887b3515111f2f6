"""Builds the JSON patch for a pod: decides which pods get a sidecar, and what is added to them.

These questions are asked in this order:

1. Is it a pod?                            If not: skipped, with a warning. The API server will refuse it. 2. Does it
have its sidecar already?       If so: skipped, because a second injection must change nothing. A copy of a pod
                                           without its annotations (`kubectl debug --copy-to`) still has its sidecar.
                                           Denied if another webhook has added a mesh's proxy since.
3. Does the pod or its namespace want it?  If not: skipped.
4. Can it have one?                        Not with host network (the ports would be the node's), in the injector's own
                                           namespace, as a static pod, or on Windows: skipped, with a warning if the pod
                                           asked for it.
5. Are its annotations valid?              `sidecar.kubernetes.annotations` says which invalid ones deny the pod. 6. Is
there room?                          Not if a container is called `sidecar`, a mesh's proxy uses the same ports, or
                                           one of the ports is taken otherwise: denied, because the app would work
                                           neither with the sidecar nor without it.

This module reads only its arguments. The patch only adds; a pod keeps everything it had, in its order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from sidecar import __version__
from sidecar.kubernetes import containers as made
from sidecar.kubernetes import pod as pods
from sidecar.kubernetes.annotations import INJECTED, Asked, read, wish
from sidecar.kubernetes.patch_path import Operation, add_items, add_texts
from sidecar.kubernetes.pod import NotAPod, Object
from sidecar.kubernetes.proxy_env import proxy_env
from sidecar.kubernetes.settings import ADMIN_PORT, PROBE_PORT, PROXY_PORT, InjectorSettings

MIRROR: Final = "kubernetes.io/config.mirror"
DEFAULT_CONTAINER: Final = "kubectl.kubernetes.io/default-container"
SHORT_GRACE_S: Final = 5
"""Grace period for a native sidecar. Its app has already ended when it ends, so nothing is in flight any more."""
DENIED: Final = "the sidecar cannot be injected"
REFUSE: Final = "set sidecar.dev/inject: 'false'"


class Mesh(Struct, frozen=True, kw_only=True):
    """Another product's sidecar that uses our ports without declaring them, and how to recognise a pod that has it."""

    proxy: str
    ports: str
    container: str | None = None
    annotation: str | None = None
    without: str
    """How a pod refuses the other sidecar."""


MESHES: Final = (
    Mesh(
        proxy="Istio's proxy",
        ports=f"{ADMIN_PORT}, {PROXY_PORT} and {PROBE_PORT}",
        container="istio-proxy",
        annotation="sidecar.istio.io/status",
        without="sidecar.istio.io/inject: 'false'",
    ),
    Mesh(
        proxy="Kuma's proxy",
        ports=str(PROXY_PORT),
        container="kuma-sidecar",
        without="kuma.io/sidecar-injection: disabled",
    ),
    # Its containers show nothing: without the transparent proxy, none of its ports conflicts with ours.
    Mesh(
        proxy="Consul's transparent proxy",
        ports=str(PROXY_PORT),
        annotation="consul.hashicorp.com/transparent-proxy-status",
        without="consul.hashicorp.com/transparent-proxy: 'false'",
    ),
)


class Result(Struct, frozen=True, kw_only=True):
    """At most one of `patch`, `denied` and `skipped` is set. `skipped` is one word; the others are for people."""

    patch: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()
    denied: str | None = None
    skipped: str | None = None


def patch(
    pod: Object,
    settings: InjectorSettings,
    *,
    namespace: str = "",
    only_if_asked: bool = False,
    claims: frozenset[str] = frozenset(),
) -> Result:
    """Decides what to do with a pod that is about to be created.

    `namespace` is used if the pod does not name one. `only_if_asked` means that the namespace is not labelled for
    injection, so the pod must ask for it. `claims` are the names of volumes that the pod will get in addition.
    """
    try:
        return _patch(pod, settings, pods.namespace(pod) or namespace, only_if_asked, claims)
    except NotAPod as wrong:
        return Result(skipped="malformed", warnings=(f"no sidecar was injected: {wrong}",))


def _patch(
    pod: Object, settings: InjectorSettings, namespace: str, only_if_asked: bool, claims: frozenset[str]
) -> Result:
    everything = [*pods.containers(pod), *pods.containers(pod, "initContainers")]
    annotations = pods.texts(pod, "annotations")
    named = [one for one in everything if one["name"] == made.NAME]
    if (INJECTED in annotations and named) or any(made.is_ours(one) for one in named):
        if clash := _mesh(everything, annotations):
            return Result(denied=f"{DENIED}: {clash}")
        return Result(skipped="injected")
    wanted = wish(annotations, pods.texts(pod, "labels"))
    if wanted.inject is False:
        return Result(skipped="refused", warnings=wanted.warnings)
    if only_if_asked and not wanted.inject:
        return Result(skipped="not_asked", warnings=wanted.warnings)
    if why := _unfit(pod, annotations, settings, namespace):
        word, sentence = why
        told = (f"no sidecar was injected: {sentence}",) if wanted.inject else ()
        return Result(skipped=word, warnings=wanted.warnings + told)
    asked = read(annotations, settings)
    if denied := (
        asked.denied
        or ("" if pods.containers(pod) else "the pod has no containers")
        or _mesh(everything, annotations)
        or _taken(everything)
    ):
        return Result(denied=f"{DENIED}: {denied}", warnings=asked.warnings + wanted.warnings)
    warnings = [*asked.warnings, *wanted.warnings]
    operations = tuple(_operations(pod, asked, claims, warnings))
    return Result(patch=operations, warnings=tuple(warnings))


def _unfit(
    pod: Object, annotations: dict[str, str], settings: InjectorSettings, namespace: str
) -> tuple[str, str] | None:
    if pods.has_host_network(pod):
        return "host_network", "the pod has hostNetwork, so the sidecar's ports would be the node's"
    if namespace == settings.namespace:
        return "own_namespace", f"nothing is injected in {namespace}, the injector's own namespace"
    if MIRROR in annotations:
        return "static_pod", "it is the mirror of a static pod, which cannot be changed through the API"
    if pods.is_windows(pod):
        return "windows", "the sidecar does not run on Windows"
    return None


def _mesh(everything: list[Object], annotations: dict[str, str]) -> str:
    """Why the pod cannot have a sidecar beside a mesh's proxy. Empty if it has no such proxy."""
    names = {one["name"] for one in everything}
    for mesh in MESHES:
        if mesh.container in names or mesh.annotation in annotations:
            return (
                f"the pod has {mesh.proxy}, which listens on {mesh.ports} like the sidecar; "
                f"use only one of the two: {mesh.without}, or {REFUSE}"
            )
    return ""


def _taken(everything: list[Object]) -> str:
    """What the sidecar needs but another container has. Empty if everything is free."""
    for one in everything:
        if one["name"] == made.NAME:
            return f"the pod has another container called {made.NAME}; rename it, or {REFUSE}"
        for port in pods.ports(one):
            if port in (PROXY_PORT, ADMIN_PORT, PROBE_PORT):
                return (
                    f"container {one['name']:.63} or a probe of it uses port {port}, on which the sidecar listens; "
                    f"use another port, or {REFUSE}"
                )
    return ""


def _operations(pod: Object, asked: Asked, claims: frozenset[str], warnings: list[str]) -> Iterator[Operation]:
    spec, settings = pods.spec(pod), asked.settings
    if settings.user is None and pods.runs_as_root(pod):
        # Without a user of its own it would get the pod's, and a kubelet does not start root where runAsNonRoot is set.
        settings = replace(settings, user=InjectorSettings().user)
    # Before the sidecar is added: an ordinary one becomes the first container and moves the index of all others.
    yield from proxy_env(pod, asked.http_proxy, settings, warnings)
    volumes = pods.objects(spec, "volumes", "spec.volumes")
    names = claims | {name for volume in volumes if isinstance(name := volume.get("name"), str)}
    config = _free("sidecar-config", names)
    token = _free("sidecar-token", names) if settings.kubernetes_discovery else ""
    added = [made.config_volume(settings, config)] + ([made.token_volume(token)] if token else [])
    yield from add_items(spec, "/spec/volumes", "volumes", added)
    yield from _pull_secrets(spec, settings)
    grace_s = pods.grace_s(pod)
    if grace_s < (SHORT_GRACE_S if settings.native else made.LONG_GRACE_S):
        warnings.append(
            f"terminationGracePeriodSeconds is {grace_s}: calls that are in flight at the end may be cut; "
            f"the sidecar needs {made.LONG_GRACE_S} to drain"
        )
    shared = pods.shared_resources(pod)
    warnings += [
        f"annotation sidecar.dev/{name}: the sidecar shares the {name} of the pod as a whole (spec.resources); ignored"
        for name in ("cpu", "memory")
        if name in shared and name in asked.given
    ]
    container = made.container(
        settings,
        log_level=asked.log_level,
        grace_s=grace_s,
        config_volume=config,
        token_volume=token,
        shared=shared,
    )
    kind = "initContainers" if settings.native else "containers"
    yield from add_items(spec, f"/spec/{kind}", kind, [container], first=True)
    yield from _annotations(pod, settings)


def _pull_secrets(spec: Object, settings: InjectorSettings) -> Iterator[Operation]:
    there = [one.get("name") for one in pods.objects(spec, "imagePullSecrets", "spec.imagePullSecrets")]
    wanted = [{"name": name} for name in settings.image_pull_secrets if name not in there]
    yield from add_items(spec, "/spec/imagePullSecrets", "imagePullSecrets", wanted)


def _annotations(pod: Object, settings: InjectorSettings) -> Iterator[Operation]:
    there = pods.texts(pod, "annotations")
    texts = {INJECTED: __version__}
    if not settings.native and DEFAULT_CONTAINER not in there:
        texts[DEFAULT_CONTAINER] = pods.containers(pod)[0]["name"]  # otherwise `kubectl logs` takes the first container
    if pod.get("metadata") is None:
        yield {"op": "add", "path": "/metadata", "value": {"annotations": texts}}
        return
    yield from add_texts(pod["metadata"], "/metadata/annotations", "annotations", texts)


def _free(name: str, taken: frozenset[str]) -> str:
    """A volume name that is not in use. Nothing else refers to our volumes, so any name works."""
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found
