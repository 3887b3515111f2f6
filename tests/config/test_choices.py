"""Exactly one of several keys."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from msgspec import Struct

from sidecar.config.choices import choice_problems, without_replaced
from sidecar.config.errors import Place
from sidecar.config.tree import INVALID, Leaf, Tree
from sidecar.policy.settings import DnsSettings, HashSettings, HealthSettings, OutlierSettings

AT = Place(1, 1, "here")


def tree(values: Mapping[str, object]) -> Tree:
    """Each key in a line of its own, from line 2 on."""
    return {key: Leaf(value, Place(line, 1, key), "service") for line, (key, value) in enumerate(values.items(), 2)}


@pytest.mark.parametrize(
    ("struct", "values", "problems"),
    [
        (HashSettings, {"header": "a"}, []),
        (HashSettings, {"source": True}, []),
        (HashSettings, {"source": False, "query": "a"}, []),
        (HashSettings, {}, ["1 expected exactly one of header, cookie, query, source: true"]),
        (HashSettings, {"source": False}, ["1 expected exactly one of header, cookie, query, source: true"]),
        (HashSettings, {"header": INVALID}, []),
        (
            HashSettings,
            {"source": True, "cookie": "a", "header": "b"},
            ["3 source is set as well: keep one of the two", "4 source is set as well: keep one of the two"],
        ),
        (HealthSettings, {"interval": 1.0}, ["1 expected exactly one of path, tcp: true, grpc"]),
        (HealthSettings, {"tcp": True, "path": "/"}, ["3 tcp is set as well: keep one of the two"]),
        (HealthSettings, {"tcp": False, "path": "/"}, []),
        (DnsSettings, {"name": "a"}, ["1 expected exactly one of port, srv: true"]),
        (DnsSettings, {"port": 1, "srv": True}, ["3 port is set as well: keep one of the two"]),
        (OutlierSettings, {}, []),
    ],
)
def test_one_and_only_one(struct: type[Struct], values: Mapping[str, object], problems: list[str]) -> None:
    found = choice_problems(struct, tree(values), AT)
    assert [f"{place.line} {message}" for place, message in found] == problems


def test_that_there_is_none_is_not_said_without_a_place() -> None:
    assert choice_problems(DnsSettings, {}, None) == []
    assert len(choice_problems(DnsSettings, tree({"port": 1, "srv": True}), None)) == 1


@pytest.mark.parametrize(
    ("below", "over", "left"),
    [
        ({"path": "/", "interval": 1.0}, {"tcp": True}, ["interval"]),
        ({"tcp": True, "interval": 1.0}, {"path": "/"}, ["interval"]),
        ({"path": "/"}, {"path": "/a"}, []),
        ({"path": "/"}, {"interval": 2.0}, ["path"]),
        ({"path": "/"}, {"tcp": False}, ["path"]),
    ],
)
def test_a_choice_takes_the_place_of_the_one_below(
    below: Mapping[str, object], over: Mapping[str, object], left: list[str]
) -> None:
    before = tree(below)
    assert list(without_replaced(HealthSettings, before, tree(over))) == left
    assert before == tree(below)
