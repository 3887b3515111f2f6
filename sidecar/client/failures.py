"""Chooses the exception that a failed call raises.

This module maps each refusal of the sidecar, and each way in which aiohttp reports a missing response, to an exception.
The messages are in `errors`. `Response` decides about the statuses that the service itself sends.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic
from typing import Any, Final

import aiohttp
import msgspec
from aiohttp.http_exceptions import ContentEncodingError

from sidecar.client import address
from sidecar.client.errors import (
    AggregateFailed,
    Attempt,
    BadRequest,
    CallError,
    CircuitOpen,
    ConnectionFailed,
    ConnectTimeout,
    DeadlineExceeded,
    InvalidAnswer,
    LoopDetected,
    NoEndpoint,
    Overloaded,
    PartFailure,
    RateLimited,
    SidecarError,
    SidecarUnavailable,
    UnknownService,
    UpstreamTimeout,
    retry_after_of,
)
from sidecar.client.limit import Cut
from sidecar.client.response import REASON, Call, Response, told_attempts
from sidecar.client.upload import Upload, under_way

BY_REASON: Final[Mapping[str, type[SidecarError]]] = {
    "circuit_open": CircuitOpen,
    "no_endpoint": NoEndpoint,
    "rate_limited": RateLimited,
    "overloaded": Overloaded,
    "unknown_service": UnknownService,
    "bad_request": BadRequest,
    "loop": LoopDetected,
    "aggregate_failed": AggregateFailed,
    "attempt_timeout": UpstreamTimeout,
    "request_timeout": UpstreamTimeout,
    "connect_timeout": ConnectTimeout,
    "connect_failure": ConnectionFailed,
    "reset": ConnectionFailed,
    "bad_response": ConnectionFailed,
    "truncated": ConnectionFailed,
}
"""For a reason that is missing here (`internal`, or a reason of a later sidecar), a call raises SidecarError itself."""

UPLOAD_BROKEN: Final = "upload_broken"
"""A reason of the client's own; no sidecar sends it."""

ROUNDED_S: Final = 0.005
"""The sidecar is told whole milliseconds, rounded down, and its timer may be early. So its answer to a deadline may
arrive this many seconds before the deadline."""

_NEVER_SENT: Final = frozenset(
    {"circuit_open", "no_endpoint", "rate_limited", "overloaded", "unknown_service", "bad_request", "loop"}
)
"""Refused before the first attempt, as far as the response head alone can tell."""


class _Problem(msgspec.Struct):
    """The problem document that the sidecar sends (RFC 9457). Each member may be missing."""

    detail: str = ""
    retry_after: float | None = None
    attempts: tuple[Attempt, ...] = ()
    errors: dict[str, PartFailure] | None = None


def of_sidecar(call: Call, response: aiohttp.ClientResponse, body: bytes, at: float | None = None) -> SidecarError:
    """The exception for a response that the sidecar made itself (it has x-sidecar-reason). For HEAD, and for an
    incomplete body, the head alone has to tell. `at` is when the app's own deadline passes or passed, if it has one.
    """
    reason = response.headers[REASON]
    problem = _problem(body)
    tries: tuple[Attempt, ...] = ()
    attempts, detail, retry_after = told_attempts(response), "", retry_after_of(response.headers)
    if problem is not None:
        tries, detail = problem.attempts, problem.detail
        attempts = max(attempts, len(tries))
        retry_after = retry_after if problem.retry_after is None else problem.retry_after
    elif reason not in _NEVER_SENT:
        attempts = max(attempts, 1)
    kind = BY_REASON.get(reason, SidecarError)
    if reason == "request_timeout" and at is not None and monotonic() >= at - ROUNDED_S:
        kind = DeadlineExceeded
    known: dict[str, Any] = _known(call, attempts, response.status)
    if kind is AggregateFailed:
        known["errors"] = problem.errors if problem is not None else None
    return kind(detail, reason=reason, retry_after=retry_after, tries=tries, **known)


def unanswered(call: Call, base_url: str, data: Any, error: Exception) -> BaseException:
    """The exception for a call without a response head. `error` is aiohttp's, `data` the body it was given."""
    if isinstance(error, aiohttp.InvalidURL):
        return ValueError(f"{address.shown(call.path)} and its query do not form a valid URL")
    if isinstance(data, Upload) and data.error is not None:
        return data.error
    return _before_head(call, base_url, error, sending=under_way(data))


def cut_short(
    call: Call, base_url: str, cut: Cut, given_s: float | None, response: Response | None = None
) -> CallError:
    """The exception for a call that the client itself ended. `given_s` is how many seconds its deadline gave it;
    `response` is the response, if its head had arrived.
    """
    if cut is Cut.CLOSED:
        return of_closing(call)
    if given_s is not None:
        return of_deadline(call, 1, given_s)
    if response is not None:
        return in_body(call, response, TimeoutError())
    return _before_head(call, base_url, TimeoutError())


def _before_head(call: Call, base_url: str, error: Exception, *, sending: bool = False) -> CallError:
    """The exception for a failure before the response head. `sending`: a part of the request's body was still to be
    sent.
    """
    if (coding := _of_coding(error)) is not None:
        # aiohttp raises this at the head already, if it has no decoder for the coding. It names the missing decoder.
        return InvalidAnswer(coding.message, **_known(call, 1, status=None))
    attempts = 1  # It is unknown whether the sidecar had read the request, so an attempt is assumed.
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        attempts = 0
        detail = "it does not accept connections" if isinstance(error, TimeoutError) else f"{error.strerror or error}"
    elif isinstance(error, TimeoutError):
        detail = "no response within the client's own limit"
    elif isinstance(error, aiohttp.ClientResponseError):
        detail = "its response is not HTTP"
    elif isinstance(error, aiohttp.ClientConnectionError | OSError):
        if sending:
            # The peer may have responded early and then reset the connection. If the reset is seen first, the response
            # is lost. So this does not prove that there is no sidecar.
            detail = "it broke while the body was being sent; the sidecar or the service may have refused the rest"
            return ConnectionFailed(f"{base_url}: {detail}", reason=UPLOAD_BROKEN, **_known(call, 1, status=None))
        detail = "it closed the connection without a response; the service may have received the request"
    else:
        detail = str(error)
    return SidecarUnavailable(
        f"{base_url}: {detail}", reason="sidecar_unavailable", **_known(call, attempts, status=None)
    )


def in_body(call: Call, response: Response, error: Exception) -> CallError:
    """The exception for a response body that ended too early."""
    known = _known(call, response.attempts, response.status)
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("the body did not arrive within the client's own limit", reason="body_timeout", **known)
    if _of_coding(error) is not None:
        return InvalidAnswer("the body does not match its Content-Encoding", **known)
    return ConnectionFailed(reason="truncated", **known)


def _of_coding(error: BaseException) -> ContentEncodingError | None:
    """The Content-Encoding error that caused aiohttp's error, if there is one."""
    cause = error.__cause__
    return cause if cause is None or isinstance(cause, ContentEncodingError) else _of_coding(cause)


def of_deadline(call: Call, attempts: int, given_s: float) -> DeadlineExceeded:
    """The exception for a passed deadline. `given_s` is how many seconds were left when the call began. With 0
    `attempts`, nothing was sent.
    """
    detail = f"the call had {given_s:.3f} s" if attempts else "before anything was sent"
    return DeadlineExceeded(detail, reason="deadline", **_known(call, attempts, status=None))


def of_closing(call: Call) -> CallError:
    """The exception for a call whose connection was closed with the last client of the loop."""
    return CallError("the client was closed while the call was in progress", **_known(call, 1, status=None))


def _known(call: Call, attempts: int, status: int | None) -> dict[str, Any]:
    return {**call.known(), "attempts": attempts, "status": status}


def _problem(body: bytes) -> _Problem | None:
    try:
        return msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
