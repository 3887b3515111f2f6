"""Merge the levels of a policy key by key (`defaults`, then the service, then the route), and build structs.

Owns the merge, and keeps the place of each value. `checks` tells whether the result makes sense.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from msgspec import Struct

from sidecar.config.annotations import fields_of, group_of
from sidecar.config.tree import Leaf, Tree

S = TypeVar("S", bound=Struct)


def merge(base: Tree, over: Tree) -> Tree:
    """`base`, overridden by the keys of `over`. Groups are merged key by key; other values, lists too, are replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return merged


def build(struct: type[S], tree: Tree, **given: Any) -> S:
    """The struct with what the tree sets and its own defaults for the rest; no leaf may be INVALID."""
    hints = fields_of(struct)
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Leaf):
            values[key] = value.value
        elif group := group_of(hints[key]):
            values[key] = build(group, value)
    return struct(**values, **given)


def leaves(tree: Tree, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every value of the tree with its dotted key (`retry.backoff.base`)."""
    for key, value in tree.items():
        if isinstance(value, Leaf):
            yield prefix + key, value
        else:
            yield from leaves(value, f"{prefix}{key}.")
