"""The structs' annotations, asked for keys and types.

Owns the reading of `Annotated[..., Meta(...)]`, so that the structs stay the one definition of what a file may hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, TypeGuard, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import fields

from sidecar.config.schema import Address, Url


@cache
def fields_of(struct: type[Struct]) -> Mapping[str, Any]:
    """Key -> annotation, in the order of the struct."""
    return MappingProxyType({field.name: field.type for field in fields(struct)})


def is_group(hint: Any) -> TypeGuard[type[Struct]]:
    """Whether a value of this type is written as a mapping of keys (`timeout`, `retry.backoff`), not as a string."""
    return isinstance(hint, type) and issubclass(hint, Struct) and hint not in (Address, Url)


def unwrapped(hint: Any) -> tuple[Any, Meta]:
    """The type itself, and what `Meta` says about it."""
    if get_origin(hint) is not Annotated:
        return hint, _NOTHING
    base, *notes = get_args(hint)
    return base, next((note for note in notes if isinstance(note, Meta)), _NOTHING)


def kind_of(meta: Meta) -> str | None:
    """How a value is written, where its type alone does not tell."""
    return (meta.extra or {}).get("kind")


_NOTHING = Meta()
