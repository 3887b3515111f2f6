"""What a file sets: typed values in the shape of the structs, each with its place and the level that set it.

Owns that shape. The walk makes trees of nodes, `merge` makes one of several, and structs of them.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from msgspec import Struct

from sidecar.config.errors import Place

Level = Literal["default", "file", "defaults", "service", "route"]
"""Who set a value; `default` is the struct itself, and never found in a tree. `file`: outside of policies, where only
the file can have."""


class Leaf(Struct, frozen=True):
    """A value that the file sets. It is INVALID where the mistake was reported already."""

    value: Any
    place: Place
    level: Level


Tree = dict[str, "Leaf | Tree"]
"""What the file sets of a struct, with its keys; groups are trees. A group that is `off` is a leaf, of None."""

INVALID: Final = object()


def is_valid(tree: Tree) -> bool:
    """Whether nothing in it was reported, so that it can be built."""
    return all(is_valid(value) if isinstance(value, dict) else value.value is not INVALID for value in tree.values())
