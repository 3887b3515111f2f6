"""Opens a URL without any proxy. It replaces `urllib.request.urlopen`, which tests of this tree may not call.

`urlopen` uses an opener that the whole process shares. It reads the proxies of the environment once, at the first call
in any test. So a test that sets HTTP_PROXY could decide how all later tests of its process connect.
"""

from __future__ import annotations

import http.client
from typing import Any, cast
from urllib.request import HTTPErrorProcessor, ProxyHandler, Request, build_opener


class _AsItComes(HTTPErrorProcessor):
    """Follows no redirect, and raises no error for a status."""

    def http_response(self, request: Request, response: Any) -> Any:
        return response


def opened(url: str | Request, *, timeout: float = 10.0) -> http.client.HTTPResponse:
    """The answer, whatever its status; the caller closes it. Raises OSError if there is none."""
    return cast(http.client.HTTPResponse, build_opener(ProxyHandler({}), _AsItComes).open(url, timeout=timeout))
