"""The parts of a pod that the injector looks at, read from whatever JSON came.

Owns what may be absent, null or of the wrong shape. An API server has typed a pod before it asks a webhook, a file has
been typed by nobody: what has not the shape of a pod is `NotAPod`, and is left to the API server to refuse.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

Object: TypeAlias = dict[Any, Any]
"""A JSON object. From a file it may have any key; whoever reads one takes texts."""

DEFAULT_GRACE_S: Final = 30


class NotAPod(ValueError):
    """It has not the shape of a pod; `str()` says where."""


def texts(pod: Object, name: str) -> dict[str, str]:
    """`annotations` or `labels`. Raises NotAPod."""
    found = _mapping(_mapping(pod, "metadata"), name, f"metadata.{name}")
    words: dict[str, str] = {}
    for key, value in found.items():
        if not isinstance(value, str) or not isinstance(key, str):
            raise NotAPod(f"metadata.{name}[{key!s:.80}] is no text")
        words[key] = value
    return words


def namespace(pod: Object) -> str:
    """Empty where the pod does not say: then the request does. Raises NotAPod."""
    found = _mapping(pod, "metadata").get("namespace")
    return found if isinstance(found, str) else ""


def spec(pod: Object) -> Object:
    """Raises NotAPod."""
    found = pod.get("spec")
    if not isinstance(found, dict):
        raise NotAPod("spec is no object")
    return found


def containers(pod: Object, name: str = "containers") -> list[Object]:
    """`containers` or `initContainers`, each with its name. Raises NotAPod."""
    found = objects(spec(pod), name, f"spec.{name}")
    for place, one in enumerate(found):
        if not isinstance(one.get("name"), str):
            raise NotAPod(f"spec.{name}[{place}] has no name")
        objects(one, "env", f"spec.{name}[{place}].env")
        objects(one, "ports", f"spec.{name}[{place}].ports")
    return found


def objects(parent: Object, name: str, where: str) -> list[Object]:
    """A list of objects, empty where there is none. Raises NotAPod."""
    found = parent.get(name)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise NotAPod(f"{where} is no list of objects")
    return found


def grace_s(pod: Object) -> int:
    """`terminationGracePeriodSeconds`. Raises NotAPod."""
    found = spec(pod).get("terminationGracePeriodSeconds")
    if found is None:
        return DEFAULT_GRACE_S
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise NotAPod("spec.terminationGracePeriodSeconds is no number of seconds")
    return found


def is_windows(pod: Object) -> bool:
    """Raises NotAPod."""
    system = _mapping(spec(pod), "os", "spec.os").get("name")
    selector = _mapping(spec(pod), "nodeSelector", "spec.nodeSelector")
    return "windows" in (system, selector.get("kubernetes.io/os"))


def _mapping(parent: Object, name: str, where: str = "") -> Object:
    found = parent.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise NotAPod(f"{where or name} is no object")
    return found
