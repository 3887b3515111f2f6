"""What a call can end with other than an answer, as exceptions that say what happened and what to do.

Owns the classes and their words. Which of them a call raises is decided in `failures`.

    CallError
        SidecarError                the sidecar answered in the service's place, or could not be reached
            CircuitOpen, NoEndpoint, RateLimited, Overloaded, UnknownService, BadRequest, LoopDetected, AggregateFailed
            UpstreamTimeout         also a TimeoutError
                DeadlineExceeded    our own deadline
            ConnectionFailed
                ConnectTimeout      also an UpstreamTimeout
            SidecarUnavailable
        ResponseError               the service's own answer
            ServiceError            5xx
            ClientError             4xx
                NotFound            404
        InvalidAnswer               an answer, but not what was asked for
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, overload

import msgspec
from multidict import CIMultiDict

from sidecar.client import decoding

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")

MAX_DETAIL: Final = 500
"""Characters of somebody else's words that a message of ours repeats."""
MAX_SHOWN: Final = 256
"""Characters of a path, a request id or another name in a message: as long as the ids that are handed on may be."""

_NEVER_SENT: Final = frozenset({"connect_failure", "connect_timeout"})
_REPEATABLE: Final = frozenset({"", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that do the same when they are sent again (RFC 9110, section 9.2.2)."""
_PERHAPS_DONE: Final = "it may have been done: look before it is sent again"


class Attempt(msgspec.Struct, frozen=True):
    """One attempt of the sidecar to get an answer. `reason` is of its reason table, `duration_ms` in milliseconds."""

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
    """A call that did not bring what it was made for. All of it is known by name, for logs and for decisions.

    `path` is without its query, which may hold secrets. `attempts` is how many the sidecar made as far as is known; 0
    means that the service was sent nothing. `status` is None where no answer came. Every argument has a default, so
    that tests can make one. The attributes are whole; `str()` cuts what is long.
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
        if not isinstance(detail, str):  # As tests make one, which are rarely typed.
            raise TypeError(f"{type(self).__name__}({detail!r}): what is no text goes by name: retry_after=, status=")
        self.detail = detail
        self.service = service
        self.method = method
        self.path = path
        self.request_id = request_id
        self.attempts = attempts
        self.status = status

    def __str__(self) -> str:
        """One line: who was called, what happened, what to do, and the facts to look it up by."""
        detail = " ".join(self.detail[:MAX_DETAIL].split())
        call = f"{_shown(self.method)} {_shown(self.path)}".strip()
        told = ": ".join(part for part in (call, self._what(), detail) if part)
        words = "; ".join(part for part in (told, self._advice()) if part)
        return f"{_shown(self.service)}: {words} ({', '.join(self._facts())})" if self.service else words

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"

    def __reduce__(self) -> tuple[Callable[..., CallError], tuple[Any, ...]]:
        # Not by `args`, as exceptions do it: they hold nothing here.
        return _restored, (type(self), dict(self.__dict__))

    def _what(self) -> str:
        return self.what

    def _advice(self) -> str:
        return self.advice

    def _facts(self) -> list[str]:
        facts = [f"request {_shown(self.request_id)}"] if self.request_id else []
        return [*facts, "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"]

    def _may_be_done(self) -> bool:
        """Whether the service may have done what must not be done twice."""
        return self.attempts > 0 and self.method.upper() not in _REPEATABLE

    def _without(self) -> str:
        """What to do where the sidecar could have tried again."""
        if self._may_be_done():
            return _PERHAPS_DONE
        if self.attempts > 1:
            return "do without the answer: the sidecar has tried again already"
        return "do without the answer: retries are the sidecar's, by `retry` in its file"


def _shown(word: str) -> str:
    return word if len(word) <= MAX_SHOWN else f"{word[: MAX_SHOWN - 3]}..."


def _restored(kind: type[CallError], state: Mapping[str, Any]) -> CallError:
    error = kind.__new__(kind)
    error.__dict__.update(state)
    return error


class SidecarError(CallError):
    """The sidecar refused the call or got no answer for it. `reason` is of its reason table, `detail` its words,
    `retry_after` in seconds where it knows; `tries` says how each attempt ended.
    """

    what = "the sidecar has no answer"
    advice = "its log says more"

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
    """The service has failed so often that it is left alone for a while: `circuit_open`."""

    what = "the circuit breaker is open"
    advice = "do without the answer"


class NoEndpoint(SidecarError):
    """The service has no endpoint that could be asked: `no_endpoint`."""

    what = "no endpoint of the service is available"
    advice = "do without the answer"


class RateLimited(SidecarError):
    """More was asked than the sidecar's file allows: `rate_limited`."""

    what = "too many requests"
    advice = "send less"


class Overloaded(SidecarError):
    """Too many requests to the service are under way: `overloaded`."""

    what = "too many requests are under way"
    advice = "send less"


class UnknownService(SidecarError):
    """The sidecar's file has no such service: `unknown_service`. Never the service's own 404."""

    what = "the sidecar knows no service of that name"
    advice = "add it to the sidecar's file, or mend the name here"


class BadRequest(SidecarError):
    """The sidecar does not pass such a request on: `bad_request`."""

    what = "the sidecar does not accept the request"
    advice = "mend it: the same again is refused again"


class LoopDetected(SidecarError):
    """The request came back to the sidecar that had sent it: `loop`."""

    what = "the request came back to the sidecar that sent it"
    advice = "an endpoint of the service leads to the sidecar itself: mend the sidecar's file"


class AggregateFailed(SidecarError):
    """A part that the aggregate needs failed: `aggregate_failed`. `errors` says of each part that failed why."""

    what = "a part that the aggregate needs failed"
    advice = "do without the answer"

    def __init__(self, detail: str = "", *, errors: Mapping[str, PartFailure] | None = None, **known: Any) -> None:
        super().__init__(detail, **known)
        self.errors: dict[str, PartFailure] = dict(errors or {})


class UpstreamTimeout(SidecarError, TimeoutError):
    """No answer in time, after the retries that the sidecar's file allows: `attempt_timeout`, `request_timeout`."""

    what = "no answer in time"

    def _advice(self) -> str:
        return self._without()


class DeadlineExceeded(UpstreamTimeout):
    """Our own deadline (`deadline`, a client's, or that of the request being served) has passed: reason `deadline`.

    With 0 `attempts` it had passed before anything was sent. 1 says that the call was sent: what the sidecar made of it
    it had no time to say. `status` is None.
    """

    what = "the deadline has passed"

    def _advice(self) -> str:
        return _PERHAPS_DONE if self._may_be_done() else "do without the answer, or give the call more time"


class ConnectionFailed(SidecarError):
    """The service could not be reached, or broke off: `connect_failure`, `reset`, `bad_response`, `truncated`; or the
    sidecar did while a body was being sent: `upload_broken`.

    After all but the first, the service may have done what was asked.
    """

    what = "the connection to the service failed"

    def _what(self) -> str:
        return _BROKEN.get(self.reason, self.what)

    def _advice(self) -> str:
        return self._without()


_BROKEN: Final = {
    "connect_failure": "no connection to the service",
    "connect_timeout": "connecting to the service took too long",
    "reset": "the service broke the connection before it answered",
    "bad_response": "the service's answer is not valid HTTP",
    "truncated": "the answer broke off before its end",
    "upload_broken": "the connection to the sidecar broke before it answered",
}


class ConnectTimeout(ConnectionFailed, UpstreamTimeout):
    """Connecting to the service took too long: `connect_timeout`. It was sent nothing."""


class SidecarUnavailable(SidecarError):
    """Nothing that is a sidecar answers at the client's base URL: reason `sidecar_unavailable`."""

    what = "the sidecar does not answer"
    advice = "start it (`sidecar run`), or set SIDECAR_URL to where it listens"

    def _advice(self) -> str:
        if self.attempts == 0:
            return self.advice
        # Somebody took the request, so there is nothing to start.
        look = "see what the sidecar's log says, and whether SIDECAR_URL leads to it"
        return f"{_PERHAPS_DONE}, and {look}" if self._may_be_done() else look


class ResponseError(CallError):
    """The service's own answer, a 4xx or 5xx, with its `headers` (names in any case) and `body`."""

    headers: CIMultiDict[str]

    def __init__(
        self, detail: str = "", *, headers: Mapping[str, str] | None = None, body: bytes = b"", **known: Any
    ) -> None:
        super().__init__(detail, **known)
        self.headers = CIMultiDict(headers or {})  # a copy, which pickles: aiohttp's own is a view that does not
        self.body = body

    def text(self) -> str:
        """The body as text; what is not UTF-8 is replaced."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body decoded. Raises ValueError where it is not JSON."""
        try:
            return msgspec.json.decode(self.body)
        except msgspec.DecodeError as error:
            raise ValueError(f"the body of the {self.status} is not JSON: {error}") from None

    @overload
    def decode(self, type: type[T]) -> T: ...
    @overload
    def decode(self, type: TypeForm[T]) -> T: ...
    @overload
    def decode(self, type: Any = ...) -> Any: ...
    def decode(self, type: Any = Any) -> Any:  # noqa: A002 - the word that json libraries use
        """The body from JSON, as a `type`, as Response has it. Raises InvalidAnswer."""
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


class ServiceError(ResponseError):
    """The service answered 5xx."""

    def _advice(self) -> str:
        return self._without()


class ClientError(ResponseError):
    """The service answered 4xx: it does not accept the request."""

    advice = "mend the request: the same again is refused again"


class NotFound(ClientError):
    """The service answered 404."""

    advice = "what the path names does not exist (get_json has missing_ok=True for where that may be)"


class InvalidAnswer(CallError):
    """The service answered, but not what was asked for. `detail` says where it differs, never what the body holds."""

    what = "the answer is not what was asked for"
    advice = "the service and what is asked for here disagree: mend one of them"
