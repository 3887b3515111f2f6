"""Reads the parts of a pod that the injector needs, from any JSON.

This module handles parts that are absent, null or of the wrong shape. The API server checks a pod's types before it
calls a webhook, but nothing has checked a file. An object that is not shaped like a pod raises `NotAPod`, and is left
to the API server to refuse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

Object: TypeAlias = dict[Any, Any]
"""A JSON object. In a file, a key may have any type; code here reads only keys that are text."""

DEFAULT_GRACE_S: Final = 30
MOST_GRACE_S: Final = 2**63 - 1
SYSTEM_LABELS: Final = ("kubernetes.io/os", "beta.kubernetes.io/os")
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


class NotAPod(ValueError):
    """The object is not shaped like a pod. `str()` says where."""


def texts(pod: Object, name: str) -> dict[str, str]:
    """`annotations` or `labels`. Raises NotAPod."""
    found = _mapping(_mapping(pod, "metadata"), name, f"metadata.{name}")
    words: dict[str, str] = {}
    for key, value in found.items():
        if not isinstance(value, str) or not isinstance(key, str):
            raise NotAPod(f"metadata.{name}[{key!s:.80}] is not text")
        words[key] = value
    return words


def namespace(pod: Object) -> str:
    """The pod's namespace. Empty if the pod has none; the request then names it. Raises NotAPod."""
    found = _mapping(pod, "metadata").get("namespace")
    return found if isinstance(found, str) else ""


def spec(pod: Object) -> Object:
    """Raises NotAPod."""
    found = pod.get("spec")
    if not isinstance(found, dict):
        raise NotAPod("spec is not an object")
    return found


def containers(pod: Object, name: str = "containers") -> list[Object]:
    """The `containers` or `initContainers`; each has a name. Raises NotAPod."""
    found = objects(spec(pod), name, f"spec.{name}")
    for place, one in enumerate(found):
        if not isinstance(one.get("name"), str):
            raise NotAPod(f"spec.{name}[{place}] has no name")
        objects(one, "env", f"spec.{name}[{place}].env")
        objects(one, "ports", f"spec.{name}[{place}].ports")
    return found


def objects(parent: Object, name: str, where: str) -> list[Object]:
    """A list of objects; empty if it is missing. Raises NotAPod."""
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise NotAPod(f"{where} is not a list of objects")
    return found


def grace_s(pod: Object) -> int:
    """`terminationGracePeriodSeconds`. Raises NotAPod."""
    found = spec(pod).get("terminationGracePeriodSeconds")
    if found is None:
        return DEFAULT_GRACE_S
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= MOST_GRACE_S:
        raise NotAPod("spec.terminationGracePeriodSeconds is not a number of seconds")
    return found


def has_host_network(pod: Object) -> bool:
    """In a file, `yes` and `no` are text here, but true and false for kubectl, which reads YAML 1.1. Raises NotAPod."""
    found = spec(pod).get("hostNetwork")
    if found is None or isinstance(found, bool):
        return found is True
    for meant, words in ((True, ("y", "yes", "on")), (False, ("n", "no", "off"))):
        if found in [spelt for word in words for spelt in (word, word.title(), word.upper())]:
            return meant
    raise NotAPod("spec.hostNetwork is neither true nor false")


def runs_as_root(pod: Object) -> bool:
    """Whether containers without their own user run as root. Raises NotAPod."""
    user = _mapping(spec(pod), "securityContext", "spec.securityContext").get("runAsUser")
    return _is_number(user) and user == 0


def ports(container: Object) -> Iterator[int]:
    """The TCP ports that a container is known to listen on: those it declares, and those its probes use.

    A probe with a host calls another server, so it does not count. Raises NotAPod.
    """
    for port in container.get("ports") or []:
        if port.get("protocol") in (None, "TCP") and _is_number(number := port.get("containerPort")):
            yield number
    for name in PROBES:
        probe = _mapping(container, name)
        for kind in ("httpGet", "tcpSocket", "grpc"):
            asked = _mapping(probe, kind, f"{name}.{kind}")
            if not asked.get("host") and _is_number(number := asked.get("port")):
                yield number


def shared_resources(pod: Object) -> frozenset[str]:
    """The resources that the pod as a whole requests or limits (`spec.resources`, Kubernetes 1.34). Raises NotAPod."""
    found = _mapping(spec(pod), "resources", "spec.resources")
    return frozenset(
        name
        for kind in ("requests", "limits")
        for name in _mapping(found, kind, f"spec.resources.{kind}")
        if isinstance(name, str)
    )


def is_windows(pod: Object) -> bool:
    """Recognised by `os`, by the nodes it may run on, or by options that exist only on Windows. Raises NotAPod."""
    system = _mapping(spec(pod), "os", "spec.os").get("name")
    selector = _mapping(spec(pod), "nodeSelector", "spec.nodeSelector")
    named = [one for one in (system, *(selector.get(label) for label in SYSTEM_LABELS)) if one is not None]
    if named:
        return "windows" in named
    if _wants_windows_nodes(pod):
        return True
    securities = [_mapping(spec(pod), "securityContext", "spec.securityContext")]
    securities += [
        _mapping(one, "securityContext") for kind in ("containers", "initContainers") for one in containers(pod, kind)
    ]
    return any(_mapping(one, "windowsOptions", "securityContext.windowsOptions") for one in securities)


def _wants_windows_nodes(pod: Object) -> bool:
    """Whether its node affinity allows only Windows nodes. One of its terms must hold, with all of its expressions."""
    place = "spec.affinity.nodeAffinity"
    affinity = _mapping(_mapping(spec(pod), "affinity", "spec.affinity"), "nodeAffinity", place)
    required = _mapping(affinity, "requiredDuringSchedulingIgnoredDuringExecution", place)
    terms = objects(required, "nodeSelectorTerms", place)
    return bool(terms) and all(
        any(_is_windows_only(one) for one in objects(term, "matchExpressions", place)) for term in terms
    )


def _is_windows_only(expression: Object) -> bool:
    if expression.get("key") not in SYSTEM_LABELS:
        return False
    return (expression.get("operator"), expression.get("values")) in (("In", ["windows"]), ("NotIn", ["linux"]))


def _is_number(found: Any) -> bool:
    return isinstance(found, int) and not isinstance(found, bool)


def _mapping(parent: Object, name: str, where: str = "") -> Object:
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise NotAPod(f"{where or name} is not an object")
    return found
