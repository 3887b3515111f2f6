"""Asks for a URL, past every proxy. In place of `urllib.request.urlopen`, which this tree's tests may not call.

`urlopen` asks through an opener that all of the process share. It reads the proxies of the environment once, with the
first call of any test: one that sets HTTP_PROXY may so decide how all later tests of its process ask.
"""

from __future__ import annotations

import http.client
from typing import Any, cast
from urllib.request import HTTPErrorProcessor, ProxyHandler, Request, build_opener


class _AsItComes(HTTPErrorProcessor):
    """Follows no redirect, and makes no error of a status."""

    def http_response(self, request: Request, response: Any) -> Any:
        return response


def opened(url: str | Request, *, timeout: float = 10.0) -> http.client.HTTPResponse:
    """The answer, whatever its status, to be closed. Raises OSError where there is none."""
    return cast(http.client.HTTPResponse, build_opener(ProxyHandler({}), _AsItComes).open(url, timeout=timeout))
