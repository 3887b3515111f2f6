"""Builds and checks the URL of a call: the sidecar's URL, the service's name, the path and the query.

This module makes sure that a call for one service cannot reach another, whatever its path or headers contain. The
sidecar takes the first segment of the path as the service, and a server behind it may resolve dot segments. Without the
check, "/venue/../payment/charges" could be a call to payment.

What the app has percent-encoded is sent as it is: `%3A` and `:` may mean different things to a service (RFC 3986,
section 2.2). Only characters that no URL may contain are encoded here.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, SupportsIndex
from urllib.parse import quote, unquote

from multidict import CIMultiDict, istr
from yarl import URL

Param = str | int | float
Params = Mapping[str, Param | Sequence[Param]] | Sequence[tuple[str, Param]] | str

DEFAULT_URL: Final = "http://localhost:15001"

is_plain: Final = re.compile(r"/[A-Za-z0-9/_-]*(?:\?[A-Za-z0-9&=_.~/:,;@!$'()*+?-]*)?").fullmatch
"""Matches a path that needs no check by `path`, and nothing to encode. Most paths match."""

_SERVICE: Final = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]+")
_REFUSED: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff#\\]")
_QUERY: Final = re.compile(r"[?#]")
_SHOWN: Final = 100
"""How many characters of a path an error message shows."""
_DOTS: Final = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|$)")


_NOT_IN_PATH: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9/_.~!$&'()*+,;=:@%-]+")
_NOT_IN_QUERY: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9/_.~!$&'()*+,;=:@?%-]+")
"""What has to be percent-encoded: everything outside RFC 3986's `pchar` and "/" (sections 3.3 and 3.4), and a percent
sign that begins no encoded byte."""
_NO_QUERY: Final = URL("/")

_SENT_UNCHANGED: Final = frozenset({str, int, float})

_NOT_SETTABLE: Final = (istr("Host"), istr("Content-Length"), istr("Transfer-Encoding"))


def base_url(given: str | None) -> str:
    """The origin of the sidecar: `given`, else SIDECAR_URL, else DEFAULT_URL. Raises ValueError if it is not one."""
    text = given or os.environ.get("SIDECAR_URL") or DEFAULT_URL
    try:
        url = URL(text)
        if url.scheme in ("http", "https") and url.host and url == url.origin() / "":
            return str(url.origin())
    except ValueError:
        pass
    # The message leaves the URL out, because a URL may hold a password.
    raise ValueError(f"{'base_url' if given else 'SIDECAR_URL'} must be http://host:port, without a user or a path")


def service(name: str) -> str:
    """Returns `name` unchanged. Raises ValueError if it cannot be a service's name in the sidecar's file."""
    if not _SERVICE.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a service")
    return name


def check_fields(fields: CIMultiDict[str]) -> None:
    """Raises ValueError for headers that decide where a request goes or where it ends.

    An app that passes on the headers of an incoming request may send these by mistake. With that request's Host, the
    sidecar may choose another service. With its Content-Length, the next request on the connection may be read as body.
    """
    for name in _NOT_SETTABLE:
        if name in fields:
            raise ValueError(f"an app may not set {name}: leave it out of the headers")


def path(asked: str) -> str:
    """Returns `asked` unchanged: a path that begins with / and may have a query. Raises ValueError for a dot segment,
    encoded or not, and for a backslash, a fragment or a control character.
    """
    if asked[:1] != "/":
        raise ValueError(f"a path must begin with /: {shown(asked)}")
    if _REFUSED.search(asked):
        raise ValueError(f"a path may not contain a fragment, a backslash or a control character: {shown(asked)}")
    if _DOTS.search(unquote(asked.partition("?")[0])):
        raise ValueError(f"a path may not contain the segment . or ..: {shown(asked)}")
    return asked


def url(prefix: str, asked: str, params: Params | None) -> URL:
    """The URL of a call: `prefix` (the sidecar's URL and the service), the path `asked`, and `params` in its query.

    Raises ValueError as `path` does, and TypeError as `query` does.
    """
    text = prefix + (asked if is_plain(asked) else _encoded(path(asked)))
    if params is not None and (added := query(params)):
        joint = "" if text.endswith(("?", "&")) else "&" if "?" in text else "?"
        text = f"{text}{joint}{added}"
    return URL(text, encoded=True)


def _encoded(asked: str) -> str:
    """`asked`, with the characters percent-encoded that a URL may not contain."""
    before, question, after = asked.partition("?")
    return _NOT_IN_PATH.sub(_percent, before) + question + _NOT_IN_QUERY.sub(_percent, after)


def _percent(found: re.Match[str]) -> str:
    return quote(found[0], safe="")


def query(params: Params) -> str:
    """Returns `params` as a query. Text is a query already: only what no query may contain is encoded. Keys and values
    of the other forms are data: all that has a meaning in a query is encoded, also "%". A text member of an Enum is
    replaced by its value.

    Raises TypeError for a value that is neither text nor a number. yarl would convert some of these silently: it takes
    only the integer part of a Decimal, for example.
    """
    if isinstance(params, str):
        return _NOT_IN_QUERY.sub(_percent, str.__str__(params))
    return _NO_QUERY.with_query(_pairs(params)).raw_query_string


def _pairs(params: Mapping[str, Param | Sequence[Param]] | Sequence[tuple[str, Param]]) -> Any:
    if isinstance(params, Iterator):  # reading it here would consume it
        raise TypeError(f"params must be a mapping or a sequence of pairs, not a {type(params).__name__}")
    pairs = params.items() if isinstance(params, Mapping) else params
    if all(type(value) in _SENT_UNCHANGED for _, value in pairs):
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
    raise TypeError(f"params may be text, numbers, and lists of these: {name!r} is a {type(value).__name__}")


def shown(asked: str) -> str:
    """A path as error messages show it: shortened, and without its query, which may hold secrets."""
    text = _QUERY.split(asked, 1)[0]
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
