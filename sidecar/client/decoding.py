"""Converts JSON to an app's own types and back. msgspec converts dataclasses, Structs, TypedDicts and plain values;
pydantic models convert themselves, if the app has pydantic.

This module owns both directions and the error messages. A message never contains a value of the body, because messages
end up in logs.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_BOM: Final = b"\xef\xbb\xbf"
"""Some services begin a body with a byte order mark. A reader may ignore it (RFC 8259, section 8.1)."""
_MODEL_LOADS: Final = "model_validate_json"
_MODEL_DUMPS: Final = "model_dump"
_REPEATS: Final = ("Invalid enum value", "Invalid value", "Object contains unknown field")
"""After these beginnings, msgspec's messages repeat a value or a name of the body."""
_PLACE: Final = re.compile(r" - at `[^`]*`(?: in `[^`]*`)?$")


class Mismatch(ValueError):
    """The body is not JSON, or does not match the type. The message names the place (`$.price`), never the value."""


def decode(body: bytes, wanted: Any = Any) -> Any:
    """`body` as a value of type `wanted`: a type that msgspec supports (its page "Supported Types"), or a type with the
    method `model_validate_json`, such as a pydantic model. Raises Mismatch for a body that does not fit, and
    NotImplementedError for any other type.
    """
    body = body.removeprefix(_BOM)
    if not body.strip():
        raise Mismatch("the body is empty")
    try:
        if _is_model(wanted):
            return _validated(wanted, body)
        return msgspec.json.decode(body, type=wanted, dec_hook=_decode_model)
    except msgspec.ValidationError as error:
        raise Mismatch(_without_value(str(error))) from None
    except UnicodeDecodeError:  # of msgspec before 0.23, and of models
        raise Mismatch("not JSON: not UTF-8") from None
    except msgspec.DecodeError as error:
        words = "not UTF-8" if "UTF-8" in str(error) else str(error)
        raise Mismatch(f"not JSON: {words}") from None
    except _Unfit as error:
        raise Mismatch(str(error)) from None


def encode(value: Any) -> bytes:
    """`value` as JSON. Raises TypeError if it contains something that has no JSON form."""
    return msgspec.json.encode(value, enc_hook=_dump_model)


class _Unfit(ValueError):
    """A value does not fit a model. msgspec appends the place of the model to this message."""


def _is_model(wanted: Any) -> bool:
    return hasattr(wanted, _MODEL_LOADS)


def _decode_model(wanted: Any, value: Any) -> Any:
    """Hook of msgspec (`dec_hook`) for types that it does not know."""
    if not _is_model(wanted):
        raise NotImplementedError(f"msgspec does not support {wanted!r}, and it has no method {_MODEL_LOADS}")
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
