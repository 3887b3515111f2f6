"""A linked list whose nodes know where they stand, so that any of them is added or removed in constant time.

Owns the links, nothing else. Pools order idle connections and waiting requests by it. A list or deque would be searched
for what leaves from its middle, and the first key of a dict is found behind all that were removed before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Node(Generic[T]):
    """A place for `item` in one list at a time."""

    __slots__ = ("_after", "_before", "_list", "item")

    def __init__(self, item: T) -> None:
        self.item = item
        self._list: LinkedList[T] | None = None
        self._before: Node[T] | None = None
        self._after: Node[T] | None = None

    @property
    def listed(self) -> bool:
        return self._list is not None

    def remove(self) -> None:
        """Leave the list; nothing happens if it is in none."""
        own = self._list
        if own is None:
            return
        before, after = self._before, self._after
        if before is None:
            own._first = after
        else:
            before._after = after
        if after is None:
            own._last = before
        else:
            after._before = before
        self._list = self._before = self._after = None
        own.size -= 1


class LinkedList(Generic[T]):
    """Items in the order in which their nodes were added."""

    __slots__ = ("_first", "_last", "size")

    def __init__(self) -> None:
        self._first: Node[T] | None = None
        self._last: Node[T] | None = None
        self.size = 0

    def append(self, node: Node[T]) -> None:
        """Add at the end. Raises ValueError if the node is in a list already."""
        if node._list is not None:
            raise ValueError("the node is in a list already")
        node._list = self
        last = node._before = self._last
        if last is None:
            self._first = node
        else:
            last._after = node
        self._last = node
        self.size += 1

    @property
    def first(self) -> T | None:
        """The item that was added first; None when there are none."""
        node = self._first
        return None if node is None else node.item

    @property
    def last(self) -> T | None:
        node = self._last
        return None if node is None else node.item

    def __iter__(self) -> Iterator[T]:
        node = self._first
        while node is not None:
            after = node._after
            yield node.item
            node = after

    def __len__(self) -> int:
        return self.size

    def __repr__(self) -> str:
        return f"<LinkedList {list(self)}>"
