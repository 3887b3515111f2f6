"""Operations of a JSON patch (RFC 6902) and their paths (RFC 6901). There is only `add`: nothing is ever removed.

This module also creates a list or an object that is missing. `add` to a member that is null replaces the null.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

from sidecar.kubernetes.pod import Object

Operation: TypeAlias = dict[str, Any]


def escaped(key: str) -> str:
    """A key as one step of a path."""
    return key.replace("~", "~0").replace("/", "~1")


def add(path: str, value: Any) -> Operation:
    return {"op": "add", "path": path, "value": value}


def add_items(parent: Object, path: str, name: str, items: list[Object], *, first: bool = False) -> Iterator[Operation]:
    """Adds objects to the list `name` of `parent`, whose path is `path`: at its end, or at its start if `first`."""
    if not items:
        return
    if not parent.get(name):
        yield add(path, items)
        return
    for item in reversed(items) if first else items:
        yield add(f"{path}/{0 if first else '-'}", item)


def add_texts(parent: Object, path: str, name: str, values: dict[str, str]) -> Iterator[Operation]:
    """Adds texts to the object `name` of `parent`, whose path is `path`."""
    if not values:
        return
    if not parent.get(name):
        yield add(path, values)
        return
    for key, value in values.items():
        yield add(f"{path}/{escaped(key)}", value)


def apply(operations: list[Operation], document: Any) -> None:
    """Applies `add` operations to a document in place. Raises KeyError or IndexError if a path does not exist.

    Files need this: their document keeps its comments, so it must be changed and not copied.
    """
    for operation in operations:
        *steps, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        target = document
        for step in steps:
            target = target[int(step)] if isinstance(target, list) else target[step]
        if not isinstance(target, list):
            target[last] = operation["value"]
        elif last == "-":
            target.append(operation["value"])
        else:
            target.insert(int(last), operation["value"])
