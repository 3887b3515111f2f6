"""Read the type annotations of the configuration structs: which keys a file may have, and the types of their values.

Owns the reading of `Annotated[..., Meta(...)]` and of unions. The structs are the only definition of what a file may
hold.
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
    """The keys without a default."""
    return tuple(field.name for field in fields(struct) if field.required)


def is_group(hint: Any) -> TypeGuard[type[Struct]]:
    """Whether a value of this type is written as a mapping of keys (`timeout`, `retry.backoff`), not as a string."""
    return isinstance(hint, type) and issubclass(hint, Struct) and hint not in (Address, CheckUrl, PathTemplate, Url)


def group_of(hint: Any) -> type[Struct] | None:
    """The struct of a value that is written as keys, also if it may be off (`outlier`); None for other values."""
    if is_group(hint):
        return hint
    member, *others = _members(hint)
    return member if not others and is_group(member) and tag_of(member) is None else None


def forms_of(hint: Any) -> Mapping[str, type[Struct]]:
    """Tag -> struct, for a value that has one of several forms: `{dns: ...}` or `{kubernetes: ...}`."""
    groups = [member for member in _members(hint) if is_group(member) and member is not hint]
    return {tag: group for group in groups if (tag := tag_of(group))}


def scalar_hint(hint: Any) -> Any:
    """The part of a type that is written as a scalar or a list: without None, and without its forms. It may be None."""
    return next((member for member in _members(hint) if not is_group(member)), None)


def may_be_none(hint: Any) -> bool:
    """Whether a value may be None. A file has `off` instead, or leaves the key out."""
    return get_origin(hint) in _UNIONS and NoneType in get_args(hint)


def may_be_off(hint: Any) -> bool:
    """Whether `off` means None in the file: for a number, a count limit, a file or a name that replaces
    another one, but not for a port or any other name.
    """
    base, meta = unwrapped(scalar_hint(hint))
    return may_be_none(hint) and (base is float or kind_of(meta) in ("count", "file_path", "tls_name"))


def tag_of(struct: type[Struct]) -> str | None:
    """The key that a struct is written below, if it is one of several forms."""
    tag = struct.__struct_config__.tag
    return tag if isinstance(tag, str) else None


def keys_below(hint: Any) -> Iterable[str]:
    """The keys of a value that is written as a mapping; none for other values."""
    group = group_of(hint)
    return fields_of(group) if group else forms_of(hint)


def _members(hint: Any) -> tuple[Any, ...]:
    if get_origin(hint) not in _UNIONS:
        return (hint,)
    return tuple(member for member in get_args(hint) if member is not NoneType)


def unwrapped(hint: Any) -> tuple[Any, Meta]:
    """The type without `Annotated`, and its `Meta`."""
    if get_origin(hint) is not Annotated:
        return hint, _NOTHING
    base, *notes = get_args(hint)
    return base, next((note for note in notes if isinstance(note, Meta)), _NOTHING)


def kind_of(meta: Meta) -> str | None:
    """How a value is written, if the type alone does not tell."""
    return (meta.extra or {}).get("kind")


_NOTHING = Meta()
_UNIONS = (Union, UnionType)
