"""Levels made one."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.errors import Place
from sidecar.config.merge import build, leaves, merge
from sidecar.config.tree import Leaf, Tree
from sidecar.policy.settings import Backoff, OutlierSettings, Policy, RetrySettings


def leaf(value: Any, line: int = 1) -> Leaf:
    return Leaf(value, Place(line, 1), "defaults")


def test_groups_merge_key_by_key_and_values_as_a_whole() -> None:
    base: Tree = {"retry": {"max_retries": leaf(1), "on": leaf({502}), "backoff": {"base": leaf(0.1)}}}
    over: Tree = {"retry": {"on": leaf({503}), "backoff": {"max": leaf(2.0)}}}
    policy = build(Policy, merge(base, over))
    assert policy.retry == RetrySettings(max_retries=1, on={503}, backoff=Backoff(base=0.1, max=2.0))  # type: ignore[arg-type]
    assert policy.timeout == Policy().timeout


def test_what_is_off_is_replaced_as_a_whole_both_ways() -> None:
    on: Tree = {"outlier": {"interval": leaf(5.0)}}
    off: Tree = {"outlier": leaf(None)}
    empty: Tree = {"outlier": {}}
    assert build(Policy, merge(on, off)).outlier is None
    assert build(Policy, merge(off, on)).outlier == OutlierSettings(interval=5.0)
    assert build(Policy, merge(off, empty)).outlier == OutlierSettings()
    assert build(Policy, merge(on, empty)).outlier == OutlierSettings(interval=5.0)


def test_merging_leaves_both_sides_as_they_were() -> None:
    base: Tree = {"retry": {"max_retries": leaf(1)}}
    merge(base, {"retry": {"max_retries": leaf(2), "max_body": leaf(3)}})
    assert base == {"retry": {"max_retries": leaf(1)}}


def test_leaves_bear_dotted_keys() -> None:
    tree: Tree = {"a": leaf(1), "b": {"c": leaf(2), "d": {"e": leaf(3)}}}
    assert [(key, one.value) for key, one in leaves(tree)] == [("a", 1), ("b.c", 2), ("b.d.e", 3)]


NUMBERS = st.integers().map(leaf)
FLAT = st.dictionaries(st.sampled_from("xyz"), NUMBERS)
TREES = st.fixed_dictionaries({}, optional={"a": NUMBERS, "b": FLAT, "c": FLAT})


@given(TREES, TREES, TREES)
def test_merging_is_associative_and_the_narrower_level_wins(first: Tree, second: Tree, third: Tree) -> None:
    assert merge(merge(first, second), third) == merge(first, merge(second, third))
    values = dict(leaves(merge(first, second)))
    assert values == dict(leaves(first)) | dict(leaves(second))
