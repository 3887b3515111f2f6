"""The structs' annotations, asked for keys and types.

Owns the reading of `Annotated[..., Meta(...)]` and of unions, so that the structs stay the one definition of what a
file may hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import fields

from sidecar.config.schema import Address, CheckUrl, PathTemplate, Url


@cache
def fields_of(struct: type[Struct]) -> Mapping[str, Any]:
    """Key -> annotation, in the order of the struct."""
    return MappingProxyType({field.name: field.type for field in fields(struct)})


@cache
def required_keys(struct: type[Struct]) -> tuple[str, ...]:
    """Those without a default."""
    return tuple(field.name for field in fields(struct) if field.required)


def is_group(hint: Any) -> TypeGuard[type[Struct]]:
    """Whether a value of this type is written as a mapping of keys (`timeout`, `retry.backoff`), not as a string."""
    return isinstance(hint, type) and issubclass(hint, Struct) and hint not in (Address, CheckUrl, PathTemplate, Url)


def group_of(hint: Any) -> type[Struct] | None:
    """The struct whose keys such a value has, also where it may be off (`outlier`); None where it has no keys."""
    if is_group(hint):
        return hint
    member, *others = _members(hint)
    return member if not others and is_group(member) and tag_of(member) is None else None


def shapes_of(hint: Any) -> Mapping[str, type[Struct]]:
    """Tag -> struct, where a value is one of several shapes: `{dns: ...}` or `{kubernetes: ...}`."""
    groups = [member for member in _members(hint) if is_group(member) and member is not hint]
    return {tag: group for group in groups if (tag := tag_of(group))}


def words_of(hint: Any) -> Any:
    """What is left of a type without None and without its shapes: how a value is written that is one scalar or list."""
    return next((member for member in _members(hint) if not is_group(member)), None)


def may_be_none(hint: Any) -> bool:
    """Whether a value may be None, which is never written as such."""
    return get_origin(hint) in _UNIONS and NoneType in get_args(hint)


def tag_of(struct: type[Struct]) -> str | None:
    """The key below which a struct is written that is one of several shapes."""
    tag = struct.__struct_config__.tag
    return tag if isinstance(tag, str) else None


def keys_below(hint: Any) -> Iterable[str]:
    """The keys that the mapping of such a value may have; none where it is no mapping."""
    group = group_of(hint)
    return fields_of(group) if group else shapes_of(hint)


def _members(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) not in _UNIONS:
        return (hint,)
    return tuple(member for member in get_args(hint) if member is not NoneType)


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
_UNIONS = (Union, UnionType)
