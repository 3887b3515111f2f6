"""Converts JSON to an app's own types and back. msgspec converts dataclasses, Structs, TypedDicts and plain values;
pydantic models convert themselves, if the app has pydantic.

This module owns both directions, which types can be decoded, and the error messages. A message never contains a value
of the body, because messages end up in logs.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

import msgspec

_BOM: Final = b"\xef\xbb\xbf"
"""Some services begin a body with a byte order mark. A reader may ignore it (RFC 8259, section 8.1)."""
MAX_UNPACKED: Final = 64 * 1024 * 1024
"""How many bytes a compressed body may have when it is unpacked. A few KiB can become a GiB."""
_GZIP: Final = b"\x1f\x8b"
"""The first bytes of gzip (RFC 1952, section 2.3.1). No JSON begins with them."""
_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_MODEL_LOADS: Final = "model_validate_json"
_MODEL_DUMPS: Final = "model_dump"
_REPEATS: Final = ("Invalid enum value", "Invalid value", "Object contains unknown field")
"""After these beginnings, msgspec's messages repeat a value or a name of the body."""
_PLACE: Final = re.compile(r" - at `[^`]*`(?: in `[^`]*`)?$")


class Mismatch(ValueError):
    """The body is not JSON, or does not match the type. The message names the place (`$.price`), never the value."""


def decode(body: bytes, wanted: Any = Any) -> Any:
    """`body` as a value of type `wanted`, which `check` accepts. An empty body is None if the type allows None. A body
    of gzip without a Content-Encoding is unpacked. Raises Mismatch for a body that does not fit, and TypeError as
    `check` does.
    """
    if body[:2] == _GZIP:
        body = _unpacked(body)
    body = body.removeprefix(_BOM)
    if not body.strip():
        return _of_no_body(wanted)
    return _decoded(body, wanted)


def check(wanted: Any) -> None:
    """Raises TypeError for a type that no body can be decoded to. These can be: a type that msgspec supports (its page
    "Supported Types"), and a type with the method `model_validate_json`, such as a pydantic model.
    """
    if not _is_model(wanted):
        _decoder_of(wanted)


def _of_no_body(wanted: Any) -> None:
    try:
        if not _is_model(wanted) and _decoder_of(wanted).decode(b"null") is None:
            return
    except msgspec.ValidationError:
        pass
    raise Mismatch("the body is empty")


def _decoded(body: bytes, wanted: Any) -> Any:
    try:
        if _is_model(wanted):
            return _validated(wanted, body)
        return _decoder_of(wanted).decode(body)
    except msgspec.ValidationError as error:
        raise Mismatch(_without_value(str(error))) from None
    except UnicodeDecodeError:  # of msgspec before 0.23, and of models
        raise Mismatch("not JSON: not UTF-8") from None
    except msgspec.DecodeError as error:
        words = "not UTF-8" if "UTF-8" in str(error) else str(error)
        raise Mismatch(f"not JSON: {words}") from None
    except _Unfit as error:
        raise Mismatch(str(error)) from None


def _unpacked(body: bytes) -> bytes:
    unpacking = zlib.decompressobj(_GZIP_WINDOW)
    try:
        found = unpacking.decompress(body, MAX_UNPACKED + 1)
    except zlib.error:
        raise Mismatch("the body begins as gzip, without a Content-Encoding, and cannot be unpacked") from None
    if len(found) > MAX_UNPACKED:
        raise Mismatch(f"the body is gzip, without a Content-Encoding, and over {MAX_UNPACKED} bytes when unpacked")
    if not unpacking.eof or unpacking.unused_data:
        raise Mismatch("the body begins as gzip, without a Content-Encoding, and is not one whole gzip member")
    return found


def _decoder_of(wanted: Any) -> msgspec.json.Decoder[Any]:
    try:
        hash(wanted)
    except TypeError:  # Annotated, with metadata that cannot be hashed
        return _new_decoder(wanted)
    return _cached_decoder(wanted)


def _new_decoder(wanted: Any) -> msgspec.json.Decoder[Any]:
    try:
        decoder = msgspec.json.Decoder(wanted, dec_hook=_decode_model)
    except TypeError as error:
        words = str(error).split("\n", 1)[0].removesuffix(" - type")
        advice = "for one of several types, use msgspec Structs with a tag, or pydantic's RootModel[A | B]"
        raise TypeError(f"{wanted!r} cannot be decoded: {words} ({advice})") from None
    unknown = next((cls for cls in _not_msgspecs(wanted) if not _is_model(cls)), None)
    if unknown is not None:
        raise TypeError(f"msgspec does not support {unknown!r}, and it has no method {_MODEL_LOADS}")
    return decoder


_cached_decoder: Final = lru_cache(maxsize=256)(_new_decoder)


def _not_msgspecs(wanted: Any) -> Iterator[Any]:
    """The types within `wanted` that msgspec leaves to its hook."""
    nodes: list[object] = [msgspec.inspect.type_info(wanted)]
    seen: set[int] = set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, tuple):
            nodes += node
        elif isinstance(node, msgspec.Struct) and id(node) not in seen:  # a type may contain itself
            seen.add(id(node))
            if isinstance(node, msgspec.inspect.CustomType):
                yield node.cls
            nodes += [getattr(node, name) for name in node.__struct_fields__]


def encode(value: Any) -> bytes:
    """`value` as JSON. Raises TypeError if it contains something that has no JSON form."""
    return msgspec.json.encode(value, enc_hook=_dump_model)


class _Unfit(ValueError):
    """A value does not fit a model. msgspec appends the place of the model to this message."""


def _is_model(wanted: Any) -> bool:
    return hasattr(wanted, _MODEL_LOADS)


def _decode_model(wanted: Any, value: Any) -> Any:
    """Hook of msgspec (`dec_hook`) for types that it does not know. They are models, see `_new_decoder`."""
    # The model gets JSON, not the value: in strict mode it accepts a date as text only from JSON.
    return _validated(wanted, msgspec.json.encode(value))


def _validated(model: Any, body: bytes) -> Any:
    try:
        return model.model_validate_json(body)
    except ValueError as error:
        raise _Unfit(_places(error)) from None


def _places(error: ValueError) -> str:
    """Where and how a model does not fit. pydantic's own message is not used, because it repeats the input."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return "does not match the model"
    found = [f"{one.get('type', 'invalid')} at `{_path(one.get('loc', ()))}`" for one in errors()]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return ", ".join(found[:3]) + more


def _path(places: tuple[int | str, ...]) -> str:
    return "$" + "".join(f"[{place}]" if isinstance(place, int) else f".{place}" for place in places)


def _without_value(words: str) -> str:
    for beginning in _REPEATS:
        if words.startswith(beginning):
            place = _PLACE.search(words)
            return beginning + (place[0] if place else "")
    return words


def _dump_model(value: Any) -> Any:
    """Hook of msgspec (`enc_hook`) for values that it cannot encode."""
    dump = getattr(value, _MODEL_DUMPS, None)
    if dump is None:
        raise TypeError(f"a {type(value).__name__} has no JSON form: json= takes dataclasses, Structs, dicts, models")
    return dump(mode="json")
