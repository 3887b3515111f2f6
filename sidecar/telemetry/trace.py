"""Distributed tracing: the sampling decision, ids and traceparent header of a request (W3C Trace Context).

`tracing` exports the traces that have ended; only that module knows OpenTelemetry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import getrandbits
from time import time_ns
from typing import Final

_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32})-((?!0{16})[0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?"
)
"""A comma means that several fields were joined (RFC 9110, section 5.3), which is malformed."""

_SAMPLED: Final = 0x01
_RANDOM: Final = 0x02
"""The trace id is random (level 2 of the recommendation). The flag is passed on if the caller sets it."""

FOREIGN_CONTEXT: Final = (
    *(b"b3", b"x-b3-traceid", b"x-b3-spanid", b"x-b3-parentspanid", b"x-b3-sampled", b"x-b3-flags"),
    *(b"x-datadog-trace-id", b"x-datadog-parent-id", b"x-datadog-sampling-priority", b"x-datadog-origin"),
    b"x-datadog-tags",
)
"""Fields of B3 and of Datadog. They pass untouched."""


class Parent:
    """A valid traceparent (W3C Trace Context, section 3.2)."""

    __slots__ = ("flags", "span_id", "trace_id")

    def __init__(self, trace_id: int, span_id: int, flags: int) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.flags = flags

    @property
    def sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)


def parse_traceparent(value: bytes) -> Parent | None:
    """Parse a traceparent; None if it is malformed. Versions after 00 may have more at the end, which is ignored."""
    found = _fields(value)
    return Parent(int(found[2], 16), int(found[3], 16), int(found[4], 16)) if found is not None else None


def trace_id_of(value: bytes) -> str:
    """The trace id of a traceparent as text; "" if the traceparent is malformed."""
    found = _fields(value)
    return found[2].decode() if found is not None else ""


def _fields(value: bytes) -> re.Match[bytes] | None:
    found = _TRACEPARENT.fullmatch(value)
    return None if found is None or (found[1] == b"00" and found[5] is not None) else found


class TracedAttempt:
    """One attempt. Times are those of the data path's clock. `status` is 0 if no response came."""

    __slots__ = ("address", "ended", "number", "port", "reason", "service", "span_id", "started", "status")

    def __init__(
        self,
        span_id: int,
        service: str,
        address: str,
        port: int,
        number: int,
        reason: str,
        status: int,
        started: float,
        ended: float,
    ) -> None:
        self.span_id = span_id
        self.service = service
        self.address = address
        self.port = port
        self.number = number
        self.reason = reason
        self.status = status
        self.started = started
        self.ended = ended


class Trace:
    """One sampled request, from its head to its end. `parent_id` is 0 if the trace begins here."""

    fallback: str = ""
    status: int = 0
    reason: str = ""
    seconds: float = 0.0

    def __init__(
        self,
        finished: Callable[[Trace], None],
        trace_id: int,
        span_id: int,
        parent_id: int,
        flags: int,
        started_ns: int,
    ) -> None:
        self._finished = finished
        self.trace_id = trace_id
        self.span_id = span_id
        self.parent_id = parent_id
        self.flags = flags
        self.started_ns = started_ns
        """Unix time."""
        self.started = 0.0
        """The same moment on the data path's clock."""
        self.service = ""
        self.route = ""
        self.method = ""
        self.path = ""
        self.attempts: list[TracedAttempt] = []
        self._number = 0
        self._attempt_id = 0

    def describe(self, *, service: str, route: str, method: str, target: bytes, started: float) -> None:
        """Set what is known from the request head. The query is left out, because it may contain secrets."""
        self.service = service
        self.route = route
        self.method = method
        self.path = target.partition(b"?")[0].decode("latin-1")
        self.started = started

    def traceparent(self, number: int) -> bytes:
        """The traceparent of an attempt: its span is the upstream's parent."""
        return b"00-%032x-%016x-%02x" % (self.trace_id, self._id_of(number), self.flags)

    def attempt(
        self,
        number: int,
        service: str,
        address: str,
        port: int,
        reason: str,
        status: int | None,
        started: float,
        ended: float,
    ) -> None:
        """An attempt has ended."""
        made = TracedAttempt(
            self._id_of(number), service, address, port, number, reason, status or 0, started, ended
        )  # fmt: skip
        self.attempts.append(made)

    def finish(self, status: int, reason: str, fallback: str, seconds: float) -> None:
        """The request has ended."""
        self.status = status
        self.reason = reason
        self.fallback = fallback
        # The end of the last attempt is recorded slightly after `seconds` was measured.
        self.seconds = max(seconds, self.attempts[-1].ended - self.started) if self.attempts else seconds
        self._finished(self)

    def _id_of(self, number: int) -> int:
        if number != self._number:
            self._number = number
            self._attempt_id = getrandbits(64) or 1
        return self._attempt_id


class Tracer:
    """Decides which requests are traced: as the caller decided, else a share `sample` (0 to 1) of them.

    `finished` is called once for each traced request, at its end.
    """

    def __init__(self, sample: float, finished: Callable[[Trace], None], clock_ns: Callable[[], int] = time_ns) -> None:
        self._finished = finished
        self._clock_ns = clock_ns
        # Decided by the id, so that all samplers by ratio choose the same traces (OpenTelemetry: TraceIdRatioBased).
        self._bound = round(sample * (1 << 64))

    def root(self) -> Parent:
        """Begin a trace: its ids, and whether it is sampled."""
        trace_id = getrandbits(128) or 1
        sampled = (trace_id & ((1 << 64) - 1)) < self._bound
        return Parent(trace_id, getrandbits(64) or 1, _SAMPLED if sampled else 0)

    def trace_root(self, root: Parent) -> Trace:
        """The trace of a request that begins a trace."""
        return Trace(self._finished, root.trace_id, root.span_id, 0, root.flags, self._clock_ns())

    def trace_below(self, parent: Parent) -> Trace:
        """The trace of a request whose trace began at its caller."""
        flags = _SAMPLED | (parent.flags & _RANDOM)
        span_id = getrandbits(64) or 1
        return Trace(self._finished, parent.trace_id, span_id, parent.span_id, flags, self._clock_ns())


def traceparent(of: Parent) -> bytes:
    return b"00-%032x-%016x-%02x" % (of.trace_id, of.span_id, of.flags)
