"""From what came back, or did not, to the error that says so.

Owns which error a call raises: for an answer of the sidecar's own, and for each way in which aiohttp says that there is
no answer. The words are in `errors`; what a status of the service's own raises, a `Response` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
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
"""A reason that is not here (`internal`, or one of a later sidecar) is a SidecarError itself."""

UPLOAD_BROKEN: Final = "upload_broken"
"""The client's own: no answer of the sidecar has it."""

_NEVER_SENT: Final = frozenset(
    {"circuit_open", "no_endpoint", "rate_limited", "overloaded", "unknown_service", "bad_request", "loop"}
)
"""Refused before there was an attempt, as far as a head alone can say."""


class _Problem(msgspec.Struct):
    """What an answer of the sidecar's own says (RFC 9457), of which each member may be absent."""

    detail: str = ""
    retry_after: float | None = None
    attempts: tuple[Attempt, ...] = ()
    errors: dict[str, PartFailure] | None = None


def of_sidecar(call: Call, response: aiohttp.ClientResponse, body: bytes) -> SidecarError:
    """An answer that bears x-sidecar-reason. With HEAD, and where the body is not whole, the head has to do."""
    reason = response.headers[REASON]
    problem = _problem(body)
    tries: tuple[Attempt, ...] = ()
    attempts, detail, retry_after = told_attempts(response), "", _retry_after(response)
    if problem is not None:
        tries, detail = problem.attempts, problem.detail
        attempts = max(attempts, len(tries))
        retry_after = retry_after if problem.retry_after is None else problem.retry_after
    elif reason not in _NEVER_SENT:
        attempts = max(attempts, 1)
    kind = BY_REASON.get(reason, SidecarError)
    known: dict[str, Any] = _known(call, attempts, response.status)
    if kind is AggregateFailed:
        known["errors"] = problem.errors if problem is not None else None
    return kind(detail, reason=reason, retry_after=retry_after, tries=tries, **known)


def unanswered(call: Call, base_url: str, data: Any, error: Exception) -> BaseException:
    """aiohttp has no head of an answer to show, because of `error`; `data` is what it was given as the body."""
    if isinstance(error, aiohttp.InvalidURL):
        return ValueError(f"{address.shown(call.path)} and its query make no URL")
    if isinstance(data, Upload) and data.error is not None:
        return data.error
    return _before_head(call, base_url, error, sending=under_way(data))


def cut_short(
    call: Call, base_url: str, cut: Cut, given_s: float | None, response: Response | None = None
) -> CallError:
    """The call was ended by us. `given_s` is what its deadline gave it, `response` what had come of an answer."""
    if cut is Cut.CLOSED:
        return of_closing(call)
    if given_s is not None:
        return of_deadline(call, 1, given_s)
    if response is not None:
        return in_body(call, response, TimeoutError())
    return _before_head(call, base_url, TimeoutError())


def _before_head(call: Call, base_url: str, error: Exception, *, sending: bool = False) -> CallError:
    """`sending`: in the middle of a body."""
    if (coding := _of_coding(error)) is not None:
        # Of the head already, where there is no decoder: aiohttp names the one that is missing.
        return InvalidAnswer(coding.message, **_known(call, 1, status=None))
    attempts = 1  # Whether the sidecar had read the request is not known, so it may have.
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientConnectorError):
        attempts = 0
        detail = "it does not accept connections" if isinstance(error, TimeoutError) else f"{error.strerror or error}"
    elif isinstance(error, TimeoutError):
        detail = "no answer within the client's own limit"
    elif isinstance(error, aiohttp.ClientResponseError):
        detail = "what it sent is not HTTP"
    elif isinstance(error, aiohttp.ClientConnectionError | OSError):
        if sending:
            # An answer that comes before all was sent is lost where the reset that follows it is seen first: so there
            # may well be a sidecar.
            detail = "it broke while the body was being sent; the sidecar or the service may have refused the rest"
            return ConnectionFailed(f"{base_url}: {detail}", reason=UPLOAD_BROKEN, **_known(call, 1, status=None))
        detail = "it closed the connection without an answer; the service may have got the request"
    else:
        detail = str(error)
    return SidecarUnavailable(
        f"{base_url}: {detail}", reason="sidecar_unavailable", **_known(call, attempts, status=None)
    )


def in_body(call: Call, response: Response, error: Exception) -> CallError:
    """The body did not come to its end."""
    known = _known(call, response.attempts, response.status)
    if isinstance(error, TimeoutError):
        return UpstreamTimeout("the body did not come within the client's own limit", reason="body_timeout", **known)
    if _of_coding(error) is not None:
        return InvalidAnswer("the body is not of its Content-Encoding", **known)
    return ConnectionFailed(reason="truncated", **known)


def _of_coding(error: BaseException) -> ContentEncodingError | None:
    """What aiohttp's error comes of, if that is a Content-Encoding."""
    cause = error.__cause__
    return cause if cause is None or isinstance(cause, ContentEncodingError) else _of_coding(cause)


def of_deadline(call: Call, attempts: int, given_s: float) -> DeadlineExceeded:
    """`given_s` is what there was of it when the call began; with 0 `attempts`, nothing was sent."""
    detail = f"it had {given_s:.3f} s" if attempts else "before anything was sent"
    return DeadlineExceeded(detail, reason="deadline", **_known(call, attempts, status=None))


def of_closing(call: Call) -> CallError:
    """The last client of the loop was closed, and the connections with it."""
    return CallError("the client was closed while the call was under way", **_known(call, 1, status=None))


def _known(call: Call, attempts: int, status: int | None) -> dict[str, Any]:
    return {**call.known(), "attempts": attempts, "status": status}


def _problem(body: bytes) -> _Problem | None:
    try:
        return msgspec.json.decode(body, type=_Problem)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """The sidecar writes seconds; a date (RFC 9110, section 10.2.3) is never its."""
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 10 else None
