"""Values of a request's query put into the path of another request.

Owns how they are read and how they are written again, so that no value can become anything but a value: a part of one
segment, or of one parameter. Nothing but letters, digits, `-`, `.`, `_` and `~` (RFC 3986, section 2.3) stands for
itself, and a value that would make a segment `.` or `..` is refused: percent-encoding those hides them from nobody.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from sidecar.config.schema import PathTemplate
from sidecar.proxy.http1.head_syntax import BadRequest

MAX_TARGET: Final = 8 * 1024
"""Bytes of a path and query (RFC 9112, section 3, recommends that 8,000 are supported; few servers take more)."""


def values_of(query: bytes) -> dict[bytes, list[bytes]]:
    """The parameters of a query as HTML forms send them (application/x-www-form-urlencoded): `+` is a space."""
    values: dict[bytes, list[bytes]] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        values.setdefault(_decoded(name), []).append(_decoded(value))
    return values


def filled(template: PathTemplate, values: dict[bytes, list[bytes]]) -> bytes:
    """The path and query to ask for. Raises BadRequest with 400 or, where it is too long, 414."""
    target = template.literals[0]
    for name, literal in zip(template.parameters, template.literals[1:], strict=True):
        target += _encoded(name, values.get(name.encode(), []), in_path="?" not in target) + literal
    if len(target) > MAX_TARGET:
        raise BadRequest(414, f"the query's values make a path of over {MAX_TARGET} bytes")
    path = target.partition("?")[0]
    if template.parameters and any(_is_dots(segment) for segment in path.split("/")):
        raise BadRequest(400, "the query's values make a segment of a path . or ..")
    return target.encode()


def _encoded(name: str, found: list[bytes], *, in_path: bool) -> str:
    if not found:
        raise BadRequest(400, f"the query parameter {name} is missing")
    if len(found) > 1:
        raise BadRequest(400, f"the query parameter {name} came more than once")
    if in_path and not found[0]:
        raise BadRequest(400, f"the query parameter {name} is empty: the path without it would be another one")
    return quote_from_bytes(found[0], safe="")


def _decoded(text: bytes) -> bytes:
    return unquote_to_bytes(text.replace(b"+", b" "))


def _is_dots(segment: str) -> bool:
    return segment.lower().replace("%2e", ".") in (".", "..")
