"""Keys of which exactly one is set: what a hash goes by, what a health check asks, how DNS tells the port.

Owns which keys these are, and what is said where there are none or several.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from sidecar.config.annotations import fields_of
from sidecar.config.errors import Place
from sidecar.config.tree import Leaf, Tree
from sidecar.policy.settings import DnsSettings, HashSettings, HealthSettings

_CHOICES: dict[type[Struct], tuple[str, ...]] = {
    HashSettings: ("header", "cookie", "query", "source"),
    HealthSettings: ("path", "tcp"),
    DnsSettings: ("port", "srv"),
}
"""A boolean among them is set where it is `true`."""


def choice_problems(struct: type[Struct], tree: Tree, place: Place | None) -> list[tuple[Place, str]]:
    """What is wrong where `tree`, the whole of a `struct`, sets none or several of its keys.

    That it sets none is said at `place`, or not at all without one.
    """
    keys = _CHOICES.get(struct, ())
    chosen = sorted(_chosen(keys, tree).items(), key=lambda item: (item[1].place.line, item[1].place.column))
    if keys and not chosen:
        return (
            []
            if place is None
            else [(place, f"expected exactly one of {', '.join(_shown(struct, key) for key in keys)}")]
        )
    return [(leaf.place, f"{chosen[0][0]} is set as well: keep one of the two") for _, leaf in chosen[1:]]


def without_replaced(struct: type[Struct], below: Tree, over: Tree) -> Tree:
    """`below` without the key that a choice in `over` takes the place of: `tcp: true` over `path` means TCP alone."""
    keys = _CHOICES.get(struct, ())
    if not _chosen(keys, over):
        return below
    return {key: value for key, value in below.items() if key not in keys}


def _chosen(keys: tuple[str, ...], tree: Tree) -> dict[str, Leaf]:
    found: dict[str, Any] = {key: tree[key] for key in keys if key in tree}
    return {key: leaf for key, leaf in found.items() if leaf.value is not False}


def _shown(struct: type[Struct], key: str) -> str:
    return f"{key}: true" if fields_of(struct)[key] is bool else key
