"""The header fields that a cache goes by (RFC 9111), read from bytes.

Owns their syntax. What may be kept, and for whom, is `stale_cache`. What cannot be read counts as the refusal to be
kept: a parser that errs here shows one caller another's answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Field = Callable[[bytes], Sequence[bytes]]
"""The values of a message's field by its name in lower case, a value for each line; empty where it has none."""

_LINE = re.compile(rb"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)")
_PART = re.compile(rb'"((?:[^"\\]|\\.)*)("?)|([^\s,="]+)|(=)|(,)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

MAX_SECONDS = 2**31
"""What a longer delta-seconds counts as (RFC 9111, section 1.2.2)."""


def fields_of(block: bytes) -> dict[bytes, list[bytes]]:
    """Name in lower case to the values of its lines; `block` is field lines, each opened (not closed) by CRLF."""
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _LINE.findall(block):
        fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    return fields


def field_in(block: bytes) -> Field:
    """A `Field` over a block: for several look-ups in one head."""
    fields = fields_of(block)

    def values(name: bytes) -> Sequence[bytes]:
        return fields.get(name, ())

    return values


def without_fields(block: bytes, names: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bytes:
    """The lines of a block less those of these names (lower case), or whose name begins like one of `prefixes`."""
    kept = []
    for line in block.split(b"\r\n")[1:]:
        name = line.partition(b":")[0].lower()
        if name not in names and not name.startswith(prefixes):
            kept.append(b"\r\n" + line)
    return b"".join(kept)


def cache_directives(values: Sequence[bytes]) -> dict[bytes, bytes]:
    """Cache-Control's directives, names in lower case, with their arguments (empty without one; unquoted).

    Of a repeated one the first counts (RFC 9111, section 4.2.1). A quoted string that does not end counts as
    `no-store`: what it swallowed may have been one.
    """
    directives: dict[bytes, bytes] = {}
    name = b""
    is_argument = False
    for quoted, end, word, equals, comma in _PART.findall(b",".join(values)):
        if comma:
            name, is_argument = b"", False
        elif equals:
            is_argument = True
        elif word and not (is_argument and name):
            name, is_argument = word.lower(), False
            directives.setdefault(name, b"")
        else:
            if not word and not end:
                directives.setdefault(b"no-store", b"")
            if is_argument and name and not directives[name]:
                directives[name] = word or _ESCAPED.sub(rb"\1", quoted)
            name, is_argument = b"", False
    return directives


def delta_seconds(text: bytes) -> int | None:
    """A duration in whole seconds, at most MAX_SECONDS; None for anything but digits."""
    if not text.isdigit():
        return None
    return MAX_SECONDS if len(text) > 10 else min(int(text), MAX_SECONDS)


def vary_names(values: Sequence[bytes]) -> list[bytes]:
    """The names in Vary, lower case, each once, sorted; `*` is one of them where it is written."""
    return sorted({name.strip(b" \t").lower() for name in b",".join(values).split(b",")} - {b""})


def comparable(values: Sequence[bytes]) -> bytes | None:
    """Several lines of a list as one value, without the whitespace around its commas; None for an absent field.

    Two requests with the same one mean the same (RFC 9111, section 4.1). Inside of quotes whitespace is part of the
    value, so a list with quotes keeps all of it.
    """
    if not values:
        return None
    joined = b",".join([value.strip(b" \t") for value in values])
    return joined if b'"' in joined else b",".join([part.strip(b" \t") for part in joined.split(b",")])
