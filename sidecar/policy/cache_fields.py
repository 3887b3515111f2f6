"""HTTP caching fields (RFC 9111): parsers for Cache-Control, Vary and field lines, over bytes.

Owns the syntax. `stale_cache` decides what may be kept, and for whom. A value that cannot be parsed counts as "do not
keep": a parser that errs on the other side would show one caller's response to another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

Field = Callable[[bytes], Sequence[bytes]]
"""Looks up a field of a message by its name in lower case: one value for each line, empty when it is absent."""

_LINE = re.compile(rb"\r\n([^:\r\n]+):[ \t]*([^\r\n]*)")
_PART = re.compile(rb'"((?:[^"\\]|\\.)*)("?)|([^\s,="]+)|(=)|(,)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)

MAX_SECONDS = 2**31
"""Larger delta-seconds count as this value (RFC 9111, section 1.2.2)."""


def fields_of(block: bytes) -> dict[bytes, list[bytes]]:
    """Field values by name in lower case. Each line of `block` begins with CRLF and does not end with one."""
    fields: dict[bytes, list[bytes]] = {}
    for name, value in _LINE.findall(block):
        fields.setdefault(name.lower(), []).append(value.rstrip(b" \t"))
    return fields


def field_in(block: bytes) -> Field:
    """A `Field` for a block of lines, for several look-ups in one head."""
    fields = fields_of(block)

    def values(name: bytes) -> Sequence[bytes]:
        return fields.get(name, ())

    return values


def without_fields(block: bytes, names: frozenset[bytes], prefixes: tuple[bytes, ...]) -> bytes:
    """A copy of a block without some lines: those with a name in `names`, or a name that starts with one of `prefixes`.

    Names and prefixes are in lower case.
    """
    kept = []
    for line in block.split(b"\r\n")[1:]:
        name = line.partition(b":")[0].lower()
        if name not in names and not name.startswith(prefixes):
            kept.append(b"\r\n" + line)
    return b"".join(kept)


def cache_directives(values: Sequence[bytes]) -> dict[bytes, bytes]:
    """Directives of Cache-Control by name in lower case, with their arguments unquoted (empty when there is none).

    When a directive is repeated, the first one counts (RFC 9111, section 4.2.1). A quoted string without an end counts
    as `no-store`, because it may have swallowed one.
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
    """A duration in whole seconds, at most MAX_SECONDS. None when the text is not only digits."""
    if not text.isdigit():
        return None
    return MAX_SECONDS if len(text) > 10 else min(int(text), MAX_SECONDS)


def vary_names(values: Sequence[bytes]) -> list[bytes]:
    """Field names in Vary: lower case, sorted, without duplicates. `*` is among them if the response has it."""
    return sorted({name.strip(b" \t").lower() for name in b",".join(values).split(b",")} - {b""})


def comparable(values: Sequence[bytes]) -> bytes | None:
    """All lines of a list field as one value, without whitespace around commas. None when the field is absent.

    Two requests with equal values match (RFC 9111, section 4.1). Whitespace inside quotes is part of the value, so a
    list with quotes keeps all its whitespace.
    """
    if not values:
        return None
    joined = b",".join([value.strip(b" \t") for value in values])
    return joined if b'"' in joined else b",".join([part.strip(b" \t") for part in joined.split(b",")])
