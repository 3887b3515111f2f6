"""Single values in the JSON Schema: their patterns, bounds and defaults.

Owns a pattern for each kind of value. It may be looser than the parser, and is never stricter. Variables are replaced
before a value gets its type. So each scalar may also be a text with `${`, and a number may be written as a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, get_args, get_origin

from msgspec import Meta

from sidecar.config.annotations import group_of, kind_of, may_be_off, scalar_hint, unwrapped
from sidecar.config.schema import Address, CheckUrl, PathTemplate, Url
from sidecar.config.units import format_duration, format_size
from sidecar.policy.grpc import STATUSES as GRPC_STATUSES
from sidecar.policy.settings import RETRY_REASONS

Schema = dict[str, Any]

VARIABLE: Final = MappingProxyType({"$ref": "#/definitions/variable"})
VARIABLE_DEFINITION: Final = MappingProxyType(
    {
        "description": "An environment variable: ${NAME}, or ${NAME:-default}.",
        "type": "string",
        "pattern": r"\$\{",
    }
)

NAME: Final = "[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
TOKEN: Final = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"

_WHOLE = "[+-]?[0-9]+"
_NUMBER = r"[+-]?[0-9]+(\.[0-9]+)?"
_STATUSES = "[1-5][0-9][0-9](-[1-5][0-9][0-9])?"
_HTTP = "[Hh][Tt][Tt][Pp][Ss]?"
_SCHEME = f"({_HTTP}|[Hh]2[Cc]|[Gg][Rr][Pp][Cc])"

_PATTERNS: Final[Mapping[Any, str]] = MappingProxyType(
    {
        "duration": r"[0-9]+(\.[0-9]+)?(ms|s|m|h)",
        "size": r"[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)?",
        "percentage": _NUMBER + "%?",
        "statuses": _STATUSES,
        "retry_conditions": "|".join([*sorted(RETRY_REASONS), _STATUSES, *GRPC_STATUSES[1:]]),
        "grpc_statuses": "|".join(GRPC_STATUSES[1:]),
        "grpc_name": r"[A-Za-z_][A-Za-z0-9_.]*(\.\*)?",
        "methods": "[A-Z][A-Z0-9_-]{0,31}",
        "service_name": NAME,
        "host_name": r"[A-Za-z0-9_.-]+(:([0-9]{1,5}|\*))?",
        "dns_name": "[A-Za-z0-9_.-]+",
        "tls_name": r"[\[\]A-Za-z0-9_.:-]+",
        "dns_label": LABEL,
        "service_port": LABEL,
        "server_url": f"{_HTTP}://[!-~]+",
        "token": TOKEN,
        "lower_token": TOKEN,
        "query_name": "[!-~]+",
        "path_prefix": "/[!-~]*",
        "target": "/[!-~]*",
        Url: f"{_SCHEME}://[^/?#@]+/?",
        Address: ".+:[0-9]{1,5}",
        CheckUrl: f"([Rr][Ee][Dd][Ii][Ss]{{1,2}}|[Tt][Cc][Pp]|{_HTTP})://.+",
        PathTemplate: "/.*",
        "count": _WHOLE,
        int: _WHOLE,
        float: _NUMBER,
        bool: "true|false",
    }
)
"""By kind, or by type if a type has no kind."""

_NUMERIC: Final[Mapping[Any, str]] = MappingProxyType(
    {
        "size": "integer",
        "percentage": "number",
        "statuses": "integer",
        "retry_conditions": "integer",
        "service_port": "integer",
        "count": "integer",
        int: "integer",
        float: "number",
        bool: "boolean",
    }
)
"""The JSON types of values that YAML does not read as strings."""

_NAMES: Final = frozenset(
    {
        *("service_name", "host_name", "dns_name", "tls_name", "dns_label", "service_port", "grpc_name"),
        *("token", "lower_token", "query_name"),
    }
)
"""Kinds of values that may be digits alone, or `true`, which YAML does not read as strings."""

_DECIMAL: Final = re.compile(r"[0-9]+\.[0-9]+")
"""What YAML reads as a number."""

_STATUS_BOUNDS = {"minimum": 100, "maximum": 599}


def value_schema(hint: Any) -> Schema:
    """The schema of a value that is a scalar or a list. It accepts `off` if the value may be off."""
    base, meta = unwrapped(scalar_hint(hint))
    kind = kind_of(meta)
    if kind == "headers":
        words = {"type": ["string", "number", "boolean"]}
        return {"type": "object", "propertyNames": {"pattern": f"^{TOKEN}$"}, "additionalProperties": words}
    if get_origin(base) is Literal:
        choices: list[Any] = list(get_args(base))
        choices += [word == "true" for word in choices if word in ("true", "false")]  # YAML reads these as booleans
        choices += [float(word) for word in choices if isinstance(word, str) and _DECIMAL.fullmatch(word)]
        return {"anyOf": [{"enum": choices}, {**VARIABLE}]}
    if get_origin(base) is frozenset:
        return {"type": "array", "items": _scalar(kind, Meta())}
    if get_origin(base) is tuple:
        items = value_schema(get_args(base)[0])
        listed = {"type": "array", "items": items}
        # `listen.proxy` may have one address without the list.
        return {"anyOf": [{**listed, "minItems": 1}, items]} if get_args(base)[0] is Address else listed
    schema = _scalar(kind or base, meta)
    if may_be_off(hint) and kind != "file_path":
        return {"anyOf": [{"const": "off"}, *schema["anyOf"]]}
    return schema


def _scalar(kind: Any, meta: Meta) -> Schema:
    numeric, pattern = _NUMERIC.get(kind), _PATTERNS.get(kind)
    if pattern is None:  # free text, which YAML may read as a number
        return {"type": ["string", "number", "boolean"]}
    options: list[Schema] = [{"type": numeric, **_bounds(kind, meta)}] if numeric else []
    options.append({"type": "string", "pattern": f"^({pattern})$"})
    if kind in _NAMES:
        options.append({"type": ["number", "boolean"]})
    return {"anyOf": [*options, {**VARIABLE}]}


def _bounds(kind: Any, meta: Meta) -> Schema:
    if kind in ("statuses", "retry_conditions"):
        return dict(_STATUS_BOUNDS)
    least = 0 if kind == "size" and meta.ge is None else meta.ge
    found = {"minimum": least, "exclusiveMinimum": meta.gt, "maximum": meta.le}
    return {word: bound for word, bound in found.items() if bound is not None}


def default_as_written(value: Any, hint: Any) -> Any:
    """A default as it is written in a file; None if it cannot be written."""
    _, meta = unwrapped(scalar_hint(hint))
    kind = kind_of(meta)
    if kind == "fallback":
        return value or "off"
    if value is None:
        return "off" if group_of(hint) or may_be_off(hint) else None
    if kind == "duration":
        return format_duration(value)
    if kind == "size":
        return format_size(value)
    if kind == "body":
        return value.decode()
    if isinstance(value, frozenset):
        return _members(value)
    if isinstance(value, tuple):
        return [str(item) if isinstance(item, Address) else item for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(value, Address) else value


def _members(values: frozenset[Any]) -> list[Any]:
    """Words in order, then numbers; numbers without a gap become one range."""
    words = sorted(value for value in values if isinstance(value, str))
    numbers = sorted(value for value in values if isinstance(value, int))
    if len(numbers) > 2 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return [*words, f"{numbers[0]}-{numbers[-1]}"]
    return [*words, *numbers]
