"""One JSON line for each request, or for each that failed.

Owns what a line says. Lines are gathered and written together, so that a request pays for its words and not for a
system call. The target is logged without its query: that is where secrets stand.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sidecar.telemetry.logs import json_line

FLUSH_AFTER_S: Final = 0.1
FLUSH_LINES: Final = 500

_TRACE: Final = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?![0-9a-f])")
"""The fields that every version of traceparent begins with (W3C Trace Context, section 3.2.2). What is not one is some
header's value, and those are not logged."""


class AccessLog:
    """`write` takes whole lines as bytes. `all` and `errors` say what is wanted; ask before calling."""

    def __init__(
        self,
        mode: Literal["off", "errors", "all"],
        write: Callable[[bytes], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.all = self.errors = False
        self.set_mode(mode)
        self._write = write
        self._loop = loop
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    def set_mode(self, mode: Literal["off", "errors", "all"]) -> None:
        """What is wanted from now on."""
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
        fallback: str = "",
    ) -> None:
        """One request of a service; `attempts` are structs that say what became of each."""
        entry: dict[str, Any] = {
            "time": _now(),
            "level": "info" if reason == "ok" else "warning",
            "event": "request",
            "service": service,
            "method": method,
            "target": target.partition(b"?")[0].decode("latin-1"),
            "status": code,
            "reason": reason,
            "duration_ms": round(seconds * 1000, 1),
            "request_id": request_id.decode("latin-1"),
            "attempts": attempts,
        }
        if route:
            entry["route"] = route
        if fallback:
            entry["fallback"] = fallback
        if detail:
            entry["detail"] = detail
        if traceparent is not None and (trace := _TRACE.match(traceparent)):
            entry["trace_id"] = trace[1].decode()
        self._add(entry)

    def aggregate(
        self,
        *,
        name: str,
        method: str,
        request_id: bytes,
        traceparent: bytes,
        code: int,
        reason: str,
        detail: str,
        seconds: float,
    ) -> None:
        """One request for an aggregate; its parts have lines of their own, with the same request id."""
        entry: dict[str, Any] = {
            "time": _now(),
            "level": "info" if reason == "ok" else "warning",
            "event": "request",
            "service": "",
            "aggregate": name,
            "method": method,
            "status": code,
            "reason": reason,
            "duration_ms": round(seconds * 1000, 1),
            "request_id": request_id.decode("latin-1"),
        }
        if detail:
            entry["detail"] = detail
        if trace := _TRACE.match(traceparent):
            entry["trace_id"] = trace[1].decode()
        self._add(entry)

    def refused(self, request_id: str, method: str, code: int, reason: str, detail: str) -> None:
        """A request that reached no service."""
        self._add(
            {
                "time": _now(),
                "level": "warning",
                "event": "request",
                "service": "",
                "method": method,
                "status": code,
                "reason": reason,
                "detail": detail,
                "request_id": request_id,
            }
        )

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            lines, self._lines = self._lines, []
            self._write(b"".join(lines))

    def _add(self, entry: dict[str, Any]) -> None:
        self._lines.append(json_line(entry) + b"\n")
        if len(self._lines) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(FLUSH_AFTER_S, self.flush)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
