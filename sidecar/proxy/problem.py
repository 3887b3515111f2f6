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

from sidecar.policy.grpc import REASON_STATUS, UNKNOWN, encode_message

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


LONGEST_PUSHBACK_S: Final = 2.0
"""A gRPC library is told to wait for at most so long before it tries again by itself. For longer, not to try again."""

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
    grpc_status: int = -1
    """Where the reason alone does not say it: what a gRPC call comes to."""
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

    @property
    def grpc_number(self) -> int:
        """The grpc-status of this answer to a gRPC call."""
        return self.grpc_status if self.grpc_status >= 0 else REASON_STATUS.get(self.reason, UNKNOWN)

    def grpc_fields(self) -> list[tuple[bytes, bytes]]:
        """The same as the whole answer to a gRPC call: one block of fields (trailers-only), for HTTP/2."""
        fields = [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", b"%d" % self.grpc_number),
            (b"grpc-message", encode_message(self.detail or TITLES.get(self.reason, self.reason))),
            (b"x-sidecar-reason", self.reason.encode("latin-1", "replace")),
        ]
        if self.retry_after is not None:
            fields.append((b"grpc-retry-pushback-ms", _pushback(_exact_wait(self.retry_after, self.jitter))))
        if self.request_id:
            fields.append((b"x-request-id", self.request_id.encode("latin-1", "replace")))
        if len(self.attempts) > 1:
            fields.append((b"x-envoy-attempt-count", b"%d" % len(self.attempts)))
        return fields


def _pushback(wait_s: float) -> bytes:
    """A library that retries waits for as long as it is told, and its caller with it. So a long wait is no wait: the
    call fails at once, and says why."""
    return b"%d" % ceil(wait_s * 1000) if wait_s <= LONGEST_PUSHBACK_S else b"-1"


def _exact_wait(shortest: float, jitter: float) -> float:
    return shortest + jitter * max(shortest * SPREAD, 1.0)


def _whole_wait(shortest: float, jitter: float) -> int:
    # Each whole second of the spread is as likely as the others: rounding the exact wait up would make one second two.
    return max(ceil(shortest), 1) + int(jitter * (1 + int(max(shortest * SPREAD, 1.0))))
