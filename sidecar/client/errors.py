"""Exceptions of a call. Each one says what happened and what to do about it.

This module owns the classes and their messages. `failures` decides which class a call raises.

    CallError
        SidecarError                the sidecar answered in the service's place, or could not be reached
            CircuitOpen, NoEndpoint, RateLimited, Overloaded, UnknownService, BadRequest, LoopDetected, AggregateFailed
            UpstreamTimeout         also a TimeoutError
                DeadlineExceeded    the app's own deadline
            ConnectionFailed
                ConnectTimeout      also an UpstreamTimeout
            SidecarUnavailable
        ResponseError               the service's own response
            ServiceError            5xx
            ClientError             4xx
                NotFound            404
        InvalidAnswer               a response, but not what was asked for
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload

import msgspec
from multidict import CIMultiDict

from sidecar.client import decoding

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

MAX_DETAIL: Final = 500
"""How many characters of another program's text a message repeats."""
MAX_SHOWN: Final = 256
"""How many characters of a path, a request id or another name a message shows. A request id may be that long."""

MAX_DATE: Final = 40
"""How many characters an HTTP date has at most."""

_NEVER_SENT: Final = frozenset({"connect_failure", "connect_timeout"})
_REPEATABLE: Final = frozenset({"", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Idempotent methods: sending them again has no further effect (RFC 9110, section 9.2.2)."""
_PERHAPS_DONE: Final = "the service may have done it: check before you send it again"


class Attempt(msgspec.Struct, frozen=True):
    """One attempt of the sidecar to get a response. `reason` is a word of its reason table; `duration_ms` is in
    milliseconds.
    """

    endpoint: str = ""
    reason: str = ""
    status: int | None = None
    duration_ms: float = 0.0


class PartFailure(msgspec.Struct, frozen=True):
    """Why a part of an aggregate has no body."""

    service: str = ""
    status: int = 0
    reason: str = ""
    detail: str = ""


class CallError(Exception):
    """A call that did not bring the result it was made for. Each fact is an attribute, for logs and for decisions.

    `path` has no query, because a query may hold secrets. `attempts` is how many attempts the sidecar made, as far as
    is known; 0 means that nothing was sent to the service. `status` is None if there was no response. Every argument
    has a default, so that tests can create one. Attributes are complete; `str()` shortens long ones.
    """

    what: ClassVar[str] = "the call failed"
    advice: ClassVar[str] = ""

    def __init__(
        self,
        detail: str = "",
        *,
        service: str = "",
        method: str = "",
        path: str = "",
        request_id: str = "",
        attempts: int = 0,
        status: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(detail, str):  # Tests create these errors, and tests are rarely type-checked.
            raise TypeError(f"{type(self).__name__}({detail!r}): pass what is not text by name: retry_after=, status=")
        self.detail = detail
        self.service = service
        self.method = method
        self.path = path
        self.request_id = request_id
        self.attempts = attempts
        self.status = status

    def __str__(self) -> str:
        """One line: the service, what happened, what to do, and the facts to find the call by in logs."""
        detail = " ".join(self.detail[:MAX_DETAIL].split())
        call = f"{_shown(self.method)} {_shown(self.path)}".strip()
        told = ": ".join(part for part in (call, self._what(), detail) if part)
        words = "; ".join(part for part in (told, self._advice()) if part)
        return f"{_shown(self.service)}: {words} ({', '.join(self._facts())})" if self.service else words

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[..., CallError], tuple[Any, ...]]:
        # Exceptions usually pickle their `args`. These have none.
        return _restored, (type(self), dict(self.__dict__))

    def _what(self) -> str:
        return self.what

    def _advice(self) -> str:
        return self.advice

    def _facts(self) -> list[str]:
        facts = [f"request {_shown(self.request_id)}"] if self.request_id else []
        return [*facts, "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"]

    def _may_be_done(self) -> bool:
        """Whether the service may have done something that must not happen twice."""
        return self.attempts > 0 and self.method.upper() not in _REPEATABLE

    def _retry_advice(self) -> str:
        """What to do about a failure that the sidecar could have retried."""
        if self._may_be_done():
            return _PERHAPS_DONE
        if self.attempts > 1:
            return "continue without the answer: the sidecar has already retried"
        return "continue without the answer: the sidecar decides about retries, by `retry` in its file"


def _shown(word: str) -> str:
    return word if len(word) <= MAX_SHOWN else f"{word[: MAX_SHOWN - 3]}..."


def _restored(kind: type[CallError], state: Mapping[str, Any]) -> CallError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    return error


class SidecarError(CallError):
    """The sidecar refused the call or got no response for it. `reason` is a word of its reason table, and `detail` its
    explanation. `retry_after` is in seconds, or None if unknown. `tries` says how each attempt ended.
    """

    what = "the sidecar could not complete the call"
    advice = "see its log"

    def __init__(
        self,
        detail: str = "",
        *,
        reason: str = "",
        retry_after: float | None = None,
        tries: tuple[Attempt, ...] = (),
        **known: Any,
    ) -> None:
        super().__init__(detail, **known)
        self.reason = reason
        self.retry_after = retry_after
        self.tries = tries

    def _advice(self) -> str:
        if self.retry_after is None:
            return self.advice
        return ", or ".join(part for part in (self.advice, f"try again in {self.retry_after:.1f} s") if part)

    def _facts(self) -> list[str]:
        return [*([f"reason {_shown(self.reason)}"] if self.reason else []), *super()._facts()]

    def _may_be_done(self) -> bool:
        reasons = {attempt.reason for attempt in self.tries} or {self.reason}
        return super()._may_be_done() and not reasons <= _NEVER_SENT


class CircuitOpen(SidecarError):
    """The breaker refuses calls for a while, because too many failed: `circuit_open`."""

    what = "the circuit breaker is open"
    advice = "continue without the answer"


class NoEndpoint(SidecarError):
    """No endpoint of the service is available: `no_endpoint`."""

    what = "no endpoint of the service is available"
    advice = "continue without the answer"


class RateLimited(SidecarError):
    """The app sends more requests than the sidecar's file allows: `rate_limited`."""

    what = "too many requests"
    advice = "send fewer requests"


class Overloaded(SidecarError):
    """Too many requests to the service are in progress: `overloaded`."""

    what = "too many requests are in progress"
    advice = "send fewer requests"


class UnknownService(SidecarError):
    """The sidecar's file has no such service: `unknown_service`. Never the service's own 404."""

    what = "the sidecar knows no service of that name"
    advice = "add it to the sidecar's file, or correct the name here"


class BadRequest(SidecarError):
    """The sidecar does not pass on a request like this: `bad_request`."""

    what = "the sidecar does not accept the request"
    advice = "correct it: the same request will be refused again"


class LoopDetected(SidecarError):
    """The request came back to the sidecar that had sent it: `loop`."""

    what = "the request came back to the sidecar that sent it"
    advice = "an endpoint of the service leads to the sidecar itself: correct the sidecar's file"


class AggregateFailed(SidecarError):
    """A part that the aggregate requires failed: `aggregate_failed`. `errors` says why, for each part that failed."""

    what = "a part that the aggregate requires failed"
    advice = "continue without the answer"

    def __init__(self, detail: str = "", *, errors: Mapping[str, PartFailure] | None = None, **known: Any) -> None:
        super().__init__(detail, **known)
        self.errors: dict[str, PartFailure] = dict(errors or {})


class UpstreamTimeout(SidecarError, TimeoutError):
    """No response in time, after the retries that the sidecar's file allows: `attempt_timeout`, `request_timeout`."""

    what = "no answer in time"

    def _advice(self) -> str:
        return self._retry_advice()


class DeadlineExceeded(UpstreamTimeout):
    """The app's own deadline has passed: that of a `deadline` block, of the client, or of the request being served.

    The reason is `request_timeout` if the sidecar answered when it passed: `attempts` and `tries` are then the
    sidecar's, and `status` is 504. It is `deadline` if the client ended the call itself, and `status` is None: 0
    `attempts` means that the deadline passed before anything was sent; 1 means that the call was sent, and how many
    attempts the sidecar made is unknown.
    """

    what = "the deadline has passed"

    def _advice(self) -> str:
        return _PERHAPS_DONE if self._may_be_done() else "continue without the answer, or give the call more time"


class ConnectionFailed(SidecarError):
    """The connection to the service failed: `connect_failure`, `reset`, `bad_response`, `truncated`. Or the connection
    to the sidecar broke while a body was being sent: `upload_broken`.

    After any reason but `connect_failure`, the service may have done what was asked.
    """

    what = "the connection to the service failed"

    def _what(self) -> str:
        return _BROKEN.get(self.reason, self.what)

    def _advice(self) -> str:
        return self._retry_advice()


_BROKEN: Final = {
    "connect_failure": "no connection to the service",
    "connect_timeout": "connecting to the service took too long",
    "reset": "the service broke the connection before it answered",
    "bad_response": "the service's answer is not valid HTTP",
    "truncated": "the answer broke off before its end",
    "upload_broken": "the connection to the sidecar broke before it answered",
}


class ConnectTimeout(ConnectionFailed, UpstreamTimeout):
    """Connecting to the service took too long: `connect_timeout`. Nothing was sent to it."""


class SidecarUnavailable(SidecarError):
    """No sidecar answers at the client's base URL: reason `sidecar_unavailable`."""

    what = "the sidecar does not answer"
    advice = "start it (`sidecar run`), or set SIDECAR_URL to the address where it listens"

    def _advice(self) -> str:
        if self.attempts == 0:
            return self.advice
        # Something accepted the request, so the advice is not to start the sidecar.
        look = "see the sidecar's log, and check that SIDECAR_URL leads to it"
        return f"{_PERHAPS_DONE}; {look}" if self._may_be_done() else look


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After, from now on; None without a valid one. It is a number of seconds, or a date (RFC 9110,
    section 10.2.3). `headers` find a name in any case.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 10:
        return float(value)
    if len(value) > MAX_DATE:
        return None
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(date.replace(tzinfo=date.tzinfo or UTC).timestamp() - time(), 0.0)


class ResponseError(CallError):
    """The service's own response, a 4xx or 5xx, with its `headers` (names in any case) and `body`. `retry_after` is its
    Retry-After in seconds, or None without one.
    """

    headers: CIMultiDict[str]

    def __init__(
        self,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        retry_after: float | None = None,
        **known: Any,
    ) -> None:
        super().__init__(detail, **known)
        self.headers = CIMultiDict(headers or {})  # a copy: aiohttp's own headers are a view that cannot be pickled
        self.body = body
        self.retry_after = retry_after_of(self.headers) if retry_after is None else retry_after

    def text(self) -> str:
        """The body as text. Bytes that are not UTF-8 are replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The decoded body. Raises ValueError if it is not JSON."""
        try:
            if not self.body:
                raise decoding.Mismatch("the body is empty")
            return decoding.decode(self.body)
        except decoding.Mismatch as mismatch:
            raise ValueError(f"the body of the {self.status} is not JSON: {mismatch}") from None

    @overload
    def decode(self, type: type[T]) -> T: ...
    @overload
    def decode(self, type: TypeForm[T]) -> T: ...
    @overload
    def decode(self, type: Any = ...) -> Any: ...
    def decode(self, type: Any = Any) -> Any:  # noqa: A002 - the word that json libraries use
        """The body, decoded from JSON to a `type`, as `Response.decode` does it. Raises InvalidAnswer."""
        try:
            return decoding.decode(self.body, type)
        except decoding.Mismatch as mismatch:
            raise InvalidAnswer(
                f"{self.status} with {self.headers.get('Content-Type', 'no Content-Type')}: {mismatch}",
                service=self.service,
                method=self.method,
                path=self.path,
                request_id=self.request_id,
                attempts=self.attempts,
                status=self.status,
            ) from None

    def _what(self) -> str:
        return f"the service answered {self.status}"

    def _or_later(self, advice: str) -> str:
        """The advice, and when the service says that it may be called again."""
        return advice if self.retry_after is None else f"{advice}, or try again in {self.retry_after:.1f} s"


class ServiceError(ResponseError):
    """The service answered 5xx."""

    def _advice(self) -> str:
        return self._or_later(self._retry_advice())


class ClientError(ResponseError):
    """The service answered 4xx: it rejects the request."""

    advice = "correct the request: the same request will be refused again"

    def _advice(self) -> str:
        return self._or_later("send fewer requests" if self.status == 429 else self.advice)


class NotFound(ClientError):
    """The service answered 404."""

    advice = "the path names something that does not exist (if that is expected: get_json(..., missing_ok=True))"


class InvalidAnswer(CallError):
    """The response is not what was asked for. `detail` names the difference, never a value of the body."""

    what = "the response is not what was asked for"
    advice = "the service and this app expect different things: correct one of them"
