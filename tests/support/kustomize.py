"""Renders a kustomization like `kubectl kustomize`, for the few features that deploy/k8s/ uses.

These are: `resources` (files and folders), `components`, `patches` (RFC 6902 with a target; strategic merge for
`$patch: delete`), and `configMapGenerator` with `files` and without a hash in the name. Anything else is an
AssertionError. If kubectl is installed, a test compares this renderer with it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonpatch
import yaml

Object = dict[str, Any]
KNOWN = {"apiVersion", "kind", "resources", "components", "patches", "configMapGenerator"}


def render(folder: Path) -> list[Object]:
    """The objects, in arbitrary order."""
    return _rendered(folder, [])


def is_component(folder: Path) -> bool:
    """Whether it changes the output of others, and renders nothing by itself."""
    return bool(_one(folder / "kustomization.yaml")["kind"] == "Component")


def _rendered(folder: Path, objects: list[Object]) -> list[Object]:
    """Renders the objects that a component gets, together with its own."""
    found = _one(folder / "kustomization.yaml")
    assert set(found) <= KNOWN, f"{folder}: {set(found) - KNOWN} is not known to this renderer"
    objects = list(objects)
    for resource in found.get("resources", []):
        path = (folder / resource).resolve()
        objects += render(path) if path.is_dir() else _all(path)
    objects += [_config_map(folder, one) for one in found.get("configMapGenerator", [])]
    for component in found.get("components", []):
        assert is_component(folder / component), component
        objects = _rendered(folder / component, objects)
    for patch in found.get("patches", []):
        objects = _patched(objects, patch)
    return objects


def key(one: Object) -> tuple[str, str, str]:
    """The identity of an object."""
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]


def _patched(objects: list[Object], patch: Object) -> list[Object]:
    content = yaml.safe_load(patch["patch"])
    if isinstance(content, dict):
        assert content.pop("$patch") == "delete"
        rest = [one for one in objects if key(one) != key(content)]
        assert len(rest) == len(objects) - 1, f"nothing to delete: {key(content)}"
        return rest
    target = patch["target"]
    assert set(target) == {"kind", "name"}
    hit = [one for one in objects if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])]
    assert len(hit) == 1, target
    return [jsonpatch.apply_patch(one, content) if one is hit[0] else one for one in objects]


def _config_map(folder: Path, generator: Object) -> Object:
    assert generator["options"] == {"disableNameSuffixHash": True}
    metadata = {name: generator[name] for name in ("name", "namespace") if name in generator}
    data = {name: (folder / name).read_text() for name in generator["files"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def _all(path: Path) -> list[Object]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one is not None]


def _one(path: Path) -> Object:
    (found,) = _all(path)
    return found
