"""Error responses of the admin API: problem+json (RFC 9457).

This module owns the format. The code that finds a problem chooses its message.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from aiohttp import web

from sidecar.admin.answers import FileError, Problem

CONTENT_TYPE = "application/problem+json"


class ApiProblem(Exception):
    """A handler raises this. `reason` is a word for programs, and `detail` is for people."""

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[FileError] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail
        self.headers = dict(headers or {})
        self.errors = list(errors)

    def response(self) -> web.Response:
        problem = Problem(
            type=f"urn:sidecar:problem:{self.reason}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            reason=self.reason,
            errors=self.errors,
        )
        body = msgspec.json.encode(problem) + b"\n"
        return web.Response(status=self.status, body=body, content_type=CONTENT_TYPE, headers=self.headers)
