from __future__ import annotations

import copy
from typing import Any

import jsonpatch
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kubernetes.patch import patch
from sidecar.kubernetes.patch_path import add, add_items, add_texts, apply, escaped
from sidecar.kubernetes.settings import InjectorSettings
from tests.kubernetes.samples import pods, some_text

ITEMS = [{"name": "a"}, {"name": "b"}]


@pytest.mark.parametrize("there", [{}, {"l": None}, {"l": []}, {"l": [{"name": "z"}]}])
@pytest.mark.parametrize("first", [True, False])
def test_items_go_to_the_end_or_the_start(there: dict[str, Any], first: bool) -> None:
    before = copy.deepcopy(there)
    made = jsonpatch.apply_patch(there, list(add_items(there, "/l", "l", ITEMS, first=first)))
    old = before.get("l") or []
    assert made["l"] == (ITEMS + old if first else old + ITEMS)
    assert there == before


def test_nothing_to_add_is_no_operation() -> None:
    assert list(add_items({}, "/l", "l", [])) == []
    assert list(add_texts({}, "/t", "t", {})) == []


@given(st.dictionaries(some_text, some_text, max_size=3), st.dictionaries(some_text, some_text, min_size=1, max_size=3))
def test_texts_of_any_key(there: dict[str, str], added: dict[str, str]) -> None:
    document = {"t": there}
    made = jsonpatch.apply_patch(document, list(add_texts(document, "/t", "t", added)))
    assert made["t"] == there | added


def test_escaping() -> None:
    assert escaped("sidecar.dev/a~b") == "sidecar.dev~1a~0b"
    document: dict[str, Any] = {"m": {}}
    apply([add("/m/a~1b~0", 1), add("/l", [1]), add("/l/0", 0), add("/l/-", 2)], document)
    assert document == {"m": {"a/b~": 1}, "l": [0, 1, 2]}


@given(pods())
def test_it_applies_as_a_library_does(found: dict[str, Any]) -> None:
    for native in (True, False):
        operations = list(patch(found, InjectorSettings(native=native)).patch)
        mine = copy.deepcopy(found)
        apply(copy.deepcopy(operations), mine)
        assert mine == jsonpatch.apply_patch(found, operations)
