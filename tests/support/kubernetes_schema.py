"""Validates objects against Kubernetes' own schemas (from its OpenAPI), and against rules that no schema contains.

The schemas are those of kubernetes-validate, in their strict form (an unknown field is an error). That package reads
megabytes again for each object; here each validator is created once.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


VERSIONS = sorted(
    (found[1] for path in FOLDER.iterdir() if (found := re.fullmatch(r"v(\d+\.\d+)\.0-local-strict", path.name))),
    key=_numbers,
)
OLDEST, NEWEST = VERSIONS[0], VERSIONS[-1]
NATIVE_OLDEST = "1.29"
"""The first version with native sidecars turned on by default."""

NATIVE_VERSIONS = VERSIONS[VERSIONS.index(NATIVE_OLDEST) :]


@functools.cache
def _registry(version: str) -> Registry[Any]:
    path = FOLDER / f"v{version}.0-local-strict" / "_definitions.json"
    return Resource.from_contents(json.loads(path.read_text())) @ Registry()  # type: ignore[no-any-return]


@functools.cache
def _validator(version: str, kind: str, api: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"v{version}.0-local-strict" / f"{kind.lower()}-{api}.json").read_text())
    registry = Resource.from_contents(schema) @ _registry(version)
    return Draft202012Validator(schema, registry=registry)


def problems(found: dict[str, Any], version: str) -> list[str]:
    """The errors of an object according to a schema, each with its place."""
    group, _, number = found["apiVersion"].rpartition("/")
    api = f"{group.partition('.')[0]}-{number}" if group else number
    errors = _validator(version, found["kind"], api).iter_errors(found)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message[:300]}" for error in errors]


def pod_problems(pod: dict[str, Any], version: str) -> list[str]:
    """`problems`, plus the rules of an API server's `ValidatePodSpec` that go beyond types."""
    whole = {"apiVersion": "v1", "kind": "Pod"} | pod
    return problems(whole, version) + spec_problems(whole["spec"])


def spec_problems(spec: dict[str, Any]) -> list[str]:
    """Duplicate names, mounts of missing volumes, and hooks and probes in places where they are not allowed."""
    found = []
    volumes = [one["name"] for one in spec.get("volumes") or []]
    normal, init = spec.get("containers") or [], spec.get("initContainers") or []
    names = [one["name"] for one in [*normal, *init]]
    found += [f"{what} is there twice" for what in {*_twice(volumes), *_twice(names)}]
    if not normal:
        found.append("no containers")
    for one in [*normal, *init]:
        mounts = one.get("volumeMounts") or []
        found += [f"{one['name']}: mount path {path} is there twice" for path in _twice(m["mountPath"] for m in mounts)]
        found += [f"{one['name']}: no volume {m['name']}" for m in mounts if m["name"] not in volumes]
        ports = one.get("ports") or []
        found += [f"{one['name']}: port {name} is there twice" for name in _twice(p.get("name") for p in ports)]
        limits = (one.get("resources") or {}).get("limits") or {}
        found += [f"{one['name']}: empty {name}" for name, value in limits.items() if not value]
    found += [f"{one['name']}: restartPolicy in containers" for one in normal if "restartPolicy" in one]
    for one in init:
        if one.get("restartPolicy") != "Always":
            only_native = ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe")
            found += [f"{one['name']}: {key} needs restartPolicy Always" for key in only_native if one.get(key)]
    return found


def _twice(names: Any) -> set[Any]:
    seen: set[Any] = set()
    return {name for name in names if name is not None and (name in seen or seen.add(name))}  # type: ignore[func-returns-value]
