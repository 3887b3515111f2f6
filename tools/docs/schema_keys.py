"""Reads the configuration's JSON Schema as a list of keys: what each is for, which values it takes, where it may stand.

Owns the words for values: the schema tells a duration by a pattern, a reader by the word. It knows nothing of pages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

from sidecar.config import schema as shapes
from sidecar.config.docstrings import docstring_of
from sidecar.policy import settings
from sidecar.policy.grpc import STATUSES

TOP: Final = "the top of the file"
DEFAULTS: Final = "`defaults`"
SERVICE: Final = "a service"
ROUTE: Final = "a route"

_GRPC: Final = "|".join(STATUSES[1:])

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    r"[0-9]+(\.[0-9]+)?(ms|s|m|h)": ("a duration", "durations"),
    r"[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB)?": ("a size", "sizes"),
    r"[+-]?[0-9]+(\.[0-9]+)?%?": ("a percentage", "percentages"),
    r"[+-]?[0-9]+": ("a whole number", "whole numbers"),
    r"[+-]?[0-9]+(\.[0-9]+)?": ("a number", "numbers"),
    "true|false": ("`true` or `false`", "`true` or `false`"),
    "[1-5][0-9][0-9](-[1-5][0-9][0-9])?": ("a status", "statuses, and ranges such as `500-599`"),
    f"attempt_timeout|bad_response|connect_failure|connect_timeout|reset|[1-5][0-9][0-9](-[1-5][0-9][0-9])?|{_GRPC}": (
        "a reason or a status",
        f"{', '.join(f'`{reason}`' for reason in sorted(settings.RETRY_REASONS))}, statuses, ranges, statuses of gRPC",
    ),
    _GRPC: ("a status of gRPC", "statuses of gRPC in upper case"),
    r"[A-Za-z_][A-Za-z0-9_.]*(\.\*)?": ("a name of gRPC", "full names of services, or of packages with `.*`"),
    "[A-Z][A-Z0-9_-]{0,31}": ("an HTTP method", "HTTP methods in upper case"),
    "[A-Za-z0-9][A-Za-z0-9._-]{0,62}": ("a name of letters, digits, `.`, `_` and `-`", "names"),
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?": ("a name of lower-case letters, digits and inner `-`", "names"),
    "[A-Za-z0-9_.-]+": ("a host name", "host names"),
    r"[\[\]A-Za-z0-9_.:-]+": ("a host name or an IP address", "host names"),
    r"[A-Za-z0-9_.-]+(:([0-9]{1,5}|\*))?": ("a host name", "host names"),
    "[!#$%&'*+.^_`|~0-9A-Za-z-]+": ("a name", "names of headers"),
    "[!-~]+": ("a name, percent-encoded", "names"),
    "/[!-~]*": ("a path that begins with `/`, percent-encoded", "paths"),
    "/.*": ("a path that begins with `/`, with `{query.NAME}` in it or without", "paths"),
    ".+:[0-9]{1,5}": ("an address with its port, as `127.0.0.1:15000` or `[::]:15021`", "addresses with their ports"),
    "([Hh][Tt][Tt][Pp][Ss]?|[Hh]2[Cc]|[Gg][Rr][Pp][Cc])://[^/?#@]+/?": (
        "`http://`, `https://`, `h2c://` or `grpc://`, host and port",
        "URLs",
    ),
    "[Hh][Tt][Tt][Pp][Ss]?://[!-~]+": ("`http://` or `https://`, host, port and an optional path", "URLs"),
    "([Rr][Ee][Dd][Ii][Ss]{1,2}|[Tt][Cc][Pp]|[Hh][Tt][Tt][Pp][Ss]?)://.+": ("a URL", "URLs"),
}
"""Pattern -> a value in words, and several of them."""

_WITHOUT_BOUNDS: Final = frozenset({"a size", "a status", "a reason or a status"})
"""Words that say the bounds which the schema has for the number that YAML may make of such a value."""


_NUMBERS: Final = frozenset({"a percentage", "a whole number", "a number", *_WITHOUT_BOUNDS})


class Key(NamedTuple):
    """One key of a file."""

    path: str
    """From its place on: `timeout.attempt`, `endpoints[].weight`, `checks.NAME.url`."""
    text: str
    values: str
    """In words; empty for a mapping of further keys."""
    default: str
    """As the file would have it, or in words; empty where there is none."""
    required: bool
    places: tuple[str, ...]


def keys_of(schema: Mapping[str, Any]) -> list[Key]:
    """Every key once: those of a service, those of a policy, and those at the top of the file."""
    reader = _Reader(schema["definitions"])
    top = schema["properties"]
    service = top["services"]["additionalProperties"]["properties"]
    policy = reader.resolved(top["defaults"])["properties"]
    route = service["routes"]["items"]["properties"]
    found = [reader.key("services", top["services"], ["services"], (TOP,))]
    for name, node in service.items():
        if name not in policy:
            found += reader.tree(name, node, [], (SERVICE,))
        if name == "routes":
            found += reader.tree("routes[].match", route["match"], ["routes[].match"], (ROUTE,))
    found.append(reader.key("defaults", top["defaults"], [], (TOP,)))
    in_a_route = {key.path for name in route for key in reader.tree(name, route[name], [], ())}
    for name, node in policy.items():
        for key in reader.tree(name, node, [], ()):
            places = (DEFAULTS, SERVICE, ROUTE) if key.path in in_a_route else (DEFAULTS, SERVICE)
            found.append(key._replace(places=places))
    for name, node in top.items():
        if name not in ("services", "defaults"):
            found += reader.tree(name, node, [], (TOP,))
    return found


class _Reader:
    def __init__(self, definitions: Mapping[str, Any]) -> None:
        self._definitions = definitions

    def resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a reference stands for."""
        while True:
            if "$ref" in node:
                node = self._definitions[node["$ref"].rpartition("/")[2]]
            elif "allOf" in node:
                (node,) = node["allOf"]
            else:
                return node

    def tree(
        self, path: str, node: Mapping[str, Any], required: Sequence[str], places: tuple[str, ...]
    ) -> Iterator[Key]:
        """A key, and those below it."""
        yield self.key(path, node, required, places)
        seen = set()
        for below, child, needed in self._below(path, self.resolved(node)):
            if below not in seen:  # `methods` of a fallback's steps
                seen.add(below)
                yield from self.tree(below, child, needed, places)

    def key(self, path: str, node: Mapping[str, Any], required: Sequence[str], places: tuple[str, ...]) -> Key:
        said = node.get("description") or self.resolved(node).get("description", "")
        text, in_words = _told(said, path)
        default = in_words or _written(node.get("default"))
        needed = path.rpartition(".")[2] in required or path in required
        values = "the path of a file" if (docstring_of(settings.FilePath) or "\0") in said else self._values(node)
        return Key(path, text, values, default, needed, places)

    def _below(self, path: str, node: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], Sequence[str]]]:
        """Path, node and the required keys of its mapping, for each key right below one."""
        options = self._options(node)
        shapes_here = [option for option in options if "properties" in option]
        for option in options:
            if "properties" in option:
                # Where there are several shapes, or words beside one, the needed key is the one that tells which it is.
                tells = len(shapes_here) > 1 or len(option["properties"]) == 1
                for name, child in option["properties"].items():
                    yield f"{path}.{name}", child, () if tells else option.get("required", ())
            elif option.get("type") == "array" and path != "routes":
                yield from self._below(f"{path}[]", self.resolved(option["items"]))
            elif isinstance(named := option.get("additionalProperties"), Mapping) and "properties" in named:
                yield from self._below(f"{path}.NAME", named)

    def _options(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """What a value may be, without `${...}`, which may stand for each."""
        options = [self.resolved(option) for option in node.get("anyOf", [node])]
        return [option for option in options if option.get("pattern") != r"\$\{"]

    def _values(self, node: Mapping[str, Any]) -> str:
        return _listed([*dict.fromkeys(self._phrases(self.resolved(node)))])

    def _phrases(self, node: Mapping[str, Any]) -> Iterator[str]:
        options = self._options(node)
        bounds = next((_bounds(option) for option in options if option.get("type") in ("integer", "number")), "")
        for option in options:
            if "anyOf" in option:
                yield from self._phrases(option)
            elif "const" in option:
                yield f"`{option['const']}`"
            elif "enum" in option:
                yield from (f"`{word}`" for word in option["enum"] if isinstance(word, str))
            elif "pattern" in option:
                word, _ = _kind(option["pattern"])
                yield word if word in _WITHOUT_BOUNDS else word + bounds
            elif option.get("type") == "array":
                yield f"a list of {self._several(self.resolved(option['items']))}"
            elif option.get("type") == ["string", "number", "boolean"]:
                yield "text"
            elif option.get("type") == "object" and "properties" not in option:
                named = option["additionalProperties"]
                yield "names with their values" if "properties" not in named else "names, each with the keys below"
            elif option.get("type") == "object" and len(options) > 1:
                yield "the keys below"
            elif option.get("type") == "integer" and not any(_is_number(other) for other in options):
                yield "a whole number" + bounds

    def _several(self, node: Mapping[str, Any]) -> str:
        words = [_kind(option["pattern"])[1] for option in self._options(node) if "pattern" in option]
        if any("properties" in option or "anyOf" in option for option in self._options(node)):
            words.append("entries with the keys below")
        return " or ".join(words)


def _kind(pattern: str) -> tuple[str, str]:
    inner = pattern.removeprefix("^").removesuffix("$")
    if inner not in _KINDS and inner.startswith("(") and inner.endswith(")"):
        inner = inner[1:-1]
    return _KINDS[inner]


def _is_number(option: Mapping[str, Any]) -> bool:
    """Whether an option is a number written as text: then it says what the number is."""
    return "pattern" in option and _kind(option["pattern"])[0] in _NUMBERS


def _bounds(option: Mapping[str, Any]) -> str:
    least, above, most = (option.get(word) for word in ("minimum", "exclusiveMinimum", "maximum"))
    words = [f" from {least}" if least is not None else "", f" above {above}" if above is not None else ""]
    upto = f", up to {most}" if above is not None else f" to {most}"
    return "".join(words) + (upto if most is not None else "")


def _listed(words: list[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _written(default: Any) -> str:
    if default is None or default in ("", []):
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(str(one) if _is_plain(one) else json.dumps(one) for one in default)}]`"
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _is_plain(value: Any) -> bool:
    return not isinstance(value, str) or re.fullmatch(r"[\w.-]+", value) is not None


def _told(text: str, path: str) -> tuple[str, str]:
    """What is said about a key, without what is said about its kind of value; and a default that is told in words."""
    text = re.sub(r"(^| )Default: (?:\[.*\]|\S+)\.$", "", text)
    for spelling in _spellings():
        text = text.removesuffix(spelling).rstrip()
    name = re.escape(path.rpartition(".")[2].partition("[")[0])
    bare = re.sub(rf"^`(?:[\w.]*\.)?{name}(?:: [^`]*)?`(?: of a route)?[:.,] ?|^`[\w.]+: [^`]*`: ", "", text)
    text = bare if bare == text else bare[:1].upper() + bare[1:]
    found = re.search(r"(?:^| )Default: (.*)\.$", text)
    if found:
        text = text[: found.start()]
    return text, found[1] if found else ""


@cache
def _spellings() -> tuple[str, ...]:
    """How values of a kind are written, as the docstrings of the kinds say it."""
    kinds = [one for module in (settings, shapes) for one in vars(module).values()]
    return tuple({text.rstrip(".") + "." for kind in kinds if (text := docstring_of(kind))})
