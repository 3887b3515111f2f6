"""The tree of what a file sets: typed values, each with its place in the file and the level that set it.

`walk` makes trees from nodes. `merge` merges trees, and makes structs from them.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from sidecar.config.errors import Place

Level = Literal["default", "file", "defaults", "service", "route"]
"""Where a value was set. `default`: in the struct, so no tree has it. `file`: in the file, outside of the policies."""


class Leaf(Struct, frozen=True):
    """A value that the file sets. It is INVALID if its mistake was reported already."""

    value: Any
    place: Place
    level: Level


Tree = dict[str, "Leaf | Tree"]
"""What the file sets of a struct, by key. Groups are trees. A group that is `off` is a leaf with the value None."""

INVALID: Final = object()


def is_valid(tree: Tree) -> bool:
    """Whether no value is INVALID, so that a struct can be built."""
    return all(is_valid(value) if isinstance(value, dict) else value.value is not INVALID for value in tree.values())
