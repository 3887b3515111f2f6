"""Check keys of which exactly one must be set: in a hash balancer, a health check, and discovery by DNS.

Owns which keys these are, and the messages if none or several of them are set.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from sidecar.config.annotations import fields_of
from sidecar.config.errors import Place
from sidecar.config.merge import leaves
from sidecar.config.tree import Tree
from sidecar.policy.settings import DnsSettings, HashSettings, HealthSettings

_CHOICES: dict[type[Struct], tuple[str, ...]] = {
    HashSettings: ("header", "cookie", "query", "source"),
    HealthSettings: ("path", "tcp", "grpc"),
    DnsSettings: ("port", "srv"),
}
"""A boolean counts as set if it is `true`."""

_NOWHERE: Final = Place(0, 0)
"""Of a group without values, `{}`: a tree does not have its own place. It comes before the others."""


def choice_problems(struct: type[Struct], tree: Tree, place: Place | None) -> list[tuple[Place, str]]:
    """The mistakes if `tree`, which has all keys of a `struct`, sets none or several of them.

    If it sets none, the mistake is at `place`; without a place it is not reported.
    """
    keys = _CHOICES.get(struct, ())
    chosen = sorted(_chosen(keys, tree).items(), key=lambda item: (item[1].line, item[1].column))
    if keys and not chosen:
        return (
            []
            if place is None
            else [(place, f"expected exactly one of {', '.join(_shown(struct, key) for key in keys)}")]
        )
    return [(at, f"{chosen[0][0]} is set as well: keep one of the two") for _, at in chosen[1:]]


def without_replaced(struct: type[Struct], below: Tree, over: Tree) -> Tree:
    """`below` without the key that a choice in `over` replaces: `tcp: true` over `path` means TCP alone."""
    keys = _CHOICES.get(struct, ())
    if not _chosen(keys, over):
        return below
    return {key: value for key, value in below.items() if key not in keys}


def _chosen(keys: tuple[str, ...], tree: Tree) -> dict[str, Place]:
    """The keys that are set, with their places. Of a group that is the place of its first value."""
    found: dict[str, Place] = {}
    for key in keys:
        value = tree.get(key)
        if isinstance(value, dict):
            found[key] = next((leaf.place for _, leaf in leaves(value)), _NOWHERE)
        elif value is not None and value.value not in (False, None):
            found[key] = value.place
    return found


def _shown(struct: type[Struct], key: str) -> str:
    return f"{key}: true" if fields_of(struct)[key] is bool else key
