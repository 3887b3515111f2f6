"""Header compression (RFC 7541): blocks of bytes to fields and back, each direction with its own table.

The decoder says too whether each field is well-formed (RFC 9113, section 8.2.1): what stands in the table was looked at
once. What fields a message may have is `field_rules`' business.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sidecar.proxy.h2 import huffman, static_table
from sidecar.proxy.h2.sensitive import Sensitive

Fields = list[tuple[bytes, bytes]]

TABLE_SIZE: Final = 4096
"""Of either table, in the RFC's count. The default; no connection asks for another."""

FIELD_OVERHEAD: Final = 32
"""What a field counts above its bytes (section 4.1)."""

_MOST_SHIFT: Final = 28
"""An integer of more than five bytes is refused (section 5.1)."""

_MOST_UPDATES: Final = 16
"""Of the table's size, in a block. Two are enough (section 4.2); some encoders say each size that there was."""

_STATIC: Final = static_table.SIZE
_BYTES: Final = [bytes([value]) for value in range(256)]
_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch

_MOST_LISTS: Final = 4
"""A list may be so many times too large before decoding it is given up: each byte of a block may stand for 4 KiB."""

_KEPT_BYTES: Final = 8 * 1024
_LONGEST_KEPT: Final = 2 * 1024
_KEPT_BLOCKS: Final = 32
_LARGEST_INDEXED: Final = 1024

_SECRET: Final = {b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"}
"""Never indexed: a table that several users' fields go through lets one guess another's (section 7.1)."""

_NEW_EACH_TIME: Final = {
    *(b"grpc-timeout", b"x-request-id", b"traceparent", b"tracestate", b"content-length", b"date", b"etag"),
    *(b"grpc-message", b"grpc-status-details-bin", b"grpc-trace-bin", b"grpc-tags-bin", b"last-modified"),
    *(b"x-envoy-expected-rq-timeout-ms", b"x-envoy-upstream-service-time"),
}
"""In the table they would only drive out what comes again."""


class HpackError(Exception):
    """The block cannot be decoded, and no later one can (COMPRESSION_ERROR)."""


class Decoder:
    """Of one connection. After `decode`, `malformed` and `too_large` say what is wrong with this block's fields."""

    __slots__ = (
        "_at",
        "_bad",
        "_blocks",
        "_first",
        "_kept",
        "_limit",
        "_size",
        "_sound",
        "_states",
        "_static",
        "_strings",
        "_table",
        "malformed",
        "max_list",
        "too_large",
    )

    def __init__(self, max_list: int) -> None:
        self._static = static_table.fields()
        self._states = huffman.states()
        self._table: list[Any] = []
        """The fields, newest last; those before `_first` are gone. Any: a tuple is passed on as it is."""
        self._first = 0
        self._size = 0
        self._limit = TABLE_SIZE
        self._bad: dict[Any, int] = {}
        """How often a malformed field stands in the table."""
        self._at = 0
        self._blocks: dict[bytes, list[Any]] = {}
        """Blocks of indexes alone, as long as the table does not change: that is most of what a busy peer sends."""
        self._strings: dict[bytes, bytes] = {}
        """What Huffman-coded strings say, such as a token that is sent with each call and never indexed."""
        self._sound = False
        """The string that was read last is known to be one that a value may be."""
        self._kept = 0
        """Bytes of their codes."""
        self.max_list = max_list
        """The size of a header list that is taken, in the RFC's count."""
        self.malformed = False
        self.too_large = False
        """The list is larger than `max_list`; what was returned is only its beginning."""

    @property
    def table_size(self) -> int:
        return self._size

    def decode(self, block: bytes) -> Fields:
        """The fields. Raises HpackError; where `too_large` is true then, there was no end of them."""
        self.malformed = self.too_large = False
        known = self._blocks.get(block)
        if known is not None:
            return known.copy()
        fields: list[Any] = []
        indexes_only = True
        began = False
        updates = 0
        total = 0
        size = len(block)
        at = 0
        while at < size:
            first = block[at]
            if first & 0x80:  # an indexed field (section 6.1)
                began = True
                index = first & 0x7F
                at += 1
                if index == 0x7F:
                    index = self._integer(block, at - 1, 0x7F)
                    at = self._at
                field = self._field(index)
                if self._bad and field in self._bad:
                    self.malformed = True
            elif first & 0xE0 == 0x20:  # the table's size (section 6.3)
                if began:
                    raise HpackError("the table's size changes within a block")
                updates += 1
                if updates > _MOST_UPDATES:
                    raise HpackError("the table's size changes again and again")
                self._resize(self._integer(block, at, 0x1F))
                at = self._at
                indexes_only = False
                continue
            else:
                began = True
                indexes_only = False
                field = self._literal(block, at, first)
                at = self._at
            pair: tuple[bytes, bytes] = field
            total += len(pair[0]) + len(pair[1]) + FIELD_OVERHEAD
            if total <= self.max_list:
                fields.append(field)
            else:
                self.too_large = True
                if total > _MOST_LISTS * self.max_list:
                    raise HpackError("a header list that is many times too large")
        if indexes_only and not self.malformed and not self.too_large:
            if len(self._blocks) >= _KEPT_BLOCKS:
                self._blocks.clear()
            self._blocks[block] = fields
            return fields.copy()
        return fields

    def _literal(self, block: bytes, at: int, first: int) -> Any:
        """A literal field (section 6.2), which begins at `at`."""
        indexed = first & 0x40 != 0
        mask = 0x3F if indexed else 0x0F
        index = first & mask
        if index == mask:
            index = self._integer(block, at, mask)
        else:
            self._at = at + 1
        if index:
            known: tuple[bytes, bytes] = self._field(index)
            name = known[0]
            bad = bool(self._bad) and _NAME(name) is None
        else:
            name = self._string(block)
            bad = _NAME(name) is None
        self._sound = False
        value = self._string(block)
        if not self._sound and not _is_value(value):
            bad = True
        if first & 0xF0 == 0x10:
            value = Sensitive(value)
        field = (name, value)
        if bad:
            self.malformed = True
        if indexed:
            self._add(field, len(name) + len(value) + FIELD_OVERHEAD, bad)
        return field

    def _integer(self, block: bytes, at: int, mask: int) -> int:
        """The integer that begins at `at`; `_at` is behind it then (section 5.1)."""
        value = block[at] & mask
        at += 1
        if value == mask:
            shift = 0
            size = len(block)
            while True:
                if at >= size:
                    raise HpackError("the block ends within an integer")
                byte = block[at]
                at += 1
                value += (byte & 0x7F) << shift
                if byte < 0x80:
                    break
                shift += 7
                if shift > _MOST_SHIFT:
                    raise HpackError("an integer is too large")
        self._at = at
        return value

    def _string(self, block: bytes) -> bytes:
        """The string that begins at `_at` (section 5.2)."""
        at = self._at
        if at >= len(block):
            raise HpackError("the block ends before a string")
        packed = block[at] >= 0x80
        length = self._integer(block, at, 0x7F)
        at = self._at
        end = at + length
        if end > len(block):
            raise HpackError("the block ends within a string")
        self._at = end
        data = block[at:end]
        if not packed:
            return data
        found = self._strings.get(data)
        if found is not None:
            self._sound = True
        else:
            try:
                found = huffman.decode(data, self._states)
            except huffman.HuffmanError as error:
                raise HpackError(str(error)) from None
            if length <= _LONGEST_KEPT and _is_value(found):
                self._kept += length
                if self._kept > _KEPT_BYTES:
                    self._strings.clear()
                    self._kept = length
                self._strings[data] = found
        return found

    def _field(self, index: int) -> Any:
        """Section 2.3.3."""
        if index <= _STATIC:
            if index == 0:
                raise HpackError("index 0")
            return self._static[index]
        at = len(self._table) - (index - _STATIC)
        if at < self._first:
            raise HpackError("an index beyond the table")
        return self._table[at]

    def _resize(self, limit: int) -> None:
        if limit > TABLE_SIZE:
            raise HpackError("the table's size is above the one allowed")
        self._limit = limit
        self._evict(limit)

    def _add(self, field: Any, need: int, bad: bool) -> None:
        """Section 4.4: an entry that is too large empties the table."""
        self._evict(self._limit - need if need <= self._limit else 0)
        if need <= self._limit:
            self._table.append(field)
            self._size += need
            if bad:
                self._bad[field] = self._bad.get(field, 0) + 1

    def _evict(self, room: int) -> None:
        if self._blocks:
            self._blocks.clear()
        while self._size > room:
            field = self._table[self._first]
            self._table[self._first] = None
            self._first += 1
            pair: tuple[bytes, bytes] = field
            self._size -= len(pair[0]) + len(pair[1]) + FIELD_OVERHEAD
            if self._bad and field in self._bad:
                self._bad[field] -= 1
                if not self._bad[field]:
                    del self._bad[field]
        if self._first > 128 and self._first * 2 > len(self._table):
            del self._table[: self._first]
            self._first = 0


def _is_value(value: bytes) -> bool:
    """RFC 9113, section 8.2.1."""
    if not value:
        return True
    first = value[0]
    last = value[len(value) - 1]
    if first in (0x20, 0x09) or last in (0x20, 0x09):
        return False
    # As numbers: bytes are first tried as one there, and the error of that costs more than the search.
    return not (0x0D in value or 0x0A in value or 0 in value)


def integer(value: int, mask: int, first: int) -> bytes:
    """An integer, with the other bits of its first byte (RFC 7541, section 5.1)."""
    if value < mask:
        return _BYTES[first | value]
    value -= mask
    if value < 0x80:
        return _BYTES[first | mask] + _BYTES[value]
    out = [first | mask]
    while value >= 0x80:
        out.append((value & 0x7F) | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class Encoder:
    """Of one connection. Strings are sent as they are."""

    __slots__ = (
        "_entries",
        "_first",
        "_gone",
        "_indexes",
        "_limit",
        "_lowest",
        "_names",
        "_resized",
        "_size",
    )

    def __init__(self) -> None:
        self._limit = TABLE_SIZE
        self._lowest = TABLE_SIZE
        self._resized = False
        self._size = 0
        self._entries: list[Any] = []
        """The fields, newest last; those before `_first` are gone."""
        self._first = 0
        self._gone = 0
        """How many were cut off the front of the list. An entry's number is its place in it, and this."""
        self._indexes: dict[Any, int] = static_table.numbers().copy()
        """The number of each field; those of the static table are below zero, and never go."""
        self._names: dict[bytes, int] = static_table.name_numbers().copy()

    def resize(self, limit: int) -> None:
        """The peer's SETTINGS_HEADER_TABLE_SIZE: the next block says so first (section 4.2)."""
        limit = min(limit, TABLE_SIZE)
        if limit != self._limit:
            self._lowest = min(self._lowest, limit) if self._resized else limit
            self._resized = True
            self._limit = limit
            self._evict(limit)

    def encode(self, fields: list[Any], out: list[Any]) -> int:
        """Append the block's pieces, and return its size."""
        start = len(out)
        if self._resized:
            self._resized = False
            if self._lowest < self._limit:
                out.append(integer(self._lowest, 0x1F, 0x20))
            out.append(integer(self._limit, 0x1F, 0x20))
        for field in fields:
            number = self._indexes.get(field)
            pair: tuple[bytes, bytes] = field
            name, value = pair
            if number is None or type(value) is not bytes:
                self._literal(name, value, field, out)
                continue
            index = -number if number < 0 else _STATIC + self._gone + len(self._entries) - number
            out.append(_BYTES[index | 0x80] if index < 0x7F else integer(index, 0x7F, 0x80))
        size = 0
        for at in range(start, len(out)):
            piece: bytes = out[at]
            size += len(piece)
        return size

    def _literal(self, name: bytes, value: bytes, field: Any, out: list[Any]) -> None:
        need = len(name) + len(value) + FIELD_OVERHEAD
        never = name in _SECRET or type(value) is not bytes
        add = not never and need <= _LARGEST_INDEXED and need <= self._limit and name not in _NEW_EACH_TIME
        first = 0x10 if never else (0x40 if add else 0)
        mask = 0x3F if add else 0x0F
        index = 0
        number = self._names.get(name)
        if number is not None:
            index = -number if number < 0 else _STATIC + self._gone + len(self._entries) - number
        if index:
            out.append(integer(index, mask, first))
        else:
            out.append(_BYTES[first])
            out.append(integer(len(name), 0x7F, 0))
            out.append(name)
        out.append(integer(len(value), 0x7F, 0))
        out.append(value)
        if add:
            self._evict(self._limit - need)
            number = self._gone + len(self._entries)
            self._entries.append(field)
            self._indexes[field] = number
            if index == 0 or index > _STATIC:
                self._names[name] = number
            self._size += need

    def _evict(self, room: int) -> None:
        while self._size > room:
            field = self._entries[self._first]
            self._entries[self._first] = None
            number = self._gone + self._first
            self._first += 1
            pair: tuple[bytes, bytes] = field
            self._size -= len(pair[0]) + len(pair[1]) + FIELD_OVERHEAD
            if self._indexes.get(field) == number:
                del self._indexes[field]
            if self._names.get(pair[0]) == number:
                del self._names[pair[0]]
        if self._first > 128 and self._first * 2 > len(self._entries):
            del self._entries[: self._first]
            self._gone += self._first
            self._first = 0
