"""A call as the server makes it of a request, without a request."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from urllib.parse import parse_qsl

from multidict import CIMultiDict, CIMultiDictProxy, MultiDict, MultiDictProxy

from sidecar.testing.calls import Call


def a_call(
    line: str = "GET /events/1",
    *,
    json: object = None,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    at: float = 0.0,
    answered: str = "",
) -> Call:
    """`line` is the method and the target."""
    method, _, target = line.partition(" ")
    path, _, query = target.partition("?")
    content = body if json is None else json_module.dumps(json).encode()
    return Call(
        "venue",
        method,
        path,
        MultiDictProxy(MultiDict(parse_qsl(query, keep_blank_values=True))),
        CIMultiDictProxy(CIMultiDict(headers or {})),
        content,
        at,
        len(content),
        answered=answered,
    )
