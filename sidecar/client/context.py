"""What calls inherit from where they are made: the incoming request that is being served, and the deadlines in force.

Owns the context variable, its rules of nesting, and which values of an incoming request are taken over: only those that
are well-formed, so that nothing malformed is handed on. What is sent of it with a call is `outgoing`'s; servers set it
through `aiohttp_server` and `asgi`.

The headers are those the sidecar adds to each request (Envoy's, and W3C Trace Context's), so what is taken over is what
is left: of the caller's time, and of the retries that make sense.
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


class Handed(msgspec.Struct, frozen=True, gc=False):
    """What the request being served came with; empty where there is none, or where it was malformed.

    `traceparent` and `tracestate` are as they came; `attempt` counts from 1.
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
    """`caller_at` is when the caller's time is over, which counts until the answer has `begun`; `block_at` is when that
    of the nearest of all `deadline` blocks around is.
    """

    handed: Handed
    caller_at: float | None = None
    begun: Callable[[], bool] = _never
    block_at: float | None = None

    def attempt(self) -> int:
        """Which of the caller's attempts this is; 0 where there can be no other one, for the answer has begun."""
        return 0 if self.begun() else self.handed.attempt

    def deadline_at(self) -> float | None:
        caller_at, block_at = self.caller_at, self.block_at
        if caller_at is None or (block_at is not None and block_at <= caller_at) or self.begun():
            return block_at
        return caller_at


FREE: Final = Scope(Handed())
"""Where no request is being served, and no block is around."""
_scope: ContextVar[Scope] = ContextVar("sidecar_client_scope", default=FREE)


def current() -> Scope:
    """All of what follows, in one look."""
    return _scope.get()


def handed() -> Handed:
    """What calls made here hand on."""
    return _scope.get().handed


def deadline_at() -> float | None:
    """When the nearest of all deadlines in force passes, as `time.monotonic` counts; None where there is none."""
    return _scope.get().deadline_at()


def remaining() -> float | None:
    """Seconds to the nearest deadline, 0 or less once it has passed; None where there is none."""
    at = _scope.get().deadline_at()
    return None if at is None else at - monotonic()


GRACE_S: Final = 0.01
"""How long after its time a `deadline` block is cut, in seconds: a call that is under way gives up first, and says
which one it was. At one and the same moment the block would win, and nobody would learn what took so long."""


class deadline:  # noqa: N801 - reads as a statement, as asyncio.timeout does
    """`async with deadline(2.0):` gives what is in the block 2 seconds.

    Calls send what is left of it to the sidecar, so nobody works on for an answer that is not awaited. Once it has
    passed, a call under way raises DeadlineExceeded, and anything else that the block awaits is cancelled: TimeoutError
    comes out of the block (DeadlineExceeded is one too). Blocks nest, and the nearest deadline wins; that of the
    request being served counts for calls, and cancels nothing else. Tasks started in the block keep the deadline for
    their calls, but are not cancelled by it.

    Raises ValueError for what is not a finite number of seconds; 0 or less has passed already.
    """

    __slots__ = ("_due", "_inside", "_seconds", "_timeout", "_token")

    def __init__(self, seconds: float) -> None:
        if not isfinite(seconds):
            raise ValueError(f"a deadline is a finite number of seconds, not {seconds}")
        self._seconds = seconds
        self._timeout: asyncio.Timeout | None = None

    def remaining(self) -> float:
        """Seconds that calls in the block have left, 0 or less once their time has passed."""
        at = self._inside.deadline_at() if self._timeout is not None else None
        if at is None:
            raise RuntimeError("this deadline runs inside its block only: async with deadline(...)")
        return at - monotonic()

    async def __aenter__(self) -> Self:
        if self._timeout is not None:
            raise RuntimeError("a deadline is entered once; make another")
        outer, own = _scope.get(), monotonic() + self._seconds
        loop, timer = asyncio.get_running_loop(), asyncio.timeout(None)
        await timer.__aenter__()
        self._timeout = timer
        # Counted from when the loop comes to it, which may be late: then the timers of calls are due as well.
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
    """`with detached():` calls made in the block, and tasks started in it, belong to no incoming request and have no
    deadline: for work that goes on after the answer. A `deadline` block around it still cancels the code in it, but not
    those tasks.
    """
    token = _scope.set(FREE)
    try:
        yield
    finally:
        _scope.reset(token)


class serving:  # noqa: N801 - reads as a statement
    """`with serving(request.headers):` calls made in the block hand on what the incoming request came with.

    For servers that have no middleware here. Names are compared in any case; a field that came more than once counts as
    its values joined by commas (RFC 9110, section 5.3). What is malformed is as if it had not come. Never adds up with
    what was in force before: each request stands for itself.

    `begun` says whether the answer has begun. The caller's time is for that alone, as the sidecar counts it; a stream,
    a WebSocket, or work after the answer may take longer, and so may their calls. Nor does anybody repeat the request
    from then on, so the sidecar may repeat those calls. The end of the block is an answer too, if only a server's 500,
    which `begun` may not see. The time runs from here on, though the sidecar's does not while a body is still on its
    way: what takes that long to receive calls `detached`.
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
        self._begun = _always  # Tasks that go on may live long: what the server's knows of is not kept for them.
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
"""As the sidecar reads it. Of milliseconds, these are at most 115 days; 0 is as if it had not come."""


def _incoming(headers: Mapping[str, str] | Iterable[tuple[str, str]], begun: Callable[[], bool]) -> Scope:
    found = _found(headers)
    if not found:
        return FREE
    request_id, traceparent = found.get(_REQUEST_ID_NAME, ""), found.get(_TRACEPARENT_NAME, "")
    if traceparent and not _is_traceparent(traceparent):
        traceparent = ""
    # Without it the other says nothing (W3C Trace Context, section 3.3.1.1).
    tracestate = found.get(_TRACESTATE_NAME, "") if traceparent else ""
    milliseconds = _count(found.get(_TIME_NAME, ""))
    return Scope(
        Handed(
            request_id if request_id and _REQUEST_ID.fullmatch(request_id) else "",
            traceparent,
            tracestate if tracestate and _TRACESTATE.fullmatch(tracestate) else "",
            _count(found.get(_ATTEMPT_NAME, "")),
        ),
        monotonic() + milliseconds / 1000 if milliseconds else None,
        begun,
    )


def _found(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    """The values of those fields that are taken over."""
    found: dict[str, str] = {}
    if isinstance(headers, _ANY_CASE):  # aiohttp's, which find a name in any case themselves
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
    """W3C Trace Context, section 3.2: a version after 00 may have more at its end, which is passed on."""
    found = _TRACEPARENT.fullmatch(value)
    return found is not None and (found[1] != "00" or found[2] is None)
