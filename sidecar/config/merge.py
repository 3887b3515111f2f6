"""What several levels set, made one: `defaults` < service < route, key by key.

Owns the merge, the structs that come of it, and where each value came from. Whether the result makes sense is `checks`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from msgspec import Struct

from sidecar.config.annotations import fields_of, group_of
from sidecar.config.tree import Leaf, Tree

S = TypeVar("S", bound=Struct)


def merge(base: Tree, over: Tree) -> Tree:
    """`base` with the keys of `over` put over it: groups key by key, all else (lists too) as a whole."""
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
