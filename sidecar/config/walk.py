"""Check YAML nodes against the structs: each key has to be known, and each value gets the type in its struct.

Owns the generic part, from nodes to a `Tree` of typed values. Single values are parsed by `units`, `addresses` and
`http_words`. The rules between values are in `choices`, `services` and `checks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from msgspec import Meta, Struct

from sidecar.config import addresses, check_urls, http_words, units
from sidecar.config.annotations import (
    fields_of,
    forms_of,
    group_of,
    kind_of,
    may_be_none,
    may_be_off,
    required_keys,
    scalar_hint,
    unwrapped,
)
from sidecar.config.choices import choice_problems
from sidecar.config.errors import BadValueError, Place, Reporter
from sidecar.config.expand import expand
from sidecar.config.merge import build
from sidecar.config.path_template import parse_path_template
from sidecar.config.schema import Address, CheckUrl, PathTemplate, Url
from sidecar.config.tree import INVALID, Leaf, Level, Tree, is_valid
from sidecar.config.unknown import unknown_key
from sidecar.config.yaml_nodes import Mapping as MappingNode
from sidecar.config.yaml_nodes import Node, Scalar, Sequence

Entries = dict[str, tuple[Node, Place]]
"""The known keys of a mapping, each with its value and its place."""

Reader = Callable[["Walker", Node, Place], Any]
"""Reads a value that is not a scalar, a list of scalars or a struct. Returns INVALID after it reported a mistake."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})

_SCALARS: dict[Any, Callable[[str], Any]] = {
    "duration": units.parse_duration,
    "size": units.parse_size,
    "service_name": addresses.parse_service_name,
    "host_name": addresses.parse_host_name,
    "path_prefix": addresses.parse_path_prefix,
    "grpc_name": addresses.parse_grpc_name,
    "grpc_service": addresses.parse_grpc_service,
    "dns_name": addresses.parse_dns_name,
    "tls_name": addresses.parse_tls_name,
    "dns_label": addresses.parse_dns_label,
    "service_port": addresses.parse_service_port,
    "server_url": addresses.parse_server_url,
    "token": http_words.parse_token,
    "lower_token": http_words.parse_lower_token,
    "body": http_words.parse_body,
    "query_name": http_words.parse_query_name,
    "target": http_words.parse_target,
    "percentage": units.parse_percentage,
    "file_path": units.parse_file_path,
    Url: addresses.parse_url,
    Address: addresses.parse_address,
    CheckUrl: check_urls.parse_check_url,
    PathTemplate: parse_path_template,
    "count": units.parse_whole,
    int: units.parse_whole,
    float: units.parse_number,
    bool: units.parse_boolean,
}
"""By kind, or by type if a type has no kind."""

_SET_ITEMS: dict[str | None, Callable[[str], Iterable[object]]] = {
    "statuses": units.parse_statuses,
    "retry_conditions": units.parse_retry_conditions,
    "methods": units.parse_methods,
    "grpc_statuses": units.parse_grpc_statuses,
}
"""By the kind of the set: makes the members of the set from the text of an item."""


class Walker:
    """Makes typed values from the nodes of one file. Mistakes go to the reporter, and the walk goes on."""

    def __init__(
        self, environ: Mapping[str, str], reporter: Reporter, readers: Mapping[str, Reader] = MappingProxyType({})
    ) -> None:
        """`readers` read the kinds of values that have their own rules."""
        self._environ = environ
        self._reporter = reporter
        self._readers = readers

    def entries(self, node: Node, keys: Mapping[str, Any], place: Place) -> Entries:
        """The entries of a mapping whose keys are in `keys` (key -> type). All other keys are reported."""
        if not isinstance(node, MappingNode):
            empty = isinstance(node, Scalar) and node.plain and node.text in _NULLS
            found = "no value" if empty else "not a mapping"
            self._reporter.report(place, f"{found}: expected keys such as {', '.join(list(keys)[:4])}")
            return {}
        known: Entries = {}
        for key, entry in node.entries.items():
            at = place.key(key, entry.line, entry.column)
            if key in keys:
                known[key] = entry.node, at
            else:
                self._reporter.report(at, unknown_key(key, keys))
        return known

    def tree(self, found: Entries, keys: Mapping[str, Any], level: Level, barred: Iterable[str] = ()) -> Tree:
        """The typed values of `found`. `barred` has keys that a route cannot set, such as `retry.budget`."""
        tree: Tree = {}
        for key, (node, place) in found.items():
            hint = keys[key]
            group = group_of(hint)
            if key in barred:
                self._reporter.report(place, "a route cannot set this key: it is for the whole service")
            elif group is not None and not (may_be_none(hint) and isinstance(node, Scalar)):
                inner = [name.removeprefix(f"{key}.") for name in barred if name.startswith(f"{key}.")]
                tree[key] = self.group(group, node, place, level, inner)
            else:
                tree[key] = Leaf(self.value(node, hint, place), place, level)
        return tree

    def group(self, struct: type[Struct], node: Node, place: Place, level: Level, barred: Iterable[str] = ()) -> Tree:
        """The tree of a mapping that holds the keys of `struct`."""
        keys = fields_of(struct)
        return self.tree(self.entries(node, keys, place), keys, level, barred)

    def value(self, node: Node, hint: Any, place: Place) -> Any:
        """A value of the type `hint`, or INVALID."""
        forms, words = forms_of(hint), scalar_hint(hint)
        if forms and (words is None or isinstance(node, MappingNode)):
            return self._form(node, forms, place)
        base, meta = unwrapped(words)
        reader = self._readers.get(kind_of(meta) or "")
        if reader is not None:
            return self._scalar(node, _parse_none_of, place) if isinstance(node, Scalar) else reader(self, node, place)
        if get_origin(base) is dict:
            return self._headers(node, place)
        if get_origin(base) is tuple:
            item_hint = get_args(base)[0]
            # One address needs no list: `listen.proxy: 127.0.0.1:15001`.
            items = [(node, place)] if item_hint is Address and isinstance(node, Scalar) else self.items(node, place)
            values = tuple(self.value(item, item_hint, at) for item, at in items or ())
            return INVALID if items is None or INVALID in values else values
        if get_origin(base) is frozenset:
            parse = _SET_ITEMS[kind_of(meta)]
            items = self.items(node, place)
            members = [self._scalar(item, parse, at) for item, at in items or ()]
            return INVALID if items is None or INVALID in members else frozenset(chain.from_iterable(members))
        return self._scalar(node, _parser(hint), place)

    def _form(self, node: Node, forms: Mapping[str, type[Struct]], place: Place) -> Any:
        """The struct below its tag."""
        found = self.entries(node, forms, place)
        if not isinstance(node, MappingNode):
            return INVALID
        if not node.entries:
            self._reporter.report(place, f"expected {'exactly one of ' if len(forms) > 1 else ''}{', '.join(forms)}")
        for _, at in list(found.values())[1:]:
            self._reporter.report(at, f"{next(iter(found))} is set as well: keep one of the two")
        built = [self._built(forms[tag], inner, at) for tag, (inner, at) in found.items()]
        return built[0] if len(built) == len(node.entries) == 1 else INVALID

    def _built(self, struct: type[Struct], node: Node, place: Place) -> Any:
        """A whole struct. No other level adds keys to it."""
        tree = self.group(struct, node, place, "service")
        if not isinstance(node, MappingNode):
            return INVALID
        all_known = len(tree) == len(node.entries)  # otherwise a key that seems to be missing may be misspelt
        missing = [name for name in required_keys(struct) if name not in tree]
        problems = [(place, f"needs a {name}") for name in missing if all_known]
        problems += choice_problems(struct, tree, place if all_known else None)
        for at, message in problems:
            self._reporter.report(at, message)
        fit = all_known and not missing and not problems and is_valid(tree)
        return build(struct, tree) if fit else INVALID

    def _headers(self, node: Node, place: Place) -> Any:
        """A mapping of headers. Names that differ only in case are the same name."""
        if not isinstance(node, MappingNode):
            self._reporter.report(place, "expected a mapping of headers: {authorization: ...}")
            return INVALID
        headers: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name, entry in node.entries.items():
            at = place.key(name, entry.line, entry.column)
            problem = http_words.header_name_problem(name)
            if not problem and name.lower() in lines:
                problem = f"repeated: already in line {lines[name.lower()]}, only the case differs"
            if problem:
                self._reporter.report(at, problem)
            lines.setdefault(name.lower(), entry.line)
            headers[name] = INVALID if problem else self._scalar(entry.node, http_words.parse_header_value, at)
        return INVALID if INVALID in headers.values() else headers

    def items(self, node: Node, place: Place) -> list[tuple[Node, Place]] | None:
        """The items of a list, each with its place. None if it is not a list, which is reported."""
        if not isinstance(node, Sequence):
            self._reporter.report(place, "expected a list: [first, second]")
            return None
        return [(item, place.item(index, item.line, item.column)) for index, item in enumerate(node.items)]

    def _scalar(self, node: Node, parse: Callable[[str], Any], place: Place) -> Any:
        if not isinstance(node, Scalar):
            found = "list" if isinstance(node, Sequence) else "mapping"
            self._reporter.report(place, f"this is a {found}: {_expected(parse)}")
            return INVALID
        try:
            text = expand(node.text, self._environ)
            if node.plain:
                # As YAML would read the value in the file: the newline at the end of a secret is not part of the value.
                text = text.strip()
                if text in _NULLS:
                    why = "no value" if text == node.text else "no value, because its variables are empty"
                    raise BadValueError(f"{why}: {_expected(parse)}")
            return parse(text)
        except BadValueError as error:
            self._reporter.report(place, str(error))
            return INVALID


def _parser(hint: Any) -> Callable[[str], Any]:
    """The function that makes a value of this type from the text of a scalar, within the bounds of its Meta."""
    group = group_of(hint)
    if group is not None:
        return partial(_parse_off, f"expected off, or keys such as {', '.join(list(fields_of(group))[:4])}")
    base, meta = unwrapped(scalar_hint(hint))
    if get_origin(base) is Literal:
        return partial(_parse_choice, get_args(base), tuple(forms_of(hint)))
    kind = kind_of(meta)
    parse = _SCALARS[kind or base]
    if kind == "duration" and meta.ge is None:
        meta = _ABOVE_ZERO
    if base in (int, float):
        parse = partial(_parse_bounded, parse, meta)
    return partial(_parse_unless_off, parse) if may_be_off(hint) else parse


def _parse_off(expected: str, text: str) -> None:
    if text != "off":
        raise BadValueError(expected)


def _parse_none_of(text: str) -> tuple[()]:
    if text != "off":
        raise BadValueError("expected off, or a list")
    return ()


def _parse_unless_off(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return None if text == "off" else parse(text)
    except BadValueError as error:
        raise BadValueError(f"{error}, or off") from None


def _parse_choice(choices: tuple[str, ...], forms: tuple[str, ...], text: str) -> str:
    if text not in choices:
        mapping = f", or a mapping with {', '.join(forms)}" if forms else ""
        raise BadValueError(f"expected {'one of ' if len(choices) > 1 else ''}{', '.join(choices)}{mapping}")
    return text


def _parse_bounded(parse: Callable[[str], float], meta: Meta, text: str) -> float:
    value = parse(text)
    low, above, high = meta.ge, meta.gt, meta.le
    written: Callable[[Any], str] = units.format_size if kind_of(meta) == "size" else str
    if low is not None and value < low:
        raise BadValueError(f"expected {written(low)} or more")
    if above is not None and value <= above:
        raise BadValueError(f"expected more than {written(above)}")
    if high is not None and value > high:
        raise BadValueError(f"expected at most {written(high)}")
    return value


def _expected(parse: Callable[[str], Any]) -> str:
    """What a parser expects. No value may be empty, so an empty text gives the message."""
    try:
        parse("")
    except BadValueError as error:
        return str(error)
    return "expected a value"


_ABOVE_ZERO = Meta(gt=0)
