"""What a file sets, as a tree."""

from __future__ import annotations

from sidecar.config.errors import Place
from sidecar.config.tree import INVALID, Leaf, Tree, is_valid


def leaf(value: object) -> Leaf:
    return Leaf(value, Place(1, 1), "defaults")


def test_a_tree_is_valid_while_no_leaf_of_it_was_reported_however_deep() -> None:
    good: Tree = {"a": leaf(None), "b": {"c": leaf(1), "d": {}}}
    bad: Tree = {"a": leaf(1), "b": {"c": {"d": leaf(INVALID)}}}
    assert is_valid({})
    assert is_valid(good)
    assert not is_valid(bad)
