"""Request context of calls: what a call inherits from the incoming request being served, and the deadlines in force.

This module owns the context variable, its nesting rules, and which values of an incoming request are accepted. Only
well-formed values are, so that nothing malformed is passed on. `outgoing` adds them to a call. Servers set the context
through `aiohttp_server` and `asgi`.

The sidecar adds these headers to each request (they are Envoy's, and those of W3C Trace Context). They therefore tell
what remains: the rest of the caller's time, and whether retries still make sense.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, Token
from math import isfinite
from time import monotonic
from types import TracebackType
from typing import Final, Self

import msgspec
from multidict import CIMultiDict, CIMultiDictProxy, istr

from sidecar.client.limit import ANSWER_S


class RequestContext(msgspec.Struct, frozen=True, gc=False):
    """What the request being served brought with it. A value is empty if there is no request or if it was malformed.

    `traceparent` and `tracestate` are unchanged; `attempt` counts from 1.
    """

    request_id: str = ""
    traceparent: str = ""
    tracestate: str = ""
    attempt: int = 0


def _never() -> bool:
    return False


def _always() -> bool:
    return True


class Scope(msgspec.Struct, frozen=True):
    """`caller_at` is when the caller's time ends; it counts until the response has `begun`. `block_at` is the earliest
    end of all `deadline` blocks around the code. Both are readings of `time.monotonic`.
    """

    request: RequestContext
    caller_at: float | None = None
    begun: Callable[[], bool] = _never
    block_at: float | None = None

    def attempt(self) -> int:
        """Which of the caller's attempts this is. It is 0 once the response has begun, because no other can follow."""
        return 0 if self.begun() else self.request.attempt

    def deadline_at(self) -> float | None:
        caller_at, block_at = self.caller_at, self.block_at
        if caller_at is None or (block_at is not None and block_at <= caller_at) or self.begun():
            return block_at
        return caller_at


FREE: Final = Scope(RequestContext())
"""The scope outside any request and any `deadline` block."""
_scope: ContextVar[Scope] = ContextVar("sidecar_client_scope", default=FREE)


def current() -> Scope:
    """The whole scope in one lookup. The functions below each return one part of it."""
    return _scope.get()


def request_context() -> RequestContext:
    """What a call made here passes on."""
    return _scope.get().request


def deadline_at() -> float | None:
    """When the nearest deadline in force passes, as a reading of `time.monotonic`; None without a deadline."""
    return _scope.get().deadline_at()


def remaining() -> float | None:
    """Seconds until the nearest deadline; 0 or less once it has passed; None without a deadline."""
    at = _scope.get().deadline_at()
    return None if at is None else at - monotonic()


GRACE_S: Final = ANSWER_S + 0.01
"""Seconds between the end of a `deadline` block's time and its cancellation. In between, a call in progress gets the
sidecar's answer, or ends and says which call it was. If both ended at the same moment, the block would win and hide
what took so long."""


class deadline:  # noqa: N801 - reads as a statement, as asyncio.timeout does
    """`async with deadline(2.0):` gives the code in the block 2 seconds.

    Each call tells the sidecar how much of that time is left, so that no service works on an answer that nobody awaits.
    Once the deadline has passed, a call in progress raises DeadlineExceeded. Anything else that the block awaits is
    cancelled, and the block raises TimeoutError (DeadlineExceeded is a TimeoutError too).

    Blocks nest, and the nearest deadline wins. The deadline of the request being served applies to calls only and
    cancels nothing else. A task started in the block keeps the deadline for its calls, but is not cancelled by it.

    Raises ValueError if `seconds` is not finite. A value of 0 or less means that the deadline has already passed.
    """

    __slots__ = ("_due", "_inside", "_seconds", "_timeout", "_token")

    def __init__(self, seconds: float) -> None:
        if not isfinite(seconds):
            raise ValueError(f"a deadline must be a finite number of seconds, not {seconds}")
        self._seconds = seconds
        self._timeout: asyncio.Timeout | None = None

    def remaining(self) -> float:
        """Seconds that calls in the block have left; 0 or less once the time has passed."""
        at = self._inside.deadline_at() if self._timeout is not None else None
        if at is None:
            raise RuntimeError("a deadline has a remaining time only inside its block: async with deadline(...)")
        return at - monotonic()

    async def __aenter__(self) -> Self:
        if self._timeout is not None:
            raise RuntimeError("a deadline can be entered only once: create another one")
        outer, own = _scope.get(), monotonic() + self._seconds
        loop, timer = asyncio.get_running_loop(), asyncio.timeout(None)
        await timer.__aenter__()
        self._timeout = timer
        # The extra time starts when the loop gets here, which may be late. By then the timers of calls are due as well.
        self._due = loop.call_later(self._seconds, lambda: timer.reschedule(loop.time() + GRACE_S))
        self._inside = msgspec.structs.replace(
            outer, block_at=own if outer.block_at is None else min(own, outer.block_at)
        )
        self._token: Token[Scope] = _scope.set(self._inside)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._timeout is not None
        _scope.reset(self._token)
        self._due.cancel()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as cut:
            raise TimeoutError(f"the deadline of {self._seconds:g} s has passed") from cut.__cause__


@contextmanager
def detached() -> Iterator[None]:
    """`with detached():` separates the calls made in the block, and the tasks started in it, from the incoming request:
    they inherit nothing and have no deadline. Use it for work that continues after the response. A `deadline` block
    around it still cancels the code in it, but not those tasks.
    """
    token = _scope.set(FREE)
    try:
        yield
    finally:
        _scope.reset(token)


class serving:  # noqa: N801 - reads as a statement
    """`with serving(request.headers):` lets the calls made in the block inherit from the incoming request.

    Use it for servers that have no middleware in this package. Names are compared in any case. If a field occurs more
    than once, its values are joined by commas (RFC 9110, section 5.3). A malformed value is ignored. Nothing is
    inherited from an outer block: each request stands for itself.

    `begun` returns whether the response has begun. As in the sidecar, the caller's time limits only the time until
    then: a stream, a WebSocket or work after the response may take longer, and so may its calls. From then on nobody
    repeats the request, so the sidecar may retry those calls. The end of the block counts as a response too, because a
    server may send a 500 that `begun` does not see.

    The time starts here. The sidecar's time does not run while a body is still arriving, so code that needs long to
    receive a body should use `detached`.
    """

    __slots__ = ("_begun", "_inside", "_token")

    def __init__(
        self, headers: Mapping[str, str] | Iterable[tuple[str, str]], begun: Callable[[], bool] = _never
    ) -> None:
        self._begun = begun
        self._inside = _incoming(headers, self._answered)

    def _answered(self) -> bool:
        return self._begun()

    def __enter__(self) -> None:
        self._token: Token[Scope] = _scope.set(self._inside)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._begun = _always  # A task that continues may live long; it must not keep the server's objects in memory.
        _scope.reset(self._token)


_REQUEST_ID_NAME: Final = istr("x-request-id")
_TRACEPARENT_NAME: Final = istr("traceparent")
_TRACESTATE_NAME: Final = istr("tracestate")
_TIME_NAME: Final = istr("x-envoy-expected-rq-timeout-ms")
_ATTEMPT_NAME: Final = istr("x-envoy-attempt-count")
_TAKEN: Final = (_REQUEST_ID_NAME, _TRACEPARENT_NAME, _TRACESTATE_NAME, _TIME_NAME, _ATTEMPT_NAME)
_ANY_CASE: Final = (CIMultiDictProxy, CIMultiDict)
_BLANK: Final = " \t"
_REQUEST_ID: Final = re.compile(r"[\x21-\x7e]{1,256}")
_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x2b\x2d-\x7e]{0,200})?"
)
_TRACESTATE: Final = re.compile(r"[\x20-\x7e]{1,512}")
_COUNT: Final = re.compile(r"[0-9]{1,10}")
"""A number as the sidecar reads it. In milliseconds this is at most 115 days; 0 counts as absent."""


def _incoming(headers: Mapping[str, str] | Iterable[tuple[str, str]], begun: Callable[[], bool]) -> Scope:
    found = _found(headers)
    if not found:
        return FREE
    request_id, traceparent = found.get(_REQUEST_ID_NAME, ""), found.get(_TRACEPARENT_NAME, "")
    if traceparent and not _is_traceparent(traceparent):
        traceparent = ""
    # tracestate means nothing without traceparent (W3C Trace Context, section 3.3.1.1).
    tracestate = found.get(_TRACESTATE_NAME, "") if traceparent else ""
    milliseconds = _count(found.get(_TIME_NAME, ""))
    return Scope(
        RequestContext(
            request_id if request_id and _REQUEST_ID.fullmatch(request_id) else "",
            traceparent,
            tracestate if tracestate and _TRACESTATE.fullmatch(tracestate) else "",
            _count(found.get(_ATTEMPT_NAME, "")),
        ),
        monotonic() + milliseconds / 1000 if milliseconds else None,
        begun,
    )


def _found(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """The values of the fields that calls inherit."""
    found: dict[str, str] = {}
    if isinstance(headers, _ANY_CASE):  # these are aiohttp's, and find a name in any case
        for name in _TAKEN:
            if values := headers.getall(name, None):
                found[name] = ", ".join([value.strip(_BLANK) for value in values])
        return found
    for given, value in headers.items() if isinstance(headers, Mapping) else headers:
        lower = given.lower()
        if lower in _TAKEN:
            value = value.strip(_BLANK)
            found[lower] = f"{found[lower]}, {value}" if lower in found else value
    return found


def _count(value: str) -> int:
    return int(value) if value and _COUNT.fullmatch(value) else 0


def _is_traceparent(value: str) -> bool:
    """W3C Trace Context, section 3.2: versions after 00 may append more, which is passed on."""
    found = _TRACEPARENT.fullmatch(value)
    return found is not None and (found[1] != "00" or found[2] is None)
