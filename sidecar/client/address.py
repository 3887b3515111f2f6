"""Where calls go: the sidecar's URL, a service's name, the paths below it and their queries.

Owns that a call for one service cannot become one for another, whatever a path or a header holds. The service is the
first segment of the path that the sidecar sees, and a URL is normalised on its way: "/venue/../payment/charges" would
be payment's.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, SupportsIndex
from urllib.parse import unquote

from multidict import CIMultiDict, istr
from yarl import URL

Param = str | int | float
Params = Mapping[str, Param | Sequence[Param]] | Sequence[tuple[str, Param]] | str

DEFAULT_URL: Final = "http://localhost:15001"

is_plain: Final = re.compile(r"/[A-Za-z0-9/_-]*(?:\?[ -\"$-\[\]-~]*)?").fullmatch
"""Whether a path is one that `path` need not look at. Most are."""

_SERVICE: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")
_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff#\\]")
_QUERY: Final = re.compile(r"[?#]")
_SHOWN: Final = 100
"""Characters of a path."""
_DOTS: Final = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)")


_AS_THEY_ARE: Final = frozenset({str, int, float})

_NOT_THE_APPS: Final = (istr("Host"), istr("Content-Length"), istr("Transfer-Encoding"))


def base_url(given: str | None) -> str:
    """The origin of the sidecar: `given`, else SIDECAR_URL, else DEFAULT_URL. Raises ValueError for what is none."""
    text = given or os.environ.get("SIDECAR_URL") or DEFAULT_URL
    try:
        url = URL(text)
        if url.scheme in ("http", "https") and url.host and url == url.origin() / "":
            return str(url.origin())
    except ValueError:
        pass
    # Not its text: a URL may hold a password.
    raise ValueError(f"{'base_url' if given else 'SIDECAR_URL'} has to be http://host:port, with no user and no path")


def service(name: str) -> str:
    """`name` as it is. Raises ValueError for what no service of the sidecar's file can be called."""
    if not _SERVICE.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a service")
    return name


def check_fields(fields: CIMultiDict[str]) -> None:
    """Raises ValueError for headers that say where a request goes or where it ends, as those of an incoming request do
    that an app passes on: with its Host the sidecar may find another service, and with a Content-Length of its own the
    next request on the connection may be read as its body.
    """
    for name in _NOT_THE_APPS:
        if name in fields:
            raise ValueError(f"{name} is not for the app to send: leave it out of the headers")


def path(asked: str) -> str:
    """`asked` as it is: it begins with / and may have a query. Raises ValueError for dot segments, however written, and
    for a backslash, a fragment or control characters.
    """
    if asked[:1] != "/":
        raise ValueError(f"a path begins with /, not {shown(asked)}")
    if _REFUSED.search(asked):
        raise ValueError(f"a path has no fragment, backslash or control character: {shown(asked)}")
    if _DOTS.search(unquote(asked.partition("?")[0])):
        raise ValueError(f"a path has no segment . or ..: {shown(asked)}")
    return asked


def query(params: Params) -> Params:
    """`params` as aiohttp is to have them: a member of an Enum that is text, by its value.

    Raises TypeError for what is neither text nor a number. aiohttp would make it one where it can: of a UUID or a
    Decimal its whole number, in silence.
    """
    if isinstance(params, str):
        return params
    if isinstance(params, Iterator):  # a look at it would take something away
        raise TypeError(f"params are a mapping or a sequence of pairs, not a {type(params).__name__}")
    pairs = params.items() if isinstance(params, Mapping) else params
    if all(type(value) in _AS_THEY_ARE for _, value in pairs):
        return params
    return [(name, _plain(name, value)) for name, given in pairs for value in _values(given)]


def _values(given: object) -> Iterable[object]:
    return given if isinstance(given, list | tuple) else (given,)


def _plain(name: str, value: object) -> Param:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return value
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return operator.index(value)
    raise TypeError(f"params take text, numbers, and lists of these: {name!r} is a {type(value).__name__}")


def shown(asked: str) -> str:
    """For words of ours: without its query, which may hold secrets, and not endless."""
    text = _QUERY.split(asked, 1)[0]
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
