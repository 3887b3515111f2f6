"""The messages for unknown keys and unknown services, with a guess at what was meant.

Owns the guess, and the list of keys that are planned and not built yet. A key leaves that list by itself when a struct
gets a field of its name, because only unknown keys are looked up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sidecar.config.annotations import keys_below
from sidecar.config.errors import shown_key

LATER_KEYS = frozenset({"rate_limit", "hedge", "split", "mirror", "fault", "coalesce", "rewrite", "auth"})


def unknown_key(key: str, known: Mapping[str, Any]) -> str:
    """The message for `key` in a mapping that takes the keys of `known` (key -> type)."""
    if key in LATER_KEYS:
        return "this version does not support this key yet"
    meant = _meant(key, known)
    return f"unknown key; did you mean {meant}?" if meant else f"unknown key; expected one of {', '.join(known)}"


def unknown_service(name: str, services: Iterable[str]) -> str:
    """The message for a reference to a service that the file does not have."""
    import difflib  # here for the same reason as below

    near = difflib.get_close_matches(name, list(services), n=1, cutoff=0.65)
    return f"no service has this name; did you mean {shown_key(near[0])}?" if near else "no service has this name"


def _meant(key: str, known: Mapping[str, Any]) -> str | None:
    if not 1 < len(key) <= 64:
        return None
    # Opossum's errorThresholdPercentage, or the same with dashes, means our key.
    plain = _plain(key)
    candidates = {_plain(name): name for name in known}
    inner = {_plain(name): f"{group}.{name}" for group, hint in known.items() for name in keys_below(hint)}
    if exact := candidates.get(plain) or inner.get(plain):
        return exact
    import difflib  # takes 3 ms, so only for a file with a mistake

    near = difflib.get_close_matches(plain, candidates, n=1, cutoff=0.65)
    if near:
        return candidates[near[0]]
    near = difflib.get_close_matches(plain, inner, n=1, cutoff=0.85)
    return inner[near[0]] if near else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")
