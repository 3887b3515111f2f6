"""Parse the parts of HTTP messages in a file: names of headers, cookies and parameters, header values, targets, bodies.

A parser takes the text of a YAML scalar, and raises BadValueError. No name or header value that it accepts can end a
line or a field of a message.
"""

from __future__ import annotations

import re

from sidecar.config.errors import BadValueError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_QUERY_NAME = re.compile(r"[!-~]+")
_TARGET = re.compile(r"/[!-~]*")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

# From RFC 9110, sections 7.6.1 and 7.8, and RFC 9112, section 6, with the older forms of these headers.
_OF_THE_CONNECTION = frozenset(
    {
        *("connection", "content-length", "expect", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)


def parse_token(text: str) -> str:
    """The name of a header or a cookie."""
    if not _TOKEN.fullmatch(text):
        raise BadValueError("expected a name of letters, digits and '-' (RFC 9110 allows !#$%&'*+.^_`|~ too)")
    return text


def parse_lower_token(text: str) -> str:
    """The name of a header in lower case, for comparisons."""
    return parse_token(text).lower()


def parse_body(text: str) -> bytes:
    """A message's body, which may be empty."""
    return text.encode()


def parse_query_name(text: str) -> str:
    """The name of a query parameter. It is compared byte for byte."""
    if not _QUERY_NAME.fullmatch(text) or any(mark in text for mark in "&=#"):
        raise BadValueError("expected the name of a query parameter, percent-encoded")
    return text


def parse_target(text: str) -> str:
    """A path, with or without a query."""
    if not text.startswith("/"):
        raise BadValueError("a path must begin with /")
    if "#" in text:
        raise BadValueError("a path cannot have a fragment (#...)")
    if not _TARGET.fullmatch(text):
        raise BadValueError("a path is sent as it is written here: percent-encode spaces and non-ASCII characters")
    return text


def parse_header_value(text: str) -> str:
    """The value of a header. It cannot be empty: an empty one usually comes from an empty variable, by mistake."""
    if not text or _CONTROL.search(text):
        raise BadValueError("expected the value of a header, which is not empty and has no control characters")
    return text


def header_name_problem(name: str) -> str | None:
    """Why a file cannot set the header `name`, or None if it can."""
    if not _TOKEN.fullmatch(name):
        return "not the name of a header: expected letters, digits and '-' (RFC 9110 allows !#$%&'*+.^_`|~ too)"
    if name.lower() in _OF_THE_CONNECTION:
        return "this header belongs to the connection: the sidecar writes it itself"
    return None
