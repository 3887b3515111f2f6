"""JSON to and from an app's own types: dataclasses, msgspec Structs, TypedDicts and plain values by msgspec, pydantic
models by their own methods where the app has pydantic.

Owns the two directions and the words for what does not fit. Those never repeat a value of the body: logs have them.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_BOM: Final = b"\xef\xbb\xbf"
"""Some services begin with it, which a reader may ignore (RFC 8259, section 8.1)."""
_MODEL_LOADS: Final = "model_validate_json"
_MODEL_DUMPS: Final = "model_dump"
_REPEATS: Final = ("Invalid enum value", "Invalid value", "Object contains unknown field")
"""How msgspec's words begin where a value, or a name, out of the body follows."""
_PLACE: Final = re.compile(r" - at `[^`]*`(?: in `[^`]*`)?$")


class Mismatch(ValueError):
    """The body is not JSON, or not of the type. Its words name the place (`$.price`), never the value."""


def decode(body: bytes, wanted: Any = Any) -> Any:
    """`body` as a value of type `wanted`: any that msgspec knows (its page "Supported Types"), or that has
    `model_validate_json` as a pydantic model does. Raises Mismatch; NotImplementedError for a type that is neither.
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
    except msgspec.DecodeError as error:
        raise Mismatch(f"not JSON: {error}") from None
    except UnicodeDecodeError:
        raise Mismatch("not JSON: not UTF-8") from None
    except _Unfit as error:
        raise Mismatch(str(error)) from None


def encode(value: Any) -> bytes:
    """`value` as JSON. Raises TypeError where it holds what has no JSON form."""
    return msgspec.json.encode(value, enc_hook=_dump_model)


class _Unfit(ValueError):
    """Of a model; msgspec puts the place of the model into words after it."""


def _is_model(wanted: Any) -> bool:
    return hasattr(wanted, _MODEL_LOADS)


def _decode_model(wanted: Any, value: Any) -> Any:
    """msgspec's `dec_hook`: the value of a type that it does not know."""
    if not _is_model(wanted):
        raise NotImplementedError(f"{wanted!r} is neither known to msgspec nor has it {_MODEL_LOADS}")
    # From JSON again, and not from the value: a model in strict mode takes a date's text from JSON only.
    return _validated(wanted, msgspec.json.encode(value))


def _validated(model: Any, body: bytes) -> Any:
    try:
        return model.model_validate_json(body)
    except ValueError as error:
        raise _Unfit(_places(error)) from None


def _places(error: ValueError) -> str:
    """Where and how a model does not fit. pydantic's own words repeat the input."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return "not of the model"
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
    """msgspec's `enc_hook`: what it cannot write by itself."""
    dump = getattr(value, _MODEL_DUMPS, None)
    if dump is None:
        raise TypeError(f"a {type(value).__name__} has no JSON form: json= takes dataclasses, Structs, dicts, models")
    return dump(mode="json")
