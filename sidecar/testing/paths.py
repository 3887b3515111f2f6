"""Matches requests to scripts by method, path and parameters.

This module owns path patterns, and the ranking of two patterns that match the same request. Paths are compared segment
by segment, each one percent-decoded: `/a%20b` and `/a b` are equal, and `/a%2Fb` differs from `/a/b`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import parse_qsl, unquote

import msgspec

from sidecar.testing.errors import FakeError

ANY: Final = "ANY"
"""Stands for any method."""

Params = Mapping[str, object] | Sequence[tuple[str, object]] | str

_VARIABLE: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Pattern(msgspec.Struct, frozen=True):
    """What a script is registered for. Equal patterns mean the same script."""

    method: str
    path: str
    """As the test wrote it, without a query."""
    params: tuple[tuple[str, str], ...] = ()
    """Sorted. The request must have each of these, as often as here, and may have others."""

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """If two patterns match, the higher rank answers: exact paths before `{}` before `*`, then the more specific
        one.
        """
        kind = 0 if self.path.endswith("*") else 1 if "{" in self.path else 2
        return kind, len(self.path) if kind == 0 else -self.path.count("{"), len(self.params), self.method != ANY

    def match(self, method: str, path: str, params: Sequence[tuple[str, str]]) -> dict[str, str] | None:
        """The values of the path's `{names}` if the request matches, else None."""
        if self.method not in (ANY, method) or Counter(self.params) - Counter(params):
            return None
        return _match_path(self.path, path)

    def __str__(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.params)
        return f"{self.method} {self.path}" + (f"?{query}" if query else "")


def pattern(method: str, path: str, params: Params | None = None) -> Pattern:
    """A checked Pattern. A query in `path` means the same as `params`; the values of a list are one parameter each, as
    clients send them. Raises FakeError.
    """
    path, question, query = path.partition("?")
    if not path.startswith("/") and path != "*":
        raise FakeError(f'a path must begin with "/": "/{path}", not "{path}"')
    if "#" in path + query:
        raise FakeError(f"a request has no fragment: {path!r}")
    if "*" in path[:-1]:
        raise FakeError(f'a "*" may only stand at the end of a path: {path!r}; for one segment write "{{name}}"')
    for segment in path.split("/"):
        if ("{" in segment or "}" in segment) and not _VARIABLE.fullmatch(segment):
            raise FakeError(f"a name in braces must fill a whole segment: {segment!r} is not a {{name}}")
    names = _VARIABLE.findall(path)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise FakeError(f"{{{twice}}} occurs twice in {path!r}: each name in braces must be unique")
    found = parse_qsl(query, keep_blank_values=True) if question else []
    return Pattern(method.upper(), path, tuple(sorted(found + _pairs(params))))


def _pairs(params: Params | None) -> list[tuple[str, str]]:
    if isinstance(params, str):
        return parse_qsl(params, keep_blank_values=True)
    given = params.items() if isinstance(params, Mapping) else params or ()
    return [(name, _as_sent(value)) for name, values in given for value in _each(values)]


def _each(values: object) -> Sequence[object]:
    return values if isinstance(values, list | tuple) else (values,)


def _as_sent(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _match_path(wanted: str, path: str) -> dict[str, str] | None:
    if wanted.endswith("*"):
        # All segments but the last must be equal; the request's last segment only has to begin the same way.
        *whole, begun = wanted[:-1].split("/")
        asked = path.split("/")
        if len(asked) <= len(whole) or not unquote(asked[len(whole)]).startswith(unquote(begun)):
            return None
        return _match_segments(whole, asked[: len(whole)])
    return _match_segments(wanted.split("/"), path.split("/"))


def _match_segments(wanted: Sequence[str], asked: Sequence[str]) -> dict[str, str] | None:
    if len(wanted) != len(asked):
        return None
    values: dict[str, str] = {}
    for want, got in zip(wanted, asked, strict=True):
        variable = _VARIABLE.fullmatch(want)
        if variable and got:
            values[variable[1]] = unquote(got)
        elif unquote(want) != unquote(got):
            return None
    return values
