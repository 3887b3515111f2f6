"""Generate the JSON Schema of the configuration, with which editors complete and check a file.

The structs are the only definition of the configuration; this module makes the schema from them. Single values are
`json_schema_values`. A schema checks each value alone, so it accepts all that `sidecar check` accepts, and more: only
`check` knows the rules between values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from msgspec import NODEFAULT, Struct, structs

from sidecar.config.aggregates import MAX_PARTS
from sidecar.config.annotations import (
    fields_of,
    forms_of,
    group_of,
    kind_of,
    may_be_none,
    required_keys,
    scalar_hint,
    unwrapped,
)
from sidecar.config.docstrings import docstring_of, docstrings
from sidecar.config.json_schema_values import (
    LABEL,
    NAME,
    VARIABLE,
    VARIABLE_DEFINITION,
    Schema,
    default_as_written,
    value_schema,
)
from sidecar.config.schema import Aggregate, AggregatePart, Config, EndpointSpec, HealthCheck, Match, Service, Url
from sidecar.config.services import POLICY_KEYS, SERVICE_KEYS, SERVICE_WIDE
from sidecar.policy.settings import FallbackService, FallbackStale, FallbackStatic, FilePath, Policy

DRAFT: Final = "http://json-schema.org/draft-07/schema#"
"""The newest draft that the YAML language servers of all common editors know."""

ID: Final = "urn:service-sidecar:configuration"
"""The schema's name. It is no URL, so that no editor fetches it: the schema comes with the program."""

_TEXTS: Final[Mapping[str, str]] = {
    "listen": "The addresses of the three listeners. Port 0 lets the system choose a port.",
    "log": "The log, on standard output: one JSON object a line.",
    "defaults": "The policy that each service starts from. A service and its routes override it key by key.",
    "services": "The services, by the name that the app calls: /venue/events/42 goes to `venue` as /events/42.",
    "checks": "What GET /health checks in addition to the services, by name.",
    "aggregates": "The calls that GET /_aggregate/<name> makes to several services at once, by name.",
}
_URL_TEXT: Final = (
    "http, https, h2c or grpc, host and port, no path. Every address behind the name is an endpoint."
    " h2c: HTTP/2 without TLS. grpc: the same, and the service is one of gRPC."
)


def json_schema_text() -> str:
    """The content of `config/sidecar.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def json_schema() -> Schema:
    """The schema of a whole file."""
    return _Generator().whole()


class _Generator:
    """Makes the schema. A group that is used in several places is written once, under `definitions`."""

    def __init__(self) -> None:
        self._definitions: dict[str, Schema] = {"variable": {**VARIABLE_DEFINITION}}

    def whole(self) -> Schema:
        named = {
            "services": _by_name(self._service(), NAME),
            "checks": _by_name(self._object(HealthCheck), LABEL),
            "aggregates": _by_name(self._aggregate(), NAME),
        }
        properties = {key: named.get(key) or self._property(Config, key) for key in fields_of(Config)}
        for key, text in _TEXTS.items():
            properties[key] = {**properties[key], "description": text}
        return {
            "$schema": DRAFT,
            "$id": ID,
            "title": "Configuration of the service sidecar",
            **_object(properties, required_keys(Config)),
            "definitions": dict(sorted(self._definitions.items())),
        }

    def _service(self) -> Schema:
        own = {key: self._property(Service, key) for key in SERVICE_KEYS if key in fields_of(Service)}
        own["endpoints"] = {
            "description": "URLs, each alone or with a weight and a priority.",
            "type": "array",
            "items": {"anyOf": [*value_schema(Url)["anyOf"], self._object(EndpointSpec)]},
            "minItems": 1,
        }
        own["routes"] = {
            "description": "Policies for some of the requests; the first route that matches wins.",
            "type": "array",
            "items": self._route(),
        }
        policy = {key: self._property(Policy, key) for key in POLICY_KEYS}
        return {
            "description": "A service: one of url, endpoints and discovery, and what differs from `defaults`.",
            **_object({"url": {"description": _URL_TEXT, **value_schema(Url)}, **own, **policy}),
            "oneOf": [{"required": [key]} for key in ("url", "endpoints", "discovery")],
        }

    def _route(self) -> Schema:
        match = {**self._object(Match), "minProperties": 1}
        policy = {key: self._property(Policy, key, SERVICE_WIDE) for key in POLICY_KEYS if key not in SERVICE_WIDE}
        return _object({"match": match, **policy}, ["match"])

    def _aggregate(self) -> Schema:
        schema = self._object(Aggregate)
        schema["properties"]["parts"] = {
            "description": "The calls, made at the same time. The body of each answer is put under its name.",
            **_by_name(self._object(AggregatePart), NAME),
            "minProperties": 1,
            "maxProperties": MAX_PARTS,
        }
        return schema

    def _object(self, struct: type[Struct], barred: Sequence[str] = ()) -> Schema:
        """A mapping with the keys of a struct, without the barred ones."""
        properties = {key: self._property(struct, key, barred) for key in fields_of(struct) if key not in barred}
        text = docstrings(struct).get("")
        return {**({"description": text} if text else {}), **_object(properties, required_keys(struct))}

    def _property(self, struct: type[Struct], key: str, barred: Sequence[str] = ()) -> Schema:
        """A key, with its docstring or that of its type, and its default."""
        hint = fields_of(struct)[key]
        schema = self._value(hint, [name.removeprefix(f"{key}.") for name in barred if name.startswith(f"{key}.")])
        default = _default(struct, key, hint)
        group = group_of(hint)
        texts = [docstrings(struct).get(key), docstrings(group).get("") if group else docstring_of(scalar_hint(hint))]
        if default not in (None, "", []):
            texts.append(f"Default: {default if isinstance(default, str) else json.dumps(default)}")
        described = " ".join(text.rstrip(".") + "." for text in texts if text and text.strip("`.") != key)
        return {
            **({"description": described} if described else {}),
            **{word: value for word, value in schema.items() if word != "description"},
            **({} if default is None else {"default": default}),
        }

    def _value(self, hint: Any, barred: Sequence[str]) -> Schema:
        group = group_of(hint)
        if group is not None:
            # This draft ignores what is beside a $ref, so the $ref is in a list.
            keys = self._object(group, barred) if barred else self._shared(group)
            return {"anyOf": [{"const": "off"}, keys, {**VARIABLE}]} if may_be_none(hint) else {"allOf": [keys]}
        words = scalar_hint(hint)
        if words is not None and kind_of(unwrapped(words)[1]) == "fallback":
            return {"anyOf": [{"const": "off"}, {"type": "array", "items": self._step()}, {**VARIABLE}]}
        tagged = [_object({tag: self._form(struct)}, [tag]) for tag, struct in forms_of(hint).items()]
        if not tagged:
            return value_schema(hint)
        return {"anyOf": [*(value_schema(hint)["anyOf"] if words is not None else []), *tagged]}

    def _form(self, struct: type[Struct]) -> Schema:
        schema = self._object(struct)
        return schema if schema.get("required") else {**schema, "minProperties": 1}

    def _shared(self, struct: type[Struct]) -> Schema:
        if struct.__name__ not in self._definitions:
            self._definitions[struct.__name__] = self._object(struct)
        return {"$ref": f"#/definitions/{struct.__name__}"}

    def _step(self) -> Schema:
        if "FallbackStep" not in self._definitions:
            static = self._object(FallbackStatic)
            file = {
                "description": "A file with the body, instead of `body`. Relative to the directory of this file.",
                "type": "string",
            }
            static["properties"]["file"] = {**file, **value_schema(FilePath)}
            static["not"] = {"required": ["body", "file"]}
            steps = [self._object(FallbackService), self._object(FallbackStale), static]
            self._definitions["FallbackStep"] = {"anyOf": steps}
        return {"$ref": "#/definitions/FallbackStep"}


def _object(properties: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    needed = list(required)
    return {
        "type": "object",
        "properties": dict(properties),
        **({"required": needed} if needed else {}),
        "additionalProperties": False,
    }


def _by_name(schema: Schema, pattern: str) -> Schema:
    return {"type": "object", "propertyNames": {"pattern": f"^({pattern})$"}, "additionalProperties": schema}


def _default(struct: type[Struct], key: str, hint: Any) -> Any:
    """The default as it is written in a file. None if there is none, or if each key of the group has its own."""
    field = next(field for field in structs.fields(struct) if field.name == key)
    if field.default is NODEFAULT or (isinstance(field.default, Struct) and group_of(hint)):
        return None
    return default_as_written(field.default, hint)
