"""Compare two effective configurations in the form that the admin API gives them: nested mappings.

Owns what a leaf is (`{value, origin, line}`), how a tree is flattened, and the differences between two trees.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

Leaf = dict[str, Any]

NAMED: Final = ("services", "checks", "aggregates")
"""Sections whose members are added and removed as a whole."""

RESTART_KEYS: Final = ("listen",)
"""Sections that cannot change while the daemon runs."""


class Change(NamedTuple):
    """A key that a reload would change. `old` is None for a new key, `new` is None for a removed one."""

    key: str
    old: Leaf | None
    new: Leaf | None
    whole: bool = False
    """A service, a check or an aggregate is added or removed. The leaf holds its name."""

    @property
    def needs_restart(self) -> bool:
        """Whether a reload would leave the key as it is."""
        return self.key.partition(".")[0] in RESTART_KEYS


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every value, as (key path, leaf)."""
    for key, below in tree.items():
        here = f"{path}.{key}" if path else key
        if is_leaf(below):
            yield here, below
        elif isinstance(below, Mapping):
            yield from leaves(below, here)


def is_leaf(value: Any) -> bool:
    """Whether it is a value with its origin."""
    return isinstance(value, Mapping) and "origin" in value and "value" in value


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """The differences, in the order of the keys. A service that is added or removed is one change for all its keys."""
    found = []
    whole: set[str] = set()
    for group in NAMED:
        before, after = old.get(group) or {}, new.get(group) or {}
        for name in [*before, *(name for name in after if name not in before)]:
            if name not in before or name not in after:
                path = f"{group}.{name}"
                whole.add(path)
                there = {"value": name, "origin": "file"}
                found.append(
                    Change(path, there if name in before else None, there if name in after else None, whole=True)
                )
    before, after = dict(leaves(old)), dict(leaves(new))
    for key in [*before, *(key for key in after if key not in before)]:
        if any(key.startswith(f"{path}.") for path in whole):
            continue
        was, becomes = before.get(key), after.get(key)
        if was is None or becomes is None or was["value"] != becomes["value"]:
            found.append(Change(key, was, becomes))
    return sorted(found, key=lambda change: change.key)


def hides(value: Any) -> bool:
    """Whether a value of the tree is hidden, wholly or partly (`sidecar.config.effective`)."""
    if isinstance(value, Mapping):
        return any(map(hides, value.values()))
    if isinstance(value, list):
        return any(map(hides, value))
    return isinstance(value, str) and "***" in value


def with_heirs(found: Sequence[Change]) -> list[tuple[Change, int]]:
    """The changes without those that are only inherited, each with the number of keys that inherit it.

    A service inherits from `defaults`, a route from its service.
    """
    by_key = {change.key: change for change in found}
    heirs: Counter[str] = Counter()
    own = []
    for change in found:
        source = next((key for key in _sources(change.key) if _same(change, by_key.get(key))), None)
        if source is None:
            own.append(change)
        else:
            heirs[source] += 1
    return [(change, heirs[change.key]) for change in own]


def _sources(key: str) -> Iterator[str]:
    """The keys that a service's or a route's value may be inherited from, `defaults` first."""
    if not key.startswith("services."):
        return
    parts = key.split(".")
    yield from ("defaults." + ".".join(parts[at:]) for at in range(2, len(parts)))
    service, route, rest = key.rpartition(".routes[")
    if route:
        yield f"{service}.{rest.partition('].')[2]}"


def _same(change: Change, source: Change | None) -> bool:
    return source is not None and _values(change) == _values(source)


def _values(change: Change) -> tuple[Any, Any]:
    return (change.old or {}).get("value"), (change.new or {}).get("value")
