"""A linked list: order, and that any node leaves."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.proxy.upstream.linked_list import LinkedList, Node


def test_empty() -> None:
    found: LinkedList[str] = LinkedList()
    assert (found.first, found.last, list(found), len(found)) == (None, None, [], 0)


@pytest.mark.parametrize(("leaves", "left"), [(0, "bc"), (1, "ac"), (2, "ab")])
def test_a_node_leaves_from_anywhere(leaves: int, left: str) -> None:
    found: LinkedList[str] = LinkedList()
    nodes = [Node(letter) for letter in "abc"]
    for node in nodes:
        found.append(node)
    nodes[leaves].remove()
    assert ("".join(found), found.first, found.last, len(found)) == (left, left[0], left[-1], 2)
    assert not nodes[leaves].listed
    nodes[leaves].remove()
    assert len(found) == 2


def test_a_node_is_in_one_list_at_a_time() -> None:
    one: LinkedList[str] = LinkedList()
    two: LinkedList[str] = LinkedList()
    node = Node("a")
    one.append(node)
    with pytest.raises(ValueError, match="in a list already"):
        two.append(node)
    node.remove()
    two.append(node)
    assert (list(one), list(two)) == ([], ["a"])


def test_what_leaves_while_the_list_is_walked() -> None:
    found: LinkedList[int] = LinkedList()
    nodes = [Node(number) for number in range(4)]
    for node in nodes:
        found.append(node)
    seen = []
    for number in found:
        nodes[number].remove()
        seen.append(number)
    assert (seen, len(found)) == ([0, 1, 2, 3], 0)


@given(st.lists(st.integers(0, 5)))
def test_it_orders_as_a_list_would(toggled: list[int]) -> None:
    found: LinkedList[int] = LinkedList()
    nodes = [Node(number) for number in range(6)]
    model: list[int] = []
    for number in toggled:
        if number in model:
            model.remove(number)
            nodes[number].remove()
        else:
            model.append(number)
            found.append(nodes[number])
        assert list(found) == model
        assert (found.first, found.last) == ((model[0], model[-1]) if model else (None, None))
        assert found.size == len(model)
        assert [node.listed for node in nodes] == [number in model for number in range(6)]
