"""Access log: one JSON line for each request, or for each failed one.

Owns the content of a line (docs/logs.md lists each member). Lines are collected and written together, so that a request
does not pay for a system call. No header is logged except the request's id and trace id, and the target is logged
without its query unless that is configured: headers and queries may contain secrets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import gmtime, strftime, time
from typing import Any, Final, Literal

from sidecar.telemetry.logs import add_line, escaped
from sidecar.telemetry.request_line import RequestLine
from sidecar.telemetry.trace import trace_id_of

FLUSH_AFTER_S: Final = 0.1
FLUSH_BYTES: Final = 48 * 1024
"""The size at which collected lines are written: some hundred lines."""

_MILLISECONDS: Final = [f".{number:03d}Z" for number in range(1000)]
"""Prepared texts: formatting takes three times as long as a look-up."""


class AccessLog:
    """Collects lines and passes them to `write` as bytes. Check `all` and `errors` before calling."""

    def __init__(
        self,
        mode: Literal["off", "errors", "all"],
        write: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
        *,
        query: bool = False,
        clock: Callable[[], float] = time,
    ) -> None:
        self.all = self.errors = False
        self.query = query
        """Whether targets are logged with their query."""
        self.set_mode(mode)
        self._write = write
        self._loop = loop
        self._clock = clock
        self._lines = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._second = 0
        self._second_text = ""

    def set_mode(self, mode: Literal["off", "errors", "all"]) -> None:
        """Set which requests are logged from now on."""
        self.all = mode == "all"
        self.errors = mode != "off"

    def request(
        self,
        *,
        service: str,
        route: str,
        method: str,
        target: bytes,
        request_id: bytes,
        traceparent: bytes | None,
        code: int,
        reason: str,
        detail: str,
        attempts: Sequence[Any],
        seconds: float,
        connecting_s: float = 0.0,
        backoff_s: float = 0.0,
        received: int = 0,
        sent: int = 0,
        fallback: str = "",
        grpc_status: str = "",
    ) -> None:
        """Log one request of a service. `attempts` are structs, one for each attempt; they must not change afterwards.

        `received` and `sent` are bytes of the bodies on the app's connection. The duration of an attempt includes the
        wait for its connection; `connecting_s` is the sum of these waits. `grpc_status` is a name, for calls of gRPC.
        """
        took_ms = -connecting_s * 1000
        endpoint = ""
        for attempt in attempts:
            took_ms += attempt.duration_ms
            endpoint = attempt.endpoint
        line = RequestLine(
            self._now(),
            "info" if reason == "ok" else "warning",
            "request",
            request_id.decode("latin-1"),
            service,
            method,
            (target if self.query else target.partition(b"?")[0]).decode("latin-1"),
            code,
            reason,
            _tenths(seconds * 1000),
            _tenths(took_ms),
            _tenths((connecting_s + backoff_s) * 1000),
            received,
            sent,
            attempts,
            endpoint,
            route,
            trace_id_of(traceparent) if traceparent is not None else "",
            fallback,
            detail,
            grpc_status,
        )
        self._add(line)

    def aggregate(
        self,
        *,
        name: str,
        method: str,
        request_id: bytes,
        traceparent: bytes | None,
        code: int,
        reason: str,
        detail: str,
        seconds: float,
    ) -> None:
        """Log one request for an aggregate. Its parts have their own lines with the same request id."""
        entry: dict[str, Any] = {
            "time": self._now(),
            "level": "info" if reason == "ok" else "warning",
            "event": "request",
            "request_id": request_id.decode("latin-1"),
            "service": "",
            "aggregate": name,
            "method": method,
            "status": code,
            "reason": reason,
            "duration_ms": _tenths(seconds * 1000),
        }
        if traceparent is not None and (trace_id := trace_id_of(traceparent)):
            entry["trace_id"] = trace_id
        if detail:
            entry["detail"] = detail
        self._add(entry)

    def tunnel(
        self,
        *,
        service: str,
        request_id: bytes,
        endpoint: str,
        seconds: float,
        received: int,
        sent: int,
        ended_by: str,
    ) -> None:
        """Log the end of a WebSocket. Its request has a line of its own, written when it opened."""
        self._add(
            {
                "time": self._now(),
                "level": "info",
                "event": "websocket",
                "request_id": request_id.decode("latin-1"),
                "service": service,
                "endpoint": endpoint,
                "duration_ms": _tenths(seconds * 1000),
                "bytes_received": received,
                "bytes_sent": sent,
                "ended_by": ended_by,
            }
        )

    def refused(
        self,
        request_id: str,
        method: str,
        code: int,
        reason: str,
        detail: str,
        target: bytes | None = None,
        grpc_status: str = "",
    ) -> None:
        """Log a request that reached no service. `target` is set if it could be read."""
        entry: dict[str, Any] = {
            "time": self._now(),
            "level": "warning",
            "event": "request",
            "request_id": request_id,
            "service": "",
            "method": method,
        }
        if target is not None and target.startswith(b"/"):  # an absolute target may contain user information
            entry["target"] = (target if self.query else target.partition(b"?")[0]).decode("latin-1")
        entry |= {"status": code, "reason": reason, "detail": detail}
        if grpc_status:
            entry["grpc_status"] = grpc_status
        self._add(entry)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            lines = bytes(self._lines)
            self._lines.clear()
            self._write(escaped(lines))

    def _add(self, line: RequestLine | dict[str, Any]) -> None:
        add_line(line, self._lines)  # encoded at once, while its parts are in the processor's cache
        if len(self._lines) >= FLUSH_BYTES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_AFTER_S, self.flush)

    def _now(self) -> str:
        """RFC 3339 in UTC with milliseconds. The date is formatted once a second."""
        now = self._clock()
        second = int(now)
        if second != self._second:
            self._second = second
            self._second_text = strftime("%Y-%m-%dT%H:%M:%S", gmtime(second))
        return self._second_text + _MILLISECONDS[int((now - second) * 1000)]


def _tenths(milliseconds: float) -> float:
    """Rounded to one decimal, much faster than with `round`; never below zero."""
    return int(milliseconds * 10 + 0.5) / 10 if milliseconds > 0.0 else 0.0
