"""The page of the admin API, out of its OpenAPI document: each operation, and each shape that is taken or answered.

Owns the page's order and words. What there is, and what is said about it, is the document's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sidecar.admin.openapi import document
from tools.docs.text import code, prose, sentence, table

_HEAD: Final = """\
# The admin API in full

Each operation, and each shape. [The admin API](../admin.md) shows how it is used, and says who may. The same is at
`/openapi.json` of the admin listener, for programs.

Times are ISO 8601 in UTC, as `2026-11-23T02:50:20.280Z`. Durations end in `_s` (seconds) or `_ms` (milliseconds).
Shares are in percent. Every error is a [`Problem`](#problem).

Each operation can be refused with 401 (a bearer token is needed, and this is none), 403 (the request comes from another
site's page) and 421 (`Host` is not this listener's). A change can also be refused with 400 (it cannot be understood),
413 (the body has more than 64 KiB) and 415 (it was not sent with `Content-Type: application/json`).
"""
_TOLD_ABOVE: Final = frozenset({"400", "401", "403", "413", "415", "421"})
_REF: Final = "#/components/schemas/"


def page() -> str:
    """docs/reference/admin-api.md."""
    api = document()
    parts = [_HEAD, "## Operations\n"]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts += _operation(method.upper(), path, operation)
    parts.append("## Shapes\n")
    for name, schema in sorted(api["components"]["schemas"].items()):
        parts += _shape(name, schema)
    return "\n".join(parts)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{method} {path}`\n"
    yield sentence(operation["summary"]) + "\n"
    lines = [_parameter(one) for one in operation.get("parameters", ()) if one["in"] == "query"]
    if "requestBody" in operation:
        lines.append(f"takes {_content(operation['requestBody'])}")
    for status, response in operation["responses"].items():
        if status.startswith("2") and "content" in response:
            lines.append(f"answers {status} with {_content(response)}")
        elif not status.startswith("2") and status not in _TOLD_ABOVE:
            lines.append(f"answers {status}: {prose(response['description'])}")
    if lines:
        yield "\n".join(f"- {line}" for line in lines) + "\n"


def _parameter(parameter: Mapping[str, Any]) -> str:
    return f"`?{parameter['name']}=`" + (", required" if parameter["required"] else "")


def _content(of: Mapping[str, Any]) -> str:
    kinds = [_type(content["schema"]) for kind, content in of["content"].items() if kind != "text/event-stream"]
    return " or ".join([*kinds, *(["a stream of events"] if "text/event-stream" in of["content"] else [])])


def _shape(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield sentence(schema["description"]) + "\n"
    if "anyOf" in schema:
        yield f"{_type(schema)}.\n"
    rows = [_member(member, of, member in schema["required"]) for member, of in schema.get("properties", {}).items()]
    if rows:
        yield table(("member", "value"), rows)


def _member(name: str, schema: Mapping[str, Any], required: bool) -> tuple[str, str]:
    default = schema.get("default")
    given = f"; {code(str(default))} without it" if default else "; may be left out" if not required else ""
    return code(name), _type(schema) + given


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_REF)
        return f"[`{name}`](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type(option) for option in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(code(word) for word in schema["enum"])
    match schema.get("type"):
        case "array":
            return f"a list of {_type(schema['items'])}"
        case "object":
            below = schema.get("additionalProperties")
            return f"names with {_type(below)}" if isinstance(below, Mapping) else "an object"
        case "string":
            return "a time" if "pattern" in schema else "a string"
        case "integer":
            return "a whole number"
        case "number":
            return "a number"
        case "boolean":
            return "`true` or `false`"
        case "null":
            return "`null`"
        case None if not schema:
            return "any value"
    raise ValueError(f"no words for {schema}")
