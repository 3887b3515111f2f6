"""What may answer in place of a service that failed: for which failures, for how long, and the answers of the file.

Owns the rules; the order of the steps is the exchange's. A fallback is outermost: it sees what would have gone to the
app, after retries, breaker and limits have had their say.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from sidecar.policy.settings import FallbackStatic
from sidecar.proxy.http1.response_head import ResponseHead

FALLEN_BACK: Final = frozenset(
    {"connect_failure", "connect_timeout", "reset", "attempt_timeout", "request_timeout", "bad_response"}
    | {"circuit_open", "no_endpoint", "overloaded"}
)
"""What a fallback answers for, beside an upstream's own 5xx where that is a failure to the breaker. Never for what the
app has to know: `rate_limited`, `unknown_service`, `bad_request`, `loop`."""

FIRST_PART: Final = 0.8
"""The part of a request's time that the service itself gets; the rest is kept for its fallbacks."""


def is_answered_for(reason: str, response: ResponseHead | None) -> bool:
    """Whether a call that ended so is one that a fallback answers for."""
    if response is None:
        return reason in FALLEN_BACK
    return reason == "status" and response.status >= 500 and not response.loop


class LocalAnswer:
    """A whole answer of ours. `name` is what `x-sidecar-fallback` says, `status_line` and `fields` as in
    ResponseHead."""

    __slots__ = ("body", "fields", "name", "status_line")

    def __init__(self, name: str, status_line: bytes, fields: list[bytes], body: bytes) -> None:
        self.name = name
        self.status_line = status_line
        self.fields = fields
        self.body = body

    def response(self, request_id: bytes) -> ResponseHead:
        """Its head. The body's length on the wire is for the caller to say: HEAD has none."""
        response = ResponseHead()
        response.status = int(self.status_line[1:4])
        response.status_line = self.status_line
        response.pieces = self.fields
        if response.status not in (204, 304):
            response.add(b"Content-Length", b"%d" % len(self.body))
        response.add(b"X-Request-Id", request_id)
        response.add(b"x-sidecar-fallback", self.name.encode())
        return response


def static_answer(step: FallbackStatic) -> LocalAnswer:
    """What the file says."""
    try:
        phrase = HTTPStatus(step.status).phrase
    except ValueError:
        phrase = ""
    fields = [f"\r\n{name}: {value}".encode() for name, value in step.headers.items()]
    fields.append(b"\r\nDate: " + formatdate(usegmt=True).encode())
    return LocalAnswer("static", f" {step.status} {phrase}".encode(), fields, step.body)
