"""The answers that the sidecar gives itself: RFC 9457 problem details, and `x-sidecar-reason` beside them.

Owns their words. An app, or whoever is on call for it, reads these before any log.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from math import ceil
from typing import Any, Final

import msgspec

TITLES: Final = {
    "connect_failure": "No connection to the service",
    "connect_timeout": "Connecting to the service took too long",
    "reset": "The service broke the connection before it answered",
    "attempt_timeout": "The service did not answer in time",
    "request_timeout": "The request ran out of time",
    "bad_response": "The service's answer is not valid HTTP",
    "circuit_open": "The circuit breaker is open",
    "no_endpoint": "The service has no endpoint",
    "overloaded": "Too many requests to this service at once",
    "rate_limited": "Too many requests",
    "unknown_service": "Unknown service",
    "bad_request": "The request is not valid",
    "aggregate_failed": "A part that the aggregate needs failed",
    "loop": "The request came back to the sidecar that sent it",
    "internal": "The sidecar failed",
}

STATUS: Final = {
    "connect_failure": 503,
    "connect_timeout": 504,
    "reset": 502,
    "attempt_timeout": 504,
    "request_timeout": 504,
    "bad_response": 502,
    "truncated": 502,
    "circuit_open": 503,
    "no_endpoint": 503,
    "overloaded": 503,
    "rate_limited": 429,
    "unknown_service": 404,
    "aggregate_failed": 502,
    "loop": 508,
    "internal": 500,
}
"""The status of an answer for a reason that fixes it."""


SPREAD: Final = 0.2
"""The apps' waits are spread over this share of the shortest one, and over at least a second."""


class Attempt(msgspec.Struct, frozen=True):
    """One attempt as the app is told of it. For an aggregate, `endpoint` is the part's service."""

    endpoint: str
    reason: str
    status: int | None
    duration_ms: float


class PartFailure(msgspec.Struct, frozen=True):
    """Why a part of an aggregate has no body, as the app is told: no addresses, none of the service's own words."""

    service: str
    status: int
    reason: str
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of our own.

    `retry_after` is the shortest wait in seconds. The app is told that and a part of SPREAD, by `jitter` (a random
    number in [0, 1)): apps that were refused together would otherwise all come back together. The member has the exact
    seconds, the field Retry-After whole ones; neither is ever shorter than `retry_after`.
    """

    status: int
    reason: str
    detail: str
    service: str = ""
    request_id: str = ""
    retry_after: float | None = None
    jitter: float = 0.0
    attempts: tuple[Attempt, ...] = ()
    errors: Mapping[str, PartFailure] | None = None
    """Of an aggregate, by part."""
    allow: str = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH, TRACE"
    """What a 405 offers instead."""

    def body(self) -> bytes:
        members: dict[str, Any] = {
            "type": f"urn:sidecar:problem:{self.reason}",
            "title": TITLES.get(self.reason, self.reason),
            "status": self.status,
            "detail": self.detail,
            "service": self.service,
            "reason": self.reason,
            "request_id": self.request_id,
            "retry_after": None if self.retry_after is None else round(_exact_wait(self.retry_after, self.jitter), 3),
            "attempts": self.attempts,
        }
        if self.errors is not None:
            members["errors"] = self.errors
        return msgspec.json.encode(members)

    def head(self, length: int) -> bytes:
        """Status line and fields, with no Connection and no blank line."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = ""
        lines = [
            f"HTTP/1.1 {self.status} {phrase}",
            f"Date: {formatdate(usegmt=True)}",
            "Content-Type: application/problem+json",
            f"Content-Length: {length}",
            "Cache-Control: no-store",
            f"x-sidecar-reason: {self.reason}",
        ]
        if self.retry_after is not None:
            lines.append(f"Retry-After: {_whole_wait(self.retry_after, self.jitter)}")
        if self.request_id:
            lines.append(f"X-Request-Id: {self.request_id}")
        if len(self.attempts) > 1:
            lines.append(f"x-envoy-attempt-count: {len(self.attempts)}")
        if self.status == 405:
            lines.append(f"Allow: {self.allow}")
        return "\r\n".join(lines).encode("latin-1", "replace")


def _exact_wait(shortest: float, jitter: float) -> float:
    return shortest + jitter * max(shortest * SPREAD, 1.0)


def _whole_wait(shortest: float, jitter: float) -> int:
    # Each whole second of the spread is as likely as the others: rounding the exact wait up would make one second two.
    return max(ceil(shortest), 1) + int(jitter * (1 + int(max(shortest * SPREAD, 1.0))))
